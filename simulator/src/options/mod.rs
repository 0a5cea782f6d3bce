//! The options of the simulator.
//!
//! Each option states the source of its default. "Documented" refers to LeadSquared's documentation, "observed" to
//! responses that clients of LeadSquared received. "Unknown upstream" marks an assumption without a source.

pub(crate) mod choices;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::activities::types;
use crate::leads::fields;
use crate::{
    ActivityTypeSpec, BodyForm, CaptureMessage, ComputedWrite, DateForm, DefaultOwner, DuplicateMessage, DuplicateRows,
    FieldSetForm, FieldSpec, Latency, Limits, OffsetMeans, OpportunitySpec, Order, OverMaximum, PhoneLookup, Reshare,
    RevokeUnshared, RevokeWrongAccess, ShareFailures, UnknownRequest, UpsertMatch, UserSpec, WrongCode, users,
};

/// A pair of keys.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyPair {
    /// The access key.
    pub access_key: String,
    /// The secret key.
    pub secret_key: String,
}

/// The options of the simulated account and its behavior.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// The valid access key. Keys of LeadSquared begin with `u$r`. Default `u$rSimulatorAccessKey`.
    pub access_key: String,
    /// The valid secret key. Default `simulator-secret-key`.
    pub secret_key: String,
    /// Further valid pairs of keys, of the same user. Default none.
    pub further_keys: Vec<KeyPair>,
    /// Whether the 401 for wrong keys has the error envelope, as observed. If false, it has no body. Default true.
    pub wrong_keys_in_envelope: bool,
    /// The API host of the account. If set, all endpoints except `UserByAccessKey.Get` fail with 401 and
    /// `wrong_host_message`. Default unset.
    pub right_host: Option<String>,
    /// The message of the 401 for a wrong host. `{host}` is replaced by `right_host`. Unknown upstream.
    pub wrong_host_message: String,
    /// The rate limits.
    pub limits: Limits,
    /// The latency of responses. Default `0s`.
    pub latency: Latency,
    /// The number from which random ids and latencies are made. It cannot be changed while the simulator runs. Default 1.
    pub seed: u64,
    /// The message of a rate limit error of the daily limit. Unknown upstream.
    pub daily_message: String,
    /// HTTP status of a logical error. Default 500, as documented. 200 was observed.
    pub logical_error_status: u16,
    /// HTTP status of a logical error of `Lead.Capture`. Default 200, as observed.
    pub capture_error_status: u16,
    /// Whether a 400 has the error envelope. If false, its body is plain text. Unknown upstream. Default true.
    pub bad_body_in_envelope: bool,
    /// The unique attributes. An account can change them. Default `EmailAddress`, `Phone` and `Mobile`, as documented
    /// in the help center.
    pub unique: Vec<String>,
    /// How an upsert without `SearchBy` finds its lead. Default `email-decides`, as observed.
    pub upsert_match: UpsertMatch,
    /// Whether `SearchBy` `ProspectId` with an unknown id creates a lead. The lead has a new id, except with
    /// `user_defined_guid`. If false, the upsert fails with "Lead not found". Unknown upstream. Default true.
    pub upsert_unknown_id_creates: bool,
    /// The text of the error for a duplicate unique value. Default `current`, the newer one.
    pub duplicate_message: DuplicateMessage,
    /// Whether an update fails as a duplicate if it contains the lead's own, unchanged unique value. Observed once.
    /// Default false.
    pub own_unique_resend_fails: bool,
    /// The forms of a phone number that a phone lookup finds. Default `any`.
    pub phone_lookup: PhoneLookup,
    /// Whether a phone lookup without a result is a 404. Observed once. If false, the result is `[]`. Default false.
    pub phone_miss_404: bool,
    /// The country code for phone numbers without one: `9845098450` is stored as `+91-9845098450`. Default `91`.
    pub default_country_code: String,
    /// Whether emails are case-sensitive. Unknown upstream. Default false.
    pub email_case_sensitive: bool,
    /// Whether attribute names are case-sensitive. Unknown upstream. Default true.
    pub attribute_case_sensitive: bool,
    /// Whether a JSON number or boolean as `Value` is a 400. Unknown upstream. All documented samples are strings.
    /// Default true.
    pub strings_only: bool,
    /// Whether `null` clears the attribute. If false, it is a 400. Unknown upstream. Default true.
    pub null_clears: bool,
    /// Whether `""` clears the attribute. If false, it is stored. Unknown upstream. Default true.
    pub empty_clears: bool,
    /// Whether a write of `null` leaves the attribute unchanged. Unknown upstream. Default false.
    pub null_ignored: bool,
    /// Whether a write of `""` leaves the attribute unchanged. Unknown upstream. Default false.
    pub empty_ignored: bool,
    /// Whether a text longer than the field's `MaxLength` is cut to it without an error. One client reports this.
    /// Default false.
    pub max_length_cuts: bool,
    /// Whether a text longer than the field's `MaxLength` is an `MXInvalidInputException`. If false, it is stored.
    /// Unknown upstream. Default true.
    pub max_length_enforced: bool,
    /// Whether an email without `@` or a phone with letters is an `MXInvalidInputException`. The text "Invalid Phone
    /// format" was observed in bulk rows. Default true.
    pub formats_checked: bool,
    /// The effect of a write to a computed attribute. Unknown upstream. Default `reject`.
    pub computed_write: ComputedWrite,
    /// Mandatory attributes of a create, in addition to the fields with `mandatory`. Documented. Default empty.
    pub mandatory: Vec<String>,
    /// Whether a missing mandatory attribute is an `MXMandatoryAttributeMissingException`. If false, it is an
    /// `MXMandatoryFieldMissingException`. Unknown upstream. Default false.
    pub mandatory_is_attribute: bool,
    /// The custom fields, listed after the standard fields. A field with the name of a standard field replaces it.
    /// Default one field of each kind.
    pub fields: Vec<FieldSpec>,
    /// Whether the metadata contains dropdown options as strings, as in older documentation. If false, they are
    /// objects. Default false.
    pub options_as_strings: bool,
    /// Whether a write of a custom field set replaces the whole set. If false, members that the request does not
    /// contain are unchanged. Unknown upstream. Default false.
    pub field_set_replaces: bool,
    /// The form of a custom field set in reads. Unknown upstream. Default `json`.
    pub field_sets_in_reads: FieldSetForm,
    /// The format of date-times in reads. Default `millis`: `2017-11-30 07:38:00.000`.
    pub date_forms: DateForm,
    /// Whether reads of leads have their keys in reversed order. The documentation promises no order. Default false.
    pub shuffle_keys: bool,
    /// Whether reads of leads omit unset attributes. If false, their value is `null`. Default false.
    pub omit_null_keys: bool,
    /// The value of an unset attribute in reads of leads, instead of `null`. `"-"` and `""` were observed. Default
    /// unset: `null`.
    pub unset_as: Option<String>,
    /// The form of `Message` in the response of `Lead.Capture`. Observed clients read all three. Default `both`.
    pub capture_message: CaptureMessage,
    /// Ids of anonymous visitors that the tracking script has created. `Lead.Capture` creates a lead with such an id.
    /// Default empty.
    pub visitors: Vec<String>,
    /// `AffectedRows` of an upsert that creates a lead. Unknown upstream. Default 1.
    pub upsert_affected_rows_on_create: u32,
    /// Whether `__UseUserDefinedGuid__` with `ProspectID` sets the id of a new lead. If false, the attribute is
    /// ignored. Unknown upstream for these endpoints. Default false.
    pub user_defined_guid: bool,
    /// Maximum number of ids in one call of `Leads/Retrieve/ByIds`. Default 10000, as documented.
    pub by_ids_max: usize,
    /// Maximum page size of `Leads/Retrieve/ByIds`. Default 10000, as documented.
    pub by_ids_page_max: u32,
    /// The order of the rows of `Leads/Retrieve/ByIds`. Default `as-asked`: the order of the ids.
    pub by_ids_order: Order,
    /// Page size if the body has none. Unknown upstream. Default 100.
    pub default_page_size: u32,
    /// Whether an unknown column of leads is an error. If false, it is ignored. Unknown upstream. For users it is
    /// always an error. Default true.
    pub unknown_column_fails: bool,
    /// Whether `LIKE` without `%` matches values that contain the text. If false, it means `=`. Unknown upstream.
    /// Default false.
    pub like_contains: bool,
    /// Whether `Leads.Get` compares texts case-sensitively. Unknown upstream. Default false.
    pub search_case_sensitive: bool,
    /// Whether the order of rows with equal sort keys changes with every call, which makes pages unstable, as observed.
    /// If false, they are sorted by number. Default false.
    pub unstable_ties: bool,
    /// Whether `Leads.RecentlyModified` adds the attribute `Total` to each row. Observed. Default false.
    pub recent_rows_have_total: bool,
    /// Maximum number of rows of a quick search. 0 is unlimited. Unknown upstream. Default 0.
    pub quick_search_cap: u32,
    /// Maximum number of rows of `Lead/Bulk/UpdateV2`. Default 25, as documented.
    pub bulk_update_max: usize,
    /// Maximum number of rows of `Lead/Bulk/CreateOrUpdate`. Default 25, as documented.
    pub bulk_upsert_max: usize,
    /// The result of a bulk call with more rows than the maximum. Unknown upstream. Default `reject`.
    pub bulk_over_maximum: OverMaximum,
    /// Whether a failed bulk row has `"LeadId": null`. If false, the key is absent. Unknown upstream. Default false.
    pub bulk_failed_row_has_null_id: bool,
    /// Whether a failed bulk row has an `ExceptionType`. One observed client reads it. Default true.
    pub bulk_failed_row_has_type: bool,
    /// The result of rows with the same unique value in one bulk create. Unknown upstream. Default `second-fails`.
    pub bulk_create_in_batch_duplicates: DuplicateRows,
    /// `Status.Message` of a `Lead/Bulk/UpdateV2` with a failed row. Unknown upstream.
    pub update_v2_partial_message: String,
    /// Whether `postUpdatedLead=true` also fires automations in bulk calls. Default false, as observed.
    pub bulk_fires_automations: bool,
    /// Whether leads can be deleted. Default false, as documented for new accounts.
    pub delete_enabled: bool,
    /// The activity types. Default three custom and four standard types.
    pub activity_types: Vec<ActivityTypeSpec>,
    /// The response to an activity with an unknown, inactive or empty code. Default `exception`.
    pub activity_wrong_code: WrongCode,
    /// Whether a field that the activity type does not have, including `Owner`, is an
    /// `MXInvalidActivityFieldsException`. If false, it is ignored. Unknown upstream. Default true.
    pub activity_unknown_field_fails: bool,
    /// Whether an unknown owner is an error. If false, an unknown `Owner` is stored, and an unknown
    /// `ActivityOwnerEmail` is ignored. Unknown upstream. Default true.
    pub activity_owner_checked: bool,
    /// Whether `Owner` can also be an email, as observed for opportunities. Unknown upstream for activities. Default
    /// false.
    pub activity_owner_takes_email: bool,
    /// The owner of an activity whose request names none. Unknown upstream. Default `key-owner`.
    pub activity_default_owner: DefaultOwner,
    /// Whether `ActivityDateTime` becomes the activity's `CreatedOn`. Unknown upstream. Default true.
    pub activity_time_is_created: bool,
    /// The unit of `Offset` in reads of a lead's activities. Documentation and observed clients differ. Default `rows`.
    pub activity_offset: OffsetMeans,
    /// The format of date-times in reads of activities. Default unset: the observed formats. These are
    /// `2026-07-31 05:33:50` in the activities of a lead, `7/31/2026 5:33:50 AM` in `ActivityFields`, and
    /// `2026-07-31 05:33:50.000` in the list by type.
    pub activity_dates: Option<DateForm>,
    /// Whether a page size of more than 1000 activities is reduced to 1000 without an error. If false, it is an
    /// `MXInvalidInputException`. Both were observed. Default false.
    pub activity_page_clamped: bool,
    /// Whether a bulk create of activities returns only the number of created activities, an older form. Default false.
    pub bulk_activities_counted: bool,
    /// Whether sharing is enabled. Default true. For new accounts of LeadSquared it is documented as disabled.
    pub sharing_enabled: bool,
    /// Whether sharing of opportunities is enabled. Default true. For new accounts of LeadSquared it is documented as
    /// disabled.
    pub opportunity_sharing_enabled: bool,
    /// Whether share and revoke accept an object instead of an array. If false, it is a 400. Unknown upstream. Default
    /// false.
    pub share_bare_object_tolerated: bool,
    /// Maximum number of entities in one share or revoke request. More are an `MXInvalidInputException`. 0 is
    /// unlimited. Unknown upstream. Default 0.
    pub share_max_items: u32,
    /// Whether one failed entity makes the whole request fail without effect. If false, the other entities are
    /// processed. Unknown upstream. Default true.
    pub share_all_or_nothing: bool,
    /// Number of polls that return the pending status. The request is processed with the last of them, but not before
    /// `share_delay`. Default 1.
    pub share_polls: u32,
    /// Minimum time between acceptance and processing of a request. Unknown upstream. Default 0 s.
    #[serde(with = "humantime_serde")]
    pub share_delay: Duration,
    /// Time after which the id of a request expires. 0 is never. Unknown upstream. Default 0 s.
    #[serde(with = "humantime_serde")]
    pub share_request_lifetime: Duration,
    /// `ShareStatus` of a pending request. Unknown upstream. Default 1.
    pub share_status_pending: i64,
    /// `ShareStatus` of a failed request. Unknown upstream. Default 7.
    pub share_status_failed: i64,
    /// `ShareStatus` of a processed revoke request. Unknown upstream. Default 6, the documented number of a processed
    /// share request.
    pub revoke_status_done: i64,
    /// `ShareStatus` of a pending request, instead of `share_status_pending`. Each poll returns the next number, and
    /// after the last number the first one again. Default empty.
    pub share_status_unknown_numbers: Vec<i64>,
    /// The response to a status call with an unknown or expired request id. Unknown upstream. Default `exception`.
    pub share_unknown_request: UnknownRequest,
    /// The time at which an invalid share request fails. Unknown upstream. Default `at-once`.
    pub share_failures: ShareFailures,
    /// Duration of a share in minutes if the request has none. Default 129600 (90 days), as documented. An account can
    /// have another default.
    pub share_default_minutes: u32,
    /// Maximum duration of a share in minutes. 0 is unlimited. Unknown upstream. Default 0.
    pub share_max_minutes: u32,
    /// Maximum number of shares of leads that one user can have at the same time. 0 is unlimited. Default 2000, as
    /// documented. The error above the maximum is unknown upstream.
    pub shares_per_user: u32,
    /// Whether several shares of one lead count once against `shares_per_user`. Unknown upstream. Default false.
    pub share_limit_counts_leads: bool,
    /// Whether a share requires that the user owns the activity. Unknown upstream. Default true.
    pub share_owner_checked: bool,
    /// Whether a share requires a custom activity type, as automations do. Unknown upstream. Default false.
    pub share_custom_activities_only: bool,
    /// Whether entities can also be shared with a `Sales_Manager`. Unknown upstream. Default false.
    pub share_with_sales_managers: bool,
    /// The effect of a share request for an entity that is already shared. Unknown upstream. Default `replace`.
    pub reshare: Reshare,
    /// The effect of a revoke request with another access type than the share has. Unknown upstream. Default `fails`.
    pub revoke_wrong_access: RevokeWrongAccess,
    /// The effect of a revoke request for an entity that is not shared. Unknown upstream. Default `later`.
    pub revoke_unshared: RevokeUnshared,
    /// The error of a revoke request for an entity that is not shared. Unknown upstream. Default "Not shared with the
    /// user".
    pub revoke_unshared_text: String,
    /// Whether a share ends when the owner of its activity changes. Unknown upstream. Default false.
    pub owner_change_ends_shares: bool,
    /// The opportunities that can be shared. Default empty.
    pub opportunities: Vec<OpportunitySpec>,
    /// The users. The first user owns the keys. If it is inactive, every call is a 401. Default four users: an
    /// administrator, two active sales users and an inactive one.
    pub users: Vec<UserSpec>,
    /// The role of the owner of the keys in `UserByAccessKey.Get`. Only an `Administrator` can share. Default
    /// `Administrator`.
    pub role: String,
    /// Maximum size of a request body in bytes. A larger body is a 413. Unknown upstream. Default 10 MiB.
    pub max_body: usize,
    /// The forms of request bodies that are refused with this HTTP status and a page, before the keys are checked and without a
    /// call counted. Unknown upstream. Default empty.
    pub refused_bodies: BTreeMap<BodyForm, u16>,
    /// Headers that are added to each response. Default empty.
    pub response_headers: BTreeMap<String, String>,
    /// Whether connections with HTTP/2 are aborted. Default false.
    pub http1_only: bool,
    /// Time after which an idle connection is closed. 0 is never. It applies to new connections. Unknown upstream. Default
    /// 0 s.
    #[serde(with = "humantime_serde")]
    pub idle_close: Duration,
    /// Maximum number of recorded calls. Older calls are deleted. Default 200000.
    pub keep_calls: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            access_key: "u$rSimulatorAccessKey".into(),
            secret_key: "simulator-secret-key".into(),
            further_keys: Vec::new(),
            wrong_keys_in_envelope: true,
            right_host: None,
            wrong_host_message: "Invalid Access Details provided. Use the API host {host} for this account.".into(),
            limits: Limits::default(),
            latency: Latency::default(),
            seed: 1,
            daily_message: "API calls exceeded the daily limit".into(),
            logical_error_status: 500,
            capture_error_status: 200,
            bad_body_in_envelope: true,
            unique: ["EmailAddress", "Phone", "Mobile"].map(String::from).into(),
            upsert_match: UpsertMatch::default(),
            upsert_unknown_id_creates: true,
            duplicate_message: DuplicateMessage::default(),
            own_unique_resend_fails: false,
            phone_lookup: PhoneLookup::default(),
            phone_miss_404: false,
            default_country_code: "91".into(),
            email_case_sensitive: false,
            attribute_case_sensitive: true,
            strings_only: true,
            null_clears: true,
            empty_clears: true,
            null_ignored: false,
            empty_ignored: false,
            max_length_cuts: false,
            max_length_enforced: true,
            formats_checked: true,
            computed_write: ComputedWrite::default(),
            mandatory: Vec::new(),
            mandatory_is_attribute: false,
            fields: fields::default_custom_fields(),
            options_as_strings: false,
            field_set_replaces: false,
            field_sets_in_reads: FieldSetForm::default(),
            date_forms: DateForm::default(),
            shuffle_keys: false,
            omit_null_keys: false,
            unset_as: None,
            capture_message: CaptureMessage::default(),
            visitors: Vec::new(),
            upsert_affected_rows_on_create: 1,
            user_defined_guid: false,
            by_ids_max: 10_000,
            by_ids_page_max: 10_000,
            by_ids_order: Order::default(),
            default_page_size: 100,
            unknown_column_fails: true,
            like_contains: false,
            search_case_sensitive: false,
            unstable_ties: false,
            recent_rows_have_total: false,
            quick_search_cap: 0,
            bulk_update_max: 25,
            bulk_upsert_max: 25,
            bulk_over_maximum: OverMaximum::default(),
            bulk_failed_row_has_null_id: false,
            bulk_failed_row_has_type: true,
            bulk_create_in_batch_duplicates: DuplicateRows::default(),
            update_v2_partial_message: "Some leads could not be updated".into(),
            bulk_fires_automations: false,
            delete_enabled: false,
            activity_types: types::default_types(),
            activity_wrong_code: WrongCode::default(),
            activity_unknown_field_fails: true,
            activity_owner_checked: true,
            activity_owner_takes_email: false,
            activity_default_owner: DefaultOwner::default(),
            activity_time_is_created: true,
            activity_offset: OffsetMeans::default(),
            activity_dates: None,
            activity_page_clamped: false,
            bulk_activities_counted: false,
            sharing_enabled: true,
            opportunity_sharing_enabled: true,
            share_bare_object_tolerated: false,
            share_max_items: 0,
            share_all_or_nothing: true,
            share_polls: 1,
            share_delay: Duration::ZERO,
            share_request_lifetime: Duration::ZERO,
            share_status_pending: 1,
            share_status_failed: 7,
            revoke_status_done: 6,
            share_status_unknown_numbers: Vec::new(),
            share_unknown_request: UnknownRequest::default(),
            share_failures: ShareFailures::default(),
            share_default_minutes: 129_600,
            share_max_minutes: 0,
            shares_per_user: 2_000,
            share_limit_counts_leads: false,
            share_owner_checked: true,
            share_custom_activities_only: false,
            share_with_sales_managers: false,
            reshare: Reshare::default(),
            revoke_wrong_access: RevokeWrongAccess::default(),
            revoke_unshared: RevokeUnshared::default(),
            revoke_unshared_text: "Not shared with the user".into(),
            owner_change_ends_shares: false,
            opportunities: Vec::new(),
            users: users::default_users(),
            role: "Administrator".into(),
            max_body: 10 << 20,
            refused_bodies: BTreeMap::new(),
            response_headers: BTreeMap::new(),
            http1_only: false,
            idle_close: Duration::ZERO,
            keep_calls: 200_000,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn options_are_unchanged_after_a_round_trip_through_json() {
        let text = serde_json::to_string(&Options::default()).unwrap();
        let back: Options = serde_json::from_str(&text).unwrap();
        assert_eq!(serde_json::to_string(&back).unwrap(), text);
    }

    #[test]
    fn missing_options_have_their_default_and_unknown_options_are_an_error() {
        let options: Options =
            serde_json::from_str(r#"{"limits":{"calls":3,"window":"token-bucket","per":"2s"}}"#).unwrap();
        assert_eq!(options.limits.calls, 3);
        assert_eq!(options.limits.bulk, 1);
        assert!(serde_json::from_str::<Options>(r#"{"limit":{}}"#).is_err());
    }
}
