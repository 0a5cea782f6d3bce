//! Reads lists of records in JSON, so that one damaged record does not hide the others. A scanner first splits the body into
//! records. It is strict about brackets and lenient about the content of strings. Then each record is read by itself. Does
//! not depend on any endpoint.
//!
//! A record with damage only inside of its strings or numbers is repaired, if nothing is lost by that. Half a surrogate pair
//! becomes U+FFFD. A number that is too large becomes a text. In a response about one record, raw control characters are
//! escaped. Bytes that are not UTF-8 are not repaired, because their encoding is not known.

use std::borrow::Cow;
use std::ops::Range;

use serde::de::DeserializeOwned;
use serde_json::Value as Json;
use serde_path_to_error::{Path, Segment};

use crate::domain::json::escape;
use crate::domain::listed::{Listed, Unreadable};

/// Maximum number of bytes that are scanned for the next whole record of a damaged body, in lengths of the body.
const MAX_SCANS: usize = 16;
/// Maximum length of a record's id, and of a name in a path.
const MAX_NAME: usize = 100;

/// The member of a body with the number of records.
const COUNT: &str = "RecordCount";

/// The path of an error behind a value.
const END: &str = "the end";

/// A body split into records.
#[derive(Debug)]
pub(super) struct Records<'a> {
    /// The member that holds the list; `None` if the list is the whole body.
    name: Option<&'static str>,
    items: Vec<Item<'a>>,
    /// All other members of the body, as raw JSON.
    members: Vec<(&'a [u8], &'a [u8])>,
}

/// One record as raw JSON.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Item<'a> {
    text: &'a [u8],
    /// Whether its brackets and quotes are balanced, so that its end is known.
    is_whole: bool,
}

/// The form of a list of records.
#[derive(Clone, Copy, Debug)]
pub(super) struct ListShape {
    /// The members of the body that may be the list. Empty: the body is the list.
    pub(super) names: &'static [&'static str],
    /// Every record has at least one of these attributes. Other objects inside of a record have none.
    pub(super) marks: &'static [&'static str],
    /// The attributes that may be a record's id.
    pub(super) ids: &'static [&'static str],
}

/// The text violates the JSON grammar.
#[derive(Debug, PartialEq)]
struct SyntaxError;

/// Reads a value, and repairs it if necessary. Fails with the JSON path of the first unexpected value.
pub(super) fn parse<T: DeserializeOwned>(text: &[u8]) -> Result<T, String> {
    parse_repaired(text, true)
}

/// Reads a value, and repairs it if necessary. Raw control characters are repaired only on request. In a list they are reported,
/// because the other records are returned in any case, and the damaged record should be corrected in LeadSquared.
fn parse_repaired<T: DeserializeOwned>(text: &[u8], controls: bool) -> Result<T, String> {
    // Almost every text is valid. Recording the path of each value would take as long as the rest.
    if let Ok(value) = serde_json::from_slice(text) {
        return Ok(value);
    }
    match repaired(text, controls) {
        Cow::Owned(repaired) => parse_strictly(&repaired),
        Cow::Borrowed(_) => parse_strictly(text),
    }
}

fn parse_strictly<T: DeserializeOwned>(text: &[u8]) -> Result<T, String> {
    let mut json = serde_json::Deserializer::from_slice(text);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|error| shown(error.path()))?;
    json.end().map_err(|_| END.to_owned())?;
    Ok(value)
}

/// The path for texts and logs. Keys of a damaged text may contain anything, so unusual ones become `?`.
fn shown(path: &Path) -> String {
    let mut text = String::new();
    for segment in path {
        match segment {
            Segment::Seq { index } => text.push_str(&format!("[{index}]")),
            Segment::Map { key } | Segment::Enum { variant: key } => {
                let is_name = key.len() <= MAX_NAME && key.bytes().all(is_of_name);
                let separator = if text.is_empty() { "" } else { "." };
                text.push_str(separator);
                text.push_str(if is_name { key } else { "?" });
            }
            Segment::Unknown => {}
        }
    }
    text
}

fn is_of_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"_-~".contains(&byte)
}

