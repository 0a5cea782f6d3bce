//! Decides which caller an RPC belongs to, and whether the caller's settings allow the RPC and the tenant. Callers without a valid
//! credential learn nothing: no methods, no tenants, and not why the credential is not valid.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderValue, header};

use super::client_certificate::ClientCertificate;
use super::metadata;
use super::rpc_log::RpcLog;
use crate::clock;
use crate::domain::pause::Pause;
use crate::error::{Denial, Error, ErrorKind, Result};
use crate::identity::permission::Permissions;
use crate::identity::{AuthMode, Authenticator, Caller, Identification, RestRules};
use crate::telemetry::metrics::Metrics;
use crate::tenant::{Tenant, Tenants};

/// The service that every client may use.
const HEALTH: &str = "/grpc.health.v1.Health/";
/// The services that every known caller may use.
const REFLECTION: &str = "/grpc.reflection.";
/// The interval in which the caller of a stream is identified again.
const RECHECK_INTERVAL: Duration = Duration::from_secs(2);
/// The services that belong to a tenant.
const OWN: &str = "/leadgate.";

/// Whether an RPC is one of the health service.
pub(super) fn is_health(path: &str) -> bool {
    path.starts_with(HEALTH)
}

/// Identifies callers, and checks what they may use.
#[derive(Clone)]
pub(super) struct AccessControl {
    authenticator: Arc<Authenticator>,
    tenants: Tenants,
    metrics: Arc<Metrics>,
}

/// The credentials of a request. A stream keeps them, since the caller must be known as long as the stream lasts.
#[derive(Clone)]
pub(super) struct Credentials {
    authorization: Option<HeaderValue>,
    /// Whether there are several values, so that none is used.
    is_ambiguous: bool,
    certificate: Option<Arc<ClientCertificate>>,
}

/// The result of an identification.
pub(super) enum Identified {
    /// The caller. `None`: the RPC needs none.
    Caller(Option<Arc<Caller>>),
    /// The keys of the issuer must be fetched before the caller is known.
    NeedsKeys,
}

/// What is checked again from time to time while a stream lasts.
#[derive(Clone)]
pub(super) struct StreamAccess {
    pub(super) credentials: Credentials,
    pub(super) path: String,
    pub(super) caller: Arc<str>,
    pub(super) tenant: String,
    pub(super) permissions: Arc<Permissions>,
}

impl Credentials {
    /// The credentials in the metadata of a request, and the client certificate of its connection.
    pub(super) fn new(headers: &HeaderMap, certificate: Option<&Arc<ClientCertificate>>) -> Self {
        let mut values = headers.get_all(header::AUTHORIZATION).iter();
        Self {
            authorization: values.next().cloned(),
            is_ambiguous: values.next().is_some(),
            certificate: certificate.cloned(),
        }
    }

    fn identify(&self, authenticator: &Authenticator) -> Identification {
        let now = clock::now().into();
        let authorization = match self.is_ambiguous {
            // Not a valid value.
            true => Some(b"".as_slice()),
            false => self.authorization.as_ref().map(HeaderValue::as_bytes),
        };
        match (authorization, &self.certificate) {
            (None, Some(certificate)) => match certificate.names(now) {
                Some(names) => authenticator.identify(None, Some(names), now),
                None => Identification::Unknown("invalid_certificate"),
            },
            _ => authenticator.identify(authorization, None, now),
        }
    }
}

impl AccessControl {
    /// Makes the access control of these tenants.
    pub(super) fn new(authenticator: Arc<Authenticator>, tenants: Tenants, metrics: Arc<Metrics>) -> Self {
        Self {
            authenticator,
            tenants,
            metrics,
        }
    }

    /// Whether callers are identified at all.
    pub(super) fn mode(&self) -> AuthMode {
        self.authenticator.mode()
    }

    /// Identifies the caller of a request.
    pub(super) fn identify(
        &self,
        path: &str,
        headers: &HeaderMap,
        credentials: &Credentials,
        log: &RpcLog,
    ) -> Result<Identified> {
        if is_health(path) {
            return Ok(Identified::Caller(None));
        }
        if self.authenticator.mode() == AuthMode::None {
            let caller = Arc::new(Caller {
                name: metadata::caller(headers)?,
                permissions: Permissions::all(),
                rest: RestRules::default(),
            });
            return Ok(Identified::Caller(Some(caller)));
        }
        match credentials.identify(&self.authenticator) {
            Identification::Caller(caller) => Ok(Identified::Caller(Some(caller))),
            Identification::UnknownTokenKey => Ok(Identified::NeedsKeys),
            Identification::Unknown(reason) => Err(self.unknown(reason, log)),
        }
    }

