//! The enums of [`super::Options`]: behaviour for which the vendor's documents and the clients of others
//! leave more than one possibility.

use serde::{Deserialize, Serialize};

/// How `Lead.CreateOrUpdate` looks for the lead when the body has no `SearchBy`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UpsertMatch {
    /// Seen in practice: an email decides alone; a phone that belongs to another lead is a
    /// duplicate, whether or not the email was found. Without an email the phone decides.
    #[default]
    EmailDecides,
    /// Documented: by email, then by phone; what is found is updated.
    EmailThenPhone,
}

/// Which spellings `RetrieveLeadByPhoneNumber` finds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PhoneLookup {
    /// Every spelling, with or without country code.
    #[default]
    Any,
    /// Documented: hyphens and spaces find nothing; with or without country code.
    Compact,
    /// Seen once: only the stored form `+CC-NNN` is found.
    Hyphenated,
}

/// How reads write a date-time; all of these were seen.
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
    /// `/Date(1512027480000+0000)/`; seen in descriptions and details only.
    Ticks,
    /// The first three in turn, by attribute.
    Mixed,
}

/// How a custom field set appears in a read; unknown upstream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FieldSetForm {
    /// A string holding the members as JSON.
    #[default]
    Json,
    /// A JSON object of the members.
    Object,
    /// Not at all.
    Absent,
}

/// The shape of `Lead.Capture`'s `Message`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CaptureMessage {
    /// `Id`, `RelatedId` (equal) and `IsCreated`.
    #[default]
    Both,
    /// `RelatedId` and `IsCreated`.
    RelatedIdOnly,
    /// A plain string with the id.
    PlainString,
}

/// The order of the rows of `Leads/Retrieve/ByIds`, which nothing promises.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// As the ids were given.
    #[default]
    AsAsked,
    /// The other way round.
    Reversed,
}

/// What a write to a computed attribute (`CreatedOn`, `OwnerIdName`, ...) does; unknown upstream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ComputedWrite {
    /// `MXInvalidInputException`, so that a mistake shows.
    #[default]
    Reject,
    /// The value is dropped without an error.
    Ignore,
}

/// The wording of a uniqueness conflict; both were seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DuplicateMessage {
    /// `A Lead with same Phone Number already exists.`
    #[default]
    Current,
    /// `Duplicate entry '...' for key 'UQ_Prospect_Base_Phone'`
    Database,
}

/// Two rows of one `Lead/Bulk/Create` with the same unique value; unknown upstream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DuplicateRows {
    /// The first is created, the later ones are duplicates of it.
    #[default]
    SecondFails,
    /// None of them is created, as `Lead/Bulk/UpdateV2` was seen to do.
    AllFail,
}

/// A bulk call with more rows than the documented maximum; unknown upstream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OverMaximum {
    /// `MXInvalidInputException` and nothing done, so that a mistake shows.
    #[default]
    Reject,
    /// The rows above the maximum are left out without an error.
    Truncate,
}

/// What `Offset` counts in `ProspectActivity.svc/Retrieve`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OffsetMeans {
    /// Rows to skip, as working clients use it.
    #[default]
    Rows,
    /// Pages to skip, as documented.
    Pages,
}

/// The response to an activity with an unknown, inactive or blank code; both were seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WrongCode {
    /// `MXInvalidActivityException`.
    #[default]
    Exception,
    /// HTTP 200 with `"Status":"Failed"`.
    Failed,
}

/// Whose an activity is when nobody says so; unknown upstream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DefaultOwner {
    /// The owner of the keys.
    #[default]
    KeyOwner,
    /// The owner of the lead.
    LeadOwner,
    /// Nobody.
    Nobody,
}

/// When a share request that can not be granted fails; unknown upstream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ShareFailures {
    /// The call itself gets an exception. What becomes wrong only while the request
    /// waits still fails later.
    #[default]
    AtOnce,
    /// The call is accepted, and the request fails when it is processed.
    Later,
}

/// A share of what is already shared with the same user through the same activity; unknown
/// upstream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reshare {
    /// The new duration comes on top of the old end; the access is the new one.
    Extend,
    /// The new share takes the place of the old one.
    #[default]
    Replace,
    /// The new share stands beside the old one.
    Duplicate,
    /// The request fails.
    Reject,
}

/// A revoke with another access type than was granted; unknown upstream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RevokeWrongAccess {
    /// It is processed without fault, and the share stays.
    Ignored,
    /// The request fails when it is processed.
    #[default]
    Fails,
    /// The share ends all the same.
    Works,
}

/// A revoke of what is not shared, or no longer; unknown upstream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RevokeUnshared {
    /// The call itself gets an exception.
    AtOnce,
    /// The request fails when it is processed.
    #[default]
    Later,
    /// It is processed without fault.
    Succeeds,
}

/// The status of a request id that does not exist, or is too old; unknown upstream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UnknownRequest {
    /// `MXInvalidInputException`.
    #[default]
    Exception,
    /// HTTP 404 without a body.
    NotFound,
    /// As of a request that is never processed.
    Pending,
}
