//! Permissions: which RPCs, tenants and lead attributes a caller may use. The default permits nothing.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, LazyLock};

/// What a caller may do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Permissions {
    /// Tenants by name.
    pub tenants: Names,
    /// Patterns of RPCs. An RPC is permitted if one pattern matches it.
    pub allow: Vec<MethodPattern>,
    /// Lead attributes that the caller may neither write nor clear.
    pub deny_fields: Attributes,
    /// Lead attributes that the caller neither sees nor searches by.
    pub hide_fields: Attributes,
}

/// Names, or all of them (`*`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Names {
    /// Every name.
    All,
    /// These names.
    Some(BTreeSet<String>),
}

/// Schema names of lead attributes, compared without regard to case as LeadSquared compares them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attributes(BTreeSet<String>);

/// A pattern of what a caller may call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MethodPattern(Pattern);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Pattern {
    /// `*`: every RPC, and every endpoint of the REST API.
    All,
    /// `Service/Method`, where each part may end with `*`. The package `leadgate.v1.` may be left out.
    Rpc { service: Part, method: Part },
    /// `REST:Service.svc/Operation`: endpoints of the REST API, in lower case. `*` at the end matches any text.
    Rest(Part),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Exactly(String),
    StartsWith(String),
}

/// The beginning of the patterns of the REST API.
const REST: &str = "REST:";
/// The package of leadgate's own services.
const PACKAGE: &str = "leadgate.v1.";

impl Permissions {
    /// Whether both have the same rules for fields.
    pub fn has_field_rules_of(&self, other: &Self) -> bool {
        self.deny_fields == other.deny_fields && self.hide_fields == other.hide_fields
    }

    /// Whether there is a rule for fields.
    pub fn has_field_rules(&self) -> bool {
        !self.deny_fields.is_empty() || !self.hide_fields.is_empty()
    }

    /// Whether the caller may call an endpoint of the REST API: `service.svc/operation` in lower case.
    pub fn allows_rest(&self, folded: &str) -> bool {
        self.allow.iter().any(|pattern| pattern.matches_rest(folded))
    }

    /// Everything is permitted: a gateway without authentication.
    pub fn all() -> Arc<Self> {
        static ALL: LazyLock<Arc<Permissions>> = LazyLock::new(|| {
            Arc::new(Permissions {
                tenants: Names::All,
                allow: vec![MethodPattern::all()],
                deny_fields: Attributes::default(),
                hide_fields: Attributes::default(),
            })
        });
        ALL.clone()
    }

    /// Whether an RPC is permitted. `path` is that of the request: `/leadgate.v1.LeadService/GetLead`.
    pub fn allows_method(&self, path: &str) -> bool {
        self.allow.iter().any(|pattern| pattern.matches(path))
    }

    /// Whether a tenant is permitted.
    pub fn allows_tenant(&self, tenant: &str) -> bool {
        self.tenants.contains(tenant)
    }
}

impl Default for Names {
    fn default() -> Self {
        Self::Some(BTreeSet::new())
    }
}

impl Names {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        matches!(self, Self::Some(names) if names.is_empty())
    }

    /// Whether a name is one of them.
    pub fn contains(&self, name: &str) -> bool {
        match self {
            Self::All => true,
            Self::Some(names) => names.contains(name),
        }
    }
}

impl<S: Into<String>> FromIterator<S> for Names {
    fn from_iter<I: IntoIterator<Item = S>>(names: I) -> Self {
        let names: BTreeSet<String> = names.into_iter().map(Into::into).collect();
        match names.contains("*") {
            true => Self::All,
            false => Self::Some(names),
        }
    }
}

impl Attributes {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The names, in lower case.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }

    /// Whether an attribute is one of them.
    pub fn contains(&self, schema_name: &str) -> bool {
        !self.0.is_empty() && self.0.contains(&schema_name.to_ascii_lowercase())
    }
}

impl<S: AsRef<str>> FromIterator<S> for Attributes {
    fn from_iter<I: IntoIterator<Item = S>>(names: I) -> Self {
        Self(
            names
                .into_iter()
                .map(|name| name.as_ref().to_ascii_lowercase())
                .collect(),
        )
    }
}