    /// The caller of that name, whom another replica has identified.
    pub(super) fn named(&self, name: &str, log: &RpcLog) -> Result<Arc<Caller>> {
        let caller = self.authenticator.named(name);
        caller.ok_or_else(|| self.unknown("unknown_forwarded_caller", log))
    }

    /// The caller of that name, whom another replica has identified by a pair of keys of the REST listener.
    pub(super) fn rest_caller(&self, name: &str) -> Result<Arc<Caller>> {
        self.authenticator.rest_caller(name).ok_or_else(|| {
            self.metrics.auth_failed("unknown_forwarded_caller");
            ErrorKind::CallerUnknown.into()
        })
    }

    /// Fetches the keys of the issuer, and identifies the caller again.
    pub(super) async fn identify_with_new_keys(
        &self,
        path: &str,
        headers: &HeaderMap,
        credentials: &Credentials,
        log: &RpcLog,
    ) -> Result<Option<Arc<Caller>>> {
        self.authenticator.refresh_keys().await;
        match self.identify(path, headers, credentials, log)? {
            Identified::Caller(caller) => Ok(caller),
            Identified::NeedsKeys => Err(self.unknown("token_unknown_key", log)),
        }
    }

    /// Returns the tenant of an RPC if the caller may use both. `None`: the RPC belongs to no tenant.
    pub(super) fn authorize(
        &self,
        caller: &Caller,
        path: &str,
        is_known_method: bool,
        headers: &HeaderMap,
    ) -> Result<Option<Arc<Tenant>>> {
        if path.starts_with(REFLECTION) {
            return Ok(None);
        }
        if !caller.permissions.allows_method(path) {
            return Err(ErrorKind::CallerNotAllowed(Denial::Method).into());
        }
        if !path.starts_with(OWN) || !is_known_method {
            return Ok(None);
        }
        self.tenant(headers, caller).map(Some)
    }

    /// The tenant of a request, if the caller may use it.
    pub(super) fn tenant(&self, headers: &HeaderMap, caller: &Caller) -> Result<Arc<Tenant>> {
        self.tenants
            .get(metadata::tenant(headers), &caller.permissions)
            .cloned()
    }

    /// The pause of a tenant. `None`: it is not paused.
    pub(super) fn pause_of(&self, tenant: &Tenant) -> Option<Pause> {
        self.tenants.pauses().of(tenant.name())
    }

    /// Whether there is a tenant with that name.
    pub(super) fn is_tenant(&self, name: &str) -> bool {
        self.tenants.named(name).is_some()
    }

    /// Resolves when the caller of a stream is not known any more, may not use the RPC or the tenant any more, or has other rules
    /// for fields.
    pub(super) async fn revoked(self, access: Option<StreamAccess>) -> Error {
        let Some(access) = access else {
            return std::future::pending().await;
        };
        loop {
            tokio::time::sleep(RECHECK_INTERVAL).await;
            let denial = match access.credentials.identify(&self.authenticator) {
                Identification::Caller(caller) if caller.name == access.caller => match &caller.permissions {
                    permissions if !permissions.allows_method(&access.path) => Denial::Method,
                    permissions if !permissions.allows_tenant(&access.tenant) => Denial::Tenant,
                    permissions if !permissions.has_field_rules_of(&access.permissions) => {
                        return ErrorKind::StreamInterrupted.into();
                    }
                    _ => continue,
                },
                _ => return ErrorKind::CallerUnknown.into(),
            };
            return ErrorKind::CallerNotAllowed(denial).into();
        }
    }

    /// Records why the caller of a request is not known. The error does not say it.
    fn unknown(&self, reason: &'static str, log: &RpcLog) -> Error {
        log.set_auth_failure(reason);
        self.metrics.auth_failed(reason);
        ErrorKind::CallerUnknown.into()
    }
}