impl<'a> Records<'a> {
    /// Splits a body. Fails with the JSON path of the first unexpected value.
    pub(super) fn split(body: &'a [u8], shape: &ListShape) -> Result<Self, String> {
        let mut scanner = Scanner::new(body);
        let mut records = Self {
            name: None,
            items: Vec::new(),
            members: Vec::new(),
        };
        scanner.skip_space();
        match scanner.peek() {
            // Null for an empty list is not documented, but accepted.
            Some(b'n') if shape.names.is_empty() => {
                let value = scanner.value().map_err(|SyntaxError| "the top".to_owned())?;
                if value != b"null" {
                    return Err("the top".to_owned());
                }
            }
            Some(b'[') if shape.names.is_empty() => {
                records.items = scanner.list(shape, false).ok_or(END)?;
            }
            Some(b'{') if !shape.names.is_empty() => records.read_members(&mut scanner, shape)?,
            _ => return Err("the top".to_owned()),
        }
        scanner.skip_space();
        match scanner.peek() {
            None if shape.names.is_empty() || records.has_list() => Ok(records),
            None => Err(shape.names[0].to_owned()),
            Some(_) => Err(END.to_owned()),
        }
    }

    fn read_members(&mut self, scanner: &mut Scanner<'a>, shape: &ListShape) -> Result<(), String> {
        let at_end = |SyntaxError| END.to_owned();
        scanner.at += 1;
        scanner.skip_space();
        if scanner.eat(b'}') {
            return Ok(());
        }
        loop {
            let key = scanner.key().map_err(at_end)?;
            scanner.skip_space();
            match shape.names.iter().find(|name| name.as_bytes() == key) {
                Some(name) if scanner.peek() == Some(b'[') => {
                    self.name = Some(name);
                    self.items = scanner.list(shape, true).ok_or_else(|| (*name).to_owned())?;
                }
                Some(name) => {
                    if scanner.value().map_err(at_end)? != b"null" {
                        return Err((*name).to_owned());
                    }
                }
                None => {
                    let value = scanner.value().map_err(at_end)?;
                    self.members.push((key, value));
                }
            }
            scanner.skip_space();
            match scanner.next() {
                Some(b',') => {}
                Some(b'}') => return Ok(()),
                _ => return Err(END.to_owned()),
            }
        }
    }

    /// Whether the body has a list. It may be missing if the count is 0. Any other body is not a list of records.
    fn has_list(&self) -> bool {
        let count = self.member(COUNT);
        self.name.is_some() || count == 0 || count == "0"
    }

    /// Another member of the body. Null if it is missing or unreadable.
    pub(super) fn member(&self, name: &str) -> Json {
        let member = self.members.iter().rev().find(|(key, _)| *key == name.as_bytes());
        member.and_then(|(_, value)| parse(value).ok()).unwrap_or_default()
    }

    /// Reads each record. `read` fails with the name of the first unexpected attribute.
    pub(super) fn read<T: DeserializeOwned, U>(
        &self,
        shape: &ListShape,
        read: impl FnMut(T) -> Result<Option<U>, &'static str>,
    ) -> Listed<U> {
        self.read_repaired(shape, false, read)
    }

    /// Reads the records of a response about one record. Raw control characters are repaired.
    pub(super) fn read_alone<T: DeserializeOwned, U>(
        &self,
        shape: &ListShape,
        read: impl FnMut(T) -> Result<Option<U>, &'static str>,
    ) -> Listed<U> {
        self.read_repaired(shape, true, read)
    }

    fn read_repaired<T: DeserializeOwned, U>(
        &self,
        shape: &ListShape,
        controls: bool,
        mut read: impl FnMut(T) -> Result<Option<U>, &'static str>,
    ) -> Listed<U> {
        let mut listed = Listed::default();
        for (position, item) in self.items.iter().enumerate() {
            let result = match parse_repaired(item.text, controls) {
                Ok(record) if item.is_whole => read(record).map_err(str::to_owned),
                Err(path) if item.is_whole => Err(path),
                // Behind the first object of a damaged record, no path is known.
                damaged => Err(damaged.err().filter(|path| path != END).unwrap_or_default()),
            };
            listed.is_count_uncertain |= !item.is_whole;
            match result {
                Ok(record) => listed.records.extend(record),
                Err(path) => listed.unreadable.push(Unreadable {
                    id: shape.ids.iter().find_map(|name| id_in(item.text, name)),
                    position,
                    path: self.path(position, &path),
                }),
            }
        }
        listed
    }

