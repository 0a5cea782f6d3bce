//! The requests of the probes.

use serde_json::{Value as Json, json};
use uuid::Uuid;

use crate::crm::raw::{RawBody, RawRequest};

/// The path of the read of many leads by id.
pub(super) const READ_BY_IDS: &str = "LeadManagement.svc/Leads/Retrieve/ByIds";

/// A GET.
pub(super) fn get(path: &'static str, query: &[(&'static str, &str)]) -> RawRequest {
    RawRequest {
        path,
        query: query.iter().map(|(name, value)| (*name, (*value).to_owned())).collect(),
        body: RawBody::None,
    }
}

/// A POST with a JSON body.
pub(super) fn post(path: &'static str, query: &[(&'static str, &str)], body: &Json) -> RawRequest {
    RawRequest {
        body: RawBody::Sized(body.to_string()),
        ..get(path, query)
    }
}

/// The metadata of one attribute. It costs one call and has no personal data.
pub(super) fn metadata() -> RawRequest {
    get("LeadManagement.svc/LeadsMetaData.Get", &[("schemaName", "ProspectID")])
}

/// The body of a read of leads that do not exist.
pub(super) fn ids_body(count: usize) -> Json {
    let ids: Vec<_> = (0..count).map(|_| Uuid::new_v4().to_string()).collect();
    json!({
        "SearchParameters": {"LeadIds": ids},
        "Columns": {"Include_CSV": "ProspectID"},
        "Paging": {"PageIndex": 1, "PageSize": count},
    })
}

/// A read of leads that do not exist.
pub(super) fn read_unknown(count: usize) -> RawRequest {
    post(READ_BY_IDS, &[], &ids_body(count))
}

/// A bulk update of leads that do not exist. It writes nothing.
pub(super) fn update_unknown(count: usize) -> RawRequest {
    let lead = || {
        let id = Uuid::new_v4().to_string();
        json!({"Fields": [{"Attribute": "ProspectId", "Value": id}, {"Attribute": "FirstName", "Value": "leadgate-probe"}]})
    };
    let leads: Vec<_> = (0..count).map(|_| lead()).collect();
    let body = json!({
        "SearchByKey": "ProspectId",
        "Options": {"PushNonExistentLeadsToUnProcessedList": true},
        "LeadPropertiesList": leads,
    });
    post("LeadManagement.svc/Lead/Bulk/UpdateV2", &[], &body)
}

/// A bulk upsert of rows without an attribute. LeadSquared requires one, so no lead is created.
pub(super) fn upsert_empty(count: usize) -> RawRequest {
    let row = json!([{"Attribute": "SearchBy", "Value": "EmailAddress"}]);
    let rows = vec![row; count];
    post("LeadManagement.svc/Lead/Bulk/CreateOrUpdate", &[], &Json::Array(rows))
}

/// The attributes of a write.
pub(super) fn attributes(pairs: &[(&str, Json)]) -> Json {
    pairs
        .iter()
        .map(|(name, value)| json!({"Attribute": name, "Value": value}))
        .collect()
}
