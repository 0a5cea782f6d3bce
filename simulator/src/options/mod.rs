//! The options of the simulator, with the source of each default.
//! "Unknown upstream" marks an assumption that no document or observation supports.

pub(crate) mod choices;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::activities::types;
use crate::leads::fields;
use crate::{
    ActivityTypeSpec, CaptureMessage, ComputedWrite, DateForm, DefaultOwner, DuplicateMessage, DuplicateRows,
    FieldSetForm, FieldSpec, Latency, Limits, OffsetMeans, OpportunitySpec, Order, OverMaximum, PhoneLookup, Reshare,
    RevokeUnshared, RevokeWrongAccess, ShareFailures, UnknownRequest, UpsertMatch, UserSpec, WrongCode, users,
};

/// What the simulated tenant is like and how it behaves.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// The accepted access key. Real ones look like `u$r...`. Default `u$rSimulatorAccessKey`.
    pub access_key: String,
    /// The accepted secret key. Default `simulator-secret-key`.
    pub secret_key: String,
    /// Where this tenant "really" lives: when set, every endpoint but `UserByAccessKey.Get`
    /// responds 401 naming this host (the exact text is unknown upstream). Default: unset.
    pub right_host: Option<String>,
    /// What such a 401 says; `{host}` stands for the host. Unknown upstream.
    pub wrong_host_message: String,
    /// The limits on calls.
    pub limits: Limits,
    /// How long a response takes. Default: no delay.
    pub latency: Latency,
    /// Seed of ids and latencies. Default 1.
    pub seed: u64,
    /// The text of a refusal by the daily limit; unknown upstream.
    pub daily_message: String,
    /// HTTP status of a logical error. Default 500, as documented; 200 was seen.
    pub logical_error_status: u16,
    /// HTTP status of a logical error of `Lead.Capture`. Default 200, as a production caller saw.
    pub capture_error_status: u16,
    /// Whether a 400 comes in the usual error envelope; otherwise its body is the plain text.
    /// Unknown upstream. Default true.
    pub bad_body_in_envelope: bool,
    /// Attributes whose values belong to one lead. Default `EmailAddress`, `Phone` and `Mobile`
    /// (help centre); a tenant can change them.
    pub unique: Vec<String>,
    /// How an upsert without `SearchBy` finds its lead. Default: as seen.
    pub upsert_match: UpsertMatch,
    /// Whether `SearchBy` `ProspectId` with an unknown id creates a lead (with an id of its own
    /// unless `user_defined_guid`) or says "Lead not found". Unknown upstream. Default true.
    pub upsert_unknown_id_creates: bool,
    /// The wording of a uniqueness conflict. Default: the newer one.
    pub duplicate_message: DuplicateMessage,
    /// Whether a lead's own unchanged unique value in an update is called a duplicate, as one
    /// client saw. Default false.
    pub own_unique_resend_fails: bool,
    /// Which spellings a phone lookup finds. Default: all.
    pub phone_lookup: PhoneLookup,
    /// Whether a phone lookup that finds nothing is a 404, as one client saw. Default false: `[]`.
    pub phone_miss_404: bool,
    /// Country code put before a plain phone number: `9845098450` is stored `+91-9845098450`.
    pub default_country_code: String,
    /// Whether emails that differ in case are different. Unknown upstream. Default false.
    pub email_case_sensitive: bool,
    /// Whether attribute names must be in their own case. Unknown upstream. Default true.
    pub attribute_case_sensitive: bool,
    /// Whether a JSON number or boolean as `Value` is a 400. Unknown upstream; every documented
    /// sample is a string. Default true.
    pub strings_only: bool,
    /// Whether a `null` clears the attribute; otherwise it is a 400. Unknown upstream. Default true.
    pub null_clears: bool,
    /// Whether `""` clears the attribute; otherwise it is stored. Unknown upstream. Default true.
    pub empty_clears: bool,
    /// Whether a text over the field's `MaxLength` is `MXInvalidInputException`; otherwise it is
    /// stored whole. Unknown upstream. Default true.
    pub max_length_enforced: bool,
    /// Whether an email without `@` or a phone with letters is `MXInvalidInputException`. A text
    /// "Invalid Phone format" was seen in bulk rows. Default true.
    pub formats_checked: bool,
    /// What writing a computed attribute does. Unknown upstream. Default: an error.
    pub computed_write: ComputedWrite,
    /// Attributes a create must have, beyond the fields marked so; that they are enforced is
    /// documented. Default none.
    pub mandatory: Vec<String>,
    /// Whether a missing one is `MXMandatoryAttributeMissingException`; otherwise it is
    /// `MXMandatoryFieldMissingException`. Unknown upstream. Default false.
    pub mandatory_is_attribute: bool,
    /// Custom fields, after the standard ones.
    pub fields: Vec<FieldSpec>,
    /// Whether metadata gives dropdown options as plain strings, as an older page does, and not
    /// as objects. Default false.
    pub options_as_strings: bool,
    /// Whether writing a custom field set replaces it whole; otherwise members not named stay.
    /// Unknown upstream. Default false.
    pub field_set_replaces: bool,
    /// How a custom field set appears in reads. Unknown upstream. Default: as JSON text.
    pub field_sets_in_reads: FieldSetForm,
    /// How reads write date-times. Default `2017-11-30 07:38:00.000`.
    pub date_forms: DateForm,
    /// Whether the keys of a read come in reversed order; none is promised. Default false.
    pub shuffle_keys: bool,
    /// Whether reads leave out unset attributes and do not give `null`. Default false.
    pub omit_null_keys: bool,
    /// What reads of leads give for an unset attribute in place of `null`; `"-"` and `""` were seen.
    /// Default unset: `null`.
    pub unset_as: Option<String>,
    /// The shape of `Lead.Capture`'s `Message`; all three are read by clients. Default: both ids.
    pub capture_message: CaptureMessage,
    /// Ids of anonymous visitors known to the tracking script: `Lead.Capture` makes a lead with
    /// such an id. Default none.
    pub visitors: Vec<String>,
    /// `AffectedRows` of an upsert that creates. Unknown upstream. Default 1.
    pub upsert_affected_rows_on_create: u32,
    /// Whether `__UseUserDefinedGuid__` with `ProspectID` chooses the id of a new lead. Unknown
    /// upstream for these endpoints. Default false: the pair is ignored.
    pub user_defined_guid: bool,
    /// Most rows on a page of `Leads/Retrieve/ByIds`. Default 10000, as documented.
    pub by_ids_page_max: u32,
    /// The order of those rows. Default: as asked.
    pub by_ids_order: Order,
    /// Page size where the body gives none. Unknown upstream. Default 100.
    pub default_page_size: u32,
    /// Whether a column that does not exist is an error; otherwise it is left out. Unknown
    /// upstream for leads, an error for users. Default true.
    pub unknown_column_fails: bool,
    /// Whether `LIKE` without `%` finds the text anywhere in the value; otherwise it means `=`.
    /// Unknown upstream. Default false.
    pub like_contains: bool,
    /// Whether `Leads.Get` tells upper from lower case in texts. Unknown upstream. Default false.
    pub search_case_sensitive: bool,
    /// Whether equal sort keys come in another order on every call, which makes pages unstable
    /// as seen. Default false: by lead number.
    pub unstable_ties: bool,
    /// Whether `Leads.RecentlyModified` adds the synthetic attribute `Total` to rows; seen.
    /// Default false.
    pub recent_rows_have_total: bool,
    /// Most rows of a quick search; 0: no cap. Unknown upstream. Default 0.
    pub quick_search_cap: u32,
    /// Bulk calls with more rows than the documented maximum. Unknown upstream. Default: refused.
    pub bulk_over_maximum: OverMaximum,
    /// Whether a failed bulk row has `"LeadId": null`; otherwise the key is absent. Unknown
    /// upstream. Default false.
    pub bulk_failed_row_has_null_id: bool,
    /// Whether a failed bulk row has an `ExceptionType`; one client reads it. Default true.
    pub bulk_failed_row_has_type: bool,
    /// Rows with the same unique value in one bulk create. Unknown upstream. Default: the second fails.
    pub bulk_create_in_batch_duplicates: DuplicateRows,
    /// `Status.Message` of a `Lead/Bulk/UpdateV2` in which a row failed. Unknown upstream.
    pub update_v2_partial_message: String,
    /// Whether `postUpdatedLead=true` fires automations on bulk calls too. Seen not to. Default false.
    pub bulk_fires_automations: bool,
    /// Whether leads may be deleted; off for a new account, as documented.
    pub delete_enabled: bool,
    /// Types of activity.
    pub activity_types: Vec<ActivityTypeSpec>,
    /// The response to a code that can not be posted. Default: an exception.
    pub activity_wrong_code: WrongCode,
    /// Whether a field that the type does not have, `Owner` among them, is
    /// `MXInvalidActivityFieldsException`; otherwise it is left out in silence. Unknown upstream.
    /// Default true.
    pub activity_unknown_field_fails: bool,
    /// Whether an owner who is no user is refused; otherwise the text is stored, or an unknown
    /// `ActivityOwnerEmail` forgotten. Unknown upstream. Default true.
    pub activity_owner_checked: bool,
    /// Whether `Owner` also takes an email, as seen for opportunities. Unknown upstream for
    /// activities. Default false.
    pub activity_owner_takes_email: bool,
    /// Whose an activity is when nobody says so. Unknown upstream. Default: of the owner of the keys.
    pub activity_default_owner: DefaultOwner,
    /// Whether `ActivityDateTime` becomes the activity's `CreatedOn`. Unknown upstream. Default true.
    pub activity_time_is_created: bool,
    /// What `Offset` of the activities of a lead counts. Documents and clients differ. Default: rows.
    pub activity_offset: OffsetMeans,
    /// How reads of activities write date-times. Default unset: as seen, `2026-07-31 05:33:50` for
    /// those of a lead but `7/31/2026 5:33:50 AM` inside `ActivityFields`, and
    /// `2026-07-31 05:33:50.000` in the list by type.
    pub activity_dates: Option<DateForm>,
    /// Whether pages of activities above 1000 rows are cut in silence; otherwise they are
    /// `MXInvalidInputException`. Both were seen. Default false.
    pub activity_page_clamped: bool,
    /// Whether a bulk post only returns how many it posted, an older shape. Default false.
    pub bulk_activities_counted: bool,
    /// Whether sharing is enabled. For a new account it is not, as documented; here it is, so that
    /// it can be tried. Default true.
    pub sharing_enabled: bool,
    /// Whether opportunities can be shared too. Default true, for the same reason.
    pub opportunity_sharing_enabled: bool,
    /// Whether share and revoke also take an object that is not in an array. Unknown upstream.
    /// Default false: a 400.
    pub share_bare_object_tolerated: bool,
    /// Most entities in one share or revoke, else `MXInvalidInputException`; 0: no limit. Unknown
    /// upstream. Default 0.
    pub share_max_items: u32,
    /// Whether one entity that fails leaves the others of its array undone. Unknown upstream.
    /// Default true.
    pub share_all_or_nothing: bool,
    /// How many polls still find a request waiting; it is processed with the last of them, or
    /// later if `share_delay` says so. Default 1.
    pub share_polls: u32,
    /// How long a request waits at least. Unknown upstream. Default 0 s.
    #[serde(with = "humantime_serde")]
    pub share_delay: Duration,
    /// How long the id of a request is known; 0: for good. Unknown upstream. Default 0 s.
    #[serde(with = "humantime_serde")]
    pub share_request_lifetime: Duration,
    /// `ShareStatus` of a request that waits. Unknown upstream. Default 1.
    pub share_status_pending: i64,
    /// `ShareStatus` of a request that failed. Unknown upstream. Default 7.
    pub share_status_failed: i64,
    /// `ShareStatus` of a processed revoke; that of a processed share is 6, as documented. Unknown
    /// upstream. Default 6.
    pub revoke_status_done: i64,
    /// `ShareStatus` of a request that waits, poll by poll and then from the first again, in place
    /// of `share_status_pending`. Default none.
    pub share_status_unknown_numbers: Vec<i64>,
    /// The status of a request id that is not known. Unknown upstream. Default: an exception.
    pub share_unknown_request: UnknownRequest,
    /// When a share that can not be granted fails. Unknown upstream. Default: at once.
    pub share_failures: ShareFailures,
    /// Minutes of a share whose request names none. Default 129600, which is 90 days, as
    /// documented; an account can have another.
    pub share_default_minutes: u32,
    /// Most minutes of a share; 0: no limit. Unknown upstream. Default 0.
    pub share_max_minutes: u32,
    /// Live shares of leads that one user can have; 0: no limit. Default 2000, as documented; what
    /// is said above it is unknown upstream.
    pub shares_per_user: u32,
    /// Whether several shares of one lead count as one of those. Unknown upstream. Default false.
    pub share_limit_counts_leads: bool,
    /// Whether the user must own the activity. Unknown upstream. Default true.
    pub share_owner_checked: bool,
    /// Whether the activity must be of a custom type, as it must in automations. Unknown upstream.
    /// Default false.
    pub share_custom_activities_only: bool,
    /// Whether a `Sales_Manager` is a sales user. Unknown upstream. Default false.
    pub share_with_sales_managers: bool,
    /// A share of what is shared already. Unknown upstream. Default: it replaces the old one.
    pub reshare: Reshare,
    /// A revoke with another access type than was granted. Unknown upstream. Default: it fails.
    pub revoke_wrong_access: RevokeWrongAccess,
    /// A revoke of what is not shared. Unknown upstream. Default: it fails later.
    pub revoke_unshared: RevokeUnshared,
    /// What it says then. Unknown upstream. Default "Not shared with the user".
    pub revoke_unshared_text: String,
    /// Whether a share ends when its activity gets another owner. Unknown upstream. Default false.
    pub owner_change_ends_shares: bool,
    /// Opportunities that can be shared. Default none.
    pub opportunities: Vec<OpportunitySpec>,
    /// The users; the first owns the keys, and when it is inactive every call is a 401.
    pub users: Vec<UserSpec>,
    /// The role of the owner of the keys, as `UserByAccessKey.Get` gives it; only an
    /// `Administrator` may share. Default `Administrator`.
    pub role: String,
    /// Largest request body in bytes, else 413. Unknown upstream. Default 10 MiB.
    pub max_body: usize,
    /// How many calls are kept for looking at. Default 200000.
    pub keep_calls: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            access_key: "u$rSimulatorAccessKey".into(),
            secret_key: "simulator-secret-key".into(),
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
            by_ids_page_max: 10_000,
            by_ids_order: Order::default(),
            default_page_size: 100,
            unknown_column_fails: true,
            like_contains: false,
            search_case_sensitive: false,
            unstable_ties: false,
            recent_rows_have_total: false,
            quick_search_cap: 0,
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
            keep_calls: 200_000,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn options_survive_a_round_trip_through_json() {
        let text = serde_json::to_string(&Options::default()).unwrap();
        let back: Options = serde_json::from_str(&text).unwrap();
        assert_eq!(serde_json::to_string(&back).unwrap(), text);
    }

    #[test]
    fn a_partial_object_leaves_the_rest_at_its_default() {
        let options: Options =
            serde_json::from_str(r#"{"limits":{"calls":3,"window":"token-bucket","per":"2s"}}"#).unwrap();
        assert_eq!(options.limits.calls, 3);
        assert_eq!(options.limits.bulk, 1);
        assert!(serde_json::from_str::<Options>(r#"{"limit":{}}"#).is_err());
    }
}
