//! Activities of leads.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::check;
use super::lead::{Row, check_id};
use super::listed::Listed;
use super::value::Value;
use crate::error::Violation;

/// An activity as it was read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Activity {
    /// The id.
    pub id: String,
    /// The lead's id, where LeadSquared tells it.
    pub lead_id: String,
    /// The code of its type, where LeadSquared tells it.
    pub code: i32,
    /// The name of its type.
    pub type_name: String,
    /// When it was created.
    pub created: Option<Timestamp>,
    /// When it was last modified.
    pub modified: Option<Timestamp>,
    /// Its fields, owner, status and note included.
    pub fields: Row,
}

/// A type of activities.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ActivityType {
    /// The code.
    pub code: i32,
    /// The name.
    pub name: String,
}

/// The form of a type of activities.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Form {
    /// The type's name.
    pub name: String,
    /// Its fields by schema name.
    pub fields: Vec<String>,
}

/// An activity to be posted or updated.
#[derive(Clone, Debug, PartialEq)]
pub struct Post {
    /// What to do.
    pub target: Target,
    /// The code of the type.
    pub code: i32,
    /// The note.
    pub note: Option<String>,
    /// When it happened; `None`: now, or unchanged.
    pub at: Option<Timestamp>,
    /// The id of the user who owns it.
    pub owner_id: String,
    /// Its fields by schema name.
    pub fields: BTreeMap<String, Value>,
    /// What was found wrong when the message was read.
    pub faults: Vec<Violation>,
}

/// Where an activity is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A new one on that lead.
    Lead(String),
    /// That one.
    Activity(String),
}

/// Some activities, and where the next ones begin.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Page {
    /// The activities.
    pub activities: Listed<Activity>,
    /// How many there are in all, where LeadSquared tells.
    pub total: Option<usize>,
}

/// The field of the owner.
pub const OWNER: &str = "Owner";
/// The field of the note.
pub const NOTE: &str = "ActivityEvent_Note";
/// The field of the status.
pub const STATUS: &str = "Status";

impl Post {
    /// The faults that are known before anything is sent.
    pub fn check(&self) -> Vec<Violation> {
        let mut faults = self.faults.clone();
        faults.extend(match &self.target {
            Target::Lead(id) => check_id("lead_id", id),
            Target::Activity(id) => check_id("activity_id", id),
        });
        if self.code <= 0 {
            faults.push(Violation::new(
                "activity_type",
                "must be the code of a type of activities",
            ));
        }
        if !self.owner_id.is_empty() {
            faults.extend(check_id("owner_id", &self.owner_id));
        }
        if self.fields.contains_key(OWNER) && !self.owner_id.is_empty() {
            faults.push(Violation::new(
                format!("fields[\"{OWNER}\"]"),
                "is given as owner_id as well",
            ));
        }
        faults.extend(check::activity(self.note.as_deref(), &self.fields));
        faults
    }

    /// Whether that activity is what this post would have made of it.
    pub fn is_seen_in(&self, activity: &Activity) -> bool {
        let read = |name: &str| activity.fields.get(name).and_then(Option::as_deref).unwrap_or_default();
        let same_owner = self.owner_id.is_empty() || self.owner_id.eq_ignore_ascii_case(read(OWNER));
        let same_note = self.note.as_ref().is_none_or(|note| note == read(NOTE));
        let same_fields = self
            .fields
            .iter()
            .all(|(name, value)| value.reads_back_as(read(name)) != Some(false));
        same_owner && same_note && same_fields
    }
}
