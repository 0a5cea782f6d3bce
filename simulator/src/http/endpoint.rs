//! The endpoints: their methods, paths and names.

use http::Method;

/// An endpoint of the REST API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Endpoint {
    LeadCreate,
    LeadUpdate,
    LeadCreateOrUpdate,
    LeadCapture,
    BulkCreate,
    BulkCreateOrUpdate,
    BulkUpdate,
    BulkUpdateV2,
    GetById,
    GetByEmail,
    GetByPhone,
    QuickSearch,
    GetByIds,
    Search,
    RecentlyModified,
    Metadata,
    LeadDelete,
    LeadMerge,
    Users,
    UserById,
    UserByEmail,
    UserByAccessKey,
    UserSearch,
    Share,
    Revoke,
    ShareStatus,
    ActivityCreate,
    ActivityBulkAdd,
    ActivityUpdate,
    ActivitiesOfLead,
    ActivityDetails,
    ActivitiesByEvent,
    ActivitiesModified,
    ActivityTypes,
    ActivitySetting,
}

use Endpoint::*;

const LEADS: &str = "LeadManagement.svc";
const USERS: &str = "UserManagement.svc";
const SHARING: &str = "EntityAccess.svc";
const ACTIVITIES: &str = "ProspectActivity.svc";

/// All endpoints, in the order of the enum: the endpoint, whether its method is POST, its service, and its path below the service.
const TABLE: [(Endpoint, bool, &str, &str); 35] = [
    (LeadCreate, true, LEADS, "Lead.Create"),
    (LeadUpdate, true, LEADS, "Lead.Update"),
    (LeadCreateOrUpdate, true, LEADS, "Lead.CreateOrUpdate"),
    (LeadCapture, true, LEADS, "Lead.Capture"),
    (BulkCreate, true, LEADS, "Lead/Bulk/Create"),
    (BulkCreateOrUpdate, true, LEADS, "Lead/Bulk/CreateOrUpdate"),
    (BulkUpdate, true, LEADS, "Lead/Bulk/Update"),
    (BulkUpdateV2, true, LEADS, "Lead/Bulk/UpdateV2"),
    (GetById, false, LEADS, "Leads.GetById"),
    (GetByEmail, false, LEADS, "Leads.GetByEmailaddress"),
    (GetByPhone, false, LEADS, "RetrieveLeadByPhoneNumber"),
    (QuickSearch, false, LEADS, "Leads.GetByQuickSearch"),
    (GetByIds, true, LEADS, "Leads/Retrieve/ByIds"),
    (Search, true, LEADS, "Leads.Get"),
    (RecentlyModified, true, LEADS, "Leads.RecentlyModified"),
    (Metadata, false, LEADS, "LeadsMetaData.Get"),
    (LeadDelete, false, LEADS, "Lead/Delete/ById"),
    (LeadMerge, true, LEADS, "Lead.Merge"),
    (Users, false, USERS, "Users.Get"),
    (UserById, false, USERS, "User/Retrieve/ByUserId"),
    (UserByEmail, false, USERS, "User/Retrieve/ByEmailAddress"),
    (UserByAccessKey, false, "Authentication.svc", "UserByAccessKey.Get"),
    (UserSearch, true, USERS, "User/AdvancedSearch"),
    (Share, true, SHARING, "Share"),
    (Revoke, true, SHARING, "Revoke"),
    (ShareStatus, false, SHARING, "Status/Get"),
    (ActivityCreate, true, ACTIVITIES, "Create"),
    (ActivityBulkAdd, true, ACTIVITIES, "Bulk/CustomActivity/Add/ByLeadId"),
    (ActivityUpdate, true, ACTIVITIES, "CustomActivity/Update"),
    (ActivitiesOfLead, true, ACTIVITIES, "Retrieve"),
    (ActivityDetails, false, ACTIVITIES, "GetActivityDetails"),
    (
        ActivitiesByEvent,
        true,
        ACTIVITIES,
        "CustomActivity/RetrieveByActivityEvent",
    ),
    (ActivitiesModified, true, ACTIVITIES, "RetrieveRecentlyModified"),
    (ActivityTypes, false, ACTIVITIES, "ActivityTypes.Get"),
    (ActivitySetting, false, ACTIVITIES, "CustomActivity/GetActivitySetting"),
];

impl Endpoint {
    /// Returns the endpoint of a path such as `/v2/LeadManagement.svc/Lead.Create`.
    pub(crate) fn from_path(path: &str) -> Option<Self> {
        let (service, name) = path.strip_prefix("/v2/")?.split_once('/')?;
        let row = TABLE.iter().find(|row| row.2 == service && row.3 == name)?;
        Some(row.0)
    }

    /// All endpoints, in the order of the enum.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        TABLE.iter().map(|row| row.0)
    }

    /// Returns the name of the endpoint in faults and counters: the path below the service. Endpoints of the services
    /// for sharing and for activities have the service as a prefix.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Share => "EntityAccess.Share",
            Revoke => "EntityAccess.Revoke",
            ShareStatus => "EntityAccess.Status",
            ActivityCreate => "ProspectActivity.Create",
            ActivityBulkAdd => "ProspectActivity.BulkAdd",
            ActivityUpdate => "ProspectActivity.Update",
            ActivitiesOfLead => "ProspectActivity.Retrieve",
            ActivityDetails => "ProspectActivity.GetActivityDetails",
            ActivitiesByEvent => "ProspectActivity.RetrieveByActivityEvent",
            ActivitiesModified => "ProspectActivity.RetrieveRecentlyModified",
            ActivityTypes => "ProspectActivity.ActivityTypes",
            ActivitySetting => "ProspectActivity.GetActivitySetting",
            _ => self.row().3,
        }
    }

    pub(crate) fn accepts(self, method: &Method) -> bool {
        *method == if self.row().1 { Method::POST } else { Method::GET }
    }

    pub(crate) fn has_body(self) -> bool {
        self.row().1 && self != LeadMerge
    }

    /// Whether a missing body is valid. It then has the meaning of an empty object.
    pub(crate) fn allows_empty_body(self) -> bool {
        self == ActivitiesOfLead
    }

    /// Whether the bulk limit applies. LeadSquared's list of bulk endpoints does not contain sharing.
    pub(crate) fn is_bulk(self) -> bool {
        matches!(
            self,
            BulkCreate | BulkCreateOrUpdate | BulkUpdate | BulkUpdateV2 | ActivityBulkAdd
        )
    }

    fn row(self) -> &'static (Self, bool, &'static str, &'static str) {
        // The table has the order of the enum. A test checks this.
        &TABLE[self as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_the_order_of_the_enum() {
        for (index, (endpoint, _, service, name)) in TABLE.into_iter().enumerate() {
            assert_eq!(endpoint as usize, index);
            assert_eq!(Endpoint::from_path(&format!("/v2/{service}/{name}")), Some(endpoint));
            let own = [SHARING, ACTIVITIES].contains(&service);
            assert_eq!(endpoint.name() == name, !own, "{name}");
        }
    }

    #[test]
    fn endpoint_names_are_unique() {
        let names: std::collections::BTreeSet<_> = TABLE.iter().map(|row| row.0.name()).collect();
        assert_eq!(names.len(), TABLE.len());
    }

    #[test]
    fn paths_are_matched_exactly() {
        for path in [
            "/v2/LeadManagement.svc/lead.create",
            "/LeadManagement.svc/Lead.Create",
            "/v2/",
            "",
        ] {
            assert_eq!(Endpoint::from_path(path), None);
        }
    }
}
