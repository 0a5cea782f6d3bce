//! Shares as a table for users. It has the narrow, common fields; the export has all.

use jiff::Timestamp;
use leadgate::grpc::pb::{Share, ShareState};
use tonic_types::RpcStatusExt;

/// Returns the line of column names.
pub(super) fn header() -> String {
    line(["SHARE", "STATE", "LEAD", "USER", "ACCESS", "EXPIRES", "FAILURE"])
}

/// Returns the line of a share.
pub(super) fn row(share: &Share, now: Timestamp) -> String {
    let ends = share
        .expire_time
        .as_ref()
        .map(|at| relative_time(at.seconds - now.as_second()));
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
        &state_name(share.state()),
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

fn relative_time(seconds: i64) -> String {
    let text = match seconds.unsigned_abs() {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..7_200 => format!("{} min", seconds / 60),
        seconds @ 7_200..172_800 => format!("{} h", seconds / 3_600),
        seconds => format!("{} days", seconds / 86_400),
    };
    if seconds < 0 {
        format!("{text} ago")
    } else {
        format!("in {text}")
    }
}

/// Returns the name of a state for users.
pub(super) fn state_name(state: ShareState) -> String {
    short(state.as_str_name(), "SHARE_STATE_")
}

fn short(name: &str, prefix: &str) -> String {
    name.trim_start_matches(prefix).to_ascii_lowercase()
}

/// Returns the reason of an error, or its code if it has no reason.
pub(super) fn reason(details: &tonic_types::ErrorDetails, code: i32) -> String {
    let info = details.error_info().map(|info| info.reason.clone());
    info.unwrap_or_else(|| format!("{:?}", tonic::Code::from(code)))
}
