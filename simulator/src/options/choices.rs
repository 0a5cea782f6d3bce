//! The enums of [`super::Options`]: behavior that the documentation and observed clients of LeadSquared leave open.

use serde::{Deserialize, Serialize};

/// How `Lead.CreateOrUpdate` finds the lead if the body has no `SearchBy`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UpsertMatch {
    /// By email if there is one, otherwise by phone. If there is an email, a phone that belongs to another lead is a
    /// duplicate, whether or not the email is found. Observed.
    #[default]
    EmailDecides,
    /// By email, then by phone. Documented.
    EmailThenPhone,
}

/// The forms of a phone number that `RetrieveLeadByPhoneNumber` finds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PhoneLookup {
    /// All forms, with or without a country code.
    #[default]
    Any,
    /// With or without a country code, but without hyphens and spaces. Documented.
    Compact,
    /// Only the stored form `+CC-NNN`. Observed once.
    Hyphenated,
}

/// The format of date-times in reads. All of them were observed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DateForm {
    /// `2017-11-30 07:38:00.000`
    #[default]
    Millis,
    /// `2017-11-30 07:38:00`
    Plain,
    /// `11/30/2017 7:38:00 AM`
    Us,
    /// `/Date(1512027480000+0000)/`. Observed in metadata and details only.
    Ticks,
    /// One of the first three, depending on the attribute.
    Mixed,
}

/// The form of a custom field set in a read. Unknown upstream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FieldSetForm {
    /// A string with the members as JSON.
    #[default]
    Json,
    /// A JSON object with the members.
    Object,
    /// The key is absent.
    Absent,
}

/// The form of `Message` in the response of `Lead.Capture`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CaptureMessage {
    /// `Id`, `RelatedId` with the same value, and `IsCreated`.
    #[default]
    Both,
    /// `RelatedId` and `IsCreated`.
    RelatedIdOnly,
    /// A string with the id.
    PlainString,
    /// `Id` is the id of an activity, and `RelatedId` that of the lead, as one client reports for creates with an
    /// activity.
    ActivityAndLead,
}

/// The order of the rows of `Leads/Retrieve/ByIds`. The documentation promises none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// The order of the ids in the request.
    #[default]
    #[serde(rename = "as-asked")]
    AsRequested,
    /// The reversed order of the ids in the request.
    Reversed,
}

/// The effect of a write to a computed attribute such as `CreatedOn` or `OwnerIdName`. Unknown upstream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ComputedWrite {
    /// `MXInvalidInputException`, which makes an error of the client visible.
    #[default]
    Reject,
    /// The value is ignored without an error.
    Ignore,
}

/// The text of the error for a duplicate unique value. Both were observed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DuplicateMessage {
    /// `A Lead with same Phone Number already exists.`
    #[default]
    Current,
    /// `Duplicate entry '...' for key 'UQ_Prospect_Base_Phone'`
    Database,
}

/// The result of rows with the same unique value in one `Lead/Bulk/Create`. Unknown upstream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DuplicateRows {
    /// The first row is created. The later rows fail as duplicates of it.
    #[default]
    SecondFails,
    /// All these rows fail, as observed with `Lead/Bulk/UpdateV2`.
    AllFail,
}

/// The result of a bulk call with more rows than the documented maximum. Unknown upstream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OverMaximum {
    /// `MXInvalidInputException`, which makes an error of the client visible. No row is executed.
    #[default]
    Reject,
    /// The rows above the maximum are ignored without an error.
    Truncate,
    /// All rows are executed.
    Accept,
}

/// A form of a request body that the account may refuse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BodyForm {
    /// A POST in chunks, without a length.
    Chunked,
    /// A POST without a body.
    EmptyPost,
    /// A GET with a `Content-Length`.
    GetWithLength,
}

/// The unit of `Offset` in `ProspectActivity.svc/Retrieve`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OffsetMeans {
    /// Number of rows to skip. Observed.
    #[default]
    Rows,
    /// Number of pages to skip. Documented.
    Pages,
}

/// The response to an activity with an unknown, inactive or empty code. Both were observed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WrongCode {
    /// `MXInvalidActivityException`.
    #[default]
    Exception,
    /// HTTP 200 with `"Status":"Failed"`.
    Failed,
}

/// The owner of an activity whose request names none. Unknown upstream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DefaultOwner {
    /// The user that owns the keys.
    #[default]
    KeyOwner,
    /// The owner of the lead.
    LeadOwner,
    /// No owner.
    Nobody,
}

/// The time at which an invalid share request fails. Unknown upstream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ShareFailures {
    /// The call fails with an exception. A request that becomes invalid before it is processed fails when it is
    /// processed.
    #[default]
    AtOnce,
    /// The call is accepted, and the request fails when it is processed.
    Later,
}

/// The effect of a share request for an entity that is already shared with the user through the same activity. Unknown
/// upstream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reshare {
    /// The duration is added to the end of the old share. The access type is replaced.
    Extend,
    /// The new share replaces the old share.
    #[default]
    Replace,
    /// Both shares exist.
    Duplicate,
    /// The request fails.
    Reject,
}

/// The effect of a revoke request with another access type than the share has. Unknown upstream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RevokeWrongAccess {
    /// The request succeeds, and the share remains.
    Ignored,
    /// The request fails when it is processed.
    #[default]
    Fails,
    /// The request succeeds, and the share ends.
    Works,
}

/// The effect of a revoke request for an entity that is not shared, or no longer shared. Unknown upstream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RevokeUnshared {
    /// The call fails with an exception.
    AtOnce,
    /// The request fails when it is processed.
    #[default]
    Later,
    /// The request succeeds.
    Succeeds,
}

/// The response to a status call with an unknown or expired request id. Unknown upstream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UnknownRequest {
    /// `MXInvalidInputException`.
    #[default]
    Exception,
    /// HTTP 404 without a body.
    NotFound,
    /// The status of a request that is still being processed.
    Pending,
}