impl MethodPattern {
    /// The pattern of everything.
    fn all() -> Self {
        Self(Pattern::All)
    }

    /// Whether it matches an RPC, such as `/leadgate.v1.LeadService/GetLead`.
    pub fn matches(&self, path: &str) -> bool {
        let Some(path) = path.strip_prefix('/') else {
            return false;
        };
        // A path of one part names no RPC.
        let (service, method) = path.split_once('/').unwrap_or((path, ""));
        match &self.0 {
            Pattern::All => true,
            Pattern::Rpc {
                service: of_service,
                method: of_method,
            } => of_service.matches(service) && of_method.matches(method),
            Pattern::Rest(_) => false,
        }
    }

    /// Whether it matches an endpoint of the REST API: `service.svc/operation` in lower case.
    pub fn matches_rest(&self, folded: &str) -> bool {
        match &self.0 {
            Pattern::All => true,
            Pattern::Rest(part) => part.matches(folded),
            Pattern::Rpc { .. } => false,
        }
    }

    /// Whether it is a pattern of the REST API.
    pub fn is_rest(&self) -> bool {
        matches!(self.0, Pattern::Rest(_))
    }
}

impl Part {
    fn matches(&self, text: &str) -> bool {
        match self {
            Self::Exactly(part) => part == text,
            Self::StartsWith(start) => text.starts_with(start.as_str()),
        }
    }
}

impl FromStr for MethodPattern {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const EXPECTED: &str = "must be \"*\" or SERVICE/METHOD, such as \"LeadService/*\" or \"ShareService/Get*\"; a * stands \
            only at the end of a part";
        if text == "*" {
            return Ok(Self::all());
        }
        if let Some(endpoints) = text.strip_prefix(REST) {
            return rest_pattern(endpoints).map(|part| Self(Pattern::Rest(part)));
        }
        let part = |text: &str| {
            let is_name = |text: &str| {
                text.chars()
                    .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.'))
            };
            match text.strip_suffix('*') {
                Some(start) if is_name(start) => Ok(Part::StartsWith(start.to_owned())),
                None if is_name(text) && !text.is_empty() => Ok(Part::Exactly(text.to_owned())),
                _ => Err(EXPECTED),
            }
        };
        let (service, method) = text
            .split_once('/')
            .filter(|(service, _)| !service.is_empty())
            .ok_or(EXPECTED)?;
        // `*/Get*` means the services of every package, reflection and health included.
        let is_full = service.contains('.') || service.starts_with('*');
        let service = match is_full {
            true => service.to_owned(),
            false => format!("{PACKAGE}{service}"),
        };
        Ok(Self(Pattern::Rpc {
            service: part(&service)?,
            method: part(method)?,
        }))
    }
}

impl fmt::Display for MethodPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let part = |part: &Part| match part {
            Part::Exactly(text) => text.clone(),
            Part::StartsWith(text) => format!("{text}*"),
        };
        match &self.0 {
            Pattern::All => f.write_str("*"),
            Pattern::Rpc { service, method } => write!(f, "{}/{}", part(service), part(method)),
            Pattern::Rest(endpoints) => write!(f, "{REST}{}", part(endpoints)),
        }
    }
}

