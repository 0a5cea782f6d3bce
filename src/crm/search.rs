//! The endpoints that list leads: by a criterion, by a word, and by when they were modified.

use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;

use super::json::Shape;
use super::lead::{cell, csv, get, post, rows, unreadable, whole, with_id};
use super::response::UpstreamResponse;
use super::retry::Safety;
use super::{Operation, Request};
use crate::domain::criterion::{Criterion, Operator, SortOrder};
use crate::domain::lead::{LEAD_ID, RawFields, path};
use crate::domain::listed::Listed;
use crate::domain::time;
use crate::error::{Error, ErrorKind, Result, Violation};

/// The attribute by which LeadSquared knows when a lead was last modified.
pub const MODIFIED: &str = "LeadLastModifiedOn";

/// `Leads.Get`: the leads that meet a criterion.
#[derive(Clone, Debug)]
pub struct Search {
    /// The criterion.
    pub criterion: Criterion,
    /// What they are ordered by.
    pub order: SortOrder,
    /// The columns to return; the lead's id and the attribute of the criterion come on top.
    pub columns: Vec<String>,
    /// Which page, from 1.
    pub page: usize,
    /// How many to return, up to 1,000; LeadSquared cuts more to that.
    pub size: usize,
}

/// `Leads.GetByQuickSearch`: the leads that have a word.
#[derive(Clone, Debug)]
pub struct QuickSearch(pub String);

/// `Leads.RecentlyModified`: the leads that were last modified in a range, ordered by id.
#[derive(Clone, Debug)]
pub struct RecentlyModified {
    /// From then on.
    pub start: Timestamp,
    /// Before then.
    pub end: Timestamp,
    /// The columns to return; the lead's id and when it was modified come on top.
    pub columns: Vec<String>,
    /// Which page, from 1.
    pub page: usize,
    /// How many to return, up to 5,000; LeadSquared refuses more.
    pub size: usize,
}

/// A page of the leads that were modified in a range.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Page {
    /// The leads, with those of a second or two around the range.
    pub rows: Listed<RawFields>,
    /// How many there are on all pages.
    pub total: usize,
}

impl Operation for Search {
    type Output = Listed<RawFields>;
    const NAME: &'static str = "Leads.Get";
    const SAFETY: Safety = Safety::Repeatable;

    fn request(&self) -> Request {
        let Criterion {
            attribute,
            operator,
            value,
        } = &self.criterion;
        let body = json!({
            "Parameter": {"LookupName": attribute.name, "LookupValue": value, "SqlOperator": sql(*operator)},
            "Columns": {"Include_CSV": with(&self.columns, &attribute.name)},
            "Sorting": {"ColumnName": self.order.name, "Direction": if self.order.descending { "1" } else { "0" }},
            "Paging": {"PageIndex": self.page, "PageSize": self.size},
        });
        post("LeadManagement.svc/Leads.Get", &body)
    }

    fn decode(&self, response: &UpstreamResponse) -> Result<Listed<RawFields>> {
        let rows = rows(response).map_err(|error| self.of_request(error))?;
        // A criterion that LeadSquared does not understand returns all leads: better none than somebody else's.
        let name = &self.criterion.attribute.name;
        let contradicts = |row: &RawFields| self.criterion.is_contradicted_by(row);
        match rows.records.iter().position(contradicts) {
            Some(i) => Err(unreadable(&format!("[{}].{name}", rows.position(i)))),
            None => Ok(rows),
        }
    }

    fn unreadable(output: &Listed<RawFields>) -> usize {
        output.unreadable.len()
    }
}

impl Search {
    /// The same error, with its faults where the request has them.
    fn of_request(&self, mut error: Error) -> Error {
        let place = |field: &str| match field {
            field if field == path(&self.criterion.attribute.name) => "field",
            field if field == path(&self.order.name) => "order_by",
            field if self.columns.iter().any(|column| field == path(column)) => "read_mask",
            _ => "value",
        };
        if let ErrorKind::Invalid(violations) = &mut error.kind {
            for Violation { field, .. } in violations {
                *field = place(field).to_owned();
            }
        }
        error
    }
}

impl Operation for QuickSearch {
    type Output = Listed<RawFields>;
    const NAME: &'static str = "Leads.GetByQuickSearch";
    const SAFETY: Safety = Safety::Repeatable;

    fn request(&self) -> Request {
        get("LeadManagement.svc/Leads.GetByQuickSearch", "key", &self.0)
    }

    fn decode(&self, response: &UpstreamResponse) -> Result<Listed<RawFields>> {
        rows(response).map_err(|error| in_field("query", error))
    }

    fn unreadable(output: &Listed<RawFields>) -> usize {
        output.unreadable.len()
    }
}

impl Operation for RecentlyModified {
    type Output = Page;
    const NAME: &'static str = "Leads.RecentlyModified";
    const SAFETY: Safety = Safety::Repeatable;

