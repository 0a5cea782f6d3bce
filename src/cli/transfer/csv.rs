//! CSV: rows of cells, each with its line number. Quotes follow RFC 4180. Rows end with LF, CRLF or CR.

use std::io::{self, Read};

use super::input::{TextInput, not_utf8};
use super::row_error::{MAX_ROW_BYTES, RowError};

/// The separators that are detected, the most likely first, with their names.
const SEPARATORS: [(u8, &str); 4] = [
    (b',', "commas"),
    (b';', "semicolons"),
    (b'\t', "tabs"),
    (b'|', "vertical bars"),
];

/// The cells of a row, unchanged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct CsvRecord {
    /// The line in which the row begins.
    pub(super) line: u64,
    text: String,
    ends: Vec<usize>,
}

/// Reads rows of cells.
pub(super) struct CsvReader<R> {
    input: TextInput<R>,
    separator: u8,
}

/// The position in a cell.
#[derive(Clone, Copy, PartialEq, Eq)]
enum CellState {
    Start,
    Plain,
    Quoted,
    /// After a quote in a quoted cell: it closes the cell, unless another quote follows.
    Closing,
}

impl CsvRecord {
    pub(super) fn new<'a>(line: u64, cells: impl IntoIterator<Item = &'a str>) -> Self {
        let mut record = Self {
            line,
            ..Self::default()
        };
        cells.into_iter().for_each(|cell| record.push(cell));
        record
    }

    pub(super) fn push(&mut self, cell: &str) {
        self.text.push_str(cell);
        self.ends.push(self.text.len());
    }

    /// Drops all cells after a number of cells.
    pub(super) fn truncate(&mut self, len: usize) {
        self.ends.truncate(len);
        self.text.truncate(self.ends.last().copied().unwrap_or_default());
    }

    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &str> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, end)| &self.text[start..*end])
    }

    pub(super) fn is_blank(&self) -> bool {
        self.text.trim().is_empty()
    }

    /// Returns the approximate size in memory, in bytes.
    pub(super) fn size(&self) -> usize {
        self.text.len() + 8 * self.ends.len() + 96
    }
}

impl<R: Read> CsvReader<R> {
    /// Returns a reader of a file with these first bytes, and the name of the separator if it is not the comma.
    pub(super) fn new(input: TextInput<R>, head: &[u8]) -> (Self, Option<&'static str>) {
        let mut input = input;
        let named = named_separator(head);
        if named.is_some() {
            // Reading cannot fail, because the line is in the head.
            let line = input.line;
            while input.line == line && matches!(input.next(), Ok(Some(_))) {}
            let _ = input.end_line();
        }
        let separator = named.unwrap_or_else(|| separator(head));
        let name = SEPARATORS.iter().find(|(byte, _)| *byte == separator);
        let name = name.map(|(_, name)| *name).filter(|_| separator != b',');
        (Self { input, separator }, name)
    }

    /// Returns the next row, without empty lines; `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<CsvRecord>, RowError> {
        loop {
            match self.record()? {
                Some(record) if record.len() == 1 && record.is_blank() => {}
                record => return Ok(record),
            }
        }
    }

    fn record(&mut self) -> Result<Option<CsvRecord>, RowError> {
        let mut record = CsvRecord::new(self.input.line, []);
        let first_line = record.line;
        let (mut cell, mut place, mut length) = (Vec::new(), CellState::Start, 0);
        let mut error: Option<RowError> = None;
        let mut keep = |found: RowError| {
            error.get_or_insert(found);
        };
        loop {
            let line = self.input.line;
            let Some(byte) = self.input.next().map_err(|error| read_failed(&error))? else {
                match place {
                    CellState::Quoted => {
                        let text =
                            format!("line {first_line}: the row that starts here has a quote that is not closed");
                        return Err(RowError::File(text));
                    }
                    _ if length == 0 => return Ok(None),
                    _ => break,
                }
            };
            length += 1;
            if length > MAX_ROW_BYTES {
                return Err(RowError::File(format!(
                    "line {first_line}: the row that starts here is longer than {MAX_ROW_BYTES} bytes; a quote may not be closed"
                )));
            }
            let column = record.len() + 1;
            let is_end = matches!(byte, b'\n' | b'\r');
            match (place, byte) {
                (CellState::Start, b'"') => place = CellState::Quoted,
                (CellState::Closing, b'"') => {
                    cell.push(b'"');
                    place = CellState::Quoted;
                }
                (CellState::Quoted, b'"') => place = CellState::Closing,
                (CellState::Quoted, _) => cell.push(byte),
                (_, _) if byte == self.separator || is_end => {
                    take(&mut record, &mut cell).unwrap_or_else(&mut keep);
                    place = CellState::Start;
                    if is_end {
                        self.input.end_line().map_err(|error| read_failed(&error))?;
                        return error.map_or(Ok(Some(record)), Err);
                    }
                }
                (CellState::Closing, _) => {
                    keep(RowError::cell(
                        line,
                        column,
                        "text follows a closing quote; a quote in a quoted cell must be doubled",
                    ));
                    cell.push(byte);
                    place = CellState::Plain;
                }
                (CellState::Plain, b'"') if is_blank(&cell) => {
                    keep(RowError::cell(
                        line,
                        column,
                        "a space before a quote; the opening quote must be the first character of the cell",
                    ));
                    place = CellState::Quoted;
                }
                (CellState::Start | CellState::Plain, _) => {
                    cell.push(byte);
                    place = CellState::Plain;
                }
            }
        }
        take(&mut record, &mut cell).unwrap_or_else(&mut keep);
        error.map_or(Ok(Some(record)), Err)
    }
}

