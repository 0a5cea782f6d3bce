//! The endpoints that list leads: by a criterion, by a word, and by the time of the last modification.

use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;

use super::json::ListShape;
use super::lead::{cell, csv, get, post, rows, unreadable, whole, with_id};
use super::response::UpstreamResponse;
use super::retry::Safety;
use super::{Operation, UpstreamRequest};
use crate::domain::criterion::{Criterion, Operator, SortOrder};
use crate::domain::lead::{LEAD_ID, RawFields, path};
use crate::domain::listed::Listed;
use crate::domain::time;
use crate::error::{Error, ErrorKind, Result, Violation};

/// The attribute with the time of a lead's last modification.
pub const MODIFIED: &str = "LeadLastModifiedOn";

/// `Leads.Get`: returns the leads that meet a criterion.
#[derive(Clone, Debug)]
pub struct SearchLeads {
    /// The criterion.
    pub criterion: Criterion,
    /// The order of the leads.
    pub order: SortOrder,
    /// The columns to return, besides the lead's id and the attribute of the criterion.
    pub columns: Vec<String>,
    /// The number of the page, from 1.
    pub page: usize,
    /// Maximum number of leads to return, at most 1,000. LeadSquared lowers higher values to 1,000.
    pub size: usize,
}

/// `Leads.GetByQuickSearch`: returns the leads with a word in their main attributes.
#[derive(Clone, Debug)]
pub struct QuickSearchLeads(pub String);

/// `Leads.RecentlyModified`: returns the leads that were last modified in a range, ordered by id.
#[derive(Clone, Debug)]
pub struct RecentlyModifiedLeads {
    /// The start of the range, included.
    pub start: Timestamp,
    /// The end of the range, excluded.
    pub end: Timestamp,
    /// The columns to return, besides the lead's id and the time of its last modification.
    pub columns: Vec<String>,
    /// The number of the page, from 1.
    pub page: usize,
    /// Maximum number of leads to return, at most 5,000. LeadSquared rejects higher values.
    pub size: usize,
}

/// A page of the leads that were modified in a range.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ModifiedLeadsPage {
    /// The leads, also those that were modified up to two seconds outside of the range.
    pub rows: Listed<RawFields>,
    /// The number of leads on all pages.
    pub total: usize,
}

impl Operation for SearchLeads {
    type Output = Listed<RawFields>;
    type Request = UpstreamRequest;
    const NAME: &'static str = "Leads.Get";
    const SAFETY: Safety = Safety::Repeatable;

