//! Fault injection: the queue of faults. The `http` module applies them to calls.

pub(crate) mod damage;

use std::error::Error;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use self::damage::Damage;
use crate::http::endpoint::Endpoint;

/// The value of [`Fault::on`] that matches all endpoints.
const ANY_ENDPOINT: &str = "*";

/// A fault to inject: the endpoint, the error, and the calls to which it applies.
///
/// A fault applies to calls that match `on` and `containing`. Each fault in the queue counts the matching calls that
/// the limits accept. If several faults are due for a call, the one that was added first applies.
///
/// A call with a fault counts against the limits. The exceptions are [`FaultKind::Unauthorized`], [`FaultKind::Refuse`]
/// and [`FaultKind::RefuseDaily`]: they reject a call before it is counted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// The name of the endpoint, such as `Lead.Create`, `Lead/Bulk/UpdateV2`, `User/AdvancedSearch`,
    /// `EntityAccess.Share` or `ProspectActivity.BulkAdd`. `*` matches all endpoints. Default `*`. An unknown name is
    /// an error: see [`UnknownEndpoint`].
    #[serde(default = "any_endpoint")]
    pub on: String,
    /// The error to inject.
    #[serde(rename = "what")]
    pub kind: FaultKind,
    /// Number of calls to which the fault applies. Default 1. With 0 the fault is ignored.
    #[serde(default = "one_call")]
    pub times: u32,
    /// Number of matching calls that are executed normally before the fault applies. Default 0.
    #[serde(default)]
    pub after: u32,
    /// Only calls that contain this text in the body or in a query value match. If unset, all calls match. Default
    /// unset.
    #[serde(default)]
    pub containing: Option<String>,
}

impl Fault {
    /// Creates a fault that applies once, to the next call of the endpoint `on`.
    pub fn new(on: impl Into<String>, kind: FaultKind) -> Self {
        Self {
            on: on.into(),
            kind,
            times: one_call(),
            after: 0,
            containing: None,
        }
    }

    /// Applies the fault to all calls that contain `text` in the body or in a query value. A web application firewall
    /// that takes `text` for an attack behaves like this.
    #[must_use]
    pub fn containing(mut self, text: impl Into<String>) -> Self {
        self.containing = Some(text.into());
        self.times = u32::MAX;
        self
    }

    /// Applies the fault to `times` calls.
    #[must_use]
    pub fn times(mut self, times: u32) -> Self {
        self.times = times;
        self
    }

    /// Applies the fault only after `after` matching calls.
    #[must_use]
    pub fn after(mut self, after: u32) -> Self {
        self.after = after;
        self
    }

    /// Returns an error if `on` is neither `*` nor the name of an endpoint.
    pub(crate) fn validate(&self) -> Result<(), UnknownEndpoint> {
        if self.on == ANY_ENDPOINT || Endpoint::all().any(|endpoint| endpoint.name() == self.on) {
            return Ok(());
        }
        Err(UnknownEndpoint { name: self.on.clone() })
    }

    fn matches(&self, endpoint: &str, contains: &dyn Fn(&str) -> bool) -> bool {
        (self.on == ANY_ENDPOINT || self.on == endpoint) && self.containing.as_deref().is_none_or(contains)
    }
}

/// The error for a fault that names an unknown endpoint. Its text contains the nearest known name and all known names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownEndpoint {
    name: String,
}

impl UnknownEndpoint {
    /// Returns the unknown name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the name of the endpoint that is most similar to the unknown name, ignoring case. A name that contains the
    /// unknown name, or that the unknown name contains, is preferred. Otherwise the edit distance decides.
    pub fn nearest(&self) -> &'static str {
        let name = self.name.to_lowercase();
        let nearest = Endpoint::all().map(Endpoint::name).min_by_key(|known| {
            let known = known.to_lowercase();
            let contained = known.contains(&name) || name.contains(&known);
            (!contained, edit_distance(&name, &known))
        });
        nearest.unwrap_or(ANY_ENDPOINT)
    }

    /// Returns all known names, beginning with `*`.
    pub fn known() -> impl Iterator<Item = &'static str> {
        std::iter::once(ANY_ENDPOINT).chain(Endpoint::all().map(Endpoint::name))
    }
}

impl fmt::Display for UnknownEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known: Vec<_> = Self::known().collect();
        write!(
            f,
            "unknown endpoint {:?} in \"on\". The nearest known name is {:?}. Known names: {}",
            self.name,
            self.nearest(),
            known.join(", "),
        )
    }
}

impl Error for UnknownEndpoint {}

/// Returns the minimum number of inserted, deleted and replaced characters between two texts.
fn edit_distance(one: &str, two: &str) -> usize {
    let two: Vec<_> = two.chars().collect();
    let mut row: Vec<_> = (0..=two.len()).collect();
    for (index, character) in one.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], index + 1);
        for (column, other) in two.iter().enumerate() {
            let replaced = diagonal + usize::from(character != *other);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[two.len()]
}

