//! CSV: rows of cells, each with its line. Quotes are those of RFC 4180; rows end with LF, CRLF or CR. Does not know what the
//! cells mean.

use std::io::{self, Read};

use super::input::{Input, not_utf8};
use super::rows::{Fault, LONGEST};

/// The separators that are found out, the likeliest first, and what people call files with them.
const SEPARATORS: [(u8, &str); 4] = [
    (b',', "commas"),
    (b';', "semicolons"),
    (b'\t', "tabs"),
    (b'|', "vertical bars"),
];

/// The cells of a row as they stand.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Record {
    /// The line in which the row begins.
    pub(super) line: u64,
    text: String,
    ends: Vec<usize>,
}

/// Reads rows of cells.
pub(super) struct Reader<R> {
    input: Input<R>,
    separator: u8,
}

/// Where in a cell.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Start,
    Plain,
    Quoted,
    /// After a quote inside of quotes: it closes them, unless another one follows.
    Closing,
}

impl Record {
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

    /// Drops all cells after that many.
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

    /// About how much memory it takes.
    pub(super) fn size(&self) -> usize {
        self.text.len() + 8 * self.ends.len() + 96
    }
}

impl<R: Read> Reader<R> {
    /// A reader of this file, whose first bytes are these; also what the separator is called if it is not the comma.
    pub(super) fn new(input: Input<R>, head: &[u8]) -> (Self, Option<&'static str>) {
        let mut input = input;
        let named = named_separator(head);
        if named.is_some() {
            // It was in the head, so that it can be read.
            let line = input.line;
            while input.line == line && matches!(input.next(), Ok(Some(_))) {}
            let _ = input.end_line();
        }
        let separator = named.unwrap_or_else(|| separator(head));
        let called = SEPARATORS.iter().find(|(byte, _)| *byte == separator);
        let called = called.map(|(_, called)| *called).filter(|_| separator != b',');
        (Self { input, separator }, called)
    }

    /// The next row that is no empty line; `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<Record>, Fault> {
        loop {
            match self.record()? {
                Some(record) if record.len() == 1 && record.is_blank() => {}
                record => return Ok(record),
            }
        }
    }

    fn record(&mut self) -> Result<Option<Record>, Fault> {
        let mut record = Record::new(self.input.line, []);
        let began = record.line;
        let (mut cell, mut place, mut length) = (Vec::new(), Place::Start, 0);
        let mut fault: Option<Fault> = None;
        let mut keep = |found: Fault| {
            fault.get_or_insert(found);
        };
        loop {
            let line = self.input.line;
            let Some(byte) = self.input.next().map_err(|error| cannot(&error))? else {
                match place {
                    Place::Quoted => {
                        let text = format!("line {began}: a quote of the row that begins here is not closed");
                        return Err(Fault::File(text));
                    }
                    _ if length == 0 => return Ok(None),
                    _ => break,
                }
            };
            length += 1;
            if length > LONGEST {
                return Err(Fault::File(format!(
                    "line {began}: the row that begins here is longer than {LONGEST} bytes; is a quote not closed?"
                )));
            }
            let column = record.len() + 1;
            let is_end = matches!(byte, b'\n' | b'\r');
            match (place, byte) {
                (Place::Start, b'"') => place = Place::Quoted,
                (Place::Closing, b'"') => {
                    cell.push(b'"');
                    place = Place::Quoted;
                }
                (Place::Quoted, b'"') => place = Place::Closing,
                (Place::Quoted, _) => cell.push(byte),
                (_, _) if byte == self.separator || is_end => {
                    take(&mut record, &mut cell).unwrap_or_else(&mut keep);
                    place = Place::Start;
                    if is_end {
                        self.input.end_line().map_err(|error| cannot(&error))?;
                        return fault.map_or(Ok(Some(record)), Err);
                    }
                }
                (Place::Closing, _) => {
                    keep(Fault::cell(
                        line,
                        column,
                        "text follows a closing quote; quotes inside of quotes are doubled",
                    ));
                    cell.push(byte);
                    place = Place::Plain;
                }
                (Place::Plain, b'"') if is_blank(&cell) => {
                    keep(Fault::cell(
                        line,
                        column,
                        "a space stands before a quote; a quote must be the first character of its cell",
                    ));
                    place = Place::Quoted;
                }
                (Place::Start | Place::Plain, _) => {
                    cell.push(byte);
                    place = Place::Plain;
                }
            }
        }
        take(&mut record, &mut cell).unwrap_or_else(&mut keep);
        fault.map_or(Ok(Some(record)), Err)
    }
}