    fn request(&self) -> Request {
        // Both ends are included and told in whole seconds, while times are kept with fractions.
        let second = SignedDuration::from_secs(1);
        let from = self.start.checked_sub(second).unwrap_or(self.start);
        let to = self.end.checked_add(second).unwrap_or(self.end);
        let body = json!({
            "Parameter": {"FromDate": time::write(from), "ToDate": time::write_end(to)},
            "Columns": {"Include_CSV": with(&self.columns, MODIFIED)},
            // A time is not unique, and pages sorted by it are not stable.
            "Sorting": {"ColumnName": LEAD_ID, "Direction": "0"},
            "Paging": {"PageIndex": self.page, "PageSize": self.size},
        });
        post("LeadManagement.svc/Leads.RecentlyModified", &body)
    }

    fn decode(&self, response: &UpstreamResponse) -> Result<Page> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Properties {
            lead_property_list: Vec<Pair>,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Pair {
            attribute: String,
            #[serde(default)]
            value: Option<Box<RawValue>>,
        }
        let field = |error: Error| match &error.kind {
            // The columns are all that names attributes.
            ErrorKind::Invalid(faults) if faults.iter().all(|fault| fault.field != "lead") => {
                in_field("read_mask", error)
            }
            _ => in_field("start_time", error),
        };
        let records = response.records(&MODIFIED_LEADS).map_err(field)?;
        let row = |properties: Properties| {
            let pairs = properties.lead_property_list.into_iter();
            // Some rows carry the total as if it were an attribute.
            let row = pairs
                .filter(|pair| pair.attribute != "Total")
                .map(|pair| (pair.attribute, pair.value.as_deref().and_then(cell)))
                .collect();
            with_id(row)
        };
        Ok(Page {
            rows: records.read(&MODIFIED_LEADS, row),
            total: whole(&records.member("RecordCount")).ok_or_else(|| unreadable("RecordCount"))?,
        })
    }

    fn unreadable(output: &Page) -> usize {
        output.rows.unreadable.len()
    }
}

/// A page of modified leads. The member is left out where there are no leads.
const MODIFIED_LEADS: Shape = Shape {
    names: &["Leads"],
    marks: &["LeadPropertyList"],
    ids: &[LEAD_ID],
};

/// The columns, with the lead's id and that one.
fn with(columns: &[String], name: &str) -> String {
    if name == LEAD_ID {
        return csv(columns, &[LEAD_ID]);
    }
    csv(columns, &[LEAD_ID, name])
}

fn sql(operator: Operator) -> &'static str {
    match operator {
        Operator::Equal => "=",
        Operator::NotEqual => "<>",
        Operator::Less => "<",
        Operator::LessOrEqual => "<=",
        Operator::Greater => ">",
        Operator::GreaterOrEqual => ">=",
        Operator::Like => "LIKE",
    }
}

/// The same error, with its faults in that field of the request.
fn in_field(name: &str, mut error: Error) -> Error {
    if let ErrorKind::Invalid(violations) = &mut error.kind {
        for violation in violations {
            name.clone_into(&mut violation.field);
        }
    }
    error
}

#[cfg(test)]
mod tests {
    use http::StatusCode;
    use serde_json::Value as Json;

    use super::*;
    use crate::domain::criterion::SearchAttribute;
    use crate::domain::value::ValueKind;

    fn response(status: u16, body: Json) -> UpstreamResponse {
        UpstreamResponse {
            status: StatusCode::from_u16(status).unwrap(),
            body: body.to_string().into(),
        }
    }

    fn search(name: &str, value: &str) -> Search {
        Search {
            criterion: Criterion {
                attribute: SearchAttribute {
                    name: name.to_owned(),
                    kind: ValueKind::Text,
                },
                operator: Operator::Equal,
                value: value.to_owned(),
            },
            order: SortOrder::by_id(),
            columns: vec!["mx_City".to_owned()],
            page: 1,
            size: 10,
        }
    }

    fn modified() -> RecentlyModified {
        RecentlyModified {
            start: "2026-09-01T00:00:00.5Z".parse().unwrap(),
            end: "2026-09-02T00:00:00.5Z".parse().unwrap(),
            columns: vec![],
            page: 1,
            size: 10,
        }
    }

