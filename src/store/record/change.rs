//! The stored form of a share's state: a number, in the columns of shares and of their changes. Queries and indexes of the
//! store name these numbers. They are those of `ShareState` in the public contract. The other columns of a change are its time
//! in milliseconds since 1970 and, if something went wrong, the public name of the error as text.

use crate::domain::share::State;

/// The number of a state.
pub(in crate::store) fn number_of(state: State) -> i64 {
    match state {
        State::Pending => 1,
        State::Submitted => 2,
        State::Processing => 3,
        State::Active => 4,
        State::Expired => 5,
        State::Failed => 6,
        State::Revoking => 7,
        State::Revoked => 8,
        State::Uncertain => 9,
    }
}

/// The state of a number; `None` for a number that no state has.
pub(in crate::store) fn state_of(number: i64) -> Option<State> {
    Some(match number {
        1 => State::Pending,
        2 => State::Submitted,
        3 => State::Processing,
        4 => State::Active,
        5 => State::Expired,
        6 => State::Failed,
        7 => State::Revoking,
        8 => State::Revoked,
        9 => State::Uncertain,
        _ => return None,
    })
}
