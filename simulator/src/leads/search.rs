//! The endpoints that find leads by a criterion or by time of modification.

use std::cmp::Ordering;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::FieldSpec;
use crate::handlers::{Handler, LenientU64};
use crate::http::response::{Exception, Failure, Response, Result};
use crate::leads::fields::FieldKind;
use crate::leads::lead::{Lead, LeadRow};
use crate::leads::reads::{Columns, Paging};
use crate::leads::{store, value};
use crate::random::Random;

/// Maximum page size of `Leads.Get`. A larger page size is reduced to it without an error.
const MAX_PAGE_SIZE: u64 = 1_000;

/// Maximum page size of `Leads.RecentlyModified`. A larger page size is an error.
const MAX_RECENT_PAGE_SIZE: u64 = 5_000;

/// The body of a search. Without `Parameter`, for example because the name is misspelled, all leads match.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct LeadSearchRequest<P> {
    parameter: Option<P>,
    columns: Option<Columns>,
    sorting: Option<Sorting>,
    paging: Option<Paging>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Criterion {
    lookup_name: Option<String>,
    lookup_value: Option<String>,
    sql_operator: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DateRange {
    from_date: Option<String>,
    to_date: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Sorting {
    pub(crate) column_name: Option<String>,
    pub(crate) direction: Option<LenientU64>,
}

impl Handler<'_> {
    pub(crate) fn search(mut self) -> Result<Response> {
        let request: LeadSearchRequest<Criterion> = self.body()?;
        let fields = request.columns.unwrap_or_default().fields(self.tenant)?;
        let filter = request
            .parameter
            .map(|criterion| LeadFilter::new(criterion, &self))
            .transpose()?;
        let mut found: Vec<_> = self
            .leads
            .iter()
            .filter(|lead| filter.as_ref().is_none_or(|filter| filter.matches(lead, &self)))
            .map(|lead| lead.number)
            .collect();
        self.sort(&mut found, request.sorting.as_ref())?;
        let page = request.paging.unwrap_or_default().bounds(self.tenant, MAX_PAGE_SIZE);
        Ok(Response::json(200, &self.read(page.slice(&found), &fields)))
    }

    pub(crate) fn recently_modified(mut self) -> Result<Response> {
        let request: LeadSearchRequest<DateRange> = self.body()?;
        let paging = request.paging.unwrap_or_default();
        if paging.size(self.tenant) > MAX_RECENT_PAGE_SIZE {
            let message =
                format!("Invalid Input! Parameter Name: PageSize can not be more than {MAX_RECENT_PAGE_SIZE}");
            return Err(Exception::invalid(message));
        }
        let range = request
            .parameter
            .ok_or_else(|| Exception::missing("'Parameter' is mandatory"))?;
        let (from, to) = (
            date_parameter("FromDate", range.from_date)?,
            date_parameter("ToDate", range.to_date)?,
        );
        if from > to {
            return Err(Exception::invalid("FromDate can not be after ToDate."));
        }
        let fields = request.columns.unwrap_or_default().fields(self.tenant)?;
        let mut found: Vec<_> = self
            .leads
            .iter()
            .filter(|lead| lead.modified >= from && lead.modified <= to)
            .map(|lead| lead.number)
            .collect();
        if found.is_empty() {
            return Ok(Response::json(200, &json!({"RecordCount": 0})));
        }
        self.sort(&mut found, request.sorting.as_ref())?;
        let page = paging.bounds(self.tenant, MAX_RECENT_PAGE_SIZE);
        let rows = self.read(page.slice(&found), &fields);
        let rows: Vec<_> = rows
            .into_iter()
            .map(|row| self.property_list(row, found.len()))
            .collect();
        Ok(Response::json(200, &json!({"RecordCount": found.len(), "Leads": rows})))
    }

    fn property_list(&self, row: LeadRow, total: usize) -> Value {
        let pair = |(name, value)| json!({"Attribute": name, "Value": value});
        let mut pairs: Vec<_> = row.0.into_iter().map(pair).collect();
        if self.tenant.options.recent_rows_have_total {
            pairs.push(json!({"Attribute": "Total", "Value": total.to_string()}));
        }
        json!({"LeadPropertyList": pairs})
    }

    fn read(&self, numbers: &[u64], fields: &[&FieldSpec]) -> Vec<LeadRow> {
        let leads = numbers.iter().filter_map(|number| self.leads.get(*number));
        leads.map(|lead| lead.row(fields, self.tenant)).collect()
    }

    /// Sorts leads by a column. Unset values sort before all others. Equal values are sorted by lead number, or
    /// randomly with `unstable_ties`.
    fn sort(&mut self, found: &mut [u64], sorting: Option<&Sorting>) -> Result<()> {
        let Some((name, sorting)) = sorting.and_then(|s| Some((s.column_name.as_deref()?, s))) else {
            return Ok(());
        };
        let field = self.tenant.schema.field(name);
        let field = field.ok_or_else(|| Exception::unknown_attributes(&[name.into()]))?;
        let salt = if self.tenant.options.unstable_ties {
            self.leads.nonzero_random()
        } else {
            0
        };
        let descending = sorting.direction == Some(LenientU64(1));
        let mut keyed: Vec<_> = found
            .iter()
            .filter_map(|number| self.leads.get(*number))
            .map(|lead| {
                let tie = if salt == 0 {
                    lead.number
                } else {
                    Random::new(lead.number ^ salt).next()
                };
                (lead.stored(&field.schema_name, self.tenant), tie, lead.number)
            })
            .collect();
        keyed.sort_by(|one, two| {
            let order = match (&one.0, &two.0) {
                (Some(one), Some(two)) => compare(field, one, two),
                (one, two) => one.is_some().cmp(&two.is_some()),
            };
            let order = if descending { order.reverse() } else { order };
            order.then(one.1.cmp(&two.1))
        });
        for (row, (_, _, number)) in found.iter_mut().zip(keyed) {
            *row = number;
        }
        Ok(())
    }
}

/// A validated criterion. An unset attribute never matches, not even with `<>`.
struct LeadFilter<'t> {
    field: &'t FieldSpec,
    operator: Operator,
    values: Vec<String>,
}

