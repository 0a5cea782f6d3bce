//! The endpoint that finds users by conditions, in the documented subset.

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::UserSpec;
use crate::handlers::{Count, Handler};
use crate::http::response::{Exception, Failure, Response, Result};
use crate::leads::reads::{Columns, Paging};
use crate::leads::search::Sorting;

/// Larger pages are an error.
const MAX_PAGE_SIZE: u64 = 1_000;

/// Attributes of a user that the search was seen to reject.
const UNSEARCHED: [&str; 2] = ["ManagerName", "TeamName"];

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct SearchRequest {
    columns: Option<Columns>,
    group_conditions: Option<Vec<Group>>,
    sorting: Option<Vec<Sorting>>,
    paging: Option<Paging>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Group {
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
    /// Unlike the lookups, it finds inactive users too.
    pub(crate) fn user_search(self) -> Result<Response> {
        let request: SearchRequest = self.body()?;
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
        let looked_up = groups.iter().flat_map(|group| &group.condition);
        let looked_up = looked_up.map(|condition| condition.lookup_name.as_str());
        columns
            .iter()
            .copied()
            .chain(sorted)
            .chain(looked_up)
            .try_for_each(searchable)?;
        let mut found = Vec::new();
        for user in &self.tenant.options.users {
            let row = row(user);
            if holds(&groups, &row)? {
                found.push(row);
            }
        }
        // From the last to the first: the sort is stable, so the first column decides.
        for sorting in sorting.iter().rev() {
            let column = sorting.column_name.as_deref().unwrap_or_default();
            found.sort_by_key(|row| shown(row, column));
            if sorting.direction == Some(Count(1)) {
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
        let rows = page.of(&found).iter().cloned().map(Value::Object).collect();
        Ok(Response::listed(found.len(), "Users", rows))
    }
}

/// A user as a row of the search: without the attributes that it rejects, status and groups as texts.
fn row(user: &UserSpec) -> Map<String, Value> {
    let Value::Object(mut row) = user.details() else {
        return Map::new();
    };
    row.retain(|name, _| !UNSEARCHED.contains(&name.as_str()));
    row.insert("StatusCode".into(), i32::from(!user.active).to_string().into());
    row.insert("Groups".into(), user.groups.join(",").into());
    row
}

fn searchable(name: &str) -> Result<()> {
    let known = row(&UserSpec::new("", "", "", "")).contains_key(name);
    let wrong = || -> Failure { Exception::invalid("User search has some invalid Attributes") };
    known.then_some(()).ok_or_else(wrong)
}

/// Conditions and groups are taken from left to right, each joined to the next by its operator.
fn holds(groups: &[Group], row: &Map<String, Value>) -> Result<bool> {
    let mut all = Joined::default();
    for group in groups {
        let mut inner = Joined::default();
        for condition in &group.condition {
            inner.join(condition.holds(row)?, condition.condition_operator.as_deref());
        }
        all.join(inner.so_far.unwrap_or(true), group.group_operator.as_deref());
    }
    Ok(all.so_far.unwrap_or(true))
}

#[derive(Default)]
struct Joined {
    so_far: Option<bool>,
    any: bool,
}

impl Joined {
    fn join(&mut self, holds: bool, next: Option<&str>) {
        self.so_far = Some(match self.so_far {
            None => holds,
            Some(before) if self.any => before || holds,
            Some(before) => before && holds,
        });
        self.any = next.is_some_and(|operator| operator.eq_ignore_ascii_case("OR"));
    }
}

impl Condition {
    fn holds(&self, row: &Map<String, Value>) -> Result<bool> {
        let value = shown(row, &self.lookup_name).to_lowercase();
        let wanted = self.lookup_value.as_deref().unwrap_or_default().to_lowercase();
        match self.operator.to_ascii_lowercase().as_str() {
            "eq" => Ok(value == wanted),
            "lik" => Ok(value.contains(&wanted)),
            // More operators exist, but no known copy of the page lists them.
            _ => Err(Exception::invalid("Invalid Input! Parameter Name: Operator")),
        }
    }
}

fn shown(row: &Map<String, Value>, name: &str) -> String {
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
    async fn active_sales_users_are_found_in_order() {
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
    async fn conditions_are_joined_as_they_say() {
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
    async fn some_attributes_and_large_pages_are_rejected() {
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