    fn path(&self, position: usize, inner: &str) -> String {
        let name = self.name.unwrap_or_default();
        let dot = if inner.is_empty() || inner.starts_with('[') {
            ""
        } else {
            "."
        };
        format!("{name}[{position}]{dot}{inner}")
    }
}

/// The value of an attribute in the text of a record that may be damaged: `"NAME": "value"`, or
/// `"NAME", "Value": "value"` as in lists of pairs. A value that does not look like an id is ignored.
fn id_in(text: &[u8], name: &str) -> Option<String> {
    let quoted = format!("\"{name}\"");
    let mut from = 0;
    while let Some(found) = find(&text[from..], quoted.as_bytes()) {
        from += found + quoted.len();
        let mut scanner = Scanner::new(&text[from..]);
        scanner.skip_space();
        if scanner.eat(b',') && scanner.key() != Ok(b"Value") {
            continue;
        }
        scanner.eat(b':');
        let Ok(value) = scanner.value() else {
            continue;
        };
        let value = value
            .strip_prefix(b"\"")
            .and_then(|value| value.strip_suffix(b"\""))
            .unwrap_or(value);
        let is_id = !value.is_empty() && value.len() <= MAX_NAME && value.iter().copied().all(is_of_name);
        if is_id && value != b"null" {
            return String::from_utf8(value.to_vec()).ok();
        }
    }
    None
}

fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    let first = *part.first()?;
    let mut from = 0;
    loop {
        from += text.get(from..)?.iter().position(|byte| *byte == first)?;
        if text[from..].starts_with(part) {
            return Some(from);
        }
        from += 1;
    }
}

/// A position in a JSON text.
#[derive(Clone, Debug)]
struct Scanner<'a> {
    text: &'a [u8],
    at: usize,
}

/// Where the scan continues after a damaged record.
enum Resume {
    /// At the next record, which begins at the first position. The damaged record ends at the second one.
    Record(usize, usize),
    /// Behind the list, at the first position. The damaged record ends at the second one.
    End(usize, usize),
}

impl<'a> Scanner<'a> {
    fn new(text: &'a [u8]) -> Self {
        Self { text, at: 0 }
    }

    fn from(&self, at: usize) -> Self {
        Self { text: self.text, at }
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn next(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        Some(byte)
    }

    fn eat(&mut self, byte: u8) -> bool {
        let is_there = self.peek() == Some(byte);
        self.at += usize::from(is_there);
        is_there
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    fn skip(&mut self, is_part: impl Fn(u8) -> bool) {
        while self.peek().is_some_and(&is_part) {
            self.at += 1;
        }
    }

    /// The content of a string, valid or not.
    fn string(&mut self) -> Result<&'a [u8], SyntaxError> {
        if !self.eat(b'"') {
            return Err(SyntaxError);
        }
        let start = self.at;
        loop {
            match self.next().ok_or(SyntaxError)? {
                b'"' => return Ok(&self.text[start..self.at - 1]),
                b'\\' => drop(self.next().ok_or(SyntaxError)?),
                _ => {}
            }
        }
    }

    /// A key and its colon.
    fn key(&mut self) -> Result<&'a [u8], SyntaxError> {
        self.skip_space();
        let key = self.string()?;
        self.skip_space();
        if self.eat(b':') { Ok(key) } else { Err(SyntaxError) }
    }