enum Operator {
    Compare(fn(Ordering) -> bool),
    Like,
}

impl<'t> LeadFilter<'t> {
    fn new(criterion: Criterion, handler: &Handler<'t>) -> Result<Self> {
        let name = criterion
            .lookup_name
            .ok_or_else(|| Exception::missing("'LookupName' is mandatory"))?;
        let value = criterion
            .lookup_value
            .ok_or_else(|| Exception::missing("'LookupValue' is mandatory"))?;
        let field = handler.tenant.schema.field(&name);
        let field = field.ok_or_else(|| Exception::unknown_attributes(&[name]))?;
        if field.kind() == FieldKind::Boolean && value != "0" && value != "1" {
            return Err(Exception::invalid("Invalid Input! Parameter Name: LookupValue"));
        }
        let named = criterion
            .sql_operator
            .unwrap_or_else(|| "=".into())
            .trim()
            .to_ascii_uppercase();
        let operator = match named.as_str() {
            "=" | "IN" => Operator::Compare(Ordering::is_eq),
            "<>" => Operator::Compare(Ordering::is_ne),
            ">" => Operator::Compare(Ordering::is_gt),
            "<" => Operator::Compare(Ordering::is_lt),
            ">=" => Operator::Compare(Ordering::is_ge),
            "<=" => Operator::Compare(Ordering::is_le),
            "LIKE" => Operator::Like,
            _ => {
                return Err(Exception::invalid("Invalid Input! Parameter Name: SqlOperator"));
            }
        };
        let lookup = |value: &str| store::lookup(&field.schema_name, value, handler.tenant);
        let values = match (&operator, named.as_str()) {
            (Operator::Like, _) => vec![value],
            (_, "IN") => value.split(',').map(|part| lookup(part.trim())).collect(),
            _ => vec![lookup(&value)],
        };
        Ok(Self {
            field,
            operator,
            values,
        })
    }

    fn matches(&self, lead: &Lead, handler: &Handler) -> bool {
        let Some(stored) = lead.stored(&self.field.schema_name, handler.tenant) else {
            return false;
        };
        let case = handler.tenant.options.search_case_sensitive;
        let fold = |text: &str| {
            if case { text.to_owned() } else { text.to_lowercase() }
        };
        self.values.iter().any(|value| match self.operator {
            Operator::Compare(wanted) => wanted(compare(self.field, &fold(&stored), &fold(value))),
            Operator::Like if handler.tenant.options.like_contains && !value.contains('%') => {
                fold(&stored).contains(&fold(value))
            }
            Operator::Like => like(&fold(&stored), &fold(value)),
        })
    }
}

/// Compares two stored values.
fn compare(field: &FieldSpec, one: &str, two: &str) -> Ordering {
    let number = |text: &str| text.parse::<f64>();
    if let (FieldKind::Number, Ok(one), Ok(two)) = (field.kind(), number(one), number(two)) {
        return one.total_cmp(&two);
    }
    // The lead number is a field of the type `Text`, but it is compared as a number.
    if let ("ProspectAutoId", Ok(one), Ok(two)) = (field.schema_name.as_str(), number(one), number(two)) {
        return one.total_cmp(&two);
    }
    one.cmp(two)
}

