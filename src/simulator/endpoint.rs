//! The endpoints there are, each with its verb and path. Does not know what they do.

use http::Method;

/// One operation of the REST API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Endpoint {
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
}

use Endpoint::*;

const LEADS: &str = "LeadManagement.svc";
const USERS: &str = "UserManagement.svc";

/// Every endpoint: what it is, whether it is a POST, its service and its name.
const TABLE: [(Endpoint, bool, &str, &str); 22] = [
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
];

impl Endpoint {
    /// The endpoint at a path like `/v2/LeadManagement.svc/Lead.Create`.
    pub(super) fn at(path: &str) -> Option<Self> {
        let (service, name) = path.strip_prefix("/v2/")?.split_once('/')?;
        let row = TABLE.iter().find(|row| row.2 == service && row.3 == name)?;
        Some(row.0)
    }

    /// The name by which faults and counts call it: the path after the service.
    pub(super) fn name(self) -> &'static str {
        self.row().3
    }

    pub(super) fn takes(self, method: &Method) -> bool {
        *method == if self.row().1 { Method::POST } else { Method::GET }
    }

    pub(super) fn has_body(self) -> bool {
        self.row().1 && self != LeadMerge
    }

    /// Whether it falls under the bulk limit.
    pub(super) fn is_bulk(self) -> bool {
        matches!(self, BulkCreate | BulkCreateOrUpdate | BulkUpdate | BulkUpdateV2)
    }

    fn row(self) -> &'static (Self, bool, &'static str, &'static str) {
        // The table is in the order of the enum; a test holds it to that.
        &TABLE[self as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_the_order_of_the_enum() {
        for (place, (endpoint, _, service, name)) in TABLE.into_iter().enumerate() {
            assert_eq!(endpoint as usize, place);
            assert_eq!(Endpoint::at(&format!("/v2/{service}/{name}")), Some(endpoint));
            assert_eq!(endpoint.name(), name);
        }
    }

    #[test]
    fn a_path_is_taken_exactly() {
        for path in [
            "/v2/LeadManagement.svc/lead.create",
            "/LeadManagement.svc/Lead.Create",
            "/v2/",
            "",
        ] {
            assert_eq!(Endpoint::at(path), None);
        }
    }
}
