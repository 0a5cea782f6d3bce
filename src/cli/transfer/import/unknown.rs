//! The rows of unknown outcome: LeadSquared may have executed them or not. They are part of the state of an import, so that its
//! next run sends them again under the same request ids. A file lists them for people; it is made from the state. Knows neither
//! streams nor what is in a row.

use std::collections::BTreeSet;
use std::io::Read;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::rejected::{Reason, Rejected};
use crate::cli::transfer::rows::Rows;
use crate::cli::transfer::state;

/// The rows of unknown outcome, by what is said of them, which is the same for most.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Unknown(Vec<Group>);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Group {
    why: WhyUnknown,
    rows: BTreeSet<u64>,
}

/// Why the outcome of a row is unknown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WhyUnknown {
    pub(super) reason: Reason,
    /// Whether the gateway cannot settle the row when it is sent again, because it cannot look the lead up.
    pub(super) only_by_hand: bool,
}

impl Unknown {
    pub(super) fn add(&mut self, row: u64, why: WhyUnknown) {
        match self.0.iter_mut().find(|group| group.why == why) {
            Some(group) => drop(group.rows.insert(row)),
            None => self.0.push(Group {
                why,
                rows: [row].into(),
            }),
        }
    }

    /// Takes a row out that is settled.
    pub(super) fn remove(&mut self, row: u64) {
        for group in &mut self.0 {
            group.rows.remove(&row);
        }
        self.0.retain(|group| !group.rows.is_empty());
    }

    pub(super) fn get(&self, row: u64) -> Option<&WhyUnknown> {
        let group = self.0.iter().find(|group| group.rows.contains(&row));
        group.map(|group| &group.why)
    }

    /// The number of the first of the rows.
    pub(super) fn first(&self) -> Option<u64> {
        self.0.iter().filter_map(|group| group.rows.first()).min().copied()
    }

    pub(super) fn len(&self) -> u64 {
        self.count(|_| true)
    }

    /// How many of the rows the gateway cannot settle.
    pub(super) fn only_by_hand(&self) -> u64 {
        self.count(|why| why.only_by_hand)
    }

    fn count(&self, wanted: impl Fn(&WhyUnknown) -> bool) -> u64 {
        let groups = self.0.iter().filter(|group| wanted(&group.why));
        groups.map(|group| group.rows.len() as u64).sum()
    }

    /// Lists the rows in a file, in place of those that it listed before. `rows` are all rows of the imported file.
    pub(super) fn write<R: Read>(&self, path: &Path, mut rows: Rows<R>) -> Result<(), String> {
        state::remove(path)?;
        let mut file = Rejected::at(path.to_owned(), rows.names().to_vec(), 0)?;
        let (mut number, mut left) = (0, self.len());
        while left > 0 {
            let Some(row) = rows.next().map_err(|fault| fault.to_string())? else {
                break;
            };
            number += 1;
            let Some(WhyUnknown { reason, only_by_hand }) = self.get(number) else {
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
    use crate::cli::transfer::Format;

    fn why(only_by_hand: bool) -> WhyUnknown {
        WhyUnknown {
            reason: Reason::untold(),
            only_by_hand,
        }
    }

    #[test]
    fn rows_are_kept_with_their_reasons_until_they_are_settled() {
        let mut unknown = Unknown::default();
        for (row, only_by_hand) in [(7, false), (2, true), (3, true)] {
            unknown.add(row, why(only_by_hand));
        }
        assert_eq!(
            (unknown.len(), unknown.only_by_hand(), unknown.first()),
            (3, 2, Some(2))
        );
        let kept = serde_json::to_string(&unknown).unwrap();
        assert_eq!(serde_json::from_str::<Unknown>(&kept).unwrap(), unknown);
        unknown.remove(2);
        assert_eq!((unknown.get(2), unknown.get(3)), (None, Some(&why(true))));
        unknown.remove(3);
        unknown.remove(7);
        assert_eq!(unknown, Unknown::default());
    }

    #[test]
    fn the_file_lists_the_rows_as_they_stand_in_place_of_those_before() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("unknown.csv");
        let rows = || Rows::open(Format::Csv, &b"name\nAnn\nBen\nCarl\n"[..]).unwrap();
        let mut unknown = Unknown::default();
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
