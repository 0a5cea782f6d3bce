//! The settings of traces: `[telemetry]`, and the standard environment variables of OpenTelemetry, which win over it
//! (<https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/>). Invalid values are errors.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, header};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde::Deserialize;
use url::Url;

/// The path of traces at a collector with HTTP.
const TRACES_PATH: &str = "v1/traces";
/// The range of all times.
const MILLISECONDS: RangeInclusive<u64> = 1..=600_000;
/// The range of the size of the queue, and of a batch.
const QUEUE_SIZES: RangeInclusive<usize> = 1..=65_536;

/// The headers that belong to the connection or to the message of an export.
const OWN_HEADERS: [HeaderName; 9] = [
    header::CONNECTION,
    header::CONTENT_ENCODING,
    header::CONTENT_LENGTH,
    header::CONTENT_TYPE,
    header::EXPECT,
    header::HOST,
    header::TE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// The settings `[telemetry]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TelemetrySettings {
    /// The URL of the collector. Empty: traces are off.
    pub otlp_endpoint: String,
    /// The protocol of the export.
    pub otlp_protocol: OtlpProtocol,
    /// The part of the traces without a sampled parent that are sampled, from 0 to 1.
    pub sampling: f64,
    /// The name of this service in traces.
    pub service_name: String,
}

/// The protocol of the export.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
pub enum OtlpProtocol {
    /// Protobuf over HTTP/1.1.
    #[serde(rename = "http/protobuf")]
    HttpProtobuf,
    /// gRPC.
    #[serde(rename = "grpc")]
    Grpc,
}

/// How traces are sampled.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampler {
    /// Whether the sampled flag of an incoming trace context decides.
    pub follows_parent: bool,
    /// The part of all other traces that are sampled, from 0 to 1.
    pub ratio: f64,
}

/// The settings of traces that are on, checked.
#[derive(Clone)]
pub struct TraceSettings {
    /// The URL of the export.
    pub endpoint: Url,
    /// The protocol of the export.
    pub protocol: OtlpProtocol,
    /// The headers of an export. They may be secret.
    pub headers: HeaderMap,
    /// Maximum time of an export, retries included.
    pub timeout: Duration,
    /// Whether exports are compressed.
    pub gzip: bool,
    /// The CAs of the collector's certificate, PEM. `None`: those of the system.
    pub certificate: Option<Vec<u8>>,
    /// The attributes of this process.
    pub resource: BTreeMap<String, String>,
    /// How traces are sampled.
    pub sampler: Sampler,
    /// Maximum time until a batch is exported.
    pub schedule_delay: Duration,
    /// Maximum number of spans that wait for the export.
    pub max_queue_size: usize,
    /// Maximum number of spans of an export.
    pub max_batch_size: usize,
}

/// An invalid environment variable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VariableError {
    /// The name of the variable.
    pub variable: &'static str,
    /// The expected value.
    pub message: String,
}

impl TelemetrySettings {
    /// Returns the errors: the setting, and the expected value.
    pub fn validate(&self) -> Vec<(&'static str, String)> {
        let mut errors = vec![];
        if !self.otlp_endpoint.is_empty()
            && let Err(message) = endpoint(&self.otlp_endpoint, self.otlp_protocol, true)
        {
            errors.push(("otlp_endpoint", format!("{message}, or empty: traces are off")));
        }
        if !(0.0..=1.0).contains(&self.sampling) {
            errors.push(("sampling", "must be 0 to 1".to_owned()));
        }
        if self.service_name.is_empty() {
            errors.push(("service_name", "must not be empty".to_owned()));
        }
        errors
    }

    /// Returns the settings of traces with the environment variables over them. `None`: traces are off.
    pub fn traces(&self, environment: &BTreeMap<String, String>) -> Result<Option<TraceSettings>, Vec<VariableError>> {
        let mut variables = Variables {
            environment,
            errors: vec![],
        };
        let traces = self.read(&mut variables);
        match variables.errors.is_empty() {
            true => Ok(traces),
            false => Err(variables.errors),
        }
    }

