//! Faults: what goes wrong, at which endpoint and how often. Only keeps the queue; the `http` module
//! applies them.

pub(crate) mod damage;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use self::damage::Damage;

/// A fault that a test or a client of the control path has added.
///
/// Each queued fault counts the matching calls that the limits accept. Among the faults that are
/// due, the one added first happens. The limits have counted the faulted call like any other,
/// except with [`What::Unauthorized`], [`What::Refuse`] and [`What::RefuseDaily`], which reject a
/// call before it is counted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// The endpoint, as `Lead.Create`, `Lead/Bulk/UpdateV2`, `User/AdvancedSearch`,
    /// `EntityAccess.Share`, `EntityAccess.Status` or `ProspectActivity.BulkAdd`; `*`: all of them.
    #[serde(default = "everywhere")]
    pub on: String,
    /// What happens.
    pub what: What,
    /// To how many calls. Default 1.
    #[serde(default = "once")]
    pub times: u32,
    /// How many matching calls succeed first. Default 0.
    #[serde(default)]
    pub after: u32,
    /// Only calls with this text in the body or in the query. Default: all calls.
    #[serde(default)]
    pub containing: Option<String>,
}

impl Fault {
    /// Once, to the next call of `on`.
    pub fn new(on: impl Into<String>, what: What) -> Self {
        Self {
            on: on.into(),
            what,
            times: once(),
            after: 0,
            containing: None,
        }
    }

    /// To every call with this text in the body or in the query, like a firewall that mistakes the text for an attack.
    #[must_use]
    pub fn containing(mut self, text: impl Into<String>) -> Self {
        self.containing = Some(text.into());
        self.times = u32::MAX;
        self
    }

    /// To `times` calls.
    #[must_use]
    pub fn times(mut self, times: u32) -> Self {
        self.times = times;
        self
    }

    /// Only after `after` matching calls.
    #[must_use]
    pub fn after(mut self, after: u32) -> Self {
        self.after = after;
        self
    }

    fn is_for(&self, endpoint: &str, has: &dyn Fn(&str) -> bool) -> bool {
        (self.on == "*" || self.on == endpoint) && self.containing.as_deref().is_none_or(has)
    }
}

/// What goes wrong. In JSON `"commit-then-drop"`, or `{"delay": {"by": "2s"}}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum What {
    /// The connection closes without a response; nothing was done.
    DropBefore,
    /// The work is done, then the connection closes without a response.
    CommitThenDrop,
    /// The work is done, then nothing happens for that long, then the connection closes.
    CommitThenHang {
        /// How long; `for` in JSON. Default one hour.
        #[serde(rename = "for", default = "an_hour", with = "humantime_serde")]
        lasting: Duration,
    },
    /// Nothing happens for that long, then the connection closes; nothing was done.
    HangBefore {
        /// How long; `for` in JSON. Default one hour.
        #[serde(rename = "for", default = "an_hour", with = "humantime_serde")]
        lasting: Duration,
    },
    /// 502 with a proxy's HTML page; nothing was done.
    Html502,
    /// 500 with no body; nothing was done.
    Empty500,
    /// 503 with no body; nothing was done.
    Empty503,
    /// No body, and a `Retry-After`; nothing was done.
    RetryAfter {
        /// The HTTP status.
        status: u16,
        /// The value of the header: seconds, or a date.
        value: String,
    },
    /// The work is done and the response's JSON is cut in half, with HTTP 200.
    GarbageJson,
    /// 401, as with wrong keys.
    Unauthorized,
    /// A rate refusal that the count does not explain, in the configured shape.
    Refuse,
    /// The same by the daily limit.
    RefuseDaily,
    /// This response.
    Answer {
        /// Its HTTP status.
        status: u16,
        /// Its body.
        body: String,
        /// Its content type. Default `application/json`.
        #[serde(default)]
        content_type: Option<String>,
        /// Whether the work is done first. Default false.
        #[serde(default)]
        commit: bool,
    },
    /// The work is done, and one record of the list in the response is damaged.
    BreakRecord {
        /// The position of the record in the list, from 0. If there is none, the response is unchanged.
        at: usize,
        /// The damage.
        how: Damage,
    },
    /// The call waits, then succeeds.
    Delay {
        /// How long.
        #[serde(with = "humantime_serde")]
        by: Duration,
    },
}

impl What {
    /// Whether this happens to a call before the limits count it.
    fn is_early(&self) -> bool {
        matches!(self, Self::Unauthorized | Self::Refuse | Self::RefuseDaily)
    }
}

/// The queued faults.
#[derive(Debug, Default)]
pub(crate) struct Faults(Vec<Fault>);

