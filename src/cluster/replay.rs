//! Calls that another owner, or another replica, may have received before: when an unfinished call of another epoch is judged,
//! and whether a repeated call that is not known is new or uncertain.

use std::time::Duration;

use jiff::Timestamp;
use uuid::Uuid;

/// A request id of UUID version 7 that is older than this when it arrives was received before, by another replica.
const USUAL_DELAY: Duration = Duration::from_millis(200);

/// A call that is not known when its record is to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnknownCall {
    /// It was never executed.
    New,
    /// Its record may be among the commits that the database has lost, so it may have been executed.
    Uncertain,
}

/// Whether an unfinished call of another epoch may be judged: looked up, or reported as uncertain. Before, the earlier owner may
/// still execute or finish it. `owned_for` is the time since this owner acquired the lease, `timeout` that of an upstream call.
pub fn may_judge(owned_for: Duration, timeout: Duration, lateness: Duration) -> bool {
    owned_for >= timeout.saturating_add(lateness)
}

/// Judges a call that is not known, by the age of the database's history and the time since the call was first received. To be
/// decided in the statement that writes the record, or with an age that was read before it.
pub fn judge_unknown(history_age: Duration, since_first_received: Duration) -> UnknownCall {
    match history_age < since_first_received {
        true => UnknownCall::Uncertain,
        false => UnknownCall::New,
    }
}

/// The time since a call was first received, by its request id of UUID version 7. `None`: the id has no time, or the call was
/// not received before.
pub fn received_before(request_id: Uuid, arrived: Timestamp) -> Option<Duration> {
    if request_id.get_version_num() != 7 {
        return None;
    }
    let (seconds, nanos) = request_id.get_timestamp()?.to_unix();
    let created = Timestamp::new(i64::try_from(seconds).ok()?, i32::try_from(nanos).ok()?).ok()?;
    let age = Duration::try_from(arrived.duration_since(created)).ok()?;
    (age > USUAL_DELAY).then_some(age)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_call_of_another_epoch_is_judged_after_its_timeout_and_the_lateness() {
        assert!(!may_judge(SECOND * 31 - Duration::from_nanos(1), SECOND * 30, SECOND));
        assert!(may_judge(SECOND * 31, SECOND * 30, SECOND));
    }

    #[test]
    fn a_call_that_is_older_than_the_history_is_uncertain() {
        assert_eq!(judge_unknown(SECOND, SECOND * 2), UnknownCall::Uncertain);
        assert_eq!(judge_unknown(SECOND * 2, SECOND * 2), UnknownCall::New);
        assert_eq!(judge_unknown(Duration::ZERO, Duration::ZERO), UnknownCall::New);
    }

    #[test]
    fn an_old_time_in_a_request_id_means_received_before() {
        let id = |created: i64| {
            let time = uuid::Timestamp::from_unix(uuid::NoContext, u64::try_from(created).unwrap(), 0);
            Uuid::new_v7(time)
        };
        let arrived = Timestamp::from_second(1_800_000_000).unwrap();
        assert_eq!(received_before(id(1_799_999_997), arrived), Some(SECOND * 3));
        assert_eq!(received_before(id(1_800_000_000), arrived), None);
        assert_eq!(
            received_before(id(1_800_000_005), arrived),
            None,
            "a clock that is ahead"
        );
        assert_eq!(received_before(Uuid::new_v4(), arrived), None);
    }
}
