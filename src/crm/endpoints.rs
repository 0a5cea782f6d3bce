//! The endpoints that are known to calls that are passed on: whether they read or write, where a write has the keys of what it
//! writes, and what it costs. An unknown path is a write.

use std::collections::{BTreeSet, HashMap};
use std::sync::LazyLock;

use serde_json::Value as Json;

use crate::domain::lead::order_key;
use crate::domain::phone;
use crate::domain::rest::{RestCall, RestMethod, decoded, parameters};
use crate::quota::Cost;

/// The name of all other endpoints in logs and metrics.
pub const OTHER: &str = "other";
/// Maximum length of a body in which keys are looked for.
const MAX_KEYED_BODY: usize = 256 * 1024;
/// The parameters of a query that name a lead.
const LEAD_PARAMETERS: [&str; 3] = ["leadId", "masterId", "childId"];

/// A known endpoint.
#[derive(Debug)]
pub struct Endpoint {
    /// `Service.svc/Operation`.
    pub name: &'static str,
    kind: Kind,
}

/// What a call of an endpoint does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Read,
    /// A write with its keys in the query.
    Write,
    /// A write with keys in its body, too.
    BodyWrite,
    /// The same, which counts in the window of bulk calls.
    BulkWrite,
}

use Kind::{BodyWrite, BulkWrite, Read, Write};

