//! The users of the account and the endpoints that read them.

pub(crate) mod search;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::handlers::Handler;
use crate::http::response::{Response, Result};
use crate::random::guid_for;

/// A user of the account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UserSpec {
    /// The GUID.
    pub id: String,
    /// First name.
    #[serde(default)]
    pub first_name: String,
    /// Last name.
    #[serde(default)]
    pub last_name: String,
    /// Email address.
    pub email_address: String,
    /// `Administrator`, `Marketing_User`, `Sales_Manager` or `Sales_User`.
    pub role: String,
    /// Whether the user is active. Default true.
    #[serde(default = "default_true")]
    pub active: bool,
    /// The names of the user's sales groups. Default empty.
    #[serde(default)]
    pub groups: Vec<String>,
    /// Further keys of the object that the lookups return, such as `Designation` or `mx_Custom_1`. Default empty.
    #[serde(default)]
    pub details: BTreeMap<String, String>,
}

impl UserSpec {
    /// Creates an active user with the email `<first name>@simulator.example`.
    pub fn new(id: &str, first_name: &str, last_name: &str, role: &str) -> Self {
        Self {
            id: id.into(),
            first_name: first_name.into(),
            last_name: last_name.into(),
            email_address: format!("{}@simulator.example", first_name.to_lowercase()),
            role: role.into(),
            active: true,
            groups: Vec::new(),
            details: BTreeMap::new(),
        }
    }

    /// Returns the first and last name.
    pub(crate) fn name(&self) -> String {
        format!("{} {}", self.first_name, self.last_name).trim().into()
    }

    /// Returns the user as a row of the list. Its keys differ from those of [`Self::details`].
    fn row(&self) -> Value {
        json!({
            "ID": self.id,
            "FirstName": self.first_name,
            "LastName": self.last_name,
            "EmailAddress": self.email_address,
            "Role": self.role,
            "StatusCode": i32::from(!self.active),
            "MemberOfGroups": self.groups,
            "Tag": null,
            "IsPhoneCallAgent": false,
        })
    }

    /// Returns the user as the object that the lookups return.
    pub(crate) fn details(&self) -> Value {
        let group = |name: &String| json!({"Id": guid_for(name), "Name": name});
        let mut details = json!({
            "UserId": self.id,
            "FirstName": self.first_name,
            "LastName": self.last_name,
            "EmailAddress": self.email_address,
            "AssociatedPhoneNumbers": null,
            "DateFormat": "mm/dd/yyyy",
            "TimeZone": "Asia/Kolkata",
            "Role": self.role,
            "IsPhoneCallAgent": false,
            "OrgId": 1,
            "CompanyName": "Simulator",
            "UserType": 0,
            "ManagerUserId": null,
            "ManagerName": null,
            "PhoneMain": null,
            "PhoneMobile": null,
            "PhoneOthers": null,
            "IsCheckedIn": false,
            "AvailabilityStatus": null,
            "Designation": null,
            "Department": null,
            "SalesRegions": null,
            "Groups": self.groups.iter().map(group).collect::<Vec<_>>(),
            "TeamId": null,
            "TeamName": null,
        });
        for number in 1..=10 {
            details[format!("mx_Custom_{number}")] = Value::Null;
        }
        for (name, value) in &self.details {
            details[name.as_str()] = json!(value);
        }
        details
    }
}

/// Returns the default users: the administrator that owns the keys, a sales user, an inactive sales user, and another
/// sales user.
pub(crate) fn default_users() -> Vec<UserSpec> {
    let user = |number: u8, first_name, last_name, role| {
        let id = format!("a0000000-0000-4000-8000-{number:012}");
        UserSpec::new(&id, first_name, last_name, role)
    };
    let inactive = UserSpec {
        active: false,
        ..user(3, "Lata", "Left", "Sales_User")
    };
    vec![
        user(1, "Asha", "Admin", "Administrator"),
        user(2, "Sam", "Sales", "Sales_User"),
        inactive,
        user(4, "Sita", "Sales", "Sales_User"),
    ]
}

