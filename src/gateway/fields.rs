//! The attributes of leads that a caller may not use. One check for the names in a request (`deny_fields` for writes, `hide_fields`
//! for reads and criteria), and one filter for each kind of record on its way to the caller. The filters run behind
//! everything that callers share, so that no caller gets less because of another one.

use std::borrow::Cow;

use crate::context::RequestContext;
use crate::domain::activity::{self, Activity, ActivityPage, ActivityWriteRequest};
use crate::domain::field::Catalog;
use crate::domain::lead::{
    LEAD_ID, Lead, RawFields, WriteRequest, attribute_at, field_name, path, schema_name, shown_attribute,
};
use crate::domain::listed::{Listed, Unreadable};
use crate::domain::mask::ReadMask;
use crate::error::{Denial, Error, ErrorKind, Result, Violation};

/// The texts of violations.
const DENIED: &str = "the caller may not write this attribute (deny_fields)";
const HIDDEN: &str = "the caller may not read this attribute or search by it (hide_fields)";
const REJECTED: &str = "LeadSquared rejects or requires an attribute that the caller does not see";

/// The codes of the activities that LeadSquared itself posts when an attribute changes.
const CHANGE_CODES: std::ops::Range<i32> = 3000..4000;
/// The attributes whose changes have a known code.
const CHANGES: [(i32, &str); 2] = [(3001, "OwnerId"), (3002, "ProspectStage")];

/// Collects the fields of a request that the caller may not use.
pub struct FieldCheck<'a> {
    context: &'a RequestContext,
    denied: Vec<Violation>,
}

impl<'a> FieldCheck<'a> {
    /// A check for the caller of that request.
    pub fn new(context: &'a RequestContext) -> Self {
        Self {
            context,
            denied: Vec::new(),
        }
    }

    /// Checks an attribute that is read, or by which leads are searched. `field` is its path in the request.
    pub fn read(&mut self, name: &str, field: impl FnOnce() -> String) {
        if is_hidden(self.context, name) {
            self.add(field(), HIDDEN);
        }
    }

    /// Checks an attribute that is set or cleared. `field` is its path in the request.
    pub fn write(&mut self, name: &str, field: impl FnOnce() -> String) {
        let denied = &self.context.permissions.deny_fields;
        if !denied.is_empty() && is_listed(name, |name| denied.contains(name)) {
            self.add(field(), DENIED);
        }
    }

    /// Checks a field for a rule that names other attributes.
    pub fn require(&mut self, is_allowed: bool, field: &str, text: &str) {
        if !is_allowed {
            self.add(field.to_owned(), text);
        }
    }

    /// Checks all attributes that a write of a lead sets, clears or matches by.
    pub fn write_lead(&mut self, write: &WriteRequest) {
        let permissions = &self.context.permissions;
        if !permissions.deny_fields.is_empty() {
            for (name, _) in write.attributes.iter() {
                self.write(name, || path(name));
            }
            // An attribute whose value cannot be converted is only in the violations.
            for violation in &write.violations {
                if let Some(name) = attribute_at(&violation.field) {
                    self.write(name, || violation.field.clone());
                }
            }
            for (i, name) in write.cleared.iter().enumerate() {
                self.write(name, || format!("clear_fields[{i}]"));
            }
        }
        if !permissions.hide_fields.is_empty() {
            for (name, field) in write.matched_attributes() {
                self.read(name, || field);
            }
        }
    }

    /// Checks all fields that a write of an activity sets. They are compared by their own names: the owner of an activity is
    /// not the owner of its lead.
    pub fn write_activity(&mut self, post: &ActivityWriteRequest) {
        if self.context.permissions.deny_fields.is_empty() {
            return;
        }
        if !post.owner_id.is_empty() {
            self.write(activity::OWNER, || "owner_id".to_owned());
        }
        if post.note.is_some() {
            self.write(activity::NOTE, || "note".to_owned());
        }
        self.write_activity_fields(post.fields.keys(), "");
        // A field whose value cannot be converted is only in the violations.
        for violation in &post.violations {
            let name = violation
                .field
                .strip_prefix("fields[\"")
                .and_then(|rest| rest.strip_suffix("\"]"));
            if let Some(name) = name.filter(|name| !post.fields.contains_key(*name)) {
                self.write(name, || violation.field.clone());
            }
        }
    }