#[rustfmt::skip]
const TABLE: &[(&str, Kind)] = &[
    ("Authentication.svc/UserByAccessKey.Get", Read),
    ("CompanyActivity.svc/Create", BodyWrite),
    ("CompanyManagement.svc/Company.Create", Write),
    ("CompanyManagement.svc/Company.Get", Read),
    ("CompanyManagement.svc/Company.Update", Write),
    ("CompanyManagement.svc/Company/Bulk/CreateOrUpdate", Write),
    ("EmailMarketing.svc/SendCampaignToList", Write),
    ("EmailMarketing.svc/SendEmailToLead", Write),
    ("EntityAccess.svc/Revoke", Write),
    ("EntityAccess.svc/Share", Write),
    ("EntityAccess.svc/Status/Get", Read),
    ("LeadManagement.svc/AddLeadToStaticList", Write),
    ("LeadManagement.svc/CreateLeadField", Write),
    ("LeadManagement.svc/CreateNote", BodyWrite),
    ("LeadManagement.svc/GetLeadsByTag", Read),
    ("LeadManagement.svc/Lead.Capture", BodyWrite),
    ("LeadManagement.svc/Lead.Convert", BodyWrite),
    ("LeadManagement.svc/Lead.Create", BodyWrite),
    ("LeadManagement.svc/Lead.CreateOrUpdate", BodyWrite),
    ("LeadManagement.svc/Lead.Merge", Write),
    ("LeadManagement.svc/Lead.Update", BodyWrite),
    ("LeadManagement.svc/Lead/Bulk/Create", BulkWrite),
    ("LeadManagement.svc/Lead/Bulk/CreateOrUpdate", BulkWrite),
    ("LeadManagement.svc/Lead/Bulk/Update", BulkWrite),
    ("LeadManagement.svc/Lead/Bulk/UpdateV2", BulkWrite),
    ("LeadManagement.svc/Lead/Delete/ById", Write),
    ("LeadManagement.svc/LeadField/Dropdown/Options/Push", Write),
    ("LeadManagement.svc/LeadOwner.Get", Read),
    ("LeadManagement.svc/Leads.Get", Read),
    ("LeadManagement.svc/Leads.GetByEmailaddress", Read),
    ("LeadManagement.svc/Leads.GetById", Read),
    ("LeadManagement.svc/Leads.GetByQuickSearch", Read),
    ("LeadManagement.svc/Leads.RecentlyModified", Read),
    ("LeadManagement.svc/Leads/Retrieve/ByIds", Read),
    ("LeadManagement.svc/Leads/Retrieve/BySearchParameter", Read),
    ("LeadManagement.svc/LeadsMetaData.Get", Read),
    ("LeadManagement.svc/Lists.Get", Read),
    ("LeadManagement.svc/RetrieveLeadByPhoneNumber", Read),
    ("LeadManagement.svc/RetrieveNote", Read),
    ("LeadManagement.svc/RetrieveTaskByLeadId", Read),
    ("LeadSegmentation.svc/AddLeadsToStaticList", Write),
    ("LeadSegmentation.svc/CreateEmptyList", Write),
    ("LeadSegmentation.svc/List/Retrieve/MemberCount", Read),
    ("LeadSegmentation.svc/Lists.GetByLeadId", Read),
    ("LeadSegmentation.svc/Lists/EmptyStaticList", Write),
    ("LeadSegmentation.svc/RemoveLeadFromStaticList", Write),
    ("OpportunityManagement.svc/Bulk/Add/ByLeadField", Write),
    ("OpportunityManagement.svc/Bulk/Update/ByOpportunityId", Write),
    ("OpportunityManagement.svc/Capture", BodyWrite),
    ("OpportunityManagement.svc/Delete", Write),
    ("OpportunityManagement.svc/GetActivitiesOfOpportunity", Read),
    ("OpportunityManagement.svc/GetOpportunitiesById", Read),
    ("OpportunityManagement.svc/GetOpportunitiesByUniqueLeadField", Read),
    ("OpportunityManagement.svc/GetOpportunitiesOfLead", Read),
    ("OpportunityManagement.svc/GetOpportunityDetails", Read),
    ("OpportunityManagement.svc/GetOpportunityTypeMetadata", Read),
    ("OpportunityManagement.svc/GetOpportunityTypes", Read),
    ("OpportunityManagement.svc/IsOpportunityEnabled", Read),
    ("OpportunityManagement.svc/Retrieve/BySearchParameter", Read),
    ("OpportunityManagement.svc/Update", BodyWrite),
    ("PermissionTemplate.svc/Retrieve", Read),
    ("ProspectActivity.svc/ActivityTypes.Get", Read),
    ("ProspectActivity.svc/Attachment/Add", Write),
    ("ProspectActivity.svc/Bulk/CustomActivity/Add/ByLeadField", BulkWrite),
    ("ProspectActivity.svc/Bulk/CustomActivity/Add/ByLeadId", BulkWrite),
    ("ProspectActivity.svc/Bulk/CustomActivity/Update", BulkWrite),
    ("ProspectActivity.svc/Create", BodyWrite),
    ("ProspectActivity.svc/CreateCustom", BodyWrite),
    ("ProspectActivity.svc/CreateType", Write),
    ("ProspectActivity.svc/CustomActivity/GetActivitySetting", Read),
    ("ProspectActivity.svc/CustomActivity/RetrieveByActivityEvent", Read),
    ("ProspectActivity.svc/CustomActivity/Update", BodyWrite),
    ("ProspectActivity.svc/DeleteActivities", Write),
    ("ProspectActivity.svc/GetActivityDetails", Read),
    ("ProspectActivity.svc/Retrieve", Read),
    ("ProspectActivity.svc/RetrieveActivityChange", Read),
    ("ProspectActivity.svc/RetrieveRecentlyModified", Read),
    ("SalesActivity.svc/Cancel", Write),
    ("SalesActivity.svc/Create", BodyWrite),
    ("SalesActivity.svc/CreateProduct", Write),
    ("SalesActivity.svc/RetrieveActivity", Read),
    ("SalesActivity.svc/RetrieveByLeadId", Read),
    ("SalesActivity.svc/RetrieveSetting", Read),
    ("SalesActivity.svc/Update", Write),
    ("Task.svc/Bulk/Create", Write),
    ("Task.svc/Create", Write),
    ("Task.svc/DeleteTasks", Write),
    ("Task.svc/MarkComplete", Write),
    ("Task.svc/Retrieve", Read),
    ("Task.svc/RetrieveAppointments/ByUserSearchCriteria", Read),
    ("Task.svc/RetrieveTaskType", Read),
    ("Task.svc/RetrieveToDos/ByUserEmailAddress", Read),
    ("Task.svc/RetrieveToDos/ByUserId", Read),
    ("Task.svc/Update", Write),
    ("TeamManagement.svc/Create", Write),
    ("Telephony.svc/LogCall", Write),
    ("Telephony.svc/ShowAgentPopup", Write),
    ("UserGroup.svc/AddUsers", Write),
    ("UserGroup.svc/Retrieve", Read),
    ("UserManagement.svc/User/AdvancedSearch", Read),
    ("UserManagement.svc/User/Create", Write),
    ("UserManagement.svc/User/MarkObsolete", Write),
    ("UserManagement.svc/User/Retrieve/ByEmailAddress", Read),
    ("UserManagement.svc/User/Retrieve/ByUserId", Read),
    ("UserManagement.svc/User/Update", Write),
    ("UserManagement.svc/Users.Get", Read),
    ("Webhook.svc/Create", Write),
    ("Webhook.svc/Delete", Write),
    ("Webhook.svc/Retrieve", Read),
    ("Webhook.svc/Update", Write),
];

/// The endpoints by their names in lower case.
static ENDPOINTS: LazyLock<HashMap<String, Endpoint>> = LazyLock::new(|| {
    let endpoints = TABLE.iter().map(|(name, kind)| {
        let (name, kind) = (*name, *kind);
        (name.to_ascii_lowercase(), Endpoint { name, kind })
    });
    endpoints.collect()
});

