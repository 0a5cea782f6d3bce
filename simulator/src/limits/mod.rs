//! The limits of the account: how many calls are accepted in a window and in a day, and what a rejection looks like.

mod limiter;

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

pub use limiter::{Limiter, Verdict};

/// The tenant's limits.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Calls in each `per`; 0: no limit. Default 25, as printed on every documentation page.
    pub calls: u32,
    /// Bulk calls in each `per`; 0: no limit. Default 1, the oldest documented figure.
    pub bulk: u32,
    /// Length of the window. Default 5 s, as documented.
    #[serde(with = "humantime_serde")]
    pub per: Duration,
    /// Calls in a day; 0: no limit. Default 0.
    pub daily: u32,
    /// The hour, UTC, at which a new day begins. Unknown upstream. Default 0.
    pub daily_reset_hour: u8,
    /// How calls are counted. Unknown upstream. Default [`Window::Sliding`].
    pub window: Window,
    /// How far into a fixed window the simulator starts. Default 0 s.
    #[serde(with = "humantime_serde")]
    pub phase: Duration,
    /// The HTTP status of a refusal. Default 429, as documented.
    pub refusal: Refusal,
    /// Whether refusals have a `Retry-After` with the window in seconds. None was seen. Default false.
    pub retry_after: bool,
    /// Whether a bulk call also counts as an ordinary one. Unknown upstream. Default true.
    pub bulk_pays_calls: bool,
    /// Whether calls with wrong keys count. Unknown upstream. Default false.
    pub count_bad_keys: bool,
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
        }
    }
}

/// How the calls of one window are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Window {
    /// Windows one after the other from the start of the simulator.
    Fixed,
    /// A window opens with the first accepted call when none is open.
    FirstRequest,
    /// At most N accepted calls in any half-open interval.
    Sliding,
    /// The same, but refused calls are counted too: hammering never gets through.
    SlidingCountingRefusals,
    /// N tokens, refilled continuously.
    TokenBucket,
}

/// The HTTP status of a rate refusal; all three were seen.
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
    /// 200 OK with an error body.
    #[serde(rename = "200")]
    #[value(name = "200")]
    S200,
}

impl Refusal {
    /// The status as a number.
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
    fn a_refusal_is_spelt_as_its_status() {
        assert_eq!("403".parse(), Ok(Refusal::S403));
        assert_eq!(Refusal::S200.to_string(), "200");
        assert!("500".parse::<Refusal>().is_err());
    }
}