/// Whether `text` matches a `LIKE` pattern, in which `%` stands for any characters.
fn like(text: &str, pattern: &str) -> bool {
    let mut parts = pattern.split('%');
    let Some(mut rest) = text.strip_prefix(parts.next().unwrap_or_default()) else {
        return false;
    };
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    true
}

/// Parses a mandatory date parameter.
pub(crate) fn date_parameter(name: &str, given: Option<String>) -> Result<jiff::Timestamp> {
    let given = given.ok_or_else(|| Exception::missing(format!("'{name}' is mandatory")))?;
    let wrong = || -> Failure { Exception::invalid(format!("{name} value is not correct.")) };
    value::parse_timestamp(&given).ok_or_else(wrong)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::test_support::TestServer;

    #[test]
    fn a_percent_sign_matches_any_characters() {
        for (text, pattern, matches) in [
            ("pune", "pune", true),
            ("pune", "p%", true),
            ("pune", "%n%", true),
            ("pune", "%ne", true),
            ("pune", "p%e", true),
            ("pune", "%", true),
            ("pune", "pun", false),
            ("pune", "%pu", false),
            ("pune", "n%", false),
            ("pp", "p%p%p", false),
            ("", "%", true),
        ] {
            assert_eq!(like(text, pattern), matches, "{text} LIKE {pattern}");
        }
    }

    async fn sample_leads() -> TestServer {
        let server = TestServer::new(|_| {});
        for (name, amount, consent, modified) in [
            ("Ann", "9", "1", "2026-01-01 00:00:00"),
            ("Bob", "10", "0", "2026-01-01 00:00:01.500"),
            ("Cid", "100", "1", "2026-01-02 00:00:00"),
        ] {
            server.simulator.insert_lead(&[
                ("FirstName", name),
                ("mx_Loan_Amount", amount),
                ("mx_Consent", consent),
                ("LeadLastModifiedOn", modified),
            ]);
        }
        server
            .simulator
            .insert_lead(&[("FirstName", "Dan"), ("ModifiedOn", "2026-01-03 00:00:00")]);
        server
    }

    async fn names(server: &TestServer, body: Value) -> Vec<String> {
        let (status, response) = server.post("Leads.Get", body).await;
        assert_eq!(status, 200, "{response}");
        let rows = response.as_array().unwrap().iter();
        rows.map(|row| row["FirstName"].as_str().unwrap().into()).collect()
    }

    fn where_is(name: &str, operator: &str, value: &str) -> Value {
        json!({
            "Parameter": {"LookupName": name, "LookupValue": value, "SqlOperator": operator},
            "Columns": {"Include_CSV": "ProspectID, FirstName"},
        })
    }

    #[tokio::test]
    async fn each_operator_compares_values_by_the_kind_of_the_field() {
        let server = sample_leads().await;
        for (name, operator, value, found) in [
            ("mx_Loan_Amount", "=", "10", vec!["Bob"]),
            ("mx_Loan_Amount", ">", "9", vec!["Bob", "Cid"]),
            ("mx_Loan_Amount", "<=", "10", vec!["Ann", "Bob"]),
            ("mx_Loan_Amount", "<>", "10", vec!["Ann", "Cid"]),
            ("FirstName", "=", "ann", vec!["Ann"]),
            ("FirstName", "LIKE", "%b%", vec!["Bob"]),
            ("FirstName", "like", "b", vec![]),
            ("FirstName", "IN", "Ann, Cid", vec!["Ann", "Cid"]),
            ("mx_Consent", "=", "1", vec!["Ann", "Cid"]),
            ("LeadLastModifiedOn", ">=", "2026-01-02 00:00:00", vec!["Cid", "Dan"]),
            ("ProspectAutoId", "=", "1002", vec!["Bob"]),
        ] {
            let body = where_is(name, operator, value);
            assert_eq!(names(&server, body).await, found, "{name} {operator} {value}");
        }
    }

    #[tokio::test]
    async fn invalid_criteria_are_rejected() {
        let server = sample_leads().await;
        let (status, _) = server.post("Leads.Get", where_is("mx_Consent", "=", "true")).await;
        assert_eq!(status, 500);
        assert_eq!(server.post("Leads.Get", where_is("mx_City", "~", "x")).await.0, 500);
        assert_eq!(server.post("Leads.Get", where_is("Nonsense", "=", "x")).await.0, 500);
    }

    #[tokio::test]
    async fn a_search_without_a_parameter_finds_all_leads() {
        let server = sample_leads().await;
        let mut body = where_is("FirstName", "=", "Ann");
        body["Query"] = body["Parameter"].take();
        assert_eq!(names(&server, body).await.len(), 4);
    }

    #[tokio::test]
    async fn results_are_sorted_and_paged() {
        let server = sample_leads().await;
        let request = |column: &str, direction: Value, page: u32| {
            json!({
                "Columns": {"Include_CSV": "FirstName"},
                "Sorting": {"ColumnName": column, "Direction": direction},
                "Paging": {"PageIndex": page, "PageSize": 3},
            })
        };
        assert_eq!(
            names(&server, request("mx_Loan_Amount", json!("1"), 1)).await,
            ["Cid", "Bob", "Ann"]
        );
        assert_eq!(names(&server, request("mx_Loan_Amount", json!("1"), 2)).await, ["Dan"]);
        assert_eq!(
            names(&server, request("mx_Loan_Amount", json!(0), 1)).await,
            ["Dan", "Ann", "Bob"]
        );
        assert_eq!(names(&server, request("mx_Loan_Amount", json!(0), 3)).await, [""; 0]);
    }

    #[tokio::test]
    async fn a_larger_page_size_is_reduced_to_a_thousand() {
        let server = TestServer::new(|_| {});
        for _ in 0..1_001 {
            server.simulator.insert_lead(&[("FirstName", "x")]);
        }
        let body = json!({"Columns": {"Include_CSV": "FirstName"}, "Paging": {"PageSize": 5_000}});
        assert_eq!(names(&server, body).await.len(), 1_000);
    }

    #[tokio::test]
    async fn rows_with_equal_keys_can_change_their_order() {
        let server = TestServer::new(|options| options.unstable_ties = true);
        for number in 0..20 {
            server.simulator.insert_lead(&[("FirstName", &number.to_string())]);
        }
        let body = || json!({"Columns": {"Include_CSV": "FirstName"}, "Sorting": {"ColumnName": "mx_City"}});
        let (one, two) = (names(&server, body()).await, names(&server, body()).await);
        assert_ne!(one, two);
        server.simulator.set_options(|options| options.unstable_ties = false);
        assert_eq!(names(&server, body()).await, names(&server, body()).await);
    }

    fn between(from: &str, to: &str) -> Value {
        json!({
            "Parameter": {"FromDate": from, "ToDate": to},
            "Columns": {"Include_CSV": "FirstName"},
            "Paging": {"PageIndex": 1, "PageSize": 2},
            "Sorting": {"ColumnName": "ProspectAutoId", "Direction": "0"},
        })
    }

    #[tokio::test]
    async fn the_range_of_modification_includes_both_ends() {
        let server = sample_leads().await;
        let count = async |from: &str, to: &str| {
            server.post("Leads.RecentlyModified", between(from, to)).await.1["RecordCount"].clone()
        };
        assert_eq!(count("2026-01-01 00:00:00", "2026-01-02 00:00:00").await, 3);
        assert_eq!(count("2026-01-01 00:00:00", "2026-01-01 00:00:01").await, 1);
        assert_eq!(count("2026-01-01 00:00:01", "2026-01-01 00:00:02").await, 1);
    }

    #[tokio::test]
    async fn recently_modified_returns_the_total_and_a_page() {
        let server = sample_leads().await;
        server
            .simulator
            .set_options(|options| options.recent_rows_have_total = true);
        let range = between("2026-01-01 00:00:00", "2026-01-03 00:00:00");
        let (_, response) = server.post("Leads.RecentlyModified", range).await;
        assert_eq!(response["RecordCount"], 4);
        let pair = |name: &str, value: &str| json!({"Attribute": name, "Value": value});
        let row = |name| json!({"LeadPropertyList": [pair("FirstName", name), pair("Total", "4")]});
        assert_eq!(response["Leads"], json!([row("Ann"), row("Bob")]));
        let (_, response) = server
            .post("Leads.RecentlyModified", between("2020-01-01", "2020-01-02"))
            .await;
        assert_eq!(response, json!({"RecordCount": 0}));
    }

    #[tokio::test]
    async fn an_invalid_range_or_page_size_is_an_error() {
        let server = sample_leads().await;
        let message = async |body: Value| {
            let (status, response) = server.post("Leads.RecentlyModified", body).await;
            assert_eq!(status, 500);
            response["ExceptionMessage"].as_str().unwrap().to_owned()
        };
        assert_eq!(
            message(between("soon", "2026-01-01")).await,
            "FromDate value is not correct."
        );
        assert_eq!(
            message(between("2026-01-01", "31.1.2026")).await,
            "ToDate value is not correct."
        );
        assert!(
            message(between("2026-01-02", "2026-01-01"))
                .await
                .starts_with("FromDate")
        );
        let mut large = between("2026-01-01", "2026-01-02");
        large["Paging"]["PageSize"] = json!(5_001);
        assert!(message(large).await.contains("PageSize can not be more than 5000"));
    }
}