/// What a write of a call changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// The order keys of the leads, as in [`crate::domain::lead::WriteRequest::order_keys`].
    pub keys: Vec<String>,
    /// The ids of the leads.
    pub lead_ids: Vec<String>,
    /// Whether it may change other leads, too.
    pub changes_others: bool,
    /// Whether other values than leads change that are cached: users, activity types, metadata.
    pub changes_account: bool,
}

impl Endpoint {
    /// The endpoint of a call, if it is known.
    pub fn of(call: &RestCall) -> Option<&'static Self> {
        Self::named(call.path.folded())
    }

    /// The endpoint with that name in lower case.
    pub fn named(folded: &str) -> Option<&'static Self> {
        ENDPOINTS.get(folded)
    }

    fn is_read(&self) -> bool {
        self.kind == Read
    }

    /// The windows in which a call of it counts.
    pub fn cost(&self) -> Cost {
        match self.kind {
            BulkWrite => Cost::Bulk,
            Read | Write | BodyWrite => Cost::Call,
        }
    }
}

/// Whether a call changes nothing. An unknown call may change anything, and so may a known one with a method that no endpoint has.
pub fn is_read(call: &RestCall) -> bool {
    let has_method = matches!(call.method, RestMethod::Get | RestMethod::Post);
    has_method && Endpoint::of(call).is_some_and(Endpoint::is_read)
}

/// Whether a refused call is not sent again: the client gets the refusal, because a second email or call would be worse.
pub fn returns_refusals(call: &RestCall) -> bool {
    let path = call.path.folded();
    path.starts_with("emailmarketing.svc/") || path.starts_with("telephony.svc/")
}

/// The lead that the query of a call names.
pub fn lead_of_query(call: &RestCall) -> Option<String> {
    leads_of_query(call).next()
}

fn leads_of_query(call: &RestCall) -> impl Iterator<Item = String> {
    parameters(&call.query).filter_map(|(name, value)| {
        let name = decoded(name);
        let is_lead = LEAD_PARAMETERS
            .iter()
            .any(|known| name.eq_ignore_ascii_case(known.as_bytes()));
        let value = String::from_utf8_lossy(&decoded(value)).trim().to_owned();
        (is_lead && !value.is_empty()).then_some(value)
    })
}

/// What a call that writes changes.
pub fn written(call: &RestCall) -> Written {
    let mut lead_ids: BTreeSet<String> = leads_of_query(call).collect();
    let mut keys = BTreeSet::new();
    let has_keys = Endpoint::of(call).is_some_and(|endpoint| matches!(endpoint.kind, BodyWrite | BulkWrite));
    if has_keys && call.body.len() <= MAX_KEYED_BODY {
        let body = call.body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&call.body);
        if let Ok(body) = serde_json::from_slice(body) {
            find_keys(&body, &mut keys, &mut lead_ids);
        }
    }
    let is_bulk = Endpoint::of(call).is_some_and(|endpoint| endpoint.kind == BulkWrite);
    let changes_others = is_bulk || lead_ids.is_empty() || !keys.is_empty();
    keys.extend(lead_ids.iter().map(|id| order_key("lead", id)));
    let path = call.path.folded();
    let changes_account = path.starts_with("usermanagement.svc/")
        || ["prospectactivity.svc/createtype", "leadmanagement.svc/createleadfield"].contains(&path);
    Written {
        keys: keys.into_iter().collect(),
        lead_ids: lead_ids.into_iter().collect(),
        changes_others,
        changes_account,
    }
}

/// Finds the keys in a body: members with their names, and pairs of `Attribute` and `Value`.
fn find_keys(body: &Json, keys: &mut BTreeSet<String>, lead_ids: &mut BTreeSet<String>) {
    match body {
        Json::Array(items) => items.iter().for_each(|item| find_keys(item, keys, lead_ids)),
        Json::Object(members) => {
            if let (Some(Json::String(name)), Some(value)) = (members.get("Attribute"), members.get("Value")) {
                add_key(name, value, keys, lead_ids);
            }
            for (name, value) in members {
                add_key(name, value, keys, lead_ids);
                find_keys(value, keys, lead_ids);
            }
        }
        _ => {}
    }
}