    fn request(&self) -> UpstreamRequest {
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
        let rows = rows(response).map_err(|error| self.with_request_fields(error))?;
        // If LeadSquared does not understand the criterion, the response has all leads. An empty list is better than wrong leads.
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

impl SearchLeads {
    /// The same error, with the fields of the request instead of lead attributes.
    fn with_request_fields(&self, mut error: Error) -> Error {
        let request_field = |field: &str| match field {
            field if field == path(&self.criterion.attribute.name) => "field",
            field if field == path(&self.order.name) => "order_by",
            field if self.columns.iter().any(|column| field == path(column)) => "read_mask",
            _ => "value",
        };
        if let ErrorKind::Invalid(violations) = &mut error.kind {
            for Violation { field, .. } in violations {
                *field = request_field(field).to_owned();
            }
        }
        error
    }
}

impl Operation for QuickSearchLeads {
    type Output = Listed<RawFields>;
    type Request = UpstreamRequest;
    const NAME: &'static str = "Leads.GetByQuickSearch";
    const SAFETY: Safety = Safety::Repeatable;

    fn request(&self) -> UpstreamRequest {
        get("LeadManagement.svc/Leads.GetByQuickSearch", "key", &self.0)
    }

    fn decode(&self, response: &UpstreamResponse) -> Result<Listed<RawFields>> {
        rows(response).map_err(|error| in_field("query", error))
    }

    fn unreadable(output: &Listed<RawFields>) -> usize {
        output.unreadable.len()
    }
}

impl Operation for RecentlyModifiedLeads {
    type Output = ModifiedLeadsPage;
    type Request = UpstreamRequest;
    const NAME: &'static str = "Leads.RecentlyModified";
    const SAFETY: Safety = Safety::Repeatable;

    fn request(&self) -> UpstreamRequest {
        // LeadSquared includes both ends and ignores fractions of a second, but stores times with fractions.
        let second = SignedDuration::from_secs(1);
        let from = self.start.checked_sub(second).unwrap_or(self.start);
        let to = self.end.checked_add(second).unwrap_or(self.end);
        let body = json!({
            "Parameter": {"FromDate": time::write(from), "ToDate": time::write_end(to)},
            "Columns": {"Include_CSV": with(&self.columns, MODIFIED)},
            // Times are not unique, so pages sorted by time are not stable.
            "Sorting": {"ColumnName": LEAD_ID, "Direction": "0"},
            "Paging": {"PageIndex": self.page, "PageSize": self.size},
        });
        post("LeadManagement.svc/Leads.RecentlyModified", &body)
    }

    fn decode(&self, response: &UpstreamResponse) -> Result<ModifiedLeadsPage> {
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
            // Only the columns name attributes.
            ErrorKind::Invalid(violations) if violations.iter().all(|violation| violation.field != "lead") => {
                in_field("read_mask", error)
            }
            _ => in_field("start_time", error),
        };
        let records = response.records(&MODIFIED_LEADS).map_err(field)?;
        let row = |properties: Properties| {
            let pairs = properties.lead_property_list.into_iter();
            // Some rows have the total as an attribute.
            let row = pairs
                .filter(|pair| pair.attribute != "Total")
                .map(|pair| (pair.attribute, pair.value.as_deref().and_then(cell)))
                .collect();
            with_id(row)
        };
        // Page tokens have 32 bits for it.
        let total: Option<u32> = whole(&records.member("RecordCount"));
        Ok(ModifiedLeadsPage {
            rows: records.read(&MODIFIED_LEADS, row),
            total: total.ok_or_else(|| unreadable("RecordCount"))? as usize,
        })
    }

    fn unreadable(output: &ModifiedLeadsPage) -> usize {
        output.rows.unreadable.len()
    }
}

/// A page of modified leads. Without leads, the member is missing.
const MODIFIED_LEADS: ListShape = ListShape {
    names: &["Leads"],
    marks: &["LeadPropertyList"],
    ids: &[LEAD_ID],
};

/// The columns, the lead's id and the column `name`.
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

/// The same error, with that field of the request for all violations.
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
            head: Default::default(),
        }
    }

    fn search(name: &str, value: &str) -> SearchLeads {
        SearchLeads {
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

    fn modified() -> RecentlyModifiedLeads {
        RecentlyModifiedLeads {
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
    fn an_ignored_criterion_is_detected() {
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
    fn violations_name_the_fields_of_the_request() {
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
            fields(
                QuickSearchLeads("x".into())
                    .decode(&response(500, invalid))
                    .unwrap_err()
            ),
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
            ModifiedLeadsPage {
                rows: vec![row].into(),
                total: 12
            }
        );
    }

    #[test]
    fn an_unreadable_lead_does_not_hide_the_others() {
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
                head: Default::default(),
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
            // The number of records on the page is certain.
            assert!(!page.rows.is_count_uncertain, "{wrong}");
        }
    }

    #[test]
    fn a_page_may_be_empty_and_a_page_without_a_count_is_unreadable() {
        let decode = |body| modified().decode(&response(200, body));
        assert_eq!(decode(json!({"RecordCount": 0})), Ok(ModifiedLeadsPage::default()));
        assert_eq!(
            decode(json!({"RecordCount": "0", "Leads": null})),
            Ok(ModifiedLeadsPage::default())
        );
        for body in [
            json!({"RecordCount": null, "Leads": []}),
            json!({"RecordCount": 4_294_967_296_u64, "Leads": []}),
            json!({"RecordCount": "18446744073709551615", "Leads": []}),
            json!({"Leads": []}),
            json!([]),
        ] {
            let error = decode(body.clone()).unwrap_err();
            assert!(matches!(error.kind, ErrorKind::Unreadable { .. }), "{body}");
        }
    }
}
