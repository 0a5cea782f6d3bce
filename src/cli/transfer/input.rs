//! The bytes of a text file: its encoding, and the current line number.

use std::io::{self, BufRead, BufReader, Chain, Cursor, Read};

/// The number of bytes at the start of a file that decide on its encoding and its separator.
const HEAD: u64 = 64 * 1024;
const BOM: &[u8] = "\u{feff}".as_bytes();

/// A file that is read byte by byte.
pub(super) struct TextInput<R> {
    bytes: BufReader<Chain<Cursor<Vec<u8>>, R>>,
    /// The line number of the next byte.
    pub(super) line: u64,
    was_cr: bool,
}

impl<R: Read> TextInput<R> {
    /// Opens a UTF-8 text, with or without byte order marks. Also returns its first bytes. Fails with the type of the file if it is
    /// not UTF-8 text.
    pub(super) fn open(mut file: R) -> Result<(Self, Vec<u8>), String> {
        let mut head = Vec::new();
        file.by_ref()
            .take(HEAD)
            .read_to_end(&mut head)
            .map_err(|error| error.to_string())?;
        if let Some(what) = foreign(&head) {
            return Err(format!("{what}; save it as UTF-8 (in Excel: \"CSV UTF-8\")"));
        }
        let mut text = &head[..];
        // Two programs may each have added one.
        while let Some(rest) = text.strip_prefix(BOM) {
            text = rest;
        }
        let text = text.to_vec();
        let input = Self {
            bytes: BufReader::new(Cursor::new(text.clone()).chain(file)),
            line: 1,
            was_cr: false,
        };
        Ok((input, text))
    }

    /// Returns the next byte; `None` at the end. A line ends with LF, CRLF or CR.
    pub(super) fn next(&mut self) -> io::Result<Option<u8>> {
        let byte = self.peek()?;
        if let Some(byte) = byte {
            self.bytes.consume(1);
            if byte == b'\r' || (byte == b'\n' && !self.was_cr) {
                self.line += 1;
            }
            self.was_cr = byte == b'\r';
        }
        Ok(byte)
    }

    /// Skips the LF of a CRLF whose CR was read.
    pub(super) fn end_line(&mut self) -> io::Result<()> {
        if self.was_cr && self.peek()? == Some(b'\n') {
            self.next()?;
        }
        Ok(())
    }

    fn peek(&mut self) -> io::Result<Option<u8>> {
        Ok(self.bytes.fill_buf()?.first().copied())
    }
}

/// Returns the type of a file that is not UTF-8 text, by its first bytes.
fn foreign(head: &[u8]) -> Option<&'static str> {
    let begins = |with: &[u8]| head.starts_with(with);
    let zeros = head.iter().filter(|byte| **byte == 0).count();
    if begins(b"\xff\xfe\0\0") || begins(b"\0\0\xfe\xff") {
        Some("is UTF-32")
    } else if begins(b"\xff\xfe") || begins(b"\xfe\xff") {
        Some("is UTF-16")
    } else if begins(b"PK\x03\x04") || begins(b"\xd0\xcf\x11\xe0") {
        Some("is a spreadsheet workbook or an archive, not text")
    } else if begins(b"\x1f\x8b") {
        Some("is compressed, not text")
    } else if zeros * 4 >= head.len() && zeros > 0 {
        Some("is probably UTF-16 without a byte order mark")
    } else {
        None
    }
}

/// Returns the message for bytes that are not UTF-8.
pub(super) fn not_utf8(error: &std::str::Utf8Error, bytes: &[u8]) -> String {
    let byte = bytes.get(error.valid_up_to()).copied().unwrap_or_default();
    format!("is not UTF-8 (byte 0x{byte:02X}, as in Windows-1252): save the file as UTF-8, in Excel as \"CSV UTF-8\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Result<(Vec<u8>, u64), String> {
        let (mut input, _) = TextInput::open(bytes)?;
        let mut read = vec![];
        while let Some(byte) = input.next().unwrap() {
            read.push(byte);
        }
        Ok((read, input.line))
    }

    #[test]
    fn each_kind_of_line_end_counts_once() {
        for text in [
            "a\nb\nc",
            "a\r\nb\r\nc",
            "a\rb\rc",
            "a\r\nb\rc",
            "\u{feff}\u{feff}a\nb\nc",
        ] {
            let (bytes, line) = read(text.as_bytes()).unwrap();
            assert_eq!(line, 3, "{text:?}");
            assert_eq!(bytes.first(), Some(&b'a'));
        }
    }

    #[test]
    fn the_type_of_a_file_that_is_not_utf8_is_named() {
        let utf16: Vec<u8> = "a,b\r\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
        for (bytes, what) in [
            (&[&b"\xff\xfe"[..], &utf16].concat()[..], "is UTF-16;"),
            (b"\xfe\xff\0a", "is UTF-16;"),
            (&utf16, "is probably UTF-16"),
            (b"\xff\xfe\0\0a\0\0\0", "is UTF-32"),
            (b"PK\x03\x04rest", "workbook"),
            (b"\x1f\x8brest", "compressed"),
        ] {
            let text = read(bytes).unwrap_err();
            assert!(text.contains(what) && text.contains("save it as UTF-8"), "{text}");
        }
        // A single NUL in a long file is part of a cell.
        assert!(read(b"email_address,first_name\na@example.com,A\0nu\n").is_ok());
    }
}