    fn read(&self, variables: &mut Variables<'_>) -> Option<TraceSettings> {
        let is_disabled = variables.parse(&["OTEL_SDK_DISABLED"], "must be true or false", |text| {
            text.to_ascii_lowercase().parse::<bool>().ok()
        });
        let is_exported = variables.parse(
            &["OTEL_TRACES_EXPORTER"],
            "must be otlp or none: no other exporter is supported",
            |text| match text {
                "otlp" => Some(true),
                "none" => Some(false),
                _ => None,
            },
        );
        variables.refuse(&[
            "OTEL_EXPORTER_OTLP_TRACES_CLIENT_KEY",
            "OTEL_EXPORTER_OTLP_CLIENT_KEY",
            "OTEL_EXPORTER_OTLP_TRACES_CLIENT_CERTIFICATE",
            "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE",
        ]);
        let protocol = variables.parse(
            &["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"],
            "must be http/protobuf or grpc: no other protocol is supported",
            |text| match text {
                "http/protobuf" => Some(OtlpProtocol::HttpProtobuf),
                "grpc" => Some(OtlpProtocol::Grpc),
                _ => None,
            },
        );
        let protocol = protocol.unwrap_or(self.otlp_protocol);
        let endpoint = self.endpoint(variables, protocol);
        let headers = variables.try_parse(
            &["OTEL_EXPORTER_OTLP_TRACES_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS"],
            headers,
        );
        let times = [
            &["OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "OTEL_EXPORTER_OTLP_TIMEOUT"][..],
            &["OTEL_BSP_EXPORT_TIMEOUT"],
            &["OTEL_BSP_SCHEDULE_DELAY"],
        ];
        let [timeout, export_timeout, schedule_delay] = times.map(|names| {
            let milliseconds = variables.number(names, MILLISECONDS, " milliseconds");
            milliseconds.map(Duration::from_millis)
        });
        let gzip = variables.parse(
            &[
                "OTEL_EXPORTER_OTLP_TRACES_COMPRESSION",
                "OTEL_EXPORTER_OTLP_COMPRESSION",
            ],
            "must be gzip or none",
            |text| match text {
                "gzip" => Some(true),
                "none" => Some(false),
                _ => None,
            },
        );
        let certificate = variables.try_parse(
            &[
                "OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE",
                "OTEL_EXPORTER_OTLP_CERTIFICATE",
            ],
            |path| certificate(Path::new(path)),
        );
        let resource = self.resource(variables);
        let sampler = self.sampler(variables);
        let max_queue_size = variables.number(&["OTEL_BSP_MAX_QUEUE_SIZE"], QUEUE_SIZES, "");
        let max_queue_size = max_queue_size.unwrap_or(2_048);
        let batch = "OTEL_BSP_MAX_EXPORT_BATCH_SIZE";
        let max_batch_size = variables.number(&[batch], QUEUE_SIZES, "");
        if max_batch_size.is_some_and(|size| size > max_queue_size) {
            variables.error(
                batch,
                format!("must be at most OTEL_BSP_MAX_QUEUE_SIZE, which is {max_queue_size}"),
            );
        }
        if is_disabled == Some(true) || is_exported == Some(false) {
            return None;
        }
        let timeout = timeout.unwrap_or(Duration::from_secs(10));
        Some(TraceSettings {
            endpoint: endpoint?,
            protocol,
            headers: headers.unwrap_or_default(),
            timeout: timeout.min(export_timeout.unwrap_or(Duration::from_secs(30))),
            gzip: gzip.unwrap_or(false),
            certificate,
            resource,
            sampler,
            schedule_delay: schedule_delay.unwrap_or(Duration::from_secs(5)),
            max_queue_size,
            max_batch_size: max_batch_size.unwrap_or(512).min(max_queue_size),
        })
    }

    /// The URL of the export. `None`: traces are off, or the URL is invalid.
    fn endpoint(&self, variables: &mut Variables<'_>, protocol: OtlpProtocol) -> Option<Url> {
        let own = variables.try_parse(&["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"], |text| {
            endpoint(text, protocol, false)
        });
        let general = variables.try_parse(&["OTEL_EXPORTER_OTLP_ENDPOINT"], |text| endpoint(text, protocol, true));
        own.or(general).or_else(|| {
            let text = Some(&self.otlp_endpoint).filter(|text| !text.is_empty())?;
            match endpoint(text, protocol, true) {
                Ok(url) => Some(url),
                // `validate` has checked it for the protocol of the settings.
                Err(_) if protocol == self.otlp_protocol => None,
                Err(message) => {
                    let message = format!("is grpc, for which telemetry.otlp_endpoint {message}");
                    variables.error("OTEL_EXPORTER_OTLP_PROTOCOL", message);
                    None
                }
            }
        })
    }

    fn resource(&self, variables: &mut Variables<'_>) -> BTreeMap<String, String> {
        let mut resource = BTreeMap::from([("service.name".to_owned(), self.service_name.clone())]);
        let pairs = variables.try_parse(&["OTEL_RESOURCE_ATTRIBUTES"], pairs);
        resource.extend(pairs.unwrap_or_default());
        if let Some((_, name)) = variables.get(&["OTEL_SERVICE_NAME"]) {
            resource.insert("service.name".to_owned(), name.to_owned());
        }
        resource
    }

    fn sampler(&self, variables: &mut Variables<'_>) -> Sampler {
        let ratio = variables.parse(&["OTEL_TRACES_SAMPLER_ARG"], "must be a number from 0 to 1", |text| {
            f64::from_str(text).ok().filter(|ratio| (0.0..=1.0).contains(ratio))
        });
        let ratio = ratio.unwrap_or(self.sampling);
        let sampler = |follows_parent, ratio| Sampler { follows_parent, ratio };
        let named = variables.parse(
            &["OTEL_TRACES_SAMPLER"],
            "must be always_on, always_off or traceidratio, or one of them after parentbased_: no other sampler is supported",
            |name| {
                let own = name.strip_prefix("parentbased_");
                let ratio = match own.unwrap_or(name) {
                    "always_on" => 1.0,
                    "always_off" => 0.0,
                    "traceidratio" => ratio,
                    _ => return None,
                };
                Some(sampler(own.is_some(), ratio))
            },
        );
        named.unwrap_or(sampler(true, ratio))
    }
}

impl TraceSettings {
    /// The host and port of the collector, for logs.
    pub fn collector(&self) -> String {
        let port = self.endpoint.port_or_known_default().unwrap_or_default();
        format!("{}:{port}", self.endpoint.host_str().unwrap_or_default())
    }
}

impl fmt::Debug for TraceSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The headers may be secret.
        f.debug_struct("TraceSettings")
            .field("endpoint", &self.endpoint.as_str())
            .field("protocol", &self.protocol)
            .field("sampler", &self.sampler)
            .finish_non_exhaustive()
    }
}

