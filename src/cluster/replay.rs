//! Calls that another replica may have received before, by their request ids.

use std::time::Duration;

use jiff::Timestamp;
use uuid::Uuid;

/// A request id of UUID version 7 that is older than this when it arrives was received before, by another replica.
const USUAL_DELAY: Duration = Duration::from_millis(200);

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