/// The pattern of endpoints of the REST API.
fn rest_pattern(text: &str) -> Result<Part, &'static str> {
    const EXPECTED: &str = "must be \"REST:*\" or REST:SERVICE.svc/OPERATION, such as \"REST:LeadManagement.svc/Leads.*\", without \
        /v2/; a * stands only at the end";
    let is_name = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-/".contains(&b));
    let folded = text.to_ascii_lowercase();
    if folded.starts_with('/') || folded.starts_with("v2/") {
        return Err(EXPECTED);
    }
    match folded.strip_suffix('*') {
        Some(start) if is_name(start) => Ok(Part::StartsWith(start.to_owned())),
        None if is_name(&folded) && folded.contains('/') => Ok(Part::Exactly(folded)),
        _ => Err(EXPECTED),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, path: &str) -> bool {
        pattern.parse::<MethodPattern>().unwrap().matches(path)
    }

    #[test]
    fn a_pattern_matches_whole_parts_and_beginnings() {
        let get = "/leadgate.v1.LeadService/GetLead";
        for pattern in [
            "*",
            "*/*",
            "LeadService/*",
            "LeadService/Get*",
            "LeadService/GetLead",
            "Lead*/GetLead",
            "leadgate.v1.LeadService/GetLead",
            "leadgate.*/*",
        ] {
            assert!(matches(pattern, get), "{pattern}");
        }
        for pattern in [
            "ShareService/*",
            "LeadService/Get",
            "LeadService/getlead",
            "LeadServic/GetLead",
            "LeadService/GetLeads",
            "grpc.reflection.v1.ServerReflection/*",
        ] {
            assert!(!matches(pattern, get), "{pattern}");
        }
        assert!(!matches("*", "GetLead"));
        assert!(matches("*", "/GetLead") && !matches("LeadService/*", "/GetLead"));
        assert!(!matches("LeadService/*", "/other.LeadService/GetLead"));
        assert!(matches("LeadService/*", "/leadgate.v1.LeadService/NoSuchMethod"));
    }

    #[test]
    fn other_texts_are_no_patterns() {
        for text in [
            "",
            "LeadService",
            "/",
            "LeadService/",
            "/GetLead",
            "*Service/Get",
            "Lead*x/Get",
            "a/b/c",
            "a b/c",
        ] {
            let result = text.parse::<MethodPattern>();
            assert!(result.is_err(), "{text} {result:?}");
        }
    }

    #[test]
    fn a_pattern_of_the_rest_api_ignores_case_and_matches_slashes() {
        let matches = |pattern: &str, endpoint: &str| pattern.parse::<MethodPattern>().unwrap().matches_rest(endpoint);
        let bulk = "leadmanagement.svc/lead/bulk/create";
        for pattern in [
            "*",
            "REST:*",
            "REST:LeadManagement.svc/*",
            "REST:LEADMANAGEMENT.svc/Lead/Bulk/Create",
            "REST:Lead*",
        ] {
            assert!(matches(pattern, bulk), "{pattern}");
        }
        for pattern in [
            "REST:LeadManagement.svc/Leads.*",
            "REST:LeadManagement.svc/Lead/Bulk",
            "*/*",
            "LeadService/*",
        ] {
            assert!(!matches(pattern, bulk), "{pattern}");
        }
        for text in [
            "REST:",
            "REST:a b/c",
            "REST:*x",
            "REST:a/*b",
            "REST:name",
            "rest:*",
            "REST:/v2/a.svc/*",
            "REST:V2/a.svc/b",
        ] {
            assert!(text.parse::<MethodPattern>().is_err(), "{text}");
        }
        let rest: MethodPattern = "REST:*".parse().unwrap();
        assert!(!rest.matches("/leadgate.v1.RestService/Call") && rest.to_string() == "REST:*");
        assert!(Permissions::all().allows_rest(bulk) && !Permissions::default().allows_rest(bulk));
    }

    #[test]
    fn nothing_is_permitted_by_default() {
        let none = Permissions::default();
        assert!(!none.allows_method("/leadgate.v1.LeadService/GetLead"));
        assert!(!none.allows_tenant("acme"));
        let all = Permissions::all();
        assert!(all.allows_method("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"));
        assert!(all.allows_tenant("acme"));
    }

    #[test]
    fn tenants_are_exact_and_attributes_ignore_case() {
        let names: Names = ["acme"].into_iter().collect();
        assert!(names.contains("acme") && !names.contains("Acme") && !names.contains("acm"));
        assert_eq!(["acme", "*"].into_iter().collect::<Names>(), Names::All);
        let attributes: Attributes = ["OwnerId", "mx_PAN"].into_iter().collect();
        assert!(attributes.contains("ownerid") && attributes.contains("MX_Pan") && !attributes.contains("mx_PA"));
    }
}
