//! The cause of a missing response: found in the error chain of the HTTP client, and logged once for each change.

use std::error::Error as StdError;
use std::io;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rustls::CertificateError;
use tokio::time::Instant;

use super::address::RefusedAddress;
use crate::error::{Cause, Certificate};

/// The time after a recovery for which the same cause is not logged again.
const MIN_LOG_PAUSE: Duration = Duration::from_secs(60);

/// The cause of an error of the HTTP client.
pub(super) fn of(error: &reqwest::Error, is_https: bool) -> Cause {
    if error.is_dns() {
        let refused = error.source().is_some_and(is_refused_address);
        return if refused { Cause::PrivateAddress } else { Cause::Dns };
    }
    let in_handshake = error.is_connect() && is_https;
    if let Some(cause) = error.source().and_then(|source| of_chain(source, in_handshake)) {
        return cause;
    }
    match (error.is_timeout(), error.is_connect()) {
        (true, true) => Cause::ConnectTimeout,
        (true, false) => Cause::ResponseTimeout,
        (false, _) => Cause::Other,
    }
}

/// Whether the resolver refused the addresses of the host.
fn is_refused_address(first: &(dyn StdError + 'static)) -> bool {
    let mut next = Some(first);
    while let Some(error) = next {
        if error.is::<RefusedAddress>() {
            return true;
        }
        next = error.source();
    }
    false
}

/// The cause that the errors of a chain have. The first error with a cause decides. `in_handshake`: the connection was in the TLS
/// handshake.
fn of_chain(first: &(dyn StdError + 'static), in_handshake: bool) -> Option<Cause> {
    let mut next = Some(first);
    while let Some(error) = next {
        let cause = of_source(error, in_handshake);
        if cause.is_some() {
            return cause;
        }
        next = error.source();
    }
    None
}

/// The cause that one error has.
fn of_source(source: &(dyn StdError + 'static), in_handshake: bool) -> Option<Cause> {
    if let Some(error) = source.downcast_ref::<rustls::Error>() {
        return Some(of_tls(error));
    }
    if let Some(error) = source.downcast_ref::<io::Error>() {
        // The inner error is not in the chain of sources.
        let inner = error.get_ref().and_then(|inner| of_chain(inner, in_handshake));
        return inner.or_else(|| of_system(error.kind(), in_handshake));
    }
    if let Some(error) = source.downcast_ref::<hyper::Error>() {
        return if error.is_parse() {
            Some(Cause::NoHttp)
        } else if error.is_incomplete_message() {
            Some(Cause::Closed)
        } else {
            None
        };
    }
    // The type is private.
    source.to_string().starts_with("tunnel error").then_some(Cause::Proxy)
}

fn of_system(kind: io::ErrorKind, in_handshake: bool) -> Option<Cause> {
    use io::ErrorKind as Io;
    Some(match kind {
        Io::ConnectionRefused => Cause::Refused,
        Io::HostUnreachable | Io::NetworkUnreachable | Io::NetworkDown | Io::AddrNotAvailable => Cause::Unreachable,
        Io::ConnectionReset | Io::ConnectionAborted | Io::BrokenPipe | Io::UnexpectedEof if in_handshake => {
            Cause::HandshakeEnded
        }
        Io::ConnectionReset | Io::ConnectionAborted | Io::BrokenPipe | Io::UnexpectedEof => Cause::Closed,
        // `of` distinguishes timeouts of connections and of responses.
        _ => return None,
    })
}

fn of_tls(error: &rustls::Error) -> Cause {
    use rustls::Error as Tls;
    Cause::Certificate(match error {
        Tls::InvalidCertificate(error) => match error {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => Certificate::Expired,
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => Certificate::NotYetValid,
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                Certificate::OtherName
            }
            CertificateError::UnknownIssuer => Certificate::UnknownIssuer,
            CertificateError::Revoked => Certificate::Revoked,
            // The type is private. Most self-signed certificates cause this error.
            CertificateError::Other(other) if format!("{other:?}").contains("CaUsedAsEndEntity") => {
                Certificate::SelfSigned
            }
            _ => Certificate::Invalid,
        },
        Tls::NoCertificatesPresented => Certificate::Invalid,
        Tls::InvalidMessage(_) => return Cause::NoTls,
        _ => return Cause::Tls,
    })
}

/// Whether LeadSquared can be reached, and why not.
#[derive(Debug, Default)]
pub(super) struct Outage(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    current: Option<Cause>,
    /// The cause that was logged last, and when.
    logged: Option<(Cause, Instant)>,
    /// Whether the end of the outage with this cause was logged.
    is_end_logged: bool,
}

/// A change to log.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum OutageChange {
    Began,
    Ended,
}

impl Outage {
    /// The cause of the current outage.
    pub(super) fn current(&self) -> Option<Cause> {
        self.state().current
    }

    /// Records a failed attempt.
    pub(super) fn failed(&self, cause: Cause, now: Instant) -> Option<OutageChange> {
        let mut state = self.state();
        state.current = Some(cause);
        let is_known = state.logged.is_some_and(|(logged, at)| {
            logged == cause && (!state.is_end_logged || now.saturating_duration_since(at) < MIN_LOG_PAUSE)
        });
        if is_known {
            return None;
        }
        state.logged = Some((cause, now));
        state.is_end_logged = false;
        Some(OutageChange::Began)
    }

    /// Records a response.
    pub(super) fn ended(&self, now: Instant) -> Option<OutageChange> {
        let mut state = self.state();
        state.current.take()?;
        let (cause, _) = state.logged?;
        if state.is_end_logged {
            return None;
        }
        state.is_end_logged = true;
        state.logged = Some((cause, now));
        Some(OutageChange::Ended)
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_change_of_the_cause_is_logged_once_and_repeated_changes_are_not() {
        let outage = Outage::default();
        let now = Instant::now();
        assert_eq!(outage.ended(now), None);
        assert_eq!(outage.failed(Cause::Refused, now), Some(OutageChange::Began));
        assert_eq!(outage.failed(Cause::Refused, now + MIN_LOG_PAUSE * 2), None);
        assert_eq!(outage.failed(Cause::Dns, now), Some(OutageChange::Began));
        assert_eq!(outage.current(), Some(Cause::Dns));
        assert_eq!(outage.ended(now), Some(OutageChange::Ended));
        assert_eq!((outage.current(), outage.ended(now)), (None, None));
        for _ in 0..3 {
            assert_eq!(outage.failed(Cause::Dns, now), None);
            assert_eq!(outage.ended(now), None);
        }
        assert_eq!(
            outage.failed(Cause::Dns, now + MIN_LOG_PAUSE),
            Some(OutageChange::Began)
        );
    }

    #[test]
    fn system_errors_and_tls_errors_are_classified() {
        use io::ErrorKind as Io;
        let system = |kind, in_handshake| of_source(&io::Error::from(kind), in_handshake);
        assert_eq!(system(Io::ConnectionRefused, true), Some(Cause::Refused));
        assert_eq!(system(Io::HostUnreachable, true), Some(Cause::Unreachable));
        assert_eq!(system(Io::ConnectionReset, false), Some(Cause::Closed));
        assert_eq!(system(Io::UnexpectedEof, true), Some(Cause::HandshakeEnded));
        assert_eq!(system(Io::TimedOut, true), None);
        // As reqwest returns it: one system error inside of another.
        let tls = |error| of_source(&io::Error::other(io::Error::other(error)), true);
        let certificate = |error| tls(rustls::Error::InvalidCertificate(error));
        for (error, cause) in [
            (CertificateError::Expired, Certificate::Expired),
            (CertificateError::NotValidYet, Certificate::NotYetValid),
            (CertificateError::NotValidForName, Certificate::OtherName),
            (CertificateError::UnknownIssuer, Certificate::UnknownIssuer),
            (CertificateError::Revoked, Certificate::Revoked),
            (CertificateError::BadSignature, Certificate::Invalid),
        ] {
            assert_eq!(certificate(error), Some(Cause::Certificate(cause)));
        }
        let message = rustls::InvalidMessage::InvalidContentType;
        assert_eq!(tls(rustls::Error::InvalidMessage(message)), Some(Cause::NoTls));
        assert_eq!(tls(rustls::Error::HandshakeNotComplete), Some(Cause::Tls));
    }
}