    /// Checks the names of fields of an activity. `scope` is the start of their paths, such as `new_activity.`.
    pub fn write_activity_fields<'n>(&mut self, names: impl Iterator<Item = &'n String>, scope: &str) {
        for name in names {
            self.write(name, || format!("{scope}fields[\"{name}\"]"));
        }
    }

    /// Fails with all fields that the caller may not use.
    pub fn finish(self) -> Result<()> {
        match self.denied.is_empty() {
            true => Ok(()),
            false => Err(ErrorKind::CallerNotAllowed(Denial::Fields(self.denied)).into()),
        }
    }

    fn add(&mut self, field: String, text: &str) {
        // A request may name an attribute twice, which is another violation.
        if !self.denied.iter().any(|denied| denied.field == field) {
            self.denied.push(Violation::new(field, text));
        }
    }
}

/// Whether the caller does not see an attribute. The id of a lead cannot be hidden, and an attribute that shows a hidden one
/// in another form, such as the name of the owner, is hidden too.
pub fn is_hidden(context: &RequestContext, name: &str) -> bool {
    let hidden = &context.permissions.hide_fields;
    let is_it = |name: &str| is_listed(name, |name| hidden.contains(name));
    let is_id = || name.eq_ignore_ascii_case(LEAD_ID);
    !hidden.is_empty() && !is_id() && (is_it(name) || shown_attribute(name).is_some_and(is_it))
}

/// Whether a setting contains an attribute, by its schema name or by the name of its field.
fn is_listed(name: &str, contains: impl Fn(&str) -> bool) -> bool {
    contains(name) || field_name(name).is_some_and(contains)
}

/// Whether the caller does not see some attributes.
pub fn hides_any(context: &RequestContext) -> bool {
    !context.permissions.hide_fields.is_empty()
}

/// The lead of a row, with the parts that the mask includes and the caller sees.
pub(super) fn visible_lead(
    context: &RequestContext,
    mask: &ReadMask,
    mut row: RawFields,
    catalog: Option<&Catalog>,
) -> Lead {
    mask.apply(&mut row);
    if hides_any(context) {
        row.retain(|name, _| !is_hidden(context, name));
    }
    Lead::from_row(row, catalog)
}

/// The leads of rows, with the parts that the mask includes and the caller sees.
pub(super) fn visible_leads(
    context: &RequestContext,
    mask: &ReadMask,
    rows: Listed<RawFields>,
    catalog: Option<&Catalog>,
) -> Listed<Lead> {
    let mut leads = rows.map(|row| visible_lead(context, mask, row, catalog));
    hide_in_paths(context, &mut leads.unreadable);
    leads
}

/// A page of activities, with the fields that the caller sees.
pub(super) fn visible_activities(context: &RequestContext, mut page: ActivityPage) -> ActivityPage {
    page.activities = page.activities.map(|activity| {
        let code = activity.code;
        visible_activity(context, activity, Some(code))
    });
    hide_in_paths(context, &mut page.activities.unreadable);
    page
}

/// An activity, with the fields that the caller sees. LeadSquared does not document the fields of the activities that it posts
/// for a change of an attribute. They may have the old and the new value under any name. `code` is that of the activity's type.
/// `None`: it is not known, so the activity may be such a one.
pub(super) fn visible_activity(context: &RequestContext, mut activity: Activity, code: Option<i32>) -> Activity {
    if !hides_any(context) {
        return activity;
    }
    let shows_change = code.is_none_or(|code| match CHANGES.iter().find(|(change, _)| *change == code) {
        Some((_, attribute)) => is_hidden(context, attribute),
        None => CHANGE_CODES.contains(&code),
    });
    activity
        .fields
        .retain(|name, _| !shows_change && !is_hidden(context, name));
    activity
}

/// Removes the names of hidden attributes from the JSON paths of records that cannot be read.
pub(super) fn hide_in_paths(context: &RequestContext, records: &mut [Unreadable]) {
    for record in records.iter_mut().filter(|_| hides_any(context)) {
        record.path = visible_path(context, &record.path);
    }
}

