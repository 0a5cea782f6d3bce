//! The client certificate of a connection: its names, and whether it is still valid. A connection may live longer than its
//! certificate, or than the CA that the certificate is from.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use rustls::pki_types::CertificateDer;

use crate::identity::certificate::{SubjectName, subject_names};
use crate::tls::{self, Tls};

/// The client certificate of a connection.
pub(super) struct ClientCertificate {
    chain: Arc<[CertificateDer<'static>]>,
    names: Arc<[SubjectName]>,
    /// When the first certificate of the chain expires.
    expiry: SystemTime,
    tls: Arc<Tls>,
    /// The generation of the client CAs that the chain was verified with last. [`REFUSED`] is added if it was refused.
    verified: AtomicU64,
}

/// The highest bit of a generation.
const REFUSED: u64 = 1 << 63;

impl ClientCertificate {
    /// A chain that was verified at the handshake, the client's own certificate first. `None` if it is empty or unreadable.
    pub(super) fn new(chain: Arc<[CertificateDer<'static>]>, tls: Arc<Tls>) -> Option<Self> {
        let names = subject_names(chain.first()?).into();
        let expiry = tls::earliest_expiry(&chain).ok()?;
        // The CAs may have changed since the handshake, so the first request verifies again.
        let verified = AtomicU64::new(u64::MAX);
        Some(Self {
            chain,
            names,
            expiry,
            tls,
            verified,
        })
    }

    /// The names in the certificate, if it is valid now.
    pub(super) fn names(&self, now: SystemTime) -> Option<&Arc<[SubjectName]>> {
        (now < self.expiry && self.is_trusted(now)).then_some(&self.names)
    }

    /// Whether the present CAs trust the chain. It is verified again when they have changed.
    fn is_trusted(&self, now: SystemTime) -> bool {
        let generation = self.tls.generation();
        let verified = self.verified.load(Ordering::Relaxed);
        if verified & !REFUSED == generation {
            return verified & REFUSED == 0;
        }
        let is_trusted = self.tls.verify_client(&self.chain, now).is_ok();
        let refused = if is_trusted { 0 } else { REFUSED };
        self.verified.store(generation | refused, Ordering::Relaxed);
        is_trusted
    }
}