/// Puts a cell at the end of a row.
fn take(record: &mut Record, cell: &mut Vec<u8>) -> Result<(), Fault> {
    let taken = match std::str::from_utf8(cell) {
        Ok(text) => {
            record.push(text);
            Ok(())
        }
        Err(error) => {
            let fault = Fault::cell(record.line, record.len() + 1, &not_utf8(&error, cell));
            record.push("");
            Err(fault)
        }
    };
    cell.clear();
    taken
}

fn is_blank(cell: &[u8]) -> bool {
    std::str::from_utf8(cell).is_ok_and(|text| text.trim().is_empty())
}

fn cannot(error: &io::Error) -> Fault {
    Fault::File(error.to_string())
}

/// The separator that a first line `sep=;` names, as spreadsheet programs write it.
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

/// The separator of a file with these first bytes: the one by which the first line has several cells, and all rows as many.
fn separator(head: &[u8]) -> u8 {
    let several: Vec<_> = SEPARATORS
        .iter()
        .map(|(separator, _)| (*separator, widths(head, *separator)))
        .filter(|(_, widths)| widths.first().is_some_and(|first| *first > 1))
        .collect();
    let even = several
        .iter()
        .filter(|(_, widths)| widths.iter().all(|width| width == &widths[0]));
    let even: Vec<_> = even.map(|(separator, _)| *separator).collect();
    match (&even[..], several.first()) {
        ([only], _) => *only,
        (_, Some((first, _))) => *first,
        (_, None) => b',',
    }
}

/// How many cells the first rows have with that separator. Of a long file the last one that is known may be cut off.
fn widths(head: &[u8], separator: u8) -> Vec<usize> {
    const ROWS: usize = 20;
    const WHOLE: usize = 60 * 1024;
    let Ok((input, _)) = Input::open(head) else {
        return vec![];
    };
    let mut reader = Reader { input, separator };
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

    /// The rows of a text, or what is wrong with each.
    fn read(text: &[u8]) -> Vec<Result<(u64, Vec<String>), String>> {
        let (input, head) = Input::open(text).unwrap();
        let (mut reader, _) = Reader::new(input, &head);
        let mut rows = vec![];
        loop {
            match reader.next() {
                Ok(None) => return rows,
                Ok(Some(record)) => rows.push(Ok((record.line, record.iter().map(str::to_owned).collect()))),
                Err(Fault::Row { line, text }) => rows.push(Err(format!("line {line}{text}"))),
                Err(Fault::File(text)) => {
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
    fn wrong_quotes_are_told_with_line_and_column_and_the_next_rows_are_read() {
        let rows = read(b"a,b\n\"x\"y,1\n1, \"Anu\"\n1,\xc2\xa0\"A,\nnu\"\n2,5\" pipe\n3,\"\"\"q\"\"\"\n");
        let faults: Vec<_> = rows.iter().filter_map(|row| row.as_ref().err()).collect();
        assert_eq!(faults.len(), 3, "{rows:?}");
        assert!(faults[0].starts_with("line 2, column 1: text follows a closing quote"));
        assert!(faults[1].starts_with("line 3, column 2: a space stands before a quote"));
        assert!(faults[2].starts_with("line 4, column 2: a space stands before a quote"));
        // A quote in the middle of plain text is text.
        assert_eq!(rows[4..], [row(6, &["2", "5\" pipe"]), row(7, &["3", "\"q\""])]);
        let open = read(b"a,b\n1,2\n1,\"x\n1,2\n");
        assert!(
            open[2]
                .as_ref()
                .is_err_and(|text| text.starts_with("line 3: a quote of the row"))
        );
    }

    #[test]
    fn bytes_that_are_no_utf8_are_told_with_line_and_column() {
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
    fn the_separator_is_found_out() {
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
            // A broken row does not make it another one.
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
        fn what_is_written_is_read(
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