    /// A value. Open brackets are kept on the heap, so a deep value cannot overflow the stack.
    fn value(&mut self) -> Result<&'a [u8], SyntaxError> {
        self.skip_space();
        let start = self.at;
        let mut open = Vec::new();
        loop {
            self.skip_space();
            match self.peek().ok_or(SyntaxError)? {
                b'"' => drop(self.string()?),
                bracket @ (b'{' | b'[') => {
                    self.at += 1;
                    let close = if bracket == b'{' { b'}' } else { b']' };
                    self.skip_space();
                    if !self.eat(close) {
                        if close == b'}' {
                            self.key()?;
                        }
                        open.push(close);
                        continue;
                    }
                }
                _ => self.word()?,
            }
            loop {
                let Some(close) = open.last().copied() else {
                    return Ok(&self.text[start..self.at]);
                };
                self.skip_space();
                match self.next().ok_or(SyntaxError)? {
                    b',' => {
                        if close == b'}' {
                            self.key()?;
                        }
                        break;
                    }
                    byte if byte == close => drop(open.pop()),
                    _ => return Err(SyntaxError),
                }
            }
        }
    }

    /// A number or a literal, valid or not.
    fn word(&mut self) -> Result<(), SyntaxError> {
        let start = self.at;
        self.skip(|byte| byte.is_ascii_alphanumeric() || b"+-._".contains(&byte));
        if self.at > start { Ok(()) } else { Err(SyntaxError) }
    }

    /// The records of a list. The opening bracket is next. `None` if the end of the list cannot be found.
    fn list(&mut self, shape: &ListShape, is_member: bool) -> Option<Vec<Item<'a>>> {
        let mut items: Vec<(Range<usize>, bool)> = Vec::new();
        let mut budget = self.text.len().saturating_mul(MAX_SCANS);
        self.at += 1;
        self.skip_space();
        if self.eat(b']') {
            return Some(Vec::new());
        }
        loop {
            self.skip_space();
            let start = self.at;
            let found = self.value().map(|_| self.at);
            self.skip_space();
            match (found, self.next()) {
                (Ok(end), Some(b',')) => {
                    items.push((start..end, true));
                    continue;
                }
                (Ok(end), Some(b']')) if self.is_tail(is_member, &mut budget) => {
                    items.push((start..end, true));
                    break;
                }
                _ => {}
            }
            budget = budget.saturating_sub(self.at - start);
            if budget == 0 {
                return None;
            }
            // A text that looks like the rest of an object belongs to the record before.
            let is_rest = self.from(start).key().is_ok();
            let start = match items.pop() {
                Some((before, _)) if is_rest => before.start,
                other => {
                    items.extend(other);
                    start
                }
            };
            match self.from(start).after_damage(shape, is_member, &mut budget)? {
                Resume::Record(next, end) => {
                    items.push((start..end, false));
                    self.at = next;
                }
                Resume::End(next, end) => {
                    items.push((start..end, false));
                    self.at = next;
                    break;
                }
            }
        }
        let item = |(range, is_whole): (Range<usize>, bool)| Item {
            text: &self.text[range],
            is_whole,
        };
        Some(items.into_iter().map(item).collect())
    }

    /// The first position after a damaged record where another record begins, or where the list ends and the rest of the body
    /// is valid.
    fn after_damage(mut self, shape: &ListShape, is_member: bool, budget: &mut usize) -> Option<Resume> {
        loop {
            self.skip(|byte| byte != b'}');
            self.next()?;
            let end = self.at;
            let mut ahead = self.clone();
            ahead.skip_space();
            match ahead.next() {
                Some(b',') => {
                    ahead.skip_space();
                    if ahead.peek() == Some(b'{') && ahead.is_record(shape, budget) {
                        return Some(Resume::Record(ahead.at, end));
                    }
                }
                Some(b']') if ahead.is_tail(is_member, budget) => return Some(Resume::End(ahead.at, end)),
                _ => {}
            }
            if *budget == 0 {
                return None;
            }
        }
    }

    /// Whether a record begins here, by its first key or, if it is whole, by any of its keys.
    fn is_record(&self, shape: &ListShape, budget: &mut usize) -> bool {
        let is_mark = |key: &[u8]| shape.marks.iter().any(|mark| mark.as_bytes() == key);
        let mut scanner = self.from(self.at + 1);
        let mut is_record = false;
        while let Ok(key) = scanner.key() {
            is_record = is_mark(key);
            if is_record || scanner.value().is_err() {
                break;
            }
            scanner.skip_space();
            if !scanner.eat(b',') {
                break;
            }
        }
        *budget = budget.saturating_sub(scanner.at - self.at);
        is_record
    }

    /// Whether the rest of the body, behind the list, is valid.
    fn is_tail(&self, is_member: bool, budget: &mut usize) -> bool {
        let mut scanner = self.clone();
        let is_tail = scanner.tail(is_member).is_ok();
        *budget = budget.saturating_sub(scanner.at - self.at);
        is_tail
    }

    fn tail(&mut self, is_member: bool) -> Result<(), SyntaxError> {
        if is_member {
            loop {
                self.skip_space();
                match self.next() {
                    Some(b',') => {
                        self.key()?;
                        self.value()?;
                    }
                    Some(b'}') => break,
                    _ => return Err(SyntaxError),
                }
            }
        }
        self.skip_space();
        if self.peek().is_none() {
            Ok(())
        } else {
            Err(SyntaxError)
        }
    }
}

