//! The simulated latency of a response.

use std::{fmt, str::FromStr, time::Duration};

use humantime_serde::re::humantime;
use serde::{Deserialize, Serialize};

use crate::random::Random;

/// A range of latencies, written `20ms` or `20ms..80ms`. Each call gets a uniformly distributed random latency of the
/// range. Half of it passes before the limits are checked, and half after the call is executed. Default `0s`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Latency {
    /// Minimum latency.
    pub min: Duration,
    /// Maximum latency. Not less than `min`.
    pub max: Duration,
}

impl Latency {
    /// Returns a random latency of the range.
    pub(crate) fn draw(self, random: &mut Random) -> Duration {
        let width = u64::try_from(self.max.saturating_sub(self.min).as_micros())
            .unwrap_or(u64::MAX)
            .saturating_add(1);
        self.min + Duration::from_micros(random.next() % width)
    }
}

impl FromStr for Latency {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (low, high) = text.split_once("..").unwrap_or((text, text));
        let read = |part: &str| {
            humantime::parse_duration(part.trim())
                .map_err(|error| format!("invalid latency {text:?}: {error}. Examples: 20ms, 20ms..80ms"))
        };
        let (min, max) = (read(low)?, read(high)?);
        if max < min {
            return Err(format!(
                "invalid latency {text:?}: the maximum is less than the minimum"
            ));
        }
        Ok(Self { min, max })
    }
}

impl TryFrom<String> for Latency {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Latency> for String {
    fn from(latency: Latency) -> Self {
        latency.to_string()
    }
}

impl fmt::Display for Latency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", humantime::format_duration(self.min))?;
        if self.max != self.min {
            write!(f, "..{}", humantime::format_duration(self.max))?;
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_latency_is_parsed_and_formatted() {
        for text in ["0s", "20ms", "20ms..80ms"] {
            assert_eq!(text.parse::<Latency>().unwrap().to_string(), text);
        }
        for wrong in ["", "20", "..", "80ms..20ms", "20ms..x"] {
            assert!(wrong.parse::<Latency>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_random_latency_is_within_the_range() {
        let latency: Latency = "20ms..80ms".parse().unwrap();
        let mut random = Random::new(1);
        for _ in 0..1_000 {
            let drawn = latency.draw(&mut random);
            assert!(drawn >= latency.min && drawn <= latency.max);
        }
        assert_eq!(Latency::default().draw(&mut random), Duration::ZERO);
    }
}