/// The error that a fault injects. Examples in JSON: `"commit-then-drop"`, `{"delay": {"by": "2s"}}`.
///
/// A call is executed, and may change data, only where the variant says so.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FaultKind {
    /// Closes the connection without a response.
    DropBefore,
    /// Executes the call, then closes the connection without a response.
    CommitThenDrop,
    /// Executes the call, waits, then closes the connection without a response.
    CommitThenHang {
        /// The time to wait. The JSON name is `for`. Default one hour.
        #[serde(rename = "for", default = "one_hour", with = "humantime_serde")]
        lasting: Duration,
    },
    /// Waits, then closes the connection without a response.
    HangBefore {
        /// The time to wait. The JSON name is `for`. Default one hour.
        #[serde(rename = "for", default = "one_hour", with = "humantime_serde")]
        lasting: Duration,
    },
    /// HTTP 502 with the HTML page of a proxy.
    Html502,
    /// HTTP 500 without a body.
    Empty500,
    /// HTTP 503 without a body.
    Empty503,
    /// A response without a body, with the header `Retry-After`.
    RetryAfter {
        /// The HTTP status.
        status: u16,
        /// The value of `Retry-After`: seconds or a date.
        value: String,
    },
    /// Executes the call, then responds with HTTP 200 and the first half of the JSON.
    GarbageJson,
    /// HTTP 401, the response to wrong keys.
    Unauthorized,
    /// A rate limit error although no limit is exceeded. It has the configured status.
    Refuse,
    /// A rate limit error of the daily limit although the limit is not reached.
    RefuseDaily,
    /// Responds with this response.
    #[serde(rename = "answer")]
    Respond {
        /// The HTTP status.
        status: u16,
        /// The body.
        body: String,
        /// The content type. Default `application/json`.
        #[serde(default)]
        content_type: Option<String>,
        /// Whether the call is executed first. Default false.
        #[serde(default)]
        commit: bool,
    },
    /// Executes the call, then damages one record of the list in the response.
    BreakRecord {
        /// The index of the record in the list, from 0. Without such a record the response is unchanged.
        at: usize,
        /// The kind of damage.
        how: Damage,
    },
    /// Waits, then executes the call.
    Delay {
        /// The delay.
        #[serde(with = "humantime_serde")]
        by: Duration,
    },
}

impl FaultKind {
    /// Whether the fault applies before the limits count the call.
    fn precedes_admission(&self) -> bool {
        matches!(self, Self::Unauthorized | Self::Refuse | Self::RefuseDaily)
    }
}

/// The queue of faults.
#[derive(Debug, Default)]
pub(crate) struct Faults(Vec<Fault>);

