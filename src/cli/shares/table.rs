//! Shares as a table for people. What is wide or rarely wanted is left to the export.

use jiff::Timestamp;
use leadgate::grpc::pb::{Share, ShareState};
use tonic_types::RpcStatusExt;

/// The names of the columns.
pub(super) fn header() -> String {
    line(["SHARE", "STATE", "LEAD", "USER", "ACCESS", "EXPIRES", "FAILURE"])
}

/// A share as a line for people.
pub(super) fn row(share: &Share, now: Timestamp) -> String {
    let ends = share
        .expire_time
        .as_ref()
        .map(|at| in_words(at.seconds - now.as_second()));
    let why = share
        .failure
        .as_ref()
        .map(|status| reason(&status.get_error_details(), status.code));
    let why = match (why, share.uncertain_step.as_str()) {
        (why, "") => why.unwrap_or_default(),
        (None, step) => format!("at {step}"),
        (Some(why), step) => format!("{why} at {step}"),
    };
    let ends = match share.state() {
        ShareState::Failed | ShareState::Revoked => "-".to_owned(),
        _ => ends.unwrap_or_default(),
    };
    let what = [&share.lead_number, &share.opportunity_id];
    let what = what.into_iter().find(|text| !text.is_empty());
    line([
        &share.share_id,
        &word(share.state()),
        what.map_or("", String::as_str),
        &share.user_id,
        &short(share.access().as_str_name(), "ACCESS_"),
        &ends,
        &why,
    ])
}

fn line([id, state, lead, user, access, ends, why]: [&str; 7]) -> String {
    let line = format!("{id:<36}  {state:<10}  {lead:<10}  {user:<36}  {access:<6}  {ends:<12}  {why}");
    line.trim_end().to_owned()
}

fn in_words(seconds: i64) -> String {
    let text = match seconds.unsigned_abs() {
        few @ 0..120 => format!("{few} s"),
        some @ 120..7_200 => format!("{} min", some / 60),
        many @ 7_200..172_800 => format!("{} h", many / 3_600),
        most => format!("{} days", most / 86_400),
    };
    if seconds < 0 {
        format!("{text} ago")
    } else {
        format!("in {text}")
    }
}

/// A state as people are told it.
pub(super) fn word(state: ShareState) -> String {
    short(state.as_str_name(), "SHARE_STATE_")
}

fn short(name: &str, prefix: &str) -> String {
    name.trim_start_matches(prefix).to_ascii_lowercase()
}

/// The reason of an error, or its code where it has none.
pub(super) fn reason(details: &tonic_types::ErrorDetails, code: i32) -> String {
    let info = details.error_info().map(|info| info.reason.clone());
    info.unwrap_or_else(|| format!("{:?}", tonic::Code::from(code)))
}
