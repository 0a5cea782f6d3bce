//! Activities of leads, and their checks.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::attribute::RawFields;
use super::check;
use super::lead::check_id;
use super::listed::Listed;
use super::value::Value;
use crate::error::Violation;

/// An activity that was read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Activity {
    /// The id of the activity.
    pub id: String,
    /// The id of the lead. Empty if LeadSquared does not return it.
    pub lead_id: String,
    /// The code of the activity type. 0 if LeadSquared does not return it.
    pub code: i32,
    /// The name of the activity type.
    pub type_name: String,
    /// When the activity was created.
    pub created: Option<Timestamp>,
    /// When the activity was last modified.
    pub modified: Option<Timestamp>,
    /// The fields, including owner, status and note.
    pub fields: RawFields,
}

/// An activity type.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ActivityType {
    /// The code of the activity type.
    pub code: i32,
    /// The name of the activity type.
    pub name: String,
}

/// The form of an activity type.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ActivityForm {
    /// The name of the activity type.
    pub name: String,
    /// The schema names of the fields.
    pub fields: Vec<String>,
}

/// A request to post or update an activity.
#[derive(Clone, Debug, PartialEq)]
pub struct ActivityWriteRequest {
    /// Whether to post or to update.
    pub target: ActivityTarget,
    /// The code of the activity type.
    pub code: i32,
    /// The note.
    pub note: Option<String>,
    /// When the activity happened. `None`: the current time, or unchanged.
    pub at: Option<Timestamp>,
    /// The id of the owner. Empty: LeadSquared chooses, or unchanged.
    pub owner_id: String,
    /// Other fields by schema name.
    pub fields: BTreeMap<String, Value>,
    /// The violations that were found when the message was converted.
    pub violations: Vec<Violation>,
}

/// The target of a write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ActivityTarget {
    /// Post a new activity on the lead with this id.
    Lead(String),
    /// Update the activity with this id.
    Activity(String),
}

/// A page of activities.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ActivityPage {
    /// The activities of the page.
    pub activities: Listed<Activity>,
    /// The number of activities on all pages, if LeadSquared returns it.
    pub total: Option<usize>,
}

/// The name of the owner field.
pub const OWNER: &str = "Owner";
/// The name of the note field.
pub const NOTE: &str = "ActivityEvent_Note";
/// The name of the status field.
pub const STATUS: &str = "Status";

impl ActivityWriteRequest {
    /// Returns the schema names of the fields that are written.
    pub fn field_names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.fields.keys().cloned().collect();
        names.extend(self.note.as_ref().map(|_| NOTE.to_owned()));
        names.extend((!self.owner_id.is_empty()).then(|| OWNER.to_owned()));
        names
    }

    /// Returns the violations that are found without a call to LeadSquared.
    pub fn check(&self) -> Vec<Violation> {
        let mut violations = self.violations.clone();
        violations.extend(match &self.target {
            ActivityTarget::Lead(id) => check_id("lead_id", id),
            ActivityTarget::Activity(id) => check_id("activity_id", id),
        });
        if self.code <= 0 {
            violations.push(Violation::new("activity_type", "must be the code of an activity type"));
        }
        if !self.owner_id.is_empty() {
            violations.extend(check_id("owner_id", &self.owner_id));
        }
        if self.fields.contains_key(OWNER) && !self.owner_id.is_empty() {
            violations.push(Violation::new(
                format!("fields[\"{OWNER}\"]"),
                "duplicate: the owner is also set by owner_id",
            ));
        }
        violations.extend(check::activity(self.note.as_deref(), &self.fields));
        violations
    }

    /// Whether the activity has the values of this request.
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