impl Handler<'_> {
    pub(crate) fn users(self) -> Result<Response> {
        let rows: Vec<_> = self.tenant.options.users.iter().map(UserSpec::row).collect();
        Ok(Response::json(200, &rows))
    }

    pub(crate) fn user_by_id(self) -> Result<Response> {
        let id = self.parameter("userId")?;
        self.user(|user| user.id.eq_ignore_ascii_case(id))
    }

    pub(crate) fn user_by_email(self) -> Result<Response> {
        let email = self.parameter("emailAddress")?;
        self.user(|user| user.email_address.eq_ignore_ascii_case(email))
    }

    /// Returns the active user that matches. An unknown or inactive user results in an empty list.
    fn user(&self, matches: impl Fn(&UserSpec) -> bool) -> Result<Response> {
        let users = self.tenant.options.users.iter();
        let found = users.filter(|user| user.active && matches(user));
        Ok(Response::json(200, &found.map(UserSpec::details).collect::<Vec<_>>()))
    }

    pub(crate) fn user_by_access_key(self) -> Result<Response> {
        let options = &self.tenant.options;
        let owner = options.users.first();
        let host = options.right_host.as_deref().unwrap_or(self.host);
        let response = json!({
            "Id": owner.map(|user| &user.id),
            "Name": owner.map(UserSpec::name),
            "EmailAddress": owner.map(|user| &user.email_address),
            "Role": options.role,
            "OrgId": 1,
            "OrgShortCode": "SIM",
            "TimeZone": "Asia/Kolkata",
            "DefaultCountryCode": options.default_country_code,
            "LSQCommonServiceURLs": {"api": format!("https://{host}")},
        });
        Ok(Response::json(200, &response))
    }
}

fn default_true() -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::TestServer;

    const USERS: &str = "/v2/UserManagement.svc";

    #[tokio::test]
    async fn the_list_contains_all_users_and_the_lookups_find_only_active_users() {
        let server = TestServer::new(|_| {});
        let (_, all) = server.get(&format!("{USERS}/Users.Get")).await;
        let codes: Vec<_> = all
            .as_array()
            .into_iter()
            .flatten()
            .map(|user| user["StatusCode"].clone())
            .collect();
        assert_eq!(codes, [0, 0, 1, 0]);
        let found = async |query: &str| server.get(&format!("{USERS}/User/Retrieve/{query}")).await.1;
        let sam = found("ByEmailAddress?emailAddress=Sam@simulator.example").await;
        assert_eq!(
            (&sam[0]["UserId"], &sam[0]["Role"]),
            (&all[1]["ID"], &json!("Sales_User"))
        );
        assert_eq!(found("ByUserId?userId=a0000000-0000-4000-8000-000000000002").await, sam);
        assert_eq!(
            found("ByUserId?userId=a0000000-0000-4000-8000-000000000003").await,
            json!([])
        );
        assert_eq!(found("ByEmailAddress?emailAddress=nobody").await, json!([]));
    }

    #[tokio::test]
    async fn a_lookup_returns_all_details_of_a_user() {
        let server = TestServer::new(|_| {});
        let mut user = UserSpec::new("u", "Mia", "Manager", "Sales_Manager");
        user.groups = vec!["North".into()];
        user.details.insert("Designation".into(), "Head".into());
        server.simulator.insert_user(user.clone());
        server.simulator.insert_user(user);
        let (_, found) = server.get(&format!("{USERS}/User/Retrieve/ByUserId?userId=U")).await;
        assert_eq!(
            (&found[0]["Designation"], &found[0]["mx_Custom_10"]),
            (&json!("Head"), &Value::Null)
        );
        assert_eq!(found[0]["Groups"][0]["Name"], "North");
        let (_, all) = server.get(&format!("{USERS}/Users.Get")).await;
        assert_eq!((&all[4]["MemberOfGroups"], &all[5]), (&json!(["North"]), &Value::Null));
    }

    #[tokio::test]
    async fn the_owner_of_the_keys_has_the_configured_role() {
        let server = TestServer::new(|options| options.role = "Sales_User".into());
        let (_, owner) = server.get("/v2/Authentication.svc/UserByAccessKey.Get").await;
        assert_eq!(
            (&owner["Name"], &owner["Role"]),
            (&json!("Asha Admin"), &json!("Sales_User"))
        );
    }
}