/// The text with raw control characters escaped, half surrogate pairs replaced, and too large numbers quoted.
fn repaired(text: &[u8], controls: bool) -> Cow<'_, [u8]> {
    let mut repaired = Vec::new();
    let mut copied = 0;
    let mut scanner = Scanner::new(text);
    let mut in_string = false;
    while let Some(byte) = scanner.peek() {
        let start = scanner.at;
        let replacement = match (in_string, byte) {
            (false, b'-' | b'0'..=b'9') => {
                scanner.skip(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte));
                let number = &text[start..scanner.at];
                is_too_large(number).then(|| [b"\"", number, b"\""].concat())
            }
            (true, b'\\') => {
                let (length, is_half) = escape(&text[start..]);
                scanner.at += length;
                is_half.then(|| b"\\ufffd".to_vec())
            }
            (true, 0..0x20) if controls => {
                scanner.at += 1;
                Some(format!("\\u{byte:04x}").into_bytes())
            }
            _ => {
                scanner.at += 1;
                in_string ^= byte == b'"';
                None
            }
        };
        if let Some(replacement) = replacement {
            repaired.extend_from_slice(&text[copied..start]);
            repaired.extend(replacement);
            copied = scanner.at;
        }
    }
    if copied == 0 {
        return Cow::Borrowed(text);
    }
    repaired.extend_from_slice(&text[copied..]);
    Cow::Owned(repaired)
}