/// An error as the caller may see it: without the names of hidden attributes, and without a lead that was found by one.
/// `named` has the paths of the hidden attributes that the request itself names.
pub fn visible_error(context: &RequestContext, named: &[String], mut error: Error) -> Error {
    if !hides_any(context) {
        return error;
    }
    match &mut error.kind {
        // LeadSquared does not always name the attribute.
        ErrorKind::Duplicate { attribute, lead_id }
            if attribute.as_deref().is_none_or(|name| is_hidden(context, name)) =>
        {
            (*attribute, *lead_id) = (None, None);
        }
        ErrorKind::Unreadable { path } => *path = visible_path(context, path),
        ErrorKind::Invalid(violations) => {
            let shows_hidden = |violation: &Violation| {
                let texts = [&violation.field, &violation.description];
                !named.contains(&violation.field) && texts.into_iter().any(|text| names_hidden(context, text))
            };
            for violation in violations.iter_mut().filter(|violation| shows_hidden(violation)) {
                // The part of the request, such as `lead` or `new_activity`.
                let part = violation.field.split(['.', '[']).next().unwrap_or_default();
                let part = if names_hidden(context, part) { "lead" } else { part };
                *violation = Violation::new(part, REJECTED);
            }
        }
        _ => {}
    }
    error
}

/// Violations of values as the caller may see them: those of hidden attributes show no options and no maximum.
pub(super) fn visible_violations(context: &RequestContext, mut violations: Vec<Violation>) -> Vec<Violation> {
    for violation in violations.iter_mut().filter(|_| hides_any(context)) {
        if attribute_at(&violation.field).is_some_and(|name| is_hidden(context, name)) {
            violation.description = "is not valid for the attribute".to_owned();
        }
    }
    violations
}

/// The paths of the hidden attributes that a write sets or clears.
pub(super) fn named_hidden_paths(context: &RequestContext, write: &WriteRequest) -> Vec<String> {
    if !hides_any(context) {
        return vec![];
    }
    let set = write.attributes.iter().map(|(name, _)| name);
    let names = set.chain(write.cleared.iter().map(String::as_str));
    names.filter(|name| is_hidden(context, name)).map(path).collect()
}

/// The paths of the hidden fields that a write of an activity sets.
pub(super) fn named_hidden_activity_paths(context: &RequestContext, post: &ActivityWriteRequest) -> Vec<String> {
    let names = post.fields.keys().filter(|name| is_hidden(context, name));
    names.map(|name| format!("fields[\"{name}\"]")).collect()
}

/// Whether a text has the name of a hidden attribute, or of its field.
fn names_hidden(context: &RequestContext, text: &str) -> bool {
    text.split(|c| !is_name(c))
        .any(|name| is_hidden(context, schema_name(name)))
}

fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// A JSON path in which each name of a hidden attribute is `?`.
fn visible_path(context: &RequestContext, path: &str) -> String {
    let parts = path.split_inclusive(|c| !is_name(c)).map(|part| {
        let (name, end) = part.split_at(part.trim_end_matches(|c| !is_name(c)).len());
        match is_hidden(context, name) {
            true => Cow::Owned(format!("?{end}")),
            false => Cow::Borrowed(part),
        }
    });
    parts.collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::domain::lead::{STANDARD, WriteAction};
    use crate::domain::value::Value;

    /// The context of a caller with these `deny_fields` and `hide_fields`.
    fn caller(denied: &[&str], hidden: &[&str]) -> RequestContext {
        let mut context = RequestContext::internal("test", Duration::from_secs(1));
        let permissions = Arc::make_mut(&mut context.permissions);
        permissions.deny_fields = denied.iter().collect();
        permissions.hide_fields = hidden.iter().collect();
        context
    }

    fn fields(result: Result<()>) -> Vec<String> {
        match result.map_err(|error| error.kind) {
            Ok(()) => vec![],
            Err(ErrorKind::CallerNotAllowed(Denial::Fields(denied))) => {
                denied.into_iter().map(|violation| violation.field).collect()
            }
            Err(other) => panic!("{other:?}"),
        }
    }

    fn denied_fields(context: &RequestContext, write: &WriteRequest) -> Vec<String> {
        let mut check = FieldCheck::new(context);
        check.write_lead(write);
        fields(check.finish())
    }

    fn update(set: &[&str], cleared: &[&str]) -> WriteRequest {
        let text = |name: &&str| ((*name).to_owned(), Value::Text("x".to_owned()));
        WriteRequest {
            action: WriteAction::Update {
                lead_id: "7".to_owned(),
                run_automations: false,
            },
            attributes: set.iter().map(text).collect(),
            cleared: cleared.iter().map(|name| schema_name(name).to_owned()).collect(),
            violations: vec![],
        }
    }

    #[test]
    fn every_name_of_a_denied_attribute_is_found_at_its_path() {
        let context = caller(&["ownerid", "MX_SALARY", "city"], &["Phone"]);
        let mut write = update(
            &["FirstName", "OwnerId", "mx_salary", "mx_City", "Phone"],
            &["owner_id", "mx_Salary", "Fax"],
        );
        write.violations = vec![
            Violation::new("lead.custom[\"OWNERID\"]", "has no value"),
            Violation::new("lead.custom[\"Fax\"]", "has no value"),
        ];
        let expected = [
            "lead.owner_id",
            "lead.custom[\"mx_salary\"]",
            "lead.city",
            "lead.custom[\"OWNERID\"]",
            "clear_fields[0]",
            "clear_fields[1]",
        ];
        assert_eq!(denied_fields(&context, &write), expected);
        assert_eq!(denied_fields(&caller(&[], &[]), &write), [] as [&str; 0]);
    }

    #[test]
    fn a_hidden_attribute_may_be_written_but_not_matched_by() {
        let context = caller(&[], &["EmailAddress"]);
        let mut write = update(&["EmailAddress", "Phone"], &[]);
        assert_eq!(denied_fields(&context, &write), [] as [&str; 0]);
        for (match_by, expected) in [
            (None, "lead.email_address"),
            (Some("EmailAddress"), "match_by"),
            (Some("Phone"), ""),
        ] {
            write.action = WriteAction::Upsert {
                match_by: match_by.map(str::to_owned),
                run_automations: false,
            };
            assert_eq!(denied_fields(&context, &write).concat(), expected, "{match_by:?}");
        }
    }

    #[test]
    fn the_owner_is_hidden_with_its_name_and_the_id_of_a_lead_never_is() {
        let context = caller(&[], &["OwnerId", "ProspectID", "score"]);
        for name in ["OwnerId", "OWNERID", "OwnerIdName", "OwnerIdEmailAddress", "Score"] {
            assert!(is_hidden(&context, name), "{name}");
        }
        for name in ["ProspectID", "ProspectId", "CreatedByName", "Owner"] {
            assert!(!is_hidden(&context, name), "{name}");
        }
        assert!(!is_hidden(&caller(&["OwnerId"], &[]), "OwnerId"));
    }

    #[test]
    fn an_activity_loses_hidden_fields_and_the_values_of_a_change() {
        let names = |context: &RequestContext, code: Option<i32>| -> Vec<String> {
            let fields = [
                "ActivityEvent_Note",
                "NewData",
                "ProspectStage",
                "mx_Custom_1",
                "mx_PAN",
            ];
            let activity = Activity {
                fields: fields.map(|name| (name.to_owned(), Some("x".to_owned()))).into(),
                ..Activity::default()
            };
            visible_activity(context, activity, code).fields.into_keys().collect()
        };
        let pan = caller(&[], &["mx_PAN"]);
        let stage = caller(&[], &["ProspectStage"]);
        let note = "ActivityEvent_Note";
        assert_eq!(names(&caller(&[], &[]), Some(3002)).len(), 5);
        assert_eq!(names(&caller(&[], &[]), None).len(), 5);
        assert_eq!(
            names(&pan, Some(201)),
            [note, "NewData", "ProspectStage", "mx_Custom_1"]
        );
        assert_eq!(
            names(&pan, Some(3002)),
            [note, "NewData", "ProspectStage", "mx_Custom_1"]
        );
        assert_eq!(names(&pan, Some(3017)), [] as [&str; 0]);
        assert_eq!(names(&stage, Some(3002)), [] as [&str; 0]);
        assert_eq!(names(&stage, Some(3001)), [note, "NewData", "mx_Custom_1", "mx_PAN"]);
        assert_eq!(names(&stage, None), [] as [&str; 0]);
    }

    #[test]
    fn a_denied_field_of_an_activity_is_found_at_its_path() {
        let post = ActivityWriteRequest {
            target: activity::ActivityTarget::Lead("7".to_owned()),
            code: 201,
            note: Some("x".to_owned()),
            at: None,
            owner_id: "7".to_owned(),
            fields: ["mx_Salary", "OwnerId", "Status"]
                .map(|name| (name.to_owned(), Value::Integer(1)))
                .into(),
            violations: vec![Violation::new("fields[\"mx_SALARY\"]", "has no value")],
        };
        let denied = |names: &[&str]| {
            let context = caller(names, &[]);
            let mut check = FieldCheck::new(&context);
            check.write_activity(&post);
            fields(check.finish())
        };
        let expected = ["fields[\"OwnerId\"]", "fields[\"mx_Salary\"]", "fields[\"mx_SALARY\"]"];
        assert_eq!(denied(&["OwnerId", "mx_salary"]), expected);
        // The owner of the activity is another field.
        assert_eq!(denied(&["Owner", "ActivityEvent_Note"]), ["owner_id", "note"]);
    }

    #[test]
    fn an_error_has_no_hidden_attribute_that_the_request_does_not_name() {
        let context = caller(&[], &["mx_PAN", "Phone"]);
        let seen = |kind: ErrorKind| {
            let named = ["lead.phone".to_owned()];
            visible_error(&context, &named, kind.into()).kind
        };
        let duplicate = |attribute: Option<&str>, lead_id: Option<&str>| ErrorKind::Duplicate {
            attribute: attribute.map(str::to_owned),
            lead_id: lead_id.map(str::to_owned),
        };
        let by_email = duplicate(Some("EmailAddress"), Some("7"));
        assert_eq!(seen(by_email.clone()), by_email);
        assert_eq!(seen(duplicate(Some("Phone"), Some("7"))), duplicate(None, None));
        assert_eq!(seen(duplicate(None, Some("7"))), duplicate(None, None));
        let unreadable = |path: &str| ErrorKind::Unreadable { path: path.to_owned() };
        assert_eq!(
            seen(unreadable("Leads[3].mx_PAN.Value")),
            unreadable("Leads[3].?.Value")
        );
        assert_eq!(seen(unreadable("[0].MX_pan")), unreadable("[0].?"));
        assert_eq!(seen(unreadable("[0].mx_PAN_2")), unreadable("[0].mx_PAN_2"));
        let invalid = ["lead.phone", "lead.custom[\"mx_PAN\"]", "lead.city"].map(|field| Violation::new(field, "x"));
        let ErrorKind::Invalid(violations) = seen(ErrorKind::Invalid(invalid.into())) else {
            panic!("another kind")
        };
        let fields: Vec<&str> = violations.iter().map(|violation| violation.field.as_str()).collect();
        assert_eq!(fields, ["lead.phone", "lead", "lead.city"]);

        // Errors of activities, shares and searches.
        for (field, description, expected) in [
            ("fields[\"MX_pan\"]", "x", "fields"),
            ("new_activity.fields[\"mx_PAN\"]", "x", "new_activity"),
            ("new_activity.phone", "x", "new_activity"),
            ("read_mask", "the account has no attribute mx_PAN", "read_mask"),
            ("phone", "x", "lead"),
            (
                "new_activity.fields[\"mx_PAN_2\"]",
                "x",
                "new_activity.fields[\"mx_PAN_2\"]",
            ),
        ] {
            let error = Error::invalid(field, description);
            let ErrorKind::Invalid(violations) = seen(error.kind) else {
                panic!("another kind")
            };
            let shown = (violations[0].field.as_str(), violations[0].description.contains("PAN"));
            assert_eq!(shown, (expected, false), "{field}");
        }
    }

    proptest! {
        #[test]
        fn a_lead_has_neither_name_nor_value_of_a_hidden_attribute(
            hidden in prop::collection::vec(any::<bool>(), STANDARD.len() + OTHERS.len()),
            in_capitals: bool,
        ) {
            let names: Vec<&str> = STANDARD.iter().map(|standard| standard.schema_name).chain(OTHERS).collect();
            let spelled = |name: &str| if in_capitals { name.to_uppercase() } else { name.to_owned() };
            let listed: Vec<String> = names
                .iter()
                .zip(&hidden)
                .filter(|(_, is_hidden)| **is_hidden)
                .map(|(name, _)| spelled(name))
                .collect();
            let context = caller(&[], &listed.iter().map(String::as_str).collect::<Vec<_>>());
            let row: RawFields = names.iter().map(|name| ((*name).to_owned(), Some(format!("value of {name}.")))).collect();
            let shown = format!("{:?}", visible_lead(&context, &ReadMask::default(), row, None));
            let is_listed = |name: &str| listed.contains(&spelled(name));
            for name in names {
                let is_owner_hidden = name == "OwnerIdName" && is_listed("OwnerId");
                let is_shown = !is_listed(name) && !is_owner_hidden;
                prop_assert_eq!(shown.contains(&format!("value of {name}.")), is_shown, "{}", name);
            }
        }
    }

    /// Attributes without a field of their own in LeadFields.
    const OTHERS: [&str; 6] = [
        "mx_KYC",
        "Fax",
        "OwnerIdName",
        "CreatedByName",
        "Web_Referrer",
        "ProspectAutoId",
    ];
}