/// Appends a cell to a row.
fn take(record: &mut CsvRecord, cell: &mut Vec<u8>) -> Result<(), RowError> {
    let taken = match std::str::from_utf8(cell) {
        Ok(text) => {
            record.push(text);
            Ok(())
        }
        Err(error) => {
            let error = RowError::cell(record.line, record.len() + 1, &not_utf8(&error, cell));
            record.push("");
            Err(error)
        }
    };
    cell.clear();
    taken
}

fn is_blank(cell: &[u8]) -> bool {
    std::str::from_utf8(cell).is_ok_and(|text| text.trim().is_empty())
}

fn read_failed(error: &io::Error) -> RowError {
    RowError::File(error.to_string())
}

/// Returns the separator of a first line such as `sep=;`, which spreadsheet programs write.
fn named_separator(head: &[u8]) -> Option<u8> {
    match head {
        [
            b's' | b'S',
            b'e' | b'E',
            b'p' | b'P',
            b'=',
            separator,
            b'\r' | b'\n',
            ..,
        ] => Some(*separator),
        _ => None,
    }
}

/// Returns the separator of a file with these first bytes: the one with which all rows have the same number of cells, more than
/// one.
fn separator(head: &[u8]) -> u8 {
    let candidates: Vec<_> = SEPARATORS
        .iter()
        .map(|(separator, _)| (*separator, widths(head, *separator)))
        .filter(|(_, widths)| widths.first().is_some_and(|first| *first > 1))
        .collect();
    let even = candidates
        .iter()
        .filter(|(_, widths)| widths.iter().all(|width| width == &widths[0]));
    let even: Vec<_> = even.map(|(separator, _)| *separator).collect();
    match (&even[..], candidates.first()) {
        ([only], _) => *only,
        (_, Some((first, _))) => *first,
        (_, None) => b',',
    }
}

