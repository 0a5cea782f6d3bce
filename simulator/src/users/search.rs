//! The endpoint that finds users by conditions. It supports the documented operators.

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::UserSpec;
use crate::handlers::{Handler, LenientU64};
use crate::http::response::{Exception, Failure, Response, Result};
use crate::leads::reads::{Columns, Paging};
use crate::leads::search::Sorting;

/// Maximum page size. A larger page is an error.
const MAX_PAGE_SIZE: u64 = 1_000;

/// Attributes of a user that the search was observed to reject.
const UNSEARCHABLE: [&str; 2] = ["ManagerName", "TeamName"];

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct UserSearchRequest {
    columns: Option<Columns>,
    group_conditions: Option<Vec<ConditionGroup>>,
    sorting: Option<Vec<Sorting>>,
    paging: Option<Paging>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ConditionGroup {
    condition: Vec<Condition>,
    group_operator: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Condition {
    lookup_name: String,
    operator: String,
    lookup_value: Option<String>,
    condition_operator: Option<String>,
}

impl Handler<'_> {
    /// Unlike the lookups, the search also finds inactive users.
    pub(crate) fn user_search(self) -> Result<Response> {
        let request: UserSearchRequest = self.body()?;
        let paging = request.paging.unwrap_or_default();
        if paging.size(self.tenant) > MAX_PAGE_SIZE {
            let message = format!("PageSize can't be greater than {MAX_PAGE_SIZE}");
            return Err(Exception::invalid(message));
        }
        let columns = request.columns.unwrap_or_default();
        let columns: Vec<_> = columns.names().collect();
        let groups = request.group_conditions.unwrap_or_default();
        let sorting = request.sorting.unwrap_or_default();
        let sorted = sorting.iter().filter_map(|sorting| sorting.column_name.as_deref());
        let lookup_names = groups.iter().flat_map(|group| &group.condition);
        let lookup_names = lookup_names.map(|condition| condition.lookup_name.as_str());
        columns
            .iter()
            .copied()
            .chain(sorted)
            .chain(lookup_names)
            .try_for_each(check_searchable)?;
        let mut found = Vec::new();
        for user in &self.tenant.options.users {
            let row = row(user);
            if matches(&groups, &row)? {
                found.push(row);
            }
        }
        // The sort is stable. Sorting by the last column first makes the first column decide.
        for sorting in sorting.iter().rev() {
            let column = sorting.column_name.as_deref().unwrap_or_default();
            found.sort_by_key(|row| text(row, column));
            if sorting.direction == Some(LenientU64(1)) {
                found.reverse();
            }
        }
        for row in &mut found {
            for (name, value) in row.iter_mut() {
                if !columns.is_empty() && !columns.contains(&name.as_str()) {
                    *value = Value::Null;
                }
            }
        }
        let page = paging.bounds(self.tenant, MAX_PAGE_SIZE);
        let rows = page.slice(&found).iter().cloned().map(Value::Object).collect();
        Ok(Response::listed(found.len(), "Users", rows))
    }
}

/// Returns a user as a row of the search: without the attributes that the search rejects, and with the status and
/// groups as strings.
fn row(user: &UserSpec) -> Map<String, Value> {
    let Value::Object(mut row) = user.details() else {
        return Map::new();
    };
    row.retain(|name, _| !UNSEARCHABLE.contains(&name.as_str()));
    row.insert("StatusCode".into(), i32::from(!user.active).to_string().into());
    row.insert("Groups".into(), user.groups.join(",").into());
    row
}

fn check_searchable(name: &str) -> Result<()> {
    let known = row(&UserSpec::new("", "", "", "")).contains_key(name);
    let wrong = || -> Failure { Exception::invalid("User search has some invalid Attributes") };
    known.then_some(()).ok_or_else(wrong)
}

/// Whether the row matches the groups. Conditions and groups are evaluated from left to right. Each one is joined to
/// the next one by its operator.
fn matches(groups: &[ConditionGroup], row: &Map<String, Value>) -> Result<bool> {
    let mut all = JoinedConditions::default();
    for group in groups {
        let mut inner = JoinedConditions::default();
        for condition in &group.condition {
            inner.join(condition.matches(row)?, condition.condition_operator.as_deref());
        }
        all.join(inner.result.unwrap_or(true), group.group_operator.as_deref());
    }
    Ok(all.result.unwrap_or(true))
}

#[derive(Default)]
struct JoinedConditions {
    result: Option<bool>,
    any: bool,
}

impl JoinedConditions {
    fn join(&mut self, matches: bool, next: Option<&str>) {
        self.result = Some(match self.result {
            None => matches,
            Some(before) if self.any => before || matches,
            Some(before) => before && matches,
        });
        self.any = next.is_some_and(|operator| operator.eq_ignore_ascii_case("OR"));
    }
}

impl Condition {
    fn matches(&self, row: &Map<String, Value>) -> Result<bool> {
        let value = text(row, &self.lookup_name).to_lowercase();
        let wanted = self.lookup_value.as_deref().unwrap_or_default().to_lowercase();
        match self.operator.to_ascii_lowercase().as_str() {
            "eq" => Ok(value == wanted),
            "lik" => Ok(value.contains(&wanted)),
            // LeadSquared has more operators, but no available documentation lists them.
            _ => Err(Exception::invalid("Invalid Input! Parameter Name: Operator")),
        }
    }
}

fn text(row: &Map<String, Value>, name: &str) -> String {
    match row.get(name) {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::test_support::TestServer;
    use serde_json::json;

    async fn search(server: &TestServer, body: Value) -> (u16, Value) {
        server.post("/v2/UserManagement.svc/User/AdvancedSearch", body).await
    }

    fn with(conditions: Value) -> Value {
        json!({
            "Columns": {"Include_CSV": "UserId,FirstName,StatusCode"},
            "GroupConditions": [{"Condition": conditions, "GroupOperator": null}],
            "GroupOperator": null,
            "Sorting": [{"ColumnName": "FirstName", "Direction": 0}],
            "Paging": {"PageIndex": 1, "PageSize": 5},
        })
    }

    fn condition(name: &str, operator: &str, value: &str, next: Value) -> Value {
        json!({"LookupName": name, "Operator": operator, "LookupValue": value, "ConditionOperator": next})
    }

    fn names(response: &Value) -> Vec<&str> {
        let users = response["Users"].as_array().unwrap().iter();
        users.map(|user| user["FirstName"].as_str().unwrap()).collect()
    }

    #[tokio::test]
    async fn active_sales_users_are_found_and_sorted() {
        let server = TestServer::new(|_| {});
        let both = json!([
            condition("Role", "eq", "Sales_User", json!("AND")),
            condition("StatusCode", "eq", "0", Value::Null),
        ]);
        let (status, response) = search(&server, with(both)).await;
        assert_eq!((status, names(&response)), (200, vec!["Sam", "Sita"]));
        let user = &response["Users"][0];
        assert_eq!((&user["StatusCode"], &user["Role"]), (&json!("0"), &Value::Null));
        assert!(user.get("EmailAddress").is_some());
    }

    #[tokio::test]
    async fn conditions_are_joined_by_their_operators() {
        let server = TestServer::new(|_| {});
        let either = json!([
            condition("FirstName", "lik", "AS", json!("OR")),
            condition("StatusCode", "eq", "1", Value::Null),
        ]);
        assert_eq!(names(&search(&server, with(either)).await.1), ["Asha", "Lata"]);
        let nobody = json!([condition("FirstName", "eq", "x", Value::Null)]);
        assert_eq!(search(&server, with(nobody)).await.1, json!({"RecordCount": 0}));
        let unknown = json!([condition("FirstName", "gt", "x", Value::Null)]);
        assert_eq!(search(&server, with(unknown)).await.0, 500);
    }

    #[tokio::test]
    async fn invalid_attributes_and_large_pages_are_rejected() {
        let server = TestServer::new(|_| {});
        let message = async |change: fn(&mut Value)| {
            let mut body = with(json!([]));
            change(&mut body);
            let (status, response) = search(&server, body).await;
            assert_eq!(status, 500);
            response["ExceptionMessage"].as_str().unwrap().to_owned()
        };
        let invalid = "User search has some invalid Attributes";
        assert_eq!(
            message(|body| body["Columns"]["Include_CSV"] = json!("UserId,TeamName")).await,
            invalid
        );
        assert_eq!(
            message(|body| body["Sorting"][0]["ColumnName"] = json!("Nonsense")).await,
            invalid
        );
        let large = message(|body| body["Paging"]["PageSize"] = json!(1_001)).await;
        assert_eq!(large, "PageSize can't be greater than 1000");
    }
}