    fn fields(error: Error) -> Vec<String> {
        match error.kind {
            ErrorKind::Invalid(violations) => violations.into_iter().map(|violation| violation.field).collect(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_criterion_that_was_passed_over_is_found_out() {
        let rows = json!([
            {"ProspectID": "a", "EmailAddress": "a@b.co"},
            {"ProspectID": "b", "EmailAddress": "c@d.co"},
        ]);
        let error = search("EmailAddress", "a@b.co")
            .decode(&response(200, rows.clone()))
            .unwrap_err();
        let path = "[1].EmailAddress".to_owned();
        assert_eq!(error.kind, ErrorKind::Unreadable { path });
        let found = search("FirstName", "Asha").decode(&response(200, rows)).unwrap();
        assert_eq!(found.records.len(), 2);
    }

    #[test]
    fn what_leadsquared_refuses_is_told_by_the_requests_fields() {
        let unknown = |name: &str| {
            let text = format!("Attribute(s) does not exist - {name}");
            response(
                500,
                json!({"ExceptionType": "MXUnknownAttributeException", "ExceptionMessage": text}),
            )
        };
        let invalid =
            json!({"ExceptionType": "MXInvalidInputException", "ExceptionMessage": "Parameter Name: LookupValue"});
        let refused = |response| fields(search("FirstName", "x").decode(&response).unwrap_err());
        assert_eq!(refused(unknown("FirstName")), ["field"]);
        assert_eq!(refused(unknown("ProspectID")), ["order_by"]);
        assert_eq!(refused(unknown("mx_City")), ["read_mask"]);
        assert_eq!(refused(response(500, invalid.clone())), ["value"]);
        assert_eq!(
            fields(modified().decode(&unknown("mx_City")).unwrap_err()),
            ["read_mask"]
        );
        assert_eq!(
            fields(modified().decode(&response(500, invalid.clone())).unwrap_err()),
            ["start_time"]
        );
        assert_eq!(
            fields(QuickSearch("x".into()).decode(&response(500, invalid)).unwrap_err()),
            ["query"]
        );
    }

    #[test]
    fn modified_leads_are_read_from_pairs() {
        let pair = |name: &str, value: Json| json!({"Attribute": name, "Value": value});
        let pairs = json!([
            pair("ProspectID", json!("a")),
            pair("Mobile", json!(null)),
            pair("Score", json!(7)),
            pair("Total", json!("1")),
            {"Attribute": "Fax"},
        ]);
        let body = json!({"RecordCount": 12, "Leads": [{"LeadPropertyList": pairs}]});
        let page = modified().decode(&response(200, body)).unwrap();
        let row = [
            ("ProspectID", Some("a")),
            ("Mobile", None),
            ("Score", Some("7")),
            ("Fax", None),
        ];
        let row: RawFields = row
            .map(|(name, value)| (name.to_owned(), value.map(str::to_owned)))
            .into();
        assert_eq!(
            page,
            Page {
                rows: vec![row].into(),
                total: 12
            }
        );
    }

    #[test]
    fn a_modified_lead_of_the_wrong_shape_leaves_the_others() {
        let lead = |id: &str| format!(r#"{{"LeadPropertyList":[{{"Attribute":"ProspectID","Value":"{id}"}}]}}"#);
        for (wrong, id, path) in [
            ("{}", None, "Leads[1]"),
            ("[]", None, "Leads[1]"),
            ("12", None, "Leads[1]"),
            (
                r#"{"LeadPropertyList":{"Attribute":"x"}}"#,
                None,
                "Leads[1].LeadPropertyList",
            ),
            (
                r#"{"LeadPropertyList":[{"Attribute":"ProspectID","Value":"b"},{"Attribute":7}]}"#,
                Some("b"),
                "Leads[1].LeadPropertyList[1].Attribute",
            ),
            (
                r#"{"LeadPropertyList":[{"Attribute":"ProspectID","Value":"b"}],"LeadPropertyList":[]}"#,
                Some("b"),
                "Leads[1]",
            ),
            (r#"{"LeadPropertyList":[]}"#, None, "Leads[1].ProspectID"),
            (
                r#"{"LeadPropertyList":[{"Attribute":"ProspectID","Value":null}]}"#,
                None,
                "Leads[1].ProspectID",
            ),
        ] {
            let body = format!(r#"{{"RecordCount":3,"Leads":[{},{wrong},{}]}}"#, lead("a"), lead("c"));
            let response = UpstreamResponse {
                status: StatusCode::OK,
                body: body.into(),
            };
            let page = modified().decode(&response).unwrap();
            let ids: Vec<_> = page
                .rows
                .records
                .iter()
                .map(|row| row["ProspectID"].clone().unwrap())
                .collect();
            assert_eq!((ids, page.total), (vec!["a".to_owned(), "c".to_owned()], 3), "{wrong}");
            let [unreadable] = &page.rows.unreadable[..] else {
                panic!("{wrong}: {:?}", page.rows.unreadable);
            };
            assert_eq!((unreadable.id.as_deref(), unreadable.position), (id, 1), "{wrong}");
            assert!(unreadable.path.starts_with(path), "{wrong}: {}", unreadable.path);
            // A page of which the count is known is not taken for another one.
            assert!(!page.rows.is_count_uncertain, "{wrong}");
        }
    }

    #[test]
    fn no_modified_leads_are_an_empty_page_and_no_count_is_no_answer() {
        let decode = |body| modified().decode(&response(200, body));
        assert_eq!(decode(json!({"RecordCount": 0})), Ok(Page::default()));
        assert_eq!(decode(json!({"RecordCount": "0", "Leads": null})), Ok(Page::default()));
        for body in [
            json!({"RecordCount": null, "Leads": []}),
            json!({"Leads": []}),
            json!([]),
        ] {
            let error = decode(body.clone()).unwrap_err();
            assert!(matches!(error.kind, ErrorKind::Unreadable { .. }), "{body}");
        }
    }
}
