//! The activity types of the account and the endpoints that return them.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::handlers::Handler;
use crate::http::response::{Exception, Response, Result};
use crate::random::guid_for;
use crate::state::Tenant;

/// An activity type.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ActivityTypeSpec {
    /// The code, `ActivityEvent`. The codes of custom types differ between accounts.
    pub code: u32,
    /// The display name.
    pub name: String,
    /// Whether activities of the type can be created. Default true.
    #[serde(default = "default_true")]
    pub active: bool,
    /// The direction: 0 is inbound, 1 is outbound. Default 0.
    #[serde(default)]
    pub direction: u8,
    /// The score of an activity. Reads return it, but it does not change the lead. Default 0.
    #[serde(default)]
    pub score: i32,
    /// The fields in addition to the note. Activities can have an owner only if there is a field `Owner`. Default
    /// empty.
    #[serde(default)]
    pub fields: Vec<ActivityFieldSpec>,
}

/// A field of an activity type.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ActivityFieldSpec {
    /// The name in the API: `Owner`, `Status` or `mx_Custom_<n>`.
    pub schema_name: String,
    /// The name in the user interface.
    pub display_name: String,
    /// The data type, such as `Text`, `Number`, `Date`, `DateTime`, `Dropdown` or `ActiveUsers`. Values are validated
    /// as those of a lead field with the same data type.
    pub data_type: String,
    /// Whether an activity must have the field. Default false.
    #[serde(default)]
    pub mandatory: bool,
}

impl ActivityTypeSpec {
    /// Creates an active, inbound type without fields.
    pub fn new(code: u32, name: impl Into<String>) -> Self {
        Self {
            code,
            name: name.into(),
            active: true,
            direction: 0,
            score: 0,
            fields: Vec::new(),
        }
    }

    /// Adds an optional field.
    #[must_use]
    pub fn with(mut self, schema_name: &str, display_name: &str, data_type: &str) -> Self {
        self.fields.push(ActivityFieldSpec {
            schema_name: schema_name.into(),
            display_name: display_name.into(),
            data_type: data_type.into(),
            mandatory: false,
        });
        self
    }

    pub(crate) fn field(&self, name: &str) -> Option<&ActivityFieldSpec> {
        self.fields.iter().find(|field| field.schema_name == name)
    }

    /// Whether the type is custom. Standard types have codes below 100 and from 3000.
    pub(crate) fn is_custom(&self) -> bool {
        (100..3_000).contains(&self.code)
    }

    fn row(&self) -> Value {
        let fields: Vec<_> = self.fields.iter().map(|field| field.row(None)).collect();
        json!({
            "ActivityEvent": self.code,
            "ActivityEventName": self.name,
            "DisplayName": self.name,
            "EventType": if self.is_custom() { 2 } else { 0 },
            "EventDirection": self.direction,
            "Tags": null,
            "ActivityProperties": json!({"FormMetaData": fields}).to_string(),
        })
    }
}

impl ActivityFieldSpec {
    /// Returns the field as a row of the type's settings, or with `value` as a row of an activity's details.
    pub(crate) fn row(&self, value: Option<Option<&str>>) -> Value {
        let mut row = json!({
            "SchemaName": self.schema_name,
            "InternalName": self.schema_name,
            "DisplayName": self.display_name,
            "DataType": self.data_type,
            "IsMandatory": self.mandatory,
        });
        if let Some(value) = value {
            row["Value"] = json!(value);
        }
        row
    }
}

impl Tenant {
    pub(crate) fn activity_type(&self, code: u32) -> Option<&ActivityTypeSpec> {
        self.options.activity_types.iter().find(|kind| kind.code == code)
    }
}

/// Returns the default types: a custom type with an owner, a custom type without an owner, an inactive custom type, and
/// some standard types.
pub(crate) fn default_types() -> Vec<ActivityTypeSpec> {
    let customs = |kind: ActivityTypeSpec| {
        kind.with("Status", "Status", "Dropdown")
            .with("mx_Custom_1", "Reference", "Text")
            .with("mx_Custom_2", "Amount", "Number")
            .with("mx_Custom_3", "Due On", "DateTime")
    };
    let mut inactive = ActivityTypeSpec::new(203, "Old Evaluation").with("Owner", "Owner", "ActiveUsers");
    inactive.active = false;
    let mut outbound = ActivityTypeSpec::new(22, "Outbound Phone Call Activity");
    outbound.direction = 1;
    vec![
        customs(ActivityTypeSpec::new(201, "Loan Evaluation").with("Owner", "Owner", "ActiveUsers")),
        customs(ActivityTypeSpec::new(202, "Branch Visit")),
        inactive,
        ActivityTypeSpec::new(21, "Inbound Phone Call Activity"),
        outbound,
        ActivityTypeSpec::new(23, "Lead Capture"),
        ActivityTypeSpec::new(3_002, "Stage Change"),
    ]
}

impl Handler<'_> {
    /// Returns the active types. The absence of inactive types is an assumption.
    pub(crate) fn activity_types(self) -> Result<Response> {
        let types = self.tenant.options.activity_types.iter();
        let rows: Vec<_> = types.filter(|kind| kind.active).map(ActivityTypeSpec::row).collect();
        Ok(Response::json(200, &rows))
    }

    pub(crate) fn activity_setting(self) -> Result<Response> {
        let code = self.parameter("code")?.trim().parse().ok();
        let kind = code.and_then(|code| self.tenant.activity_type(code));
        let kind = kind.filter(|kind| kind.active).ok_or_else(Exception::activity_code)?;
        let fields: Vec<_> = kind.fields.iter().map(|field| field.row(None)).collect();
        Ok(Response::json(
            200,
            &json!({
                "ID": guid_for(&kind.code.to_string()),
                "Name": kind.name,
                "DisplayName": kind.name,
                "Fields": fields,
            }),
        ))
    }
}

fn default_true() -> bool {
    true
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use crate::test_support::TestServer;
    use serde_json::{Value, json};

    const ACTIVITIES: &str = "/v2/ProspectActivity.svc";

    #[tokio::test]
    async fn the_list_has_active_types_with_their_fields_as_json_text() {
        let server = TestServer::new(|_| {});
        let (_, types) = server.get(&format!("{ACTIVITIES}/ActivityTypes.Get")).await;
        let codes: Vec<_> = types
            .as_array()
            .unwrap()
            .iter()
            .map(|kind| kind["ActivityEvent"].clone())
            .collect();
        assert_eq!(codes, [201, 202, 21, 22, 23, 3_002]);
        let form: Value = serde_json::from_str(types[0]["ActivityProperties"].as_str().unwrap()).unwrap();
        assert_eq!(form["FormMetaData"][0]["SchemaName"], "Owner");
    }

    #[tokio::test]
    async fn the_setting_of_a_type_contains_the_owner_field() {
        let server = TestServer::new(|_| {});
        let setting = async |code: &str| {
            server
                .get(&format!("{ACTIVITIES}/CustomActivity/GetActivitySetting?code={code}"))
                .await
        };
        let has_owner = |setting: &Value| {
            let fields = setting["Fields"].as_array().unwrap();
            fields.iter().any(|field| field["SchemaName"] == "Owner")
        };
        let (_, loan) = setting("201").await;
        assert_eq!(loan["Name"], "Loan Evaluation");
        assert!(has_owner(&loan));
        assert!(!has_owner(&setting("202").await.1));
        for code in ["203", "999", "x"] {
            let (status, response) = setting(code).await;
            assert_eq!(
                (status, &response["ExceptionType"]),
                (500, &json!("MXInvalidActivityException"))
            );
        }
    }
}
