//! The rate limits of the account: the maximum number of calls in a window and in a day, and the form of a rate limit
//! error.

mod limiter;

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

pub use limiter::{Limiter, Verdict};

/// The rate limits of the account.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Maximum number of calls in a window of the length `per`. 0 is unlimited. Default 25, as documented on every
    /// page.
    pub calls: u32,
    /// Maximum number of bulk calls in a window of the length `per`. 0 is unlimited. Default 1, the oldest documented
    /// value.
    pub bulk: u32,
    /// Length of a window. With 0 s `calls` and `bulk` are unlimited. Default 5 s, as documented.
    #[serde(with = "humantime_serde")]
    pub per: Duration,
    /// Maximum number of calls in a day. 0 is unlimited. Default 0.
    pub daily: u32,
    /// The hour in UTC at which a day begins. Unknown upstream. Default 0.
    pub daily_reset_hour: u8,
    /// How calls are counted. Unknown upstream. Default [`Window::Sliding`].
    pub window: Window,
    /// Elapsed time of the first fixed window at the start of the simulator. Default 0 s.
    #[serde(with = "humantime_serde")]
    pub phase: Duration,
    /// The HTTP status of a rate limit error. Default 429, as documented.
    pub refusal: Refusal,
    /// Whether a rate limit error has a `Retry-After` with the length of the window in seconds. Never observed. Default
    /// false.
    pub retry_after: bool,
    /// Whether a bulk call also counts against `calls`. Unknown upstream. Default true.
    pub bulk_pays_calls: bool,
    /// Whether calls with wrong keys count against the limits. Unknown upstream. Default false.
    pub count_bad_keys: bool,
    /// Whether calls of an unknown path count against the limits. Unknown upstream. Default false.
    pub count_unknown_paths: bool,
    /// Whether calls with a body that is not JSON count against the limits. Unknown upstream. Default true.
    pub count_bad_bodies: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            calls: 25,
            bulk: 1,
            per: Duration::from_secs(5),
            daily: 0,
            daily_reset_hour: 0,
            window: Window::Sliding,
            phase: Duration::ZERO,
            refusal: Refusal::S429,
            retry_after: false,
            bulk_pays_calls: true,
            count_bad_keys: false,
            count_unknown_paths: false,
            count_bad_bodies: true,
        }
    }
}

/// How the calls of one window are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Window {
    /// Consecutive windows from the start of the simulator.
    Fixed,
    /// A window begins with the first accepted call after the end of the previous window.
    FirstRequest,
    /// Counts the accepted calls in the half-open interval before each call.
    Sliding,
    /// Like `Sliding`, but refused calls count too. A client that retries without a pause is refused forever.
    SlidingCountingRefusals,
    /// A bucket with as many tokens as the limit, refilled continuously within the length of a window.
    TokenBucket,
}

/// The HTTP status of a rate limit error. All three were observed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
pub enum Refusal {
    /// 429 Too Many Requests.
    #[serde(rename = "429")]
    #[value(name = "429")]
    S429,
    /// 403 Forbidden.
    #[serde(rename = "403")]
    #[value(name = "403")]
    S403,
    /// 200 OK with an error envelope.
    #[serde(rename = "200")]
    #[value(name = "200")]
    S200,
}

impl Refusal {
    /// Returns the status as a number.
    pub fn status(self) -> u16 {
        match self {
            Self::S429 => 429,
            Self::S403 => 403,
            Self::S200 => 200,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.status())
    }
}

impl FromStr for Refusal {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        <Self as ValueEnum>::from_str(text, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_parsed_and_formatted_as_its_status() {
        assert_eq!("403".parse(), Ok(Refusal::S403));
        assert_eq!(Refusal::S200.to_string(), "200");
        assert!("500".parse::<Refusal>().is_err());
    }
}
