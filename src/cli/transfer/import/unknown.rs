//! The rows of unknown outcome, which LeadSquared may have executed. They are part of the state of an import, so that the next run
//! sends them again under the same request ids. A file lists them for users; it is written from the state.

use std::collections::BTreeSet;
use std::io::Read;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::rejected::{RejectionReason, RowReport};
use crate::cli::transfer::rows::RowReader;
use crate::cli::transfer::state;

/// The rows of unknown outcome, grouped by reason.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct UnknownRows(Vec<UnknownGroup>);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct UnknownGroup {
    why: UnknownReason,
    rows: BTreeSet<u64>,
}

/// Why the outcome of a row is unknown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct UnknownReason {
    pub(super) reason: RejectionReason,
    /// Whether the gateway cannot look the lead up, so that sending the row again does not find its outcome.
    pub(super) only_by_hand: bool,
}

impl UnknownRows {
    pub(super) fn add(&mut self, row: u64, why: UnknownReason) {
        match self.0.iter_mut().find(|group| group.why == why) {
            Some(group) => drop(group.rows.insert(row)),
            None => self.0.push(UnknownGroup {
                why,
                rows: [row].into(),
            }),
        }
    }

    /// Removes a row whose outcome is known now.
    pub(super) fn remove(&mut self, row: u64) {
        for group in &mut self.0 {
            group.rows.remove(&row);
        }
        self.0.retain(|group| !group.rows.is_empty());
    }

    pub(super) fn get(&self, row: u64) -> Option<&UnknownReason> {
        let group = self.0.iter().find(|group| group.rows.contains(&row));
        group.map(|group| &group.why)
    }

    /// Returns the number of the first row.
    pub(super) fn first(&self) -> Option<u64> {
        self.0.iter().filter_map(|group| group.rows.first()).min().copied()
    }

    pub(super) fn len(&self) -> u64 {
        self.count(|_| true)
    }

    /// Returns the number of rows whose outcome the gateway cannot find.
    pub(super) fn only_by_hand(&self) -> u64 {
        self.count(|why| why.only_by_hand)
    }

    fn count(&self, wanted: impl Fn(&UnknownReason) -> bool) -> u64 {
        let groups = self.0.iter().filter(|group| wanted(&group.why));
        groups.map(|group| group.rows.len() as u64).sum()
    }

    /// Writes the rows to a file, which is replaced. `rows` are all rows of the imported file.
    pub(super) fn write<R: Read>(&self, path: &Path, mut rows: RowReader<R>) -> Result<(), String> {
        state::remove(path)?;
        let mut file = RowReport::at(path.to_owned(), rows.names().to_vec(), 0)?;
        let (mut number, mut left) = (0, self.len());
        while left > 0 {
            let Some(row) = rows.next().map_err(|error| error.to_string())? else {
                break;
            };
            number += 1;
            let Some(UnknownReason { reason, only_by_hand }) = self.get(number) else {
                continue;
            };
            let mut reason = reason.clone();
            if *only_by_hand {
                reason.message +=
                    "; it cannot be looked up by an email address or a phone: check by hand whether the lead exists";
            }
            file.add(number, &row, &reason)?;
            left -= 1;
        }
        file.flush().map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::transfer::FileFormat;

    fn why(only_by_hand: bool) -> UnknownReason {
        UnknownReason {
            reason: RejectionReason::no_result(),
            only_by_hand,
        }
    }

    #[test]
    fn rows_are_kept_with_their_reasons_until_they_are_settled() {
        let mut unknown = UnknownRows::default();
        for (row, only_by_hand) in [(7, false), (2, true), (3, true)] {
            unknown.add(row, why(only_by_hand));
        }
        assert_eq!(
            (unknown.len(), unknown.only_by_hand(), unknown.first()),
            (3, 2, Some(2))
        );
        let kept = serde_json::to_string(&unknown).unwrap();
        assert_eq!(serde_json::from_str::<UnknownRows>(&kept).unwrap(), unknown);
        unknown.remove(2);
        assert_eq!((unknown.get(2), unknown.get(3)), (None, Some(&why(true))));
        unknown.remove(3);
        unknown.remove(7);
        assert_eq!(unknown, UnknownRows::default());
    }

    #[test]
    fn the_file_lists_the_rows_unchanged_and_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("unknown.csv");
        let rows = || RowReader::open(FileFormat::Csv, &b"name\nAnn\nBen\nCarl\n"[..]).unwrap();
        let mut unknown = UnknownRows::default();
        unknown.add(1, why(false));
        unknown.add(3, why(true));
        let listed = || std::fs::read_to_string(&path).unwrap();
        unknown.write(&path, rows()).unwrap();
        let text = listed();
        let lines: Vec<_> = text.lines().collect();
        assert!(
            lines.len() == 3 && lines[1].starts_with("1,Ann,UNKNOWN,OUTCOME_UNKNOWN,line 2: "),
            "{text}"
        );
        assert!(
            lines[2].starts_with("3,Carl,") && lines[2].contains("check by hand"),
            "{text}"
        );
        assert!(!lines[1].contains("check by hand"), "{text}");
        unknown.remove(1);
        unknown.write(&path, rows()).unwrap();
        assert!(listed().lines().count() == 2 && listed().contains("Carl"));
    }
}