impl Faults {
    /// Adds a fault, unless it is invalid or applies to no call.
    pub(crate) fn add(&mut self, fault: Fault) -> Result<(), UnknownEndpoint> {
        fault.validate()?;
        if fault.times > 0 {
            self.0.push(fault);
        }
        Ok(())
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    /// Takes the fault for a call that the limits have not counted yet. Returns `None` if the next due fault applies
    /// later.
    pub(crate) fn take_early(&mut self, endpoint: &str, contains: &dyn Fn(&str) -> bool) -> Option<FaultKind> {
        let due = self.due(endpoint, contains)?;
        self.0[due]
            .kind
            .precedes_admission()
            .then(|| self.take_at(endpoint, contains, Some(due)))?
    }

    /// Takes the fault for a call that the limits have accepted.
    pub(crate) fn take(&mut self, endpoint: &str, contains: &dyn Fn(&str) -> bool) -> Option<FaultKind> {
        let due = self.due(endpoint, contains);
        self.take_at(endpoint, contains, due)
    }

    fn due(&self, endpoint: &str, contains: &dyn Fn(&str) -> bool) -> Option<usize> {
        self.0
            .iter()
            .position(|fault| fault.matches(endpoint, contains) && fault.after == 0)
    }

    /// Counts the call for all matching faults, and takes the fault at the index `due`.
    fn take_at(&mut self, endpoint: &str, contains: &dyn Fn(&str) -> bool, due: Option<usize>) -> Option<FaultKind> {
        for fault in &mut self.0 {
            if fault.matches(endpoint, contains) {
                fault.after = fault.after.saturating_sub(1);
            }
        }
        let due = due?;
        let fault = &mut self.0[due];
        fault.times -= 1;
        if fault.times > 0 {
            return Some(fault.kind.clone());
        }
        Some(self.0.remove(due).kind)
    }
}

fn any_endpoint() -> String {
    ANY_ENDPOINT.into()
}

fn one_call() -> u32 {
    1
}

fn one_hour() -> Duration {
    Duration::from_secs(3_600)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_applies_to_its_endpoint_and_number_of_calls() {
        let mut faults = Faults::default();
        faults
            .add(Fault::new("Lead.Create", FaultKind::Empty500).times(2).after(1))
            .unwrap();
        assert_eq!(faults.take("Lead.Update", &|_| false), None);
        let taken: Vec<_> = (0..4).map(|_| faults.take("Lead.Create", &|_| false)).collect();
        assert_eq!(
            taken,
            [None, Some(FaultKind::Empty500), Some(FaultKind::Empty500), None]
        );
    }

    #[test]
    fn faults_count_calls_independently_and_apply_in_the_order_of_addition() {
        let mut faults = Faults::default();
        faults.add(Fault::new("*", FaultKind::Empty500)).unwrap();
        faults
            .add(Fault::new("Lead.Create", FaultKind::Empty503).after(1))
            .unwrap();
        faults.add(Fault::new("Lead.Create", FaultKind::DropBefore)).unwrap();
        let taken: Vec<_> = (0..4).map(|_| faults.take("Lead.Create", &|_| false)).collect();
        assert_eq!(
            taken,
            [
                Some(FaultKind::Empty500),
                Some(FaultKind::Empty503),
                Some(FaultKind::DropBefore),
                None
            ]
        );
    }

    #[test]
    fn an_early_fault_applies_after_the_faults_that_were_added_before_it() {
        let mut faults = Faults::default();
        faults.add(Fault::new("*", FaultKind::Empty500)).unwrap();
        faults.add(Fault::new("*", FaultKind::Refuse)).unwrap();
        assert_eq!(faults.take_early("Lead.Create", &|_| false), None);
        assert_eq!(faults.take("Lead.Create", &|_| false), Some(FaultKind::Empty500));
        assert_eq!(faults.take_early("Lead.Create", &|_| false), Some(FaultKind::Refuse));
        assert_eq!(faults.take("Lead.Create", &|_| false), None);
    }

    #[test]
    fn a_fault_with_a_text_applies_only_to_calls_that_contain_it() {
        let mut faults = Faults::default();
        faults
            .add(Fault::new("*", FaultKind::Empty500).containing("drop table"))
            .unwrap();
        assert_eq!(faults.take("Lead.Create", &|_| false), None);
        for _ in 0..3 {
            assert_eq!(
                faults.take("Lead.Create", &|text| text == "drop table"),
                Some(FaultKind::Empty500)
            );
        }
    }

    #[test]
    fn a_fault_is_parsed_from_json() {
        let fault: Fault = serde_json::from_str(r#"{"what":"commit-then-drop"}"#).unwrap();
        assert_eq!(fault, Fault::new("*", FaultKind::CommitThenDrop));
        let fault: Fault = serde_json::from_str(
            r#"{"on":"Lead.Create","what":{"commit-then-hang":{"for":"2s"}},"times":3,"after":1}"#,
        )
        .unwrap();
        let lasting = Duration::from_secs(2);
        let same = Fault::new("Lead.Create", FaultKind::CommitThenHang { lasting });
        assert_eq!(fault, same.times(3).after(1));
        let fault: Fault = serde_json::from_str(r#"{"what":{"break-record":{"at":3,"how":"raw-newline"}}}"#).unwrap();
        let how = Damage::RawNewline;
        assert_eq!(fault, Fault::new("*", FaultKind::BreakRecord { at: 3, how }));
        assert!(serde_json::from_str::<Fault>(r#"{"what":"explode"}"#).is_err());
    }

    #[test]
    fn a_fault_for_an_unknown_endpoint_is_an_error_with_the_known_names() {
        let mut faults = Faults::default();
        let error = faults.add(Fault::new("lead.creat", FaultKind::Empty500)).unwrap_err();
        assert_eq!(error.name(), "lead.creat");
        let text = error.to_string();
        let start =
            "unknown endpoint \"lead.creat\" in \"on\". The nearest known name is \"Lead.Create\". Known names: *, ";
        assert!(text.starts_with(start), "{text}");
        for known in UnknownEndpoint::known() {
            assert!(text.contains(known), "{text}");
            faults.add(Fault::new(known, FaultKind::Empty500).times(0)).unwrap();
        }
        assert!(faults.0.is_empty());
        assert!(faults.add(Fault::new("", FaultKind::Empty500).times(0)).is_err());
    }

    #[test]
    fn the_nearest_name_contains_the_unknown_name_or_has_the_smallest_edit_distance() {
        for (unknown, nearest) in [
            ("lead.create", "Lead.Create"),
            ("Lead.Creat", "Lead.Create"),
            ("LeadUpdate", "Lead.Update"),
            ("Share", "EntityAccess.Share"),
            ("AdvancedSearch", "User/AdvancedSearch"),
            ("/v2/LeadManagement.svc/Leads.GetById", "Leads.GetById"),
        ] {
            let error = Fault::new(unknown, FaultKind::Empty500).validate().unwrap_err();
            assert_eq!(error.nearest(), nearest, "{unknown}");
        }
    }

    #[test]
    fn the_edit_distance_counts_inserted_deleted_and_replaced_characters() {
        for (one, two, distance) in [
            ("", "", 0),
            ("", "ab", 2),
            ("ab", "", 2),
            ("lead", "load", 1),
            ("lead", "leads", 1),
            ("share", "sharing", 3),
        ] {
            assert_eq!(edit_distance(one, two), distance, "{one} {two}");
        }
    }
}