fn add_key(name: &str, value: &Json, keys: &mut BTreeSet<String>, lead_ids: &mut BTreeSet<String>) {
    let text = match value {
        Json::String(text) => text.trim().to_owned(),
        Json::Number(number) => number.to_string(),
        _ => return,
    };
    if text.is_empty() {
        return;
    }
    match name {
        "ProspectID" | "RelatedProspectId" => drop(lead_ids.insert(text)),
        "EmailAddress" => drop(keys.insert(order_key("email", &text))),
        "Phone" | "Mobile" => keys.extend(phone::keys(&text).iter().map(|key| order_key("phone", key))),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::rest::RestPath;

    fn call(path: &str, query: &str, body: &str) -> RestCall {
        RestCall {
            method: RestMethod::Post,
            path: RestPath::parse(path).unwrap(),
            query: query.to_owned(),
            content_type: None,
            accept: None,
            body: body.to_owned().into(),
        }
    }

    #[test]
    fn exactly_seven_paths_are_bulk_calls() {
        let bulk = TABLE
            .iter()
            .filter(|(_, kind)| *kind == BulkWrite)
            .map(|(name, _)| *name);
        assert_eq!(
            bulk.collect::<Vec<_>>(),
            [
                "LeadManagement.svc/Lead/Bulk/Create",
                "LeadManagement.svc/Lead/Bulk/CreateOrUpdate",
                "LeadManagement.svc/Lead/Bulk/Update",
                "LeadManagement.svc/Lead/Bulk/UpdateV2",
                "ProspectActivity.svc/Bulk/CustomActivity/Add/ByLeadField",
                "ProspectActivity.svc/Bulk/CustomActivity/Add/ByLeadId",
                "ProspectActivity.svc/Bulk/CustomActivity/Update",
            ]
        );
        assert!(TABLE.is_sorted_by_key(|(name, _)| name));
    }

    #[test]
    fn endpoints_are_found_in_any_case_and_with_a_slash_at_the_end() {
        for path in [
            "/v2/leadmanagement.SVC/LEADS.GetById",
            "LeadManagement.svc/Leads.GetById/",
        ] {
            let endpoint = Endpoint::of(&call(path, "", "")).unwrap();
            assert_eq!(
                (endpoint.name, endpoint.is_read()),
                ("LeadManagement.svc/Leads.GetById", true)
            );
        }
        assert!(Endpoint::of(&call("/LeadManagement.svc/Lead.Unknown", "", "")).is_none());
        assert!(returns_refusals(&call("/EMAILMARKETING.svc/Any", "", "")));
        assert!(!returns_refusals(&call("/LeadManagement.svc/Lead.Create", "", "")));
    }

    #[test]
    fn keys_are_in_the_query_and_in_the_body_of_known_writes() {
        fn keys(path: &str, query: &str, body: &str) -> Vec<String> {
            written(&call(path, query, body)).keys
        }
        assert_eq!(
            keys("/LeadManagement.svc/Lead.Update", "LEADID=A-1&x=y", "[]"),
            ["lead:a-1"]
        );
        assert_eq!(
            keys("/LeadManagement.svc/Lead.Merge", "masterId=a&childId=b", ""),
            ["lead:a", "lead:b"]
        );
        let pairs = r#"[{"Attribute":"EmailAddress","Value":"A@b.co"},{"Attribute":"FirstName","Value":"x"}]"#;
        assert_eq!(keys("/LeadManagement.svc/Lead.Create", "", pairs), ["email:a@b.co"]);
        assert_eq!(keys("/Unknown.svc/Lead.Create", "leadId=%61", pairs), ["lead:a"]);
        let activity = r#"{"RelatedProspectId":"X","ActivityEvent":201,"Fields":[{"SchemaName":"a","Value":"b"}]}"#;
        assert_eq!(keys("/ProspectActivity.svc/Create", "", activity), ["lead:x"]);
        assert_eq!(
            keys("/LeadManagement.svc/Lead/Bulk/Create", "", &format!("[{pairs}]")),
            ["email:a@b.co"]
        );
        let phone = keys(
            "/LeadManagement.svc/Lead.Capture",
            "",
            r#"[{"Attribute":"Phone","Value":"+91-9845012345"}]"#,
        );
        assert!(
            phone.iter().all(|key| key.starts_with("phone:")) && !phone.is_empty(),
            "{phone:?}"
        );
        assert!(keys("/LeadManagement.svc/Lead.Create", "", "no json").is_empty());
    }

    #[test]
    fn keys_of_a_long_body_are_not_looked_for() {
        let body = |length: usize| format!(r#"{{"ProspectID":"a","x":"{}"}}"#, "x".repeat(length));
        let keys = |length| written(&call("/LeadManagement.svc/CreateNote", "", &body(length))).keys;
        assert_eq!((keys(MAX_KEYED_BODY - 100).len(), keys(MAX_KEYED_BODY).len()), (1, 0));
    }

    #[test]
    fn writes_to_users_types_and_fields_change_the_account() {
        for (path, changes) in [
            ("/UserManagement.svc/Anything", true),
            ("/ProspectActivity.svc/CreateType", true),
            ("/LeadManagement.svc/CreateLeadField", true),
            ("/LeadManagement.svc/Lead.Create", false),
        ] {
            assert_eq!(written(&call(path, "", "")).changes_account, changes, "{path}");
        }
    }
}
