//! The stored form of the state of a share: a number, in the columns of shares and of their changes. Queries and indexes of the
//! store contain these numbers. They are the numbers of `ShareState` in the public contract. The other columns of a change are
//! its time in milliseconds since 1970, and the public name of the error as text; empty without an error.

use crate::domain::share::ShareState;

/// Returns the number of a state.
pub(in crate::store) fn number_of(state: ShareState) -> i64 {
    match state {
        ShareState::Pending => 1,
        ShareState::Submitted => 2,
        ShareState::Processing => 3,
        ShareState::Active => 4,
        ShareState::Expired => 5,
        ShareState::Failed => 6,
        ShareState::Revoking => 7,
        ShareState::Revoked => 8,
        ShareState::Uncertain => 9,
    }
}

/// Returns the state with a number; `None` if there is none.
pub(in crate::store) fn state_of(number: i64) -> Option<ShareState> {
    Some(match number {
        1 => ShareState::Pending,
        2 => ShareState::Submitted,
        3 => ShareState::Processing,
        4 => ShareState::Active,
        5 => ShareState::Expired,
        6 => ShareState::Failed,
        7 => ShareState::Revoking,
        8 => ShareState::Revoked,
        9 => ShareState::Uncertain,
        _ => return None,
    })
}