fn is_too_large(number: &[u8]) -> bool {
    let number = std::str::from_utf8(number).unwrap_or_default();
    number.parse::<f64>().is_ok_and(f64::is_infinite)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use proptest::prelude::*;
    use serde_json::json;
    use serde_json::value::RawValue;

    use super::*;

    const ROWS: ListShape = ListShape {
        names: &[],
        marks: &["ProspectID"],
        ids: &["ProspectID"],
    };
    const PAIRS: ListShape = ListShape {
        names: &["Leads"],
        marks: &["LeadPropertyList"],
        ids: &["ProspectID"],
    };

    type Row = BTreeMap<String, Json>;
    type Unread = (Option<String>, usize, String);

    fn read(body: &[u8], shape: &ListShape) -> Listed<Json> {
        let records = Records::split(body, shape).unwrap();
        records.read(shape, |row: Row| Ok(Some(json!(row))))
    }

    /// The ids of the readable records, and the unreadable ones.
    fn seen(body: &[u8], shape: &ListShape) -> (Vec<String>, Vec<Unread>) {
        let listed = read(body, shape);
        let id = |row: &Json| match row["ProspectID"].as_str() {
            Some(id) => id.to_owned(),
            None => row["LeadPropertyList"][0]["Value"].as_str().unwrap().to_owned(),
        };
        let unreadable = listed.unreadable.into_iter();
        (
            listed.records.iter().map(id).collect(),
            unreadable.map(|one| (one.id, one.position, one.path)).collect(),
        )
    }

    fn rows(damaged: &[u8]) -> Vec<u8> {
        [br#"[{"ProspectID":"a"},"#, damaged, br#" , {"ProspectID":"c"}]"#].concat()
    }

    fn pairs(damaged: &[u8]) -> Vec<u8> {
        let lead = |id: &str| format!(r#"{{"LeadPropertyList":[{{"Attribute":"ProspectID","Value":"{id}"}}]}}"#);
        let (first, last) = (lead("a"), lead("c"));
        [
            br#"{"RecordCount":3,"Leads":["#,
            first.as_bytes(),
            b",",
            damaged,
            b",",
            last.as_bytes(),
            br#"],"Status":"x"}"#,
        ]
        .concat()
    }

    #[test]
    fn a_record_with_raw_control_characters_in_a_string_is_reported_in_a_list_and_read_by_itself() {
        let record = b"{\"ProspectID\":\"b\",\"Notes\":\"one\ntwo\tthree\x01\"}";
        let listed = read(&rows(record), &ROWS);
        assert_eq!(listed.records.len(), 2);
        let [unreadable] = &listed.unreadable[..] else {
            panic!("{listed:?}");
        };
        assert_eq!((unreadable.id.as_deref(), unreadable.position), (Some("b"), 1));
        assert_eq!(unreadable.path, "[1].Notes");
        let alone: Json = parse(record).unwrap();
        assert_eq!(alone["Notes"], "one\ntwo\tthree\u{1}");
    }

    #[test]
    fn half_a_surrogate_pair_and_a_too_large_number_are_repaired() {
        let text = br#"{"ProspectID":"b","Notes":"x\ud83d y\ud83d\ude00","Score":-1e999,"Big":123456789012345678901}"#;
        let listed = read(&rows(text), &ROWS);
        assert_eq!(listed.records[1]["Notes"], "x\u{fffd} y\u{1f600}");
        assert_eq!(listed.records[1]["Score"], "-1e999");
        assert!(listed.unreadable.is_empty());
    }

    #[test]
    fn an_unreadable_record_does_not_hide_the_others() {
        let id = || Some("b".to_owned());
        for (damaged, id, path) in [
            (&b"7"[..], None, "[1]"),
            (b"\"text\"", None, "[1]"),
            (b"null", None, "[1]"),
            (b"[]", None, "[1]"),
            (b"nonsense", None, "[1]"),
            (b"{\"ProspectID\":\"b\",\"Notes\":\"\xff\"}", id(), "[1].Notes"),
            (b"{\"ProspectID\":\"b\",\"Notes\":\"\\x\"}", id(), "[1].Notes"),
            (
                b"{\"ProspectID\":\"b\",\"Notes\":\"5\" pipe\",\"City\":\"}\"}",
                id(),
                "[1]",
            ),
            (b"{\"ProspectID\":\"b\",\"Notes\":\"C:\\\",\"City\":\"}\"}", id(), "[1]"),
            (b"{\"ProspectID\":\"b\",\"Notes\":\"open}", id(), "[1].Notes"),
            (b"{\"ProspectID\":\"b\",\"Notes\":{\"a\":[{\"b\":1}", id(), "[1].Notes"),
            (b"{\"ProspectID\":\"b\",\"Notes\":}", id(), "[1].Notes"),
            (b"{\"ProspectID\":\"b\",}", id(), "[1]"),
            (b"{\"ProspectID\":\"b\",\"Notes\":01}", id(), "[1].Notes"),
            (b"{\"ProspectID\":\"b\"}],\"Notes\":7}", id(), "[1]"),
            (b"{\"ProspectID\":\"b\"},\"Notes\":7}", id(), "[1]"),
            (b"{}}{]}[{\"}", None, "[1]"),
            (b"{\x00\xff}", None, "[1]"),
        ] {
            let (read, unreadable) = seen(&rows(damaged), &ROWS);
            let name = String::from_utf8_lossy(damaged);
            assert_eq!(read, ["a", "c"], "{name}");
            assert_eq!(unreadable.len(), 1, "{name}");
            let found = &unreadable[0];
            assert_eq!((&found.0, found.1), (&id, 1), "{name}");
            assert!(found.2.starts_with(path), "{name}: {}", found.2);
        }
    }

    #[test]
    fn an_object_inside_of_a_damaged_record_is_not_taken_for_a_record() {
        for damaged in [
            r#"{"LeadPropertyList":[{"Attribute":"ProspectID","Value":"b"},{"Attribute":"Notes","Value":"5" pipe"},{"Attribute":"X","Value":"y"}]}"#,
            r#"{"LeadPropertyList":[{"Attribute":"ProspectID","Value":"b"},{"Attribute":"X","Value":"y"]}"#,
            r#"{"LeadPropertyList":[{"Attribute":"ProspectID","Value":"b"},{"Attribute":"X","Value":"y"}}"#,
            r#"{"LeadPropertyList":[{"Attribute":"ProspectID","Value":"b"},{"Attribute":"X","Value":"y}"#,
        ] {
            let (read, unreadable) = seen(&pairs(damaged.as_bytes()), &PAIRS);
            assert_eq!(read, ["a", "c"], "{damaged}");
            assert_eq!(unreadable.len(), 1, "{damaged}");
            assert_eq!(
                (unreadable[0].0.as_deref(), unreadable[0].1),
                (Some("b"), 1),
                "{damaged}"
            );
            assert!(unreadable[0].2.starts_with("Leads[1]"), "{}", unreadable[0].2);
        }
    }

    #[test]
    fn other_members_are_read_beside_damaged_records() {
        let body = pairs(b"{\"LeadPropertyList\":[{\"Attribute\":\"x\",\"Value\":\"y}");
        let records = Records::split(&body, &PAIRS).unwrap();
        assert_eq!(
            (records.member("RecordCount"), records.member("Status")),
            (json!(3), json!("x"))
        );
        assert_eq!(records.member("Other"), Json::Null);
    }

    #[test]
    fn a_body_that_breaks_off_is_an_error() {
        for body in [
            &b""[..],
            b"[",
            br#"[{"ProspectID":"a"},{"ProspectID":"b"#,
            br#"[{"ProspectID":"a"},{"ProspectID":"b"}"#,
            br#"[{"ProspectID":"a"}] x"#,
            b"{}",
            b"7",
        ] {
            assert!(
                Records::split(body, &ROWS).is_err(),
                "{}",
                String::from_utf8_lossy(body)
            );
        }
        for body in [
            &br#"{"RecordCount":1"#[..],
            br#"{"RecordCount":1}"#,
            br#"{"Leads":null}"#,
            br#"{"message":"blocked"}"#,
            b"{}",
            br#"{"Leads":{}}"#,
            b"[]",
            b"null",
        ] {
            assert!(
                Records::split(body, &PAIRS).is_err(),
                "{}",
                String::from_utf8_lossy(body)
            );
        }
        for (body, shape) in [
            (&b"null"[..], &ROWS),
            (b" [ ] ", &ROWS),
            (br#"{"Leads":null,"RecordCount":0}"#, &PAIRS),
            (br#"{"RecordCount":"0"}"#, &PAIRS),
        ] {
            assert_eq!(read(body, shape).count(), 0);
        }
    }

    #[test]
    fn a_path_shows_no_text_that_is_not_a_name() {
        let (_, unreadable) = seen(&rows(b"{\"ProspectID\":\"b\",\"Asha Rao, 98450\":\x02}"), &ROWS);
        assert_eq!(unreadable[0].2, "[1].?");
    }

    #[test]
    fn a_hostile_body_takes_linear_time_and_no_stack() {
        let bodies = |count: usize| {
            [
                [b"[".repeat(2 * count), b"{\"a\":".repeat(2 * count)].concat(),
                [&b"["[..], &b"{\"k\":[{},".repeat(count)].concat(),
                [&b"["[..], &b"{\"k\":\"},{\"".repeat(count)].concat(),
                [&b"["[..], &b"{\"k\":[{},{\"".repeat(count), b"}]"].concat(),
            ]
        };
        let shortest = |body: &[u8]| {
            let run = |_| {
                let started = tokio::time::Instant::now();
                let _ = Records::split(body, &ROWS);
                started.elapsed()
            };
            (0..5).map(run).min().unwrap()
        };
        for (small, large) in bodies(25_000).iter().zip(&bodies(250_000)) {
            // Quadratic time would be a hundred times as long.
            let (small, large) = (shortest(small), shortest(large));
            assert!(large < 40 * small + Duration::from_millis(20), "{small:?} {large:?}");
        }
    }

    #[test]
    fn a_value_inside_of_raw_json_stays_as_it_is() {
        let row: BTreeMap<String, Box<RawValue>> = parse(b"{\"a\":\"x\ny\",\"b\":1.50}").unwrap();
        assert_eq!((row["a"].get(), row["b"].get()), (r#""x\u000ay""#, "1.50"));
    }

    fn record() -> impl Strategy<Value = Json> {
        let text = "[ -~\u{e9}\u{1f600}\\n\"{}\\[\\],:\\\\]{0,12}";
        let leaf = prop_oneof![
            text.prop_map(Json::from),
            any::<i64>().prop_map(Json::from),
            any::<bool>().prop_map(Json::from),
            Just(Json::Null)
        ];
        let value = leaf.prop_recursive(2, 8, 3, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..3).prop_map(Json::from),
                prop::collection::btree_map("[a-z]{1,3}", inner, 0..3)
                    .prop_map(|map| Json::Object(map.into_iter().collect())),
            ]
        });
        prop::collection::btree_map("[A-Za-z]{1,4}", value, 0..5).prop_map(|map| {
            let mut row: serde_json::Map<String, Json> = map.into_iter().collect();
            row.insert("ProspectID".to_owned(), json!("b2c4-11"));
            Json::Object(row)
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(600))]

        #[test]
        fn damage_in_one_record_leaves_all_others_in_order(
            records in prop::collection::vec(record(), 1..6),
            at_end in any::<prop::sample::Index>(),
            at in any::<prop::sample::Index>(),
            cut in 0_usize..6,
            put in prop_oneof![
                prop::collection::vec(any::<u8>(), 0..6),
                "[\"{}\\[\\],:\\\\a ]{0,6}".prop_map(String::into_bytes),
            ],
            is_member: bool,
        ) {
            let at_end = at_end.index(records.len());
            let mut texts: Vec<Vec<u8>> = records.iter().map(|record| record.to_string().into_bytes()).collect();
            let text = &mut texts[at_end];
            let start = 1 + at.index(text.len() - 1);
            let end = (start + cut).min(text.len() - 1).max(start);
            text.splice(start..end, put);
            let list = [b"[", &texts.join(&b", "[..])[..], b"]"].concat();
            let (body, shape) = if is_member {
                let shape = ListShape { names: &["Leads"], ..ROWS };
                ([br#"{"RecordCount":3,"Leads":"#, &list[..], br#","More":[{}]}"#].concat(), shape)
            } else {
                (list, ROWS)
            };
            let listed = read(&body, &shape);
            let before: Vec<_> = records[..at_end].to_vec();
            let after: Vec<_> = records[at_end + 1..].to_vec();
            prop_assert!(listed.records.starts_with(&before), "{}", String::from_utf8_lossy(&body));
            prop_assert!(listed.records.ends_with(&after), "{}", String::from_utf8_lossy(&body));
        }

        #[test]
        fn damage_in_one_list_of_pairs_leaves_all_others_in_order(
            values in prop::collection::vec(prop::collection::vec("[ -~\\n\"{}\\[\\],:\\\\]{0,12}", 1..5), 1..6),
            at_end in any::<prop::sample::Index>(),
            at in any::<prop::sample::Index>(),
            cut in 0_usize..40,
            put in prop_oneof![
                prop::collection::vec(any::<u8>(), 0..6),
                "[\"{}\\[\\],:\\\\a ]{0,6}".prop_map(String::into_bytes),
            ],
        ) {
            let lead = |(n, values): (usize, &Vec<String>)| {
                let id = json!({"Attribute": "ProspectID", "Value": format!("lead-{n}")});
                let pairs = values.iter().map(|value| json!({"Attribute": "mx_Text", "Value": value}));
                json!({"LeadPropertyList": std::iter::once(id).chain(pairs).collect::<Vec<_>>()})
            };
            let records: Vec<Json> = values.iter().enumerate().map(lead).collect();
            let at_end = at_end.index(records.len());
            let mut texts: Vec<Vec<u8>> = records.iter().map(|record| record.to_string().into_bytes()).collect();
            let text = &mut texts[at_end];
            let start = 1 + at.index(text.len() - 1);
            let end = (start + cut).min(text.len() - 1).max(start);
            text.splice(start..end, put);
            let body = [br#"{"Leads":["#, &texts.join(&b","[..])[..], br#"],"RecordCount":3}"#].concat();
            let listed = read(&body, &PAIRS);
            prop_assert!(listed.records.starts_with(&records[..at_end]), "{}", String::from_utf8_lossy(&body));
            prop_assert!(listed.records.ends_with(&records[at_end + 1..]), "{}", String::from_utf8_lossy(&body));
        }

        #[test]
        fn no_body_causes_a_panic(body in prop::collection::vec(prop_oneof![
            any::<u8>(), Just(b'"'), Just(b'{'), Just(b'}'), Just(b'['), Just(b']'), Just(b','), Just(b':'), Just(b'\\')
        ], 0..80), is_member: bool) {
            let shape = if is_member { PAIRS } else { ROWS };
            if let Ok(records) = Records::split(&body, &shape) {
                let _ = records.read(&shape, |row: Row| Ok(Some(row)));
            }
            let _ = parse::<Json>(&body);
        }

        #[test]
        fn an_undamaged_list_is_read_unchanged(records in prop::collection::vec(record(), 0..6)) {
            let listed = read(json!(records).to_string().as_bytes(), &ROWS);
            prop_assert_eq!(listed.records, records);
            prop_assert!(listed.unreadable.is_empty());
        }
    }
}