/// Returns the number of cells of the first rows with a separator. In a long file, the last row may be cut off and does not count.
fn widths(head: &[u8], separator: u8) -> Vec<usize> {
    const ROWS: usize = 20;
    const WHOLE: usize = 60 * 1024;
    let Ok((input, _)) = TextInput::open(head) else {
        return vec![];
    };
    let mut reader = CsvReader { input, separator };
    let mut widths = vec![];
    while widths.len() <= ROWS {
        match reader.next() {
            Ok(Some(record)) => widths.push(record.len()),
            Ok(None) | Err(_) => break,
        }
    }
    if widths.len() > 1 && head.len() >= WHOLE {
        widths.pop();
    }
    widths
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The rows of a text, or the error of each.
    fn read(text: &[u8]) -> Vec<Result<(u64, Vec<String>), String>> {
        let (input, head) = TextInput::open(text).unwrap();
        let (mut reader, _) = CsvReader::new(input, &head);
        let mut rows = vec![];
        loop {
            match reader.next() {
                Ok(None) => return rows,
                Ok(Some(record)) => rows.push(Ok((record.line, record.iter().map(str::to_owned).collect()))),
                Err(RowError::Row { line, text }) => rows.push(Err(format!("line {line}{text}"))),
                Err(RowError::File(text)) => {
                    rows.push(Err(text));
                    return rows;
                }
            }
        }
    }

    fn row(line: u64, cells: &[&str]) -> Result<(u64, Vec<String>), String> {
        Ok((line, cells.iter().map(|cell| (*cell).to_owned()).collect()))
    }

    #[test]
    fn rows_have_their_lines_whatever_ends_them() {
        for end in ["\n", "\r\n", "\r"] {
            let text = format!("a,b{end}{end}1,\"x{end}y\"{end}2,{end}").replace('|', end);
            let rows = read(text.as_bytes());
            let inner = format!("x{end}y");
            assert_eq!(
                rows,
                [row(1, &["a", "b"]), row(3, &["1", &inner]), row(5, &["2", ""])],
                "{end:?}"
            );
        }
        // The last line needs no end.
        assert_eq!(read(b"a,b\n1,2").len(), 2);
    }

    #[test]
    fn invalid_quotes_are_reported_with_line_and_column_and_the_next_rows_are_read() {
        let rows = read(b"a,b\n\"x\"y,1\n1, \"Anu\"\n1,\xc2\xa0\"A,\nnu\"\n2,5\" pipe\n3,\"\"\"q\"\"\"\n");
        let errors: Vec<_> = rows.iter().filter_map(|row| row.as_ref().err()).collect();
        assert_eq!(errors.len(), 3, "{rows:?}");
        assert!(errors[0].starts_with("line 2, column 1: text follows a closing quote"));
        assert!(errors[1].starts_with("line 3, column 2: a space before a quote"));
        assert!(errors[2].starts_with("line 4, column 2: a space before a quote"));
        // A quote in the middle of plain text is text.
        assert_eq!(rows[4..], [row(6, &["2", "5\" pipe"]), row(7, &["3", "\"q\""])]);
        let open = read(b"a,b\n1,2\n1,\"x\n1,2\n");
        assert!(
            open[2]
                .as_ref()
                .is_err_and(|text| text.starts_with("line 3: the row that starts here has a quote"))
        );
    }

    #[test]
    fn invalid_utf8_is_reported_with_line_and_column() {
        let rows = read(b"a,b\n1,Ren\xe9\n1,2\n\x80,2\n");
        assert!(
            rows[1]
                .as_ref()
                .is_err_and(|text| text.starts_with("line 2, column 2: is not UTF-8 (byte 0xE9, "))
        );
        assert!(
            rows[3]
                .as_ref()
                .is_err_and(|text| text.starts_with("line 4, column 1: is not UTF-8 (byte 0x80, "))
        );
        assert_eq!(rows[2], row(3, &["1", "2"]));
    }

    #[test]
    fn the_separator_is_detected() {
        for (text, found) in [
            ("a,b\n1,2\n", b','),
            ("a;b\n1,5;2\n", b';'),
            ("a\tb\n1\t2;3\n", b'\t'),
            ("a|b\n1|2\n", b'|'),
            ("a\nx;y\n", b','),
            ("\"a,x\";b\n1;2\n", b';'),
            // Both in the first line: the one by which the rows are even.
            ("a;b, c;d\n1;2;3\n4;5;6\n", b';'),
            ("a,b;c,d\n1,2,3\n4,5,6\n", b','),
            // An invalid row does not change the separator.
            ("a,b\n1\n1,2\n", b','),
            ("a;b\n1\n1;2\n", b';'),
        ] {
            assert_eq!(separator(text.as_bytes()), found, "{text:?}");
        }
        let rows = read(b"sep=;\r\na;b\r\n1,5;2\r\n");
        assert_eq!(rows, [row(2, &["a", "b"]), row(3, &["1,5", "2"])]);
    }

    proptest! {
        #[test]
        fn written_cells_are_read_unchanged(
            cells in prop::collection::vec(prop::collection::vec("[a,;\"\r\n\t é]{0,6}", 2), 1..6),
            end in prop_oneof![Just("\n"), Just("\r\n"), Just("\r")],
        ) {
            let quoted = |cell: &String| format!("\"{}\"", cell.replace('"', "\"\""));
            let line = |cells: &Vec<String>| cells.iter().map(quoted).collect::<Vec<_>>().join(",") + end;
            let text: String = std::iter::once("x,y".to_owned() + end).chain(cells.iter().map(line)).collect();
            let rows: Vec<_> = read(text.as_bytes()).into_iter().skip(1).map(|row| row.unwrap().1).collect();
            prop_assert_eq!(rows, cells);
        }
    }
}