/// Reads environment variables, and collects the errors. An empty variable is an absent one. No error contains a value.
struct Variables<'a> {
    environment: &'a BTreeMap<String, String>,
    errors: Vec<VariableError>,
}

impl<'a> Variables<'a> {
    /// The first of these variables that is set.
    fn get(&self, names: &[&'static str]) -> Option<(&'static str, &'a str)> {
        let set = |name: &&'static str| {
            let text = self.environment.get(*name)?.trim();
            (!text.is_empty()).then_some((*name, text))
        };
        names.iter().find_map(set)
    }

    fn try_parse<T>(&mut self, names: &[&'static str], parse: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
        let (name, text) = self.get(names)?;
        match parse(text) {
            Ok(value) => Some(value),
            Err(message) => {
                self.error(name, message);
                None
            }
        }
    }

    fn parse<T>(&mut self, names: &[&'static str], expected: &str, parse: impl FnOnce(&str) -> Option<T>) -> Option<T> {
        self.try_parse(names, |text| parse(text).ok_or_else(|| expected.to_owned()))
    }

    fn number<T: FromStr + PartialOrd + fmt::Display>(
        &mut self,
        names: &[&'static str],
        range: RangeInclusive<T>,
        unit: &str,
    ) -> Option<T> {
        let expected = format!("must be {} to {}{unit}", range.start(), range.end());
        self.parse(names, &expected, |text| {
            text.parse().ok().filter(|number| range.contains(number))
        })
    }

    /// Variables that would be ignored.
    fn refuse(&mut self, names: &[&'static str]) {
        for name in names {
            if self.get(&[name]).is_some() {
                self.error(name, "is not supported: remove it".to_owned());
            }
        }
    }

    fn error(&mut self, variable: &'static str, message: String) {
        self.errors.push(VariableError { variable, message });
    }
}

/// The URL of the export. `is_base`: the path of traces is added for HTTP.
fn endpoint(text: &str, protocol: OtlpProtocol, is_base: bool) -> Result<Url, String> {
    let expected = || "must be an http:// or https:// URL without user name, password, query and fragment".to_owned();
    let mut url = Url::parse(text).map_err(|_| expected())?;
    let is_bare = url.username().is_empty() && url.password().is_none() && url.query().is_none();
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() || !is_bare || url.fragment().is_some() {
        return Err(expected());
    }
    match protocol {
        OtlpProtocol::Grpc if url.path() != "/" => return Err("must have no path with the protocol grpc".to_owned()),
        OtlpProtocol::HttpProtobuf if is_base => {
            let path = format!("{}/{TRACES_PATH}", url.path().trim_end_matches('/'));
            url.set_path(&path);
        }
        OtlpProtocol::Grpc | OtlpProtocol::HttpProtobuf => {}
    }
    Ok(url)
}

/// Parses `NAME=VALUE,NAME=VALUE`, with percent-encoded values.
fn pairs(text: &str) -> Result<Vec<(String, String)>, String> {
    let expected = || "must be NAME=VALUE pairs with commas between them; values are percent-encoded".to_owned();
    let parse = |pair: &str| {
        let (name, value) = pair.split_once('=')?;
        let name = name.trim();
        (!name.is_empty()).then_some((name.to_owned(), decoded(value.trim())?))
    };
    let pairs = text.split(',').filter(|pair| !pair.trim().is_empty());
    pairs.map(|pair| parse(pair).ok_or_else(expected)).collect()
}

/// Decodes percent-encoded text.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let digit = |b: u8| char::from(b).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
                let (high, low) = (digit(rest.next()?)?, digit(rest.next()?)?);
                16 * high + low
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

fn headers(text: &str) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs(text)? {
        let name = HeaderName::from_str(&name.to_lowercase());
        let value = HeaderValue::from_str(&value);
        let (Ok(name), Ok(mut value)) = (name, value) else {
            return Err("has an invalid name or value of a header".to_owned());
        };
        if OWN_HEADERS.contains(&name) {
            return Err(format!("must not have the header {name}, which leadgate sets itself"));
        }
        value.set_sensitive(true);
        headers.insert(name, value);
    }
    Ok(headers)
}

/// Reads the certificates of a file.
fn certificate(path: &Path) -> Result<Vec<u8>, String> {
    let pem = std::fs::read(path).map_err(|error| format!("reading {} failed: {error}", path.display()))?;
    let count = CertificateDer::pem_slice_iter(&pem).filter(Result::is_ok).count();
    match count {
        0 => Err(format!("{} has no certificate in PEM form", path.display())),
        _ => Ok(pem),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> TelemetrySettings {
        TelemetrySettings {
            otlp_endpoint: String::new(),
            otlp_protocol: OtlpProtocol::HttpProtobuf,
            sampling: 0.5,
            service_name: "leadgate".to_owned(),
        }
    }

    fn read(settings: &TelemetrySettings, variables: &[(&str, &str)]) -> Result<Option<TraceSettings>, Vec<String>> {
        let pairs = variables
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_string()));
        let read = settings.traces(&pairs.collect());
        read.map_err(|errors| {
            errors
                .into_iter()
                .map(|error| format!("{}: {}", error.variable, error.message))
                .collect()
        })
    }

    const BASE: (&str, &str) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318");

    fn with(variable: (&str, &str)) -> TraceSettings {
        read(&settings(), &[BASE, variable]).unwrap().unwrap()
    }

    #[test]
    fn traces_are_off_without_an_endpoint() {
        assert!(read(&settings(), &[]).unwrap().is_none());
        assert!(
            read(&settings(), &[("OTEL_EXPORTER_OTLP_ENDPOINT", "")])
                .unwrap()
                .is_none()
        );
        assert!(read(&settings(), &[BASE]).unwrap().is_some());
        for (off, on) in [
            (("OTEL_SDK_DISABLED", "TRUE"), ("OTEL_SDK_DISABLED", "false")),
            (("OTEL_TRACES_EXPORTER", "none"), ("OTEL_TRACES_EXPORTER", "otlp")),
        ] {
            assert!(read(&settings(), &[BASE, off]).unwrap().is_none(), "{off:?}");
            assert!(read(&settings(), &[BASE, on]).unwrap().is_some(), "{on:?}");
        }
    }

    #[test]
    fn the_endpoint_of_traces_wins_over_the_general_one_and_that_over_the_setting() {
        let own = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://own:1/exact");
        let set = TelemetrySettings {
            otlp_endpoint: "https://set/base/".to_owned(),
            ..settings()
        };
        let url = |variables: &[(&str, &str)]| read(&set, variables).unwrap().unwrap().endpoint.to_string();
        assert_eq!(url(&[]), "https://set/base/v1/traces");
        assert_eq!(url(&[BASE]), "http://collector:4318/v1/traces");
        assert_eq!(url(&[BASE, own]), "http://own:1/exact");
        let grpc = ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc");
        assert_eq!(url(&[BASE, grpc]), "http://collector:4318/");
        assert_eq!(
            read(&set, &[grpc]).unwrap_err(),
            [
                "OTEL_EXPORTER_OTLP_PROTOCOL: is grpc, for which telemetry.otlp_endpoint must have no path with the protocol grpc"
            ]
        );
        let of_traces = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/protobuf");
        assert_eq!(url(&[BASE, grpc, of_traces]), "http://collector:4318/v1/traces");
    }

    #[test]
    fn the_variables_of_the_export_are_read() {
        let all = with(("OTEL_EXPORTER_OTLP_HEADERS", "api-key=a%20b, X-Team=sales"));
        assert_eq!(all.headers["api-key"], "a b");
        assert_eq!(all.headers["x-team"], "sales");
        assert!(!format!("{all:?}").contains("a b"));
        assert_eq!(all.timeout, Duration::from_secs(10));
        assert_eq!((all.max_queue_size, all.max_batch_size), (2_048, 512));
        assert_eq!(all.schedule_delay, Duration::from_secs(5));
        let timeout = |name| with((name, "1500")).timeout;
        assert_eq!(timeout("OTEL_EXPORTER_OTLP_TIMEOUT"), Duration::from_millis(1_500));
        assert_eq!(timeout("OTEL_BSP_EXPORT_TIMEOUT"), Duration::from_millis(1_500));
        assert!(with(("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")).gzip);
        assert_eq!(with(("OTEL_BSP_MAX_QUEUE_SIZE", "100")).max_batch_size, 100);
    }

    #[test]
    fn the_name_of_the_service_is_from_its_own_variable_first() {
        let set = ("OTEL_RESOURCE_ATTRIBUTES", "service.name=of%2Fset,region=in");
        assert_eq!(with(BASE).resource["service.name"], "leadgate");
        let resource = with(set).resource;
        assert_eq!(
            (resource["service.name"].as_str(), resource["region"].as_str()),
            ("of/set", "in")
        );
        let own = ("OTEL_SERVICE_NAME", "own");
        let both = read(&settings(), &[BASE, set, own]).unwrap().unwrap();
        assert_eq!(both.resource["service.name"], "own");
    }

    #[test]
    fn samplers_have_their_standard_names() {
        let sampler = |name: &str, arg: &str| {
            let variables = [BASE, ("OTEL_TRACES_SAMPLER", name), ("OTEL_TRACES_SAMPLER_ARG", arg)];
            let Sampler { follows_parent, ratio } = read(&settings(), &variables).unwrap().unwrap().sampler;
            (follows_parent, ratio)
        };
        for (name, arg, expected) in [
            ("", "", (true, 0.5)),
            ("", "0.25", (true, 0.25)),
            ("always_on", "", (false, 1.0)),
            ("always_off", "", (false, 0.0)),
            ("traceidratio", "0.1", (false, 0.1)),
            ("parentbased_always_on", "0.1", (true, 1.0)),
            ("parentbased_always_off", "", (true, 0.0)),
            ("parentbased_traceidratio", "0", (true, 0.0)),
        ] {
            assert_eq!(sampler(name, arg), expected, "{name} {arg}");
        }
    }

    #[test]
    fn every_invalid_variable_is_an_error_without_its_value() {
        for (name, value) in [
            ("OTEL_SDK_DISABLED", "secret"),
            ("OTEL_TRACES_EXPORTER", "secret"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "secret:4317"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://user:secret@collector"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector?key=secret"),
            ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "ftp://secret"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json/secret"),
            ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "secret"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "secret"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "a=%zzsecret"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "a b=secret"),
            ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "a=%0asecret"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "a=b,Content-Length=secret"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "host=secret"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "transfer-encoding=secret"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "connection=secret"),
            ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "content-type=secret"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "10s"),
            ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "0"),
            ("OTEL_EXPORTER_OTLP_COMPRESSION", "secret"),
            ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/nowhere/ca.pem"),
            ("OTEL_EXPORTER_OTLP_CLIENT_KEY", "/secret.key"),
            ("OTEL_RESOURCE_ATTRIBUTES", "secret"),
            ("OTEL_TRACES_SAMPLER", "secret"),
            ("OTEL_TRACES_SAMPLER_ARG", "1.5"),
            ("OTEL_BSP_SCHEDULE_DELAY", "-1"),
            ("OTEL_BSP_MAX_QUEUE_SIZE", "0"),
            ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "4096"),
            ("OTEL_BSP_EXPORT_TIMEOUT", "secret"),
        ] {
            // Also if traces are off.
            let errors = read(&settings(), &[(name, value)]).unwrap_err();
            assert_eq!(errors.len(), 1, "{errors:?}");
            assert!(errors[0].starts_with(&format!("{name}: ")), "{errors:?}");
            assert!(!errors[0].contains("secret"), "{errors:?}");
        }
    }

    #[test]
    fn invalid_settings_are_errors() {
        let invalid = TelemetrySettings {
            otlp_endpoint: "collector".to_owned(),
            sampling: f64::NAN,
            service_name: String::new(),
            ..settings()
        };
        let keys = invalid.validate().into_iter().map(|(key, _)| key);
        assert_eq!(keys.collect::<Vec<_>>(), ["otlp_endpoint", "sampling", "service_name"]);
        assert_eq!(settings().validate(), []);
    }
}