impl Faults {
    pub(crate) fn order(&mut self, fault: Fault) {
        if fault.times > 0 {
            self.0.push(fault);
        }
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    /// The fault for a call that the limits have not counted yet, if a fault of that kind is due.
    pub(crate) fn take_early(&mut self, endpoint: &str, has: &dyn Fn(&str) -> bool) -> Option<What> {
        let due = self.due(endpoint, has)?;
        self.0[due]
            .what
            .is_early()
            .then(|| self.take_at(endpoint, has, Some(due)))?
    }

    /// The fault for a call that the limits have accepted.
    pub(crate) fn take(&mut self, endpoint: &str, has: &dyn Fn(&str) -> bool) -> Option<What> {
        let due = self.due(endpoint, has);
        self.take_at(endpoint, has, due)
    }

    fn due(&self, endpoint: &str, has: &dyn Fn(&str) -> bool) -> Option<usize> {
        self.0
            .iter()
            .position(|fault| fault.is_for(endpoint, has) && fault.after == 0)
    }

    /// Counts the call for every fault that waits for it, and takes the one at `due`.
    fn take_at(&mut self, endpoint: &str, has: &dyn Fn(&str) -> bool, due: Option<usize>) -> Option<What> {
        for fault in &mut self.0 {
            if fault.is_for(endpoint, has) {
                fault.after = fault.after.saturating_sub(1);
            }
        }
        let due = due?;
        let fault = &mut self.0[due];
        fault.times -= 1;
        if fault.times > 0 {
            return Some(fault.what.clone());
        }
        Some(self.0.remove(due).what)
    }
}

fn everywhere() -> String {
    "*".into()
}

fn once() -> u32 {
    1
}

fn an_hour() -> Duration {
    Duration::from_secs(3_600)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_happens_as_often_as_ordered_and_only_where_ordered() {
        let mut faults = Faults::default();
        faults.order(Fault::new("Lead.Create", What::Empty500).times(2).after(1));
        assert_eq!(faults.take("Lead.Update", &|_| false), None);
        let taken: Vec<_> = (0..4).map(|_| faults.take("Lead.Create", &|_| false)).collect();
        assert_eq!(taken, [None, Some(What::Empty500), Some(What::Empty500), None]);
    }

    #[test]
    fn faults_count_calls_independently_and_the_first_ordered_goes_first() {
        let mut faults = Faults::default();
        faults.order(Fault::new("*", What::Empty500));
        faults.order(Fault::new("Lead.Create", What::Empty503).after(1));
        faults.order(Fault::new("Lead.Create", What::DropBefore));
        let taken: Vec<_> = (0..4).map(|_| faults.take("Lead.Create", &|_| false)).collect();
        assert_eq!(
            taken,
            [Some(What::Empty500), Some(What::Empty503), Some(What::DropBefore), None]
        );
    }

    #[test]
    fn an_early_fault_waits_for_faults_added_before() {
        let mut faults = Faults::default();
        faults.order(Fault::new("*", What::Empty500));
        faults.order(Fault::new("*", What::Refuse));
        assert_eq!(faults.take_early("Lead.Create", &|_| false), None);
        assert_eq!(faults.take("Lead.Create", &|_| false), Some(What::Empty500));
        assert_eq!(faults.take_early("Lead.Create", &|_| false), Some(What::Refuse));
        assert_eq!(faults.take("Lead.Create", &|_| false), None);
    }

    #[test]
    fn a_fault_by_content_happens_only_where_the_text_is() {
        let mut faults = Faults::default();
        faults.order(Fault::new("*", What::Empty500).containing("drop table"));
        assert_eq!(faults.take("Lead.Create", &|_| false), None);
        for _ in 0..3 {
            assert_eq!(
                faults.take("Lead.Create", &|text| text == "drop table"),
                Some(What::Empty500)
            );
        }
    }

    #[test]
    fn a_fault_is_ordered_in_json() {
        let fault: Fault = serde_json::from_str(r#"{"what":"commit-then-drop"}"#).unwrap();
        assert_eq!(fault, Fault::new("*", What::CommitThenDrop));
        let fault: Fault = serde_json::from_str(
            r#"{"on":"Lead.Create","what":{"commit-then-hang":{"for":"2s"}},"times":3,"after":1}"#,
        )
        .unwrap();
        let lasting = Duration::from_secs(2);
        let same = Fault::new("Lead.Create", What::CommitThenHang { lasting });
        assert_eq!(fault, same.times(3).after(1));
        let fault: Fault = serde_json::from_str(r#"{"what":{"break-record":{"at":3,"how":"raw-newline"}}}"#).unwrap();
        let how = Damage::RawNewline;
        assert_eq!(fault, Fault::new("*", What::BreakRecord { at: 3, how }));
        assert!(serde_json::from_str::<Fault>(r#"{"what":"explode"}"#).is_err());
    }
}
