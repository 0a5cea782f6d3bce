//! Client certificates: the subject alternative names that identify a caller.

use std::fmt;
use std::str::FromStr;

use rustls::pki_types::CertificateDer;
use webpki::EndEntityCert;

/// A subject alternative name: a URI such as `spiffe://prod/checkout`, or `dns:` and a DNS name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum SubjectName {
    /// A URI. Compared byte by byte.
    Uri(String),
    /// A DNS name, in lower case.
    Dns(String),
}

impl fmt::Display for SubjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uri(uri) => f.write_str(uri),
            Self::Dns(name) => write!(f, "dns:{name}"),
        }
    }
}

impl FromStr for SubjectName {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const EXPECTED: &str = "must be a URI such as \"spiffe://prod/checkout\", or \"dns:\" and a DNS name";
        if let Some(name) = text.strip_prefix("dns:") {
            let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
            if name.is_empty() || !name.chars().all(is_name) {
                return Err(EXPECTED);
            }
            return Ok(Self::Dns(name.to_ascii_lowercase()));
        }
        match text.split_once(':') {
            Some((scheme, rest)) if is_scheme(scheme) && !rest.is_empty() && !text.contains(char::is_whitespace) => {
                Ok(Self::Uri(text.to_owned()))
            }
            _ => Err(EXPECTED),
        }
    }
}

fn is_scheme(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'))
}

/// The names in a certificate, URIs first. Empty if the certificate cannot be parsed.
pub fn subject_names(certificate: &CertificateDer<'_>) -> Vec<SubjectName> {
    let Ok(certificate) = EndEntityCert::try_from(certificate) else {
        return Vec::new();
    };
    let uris = certificate
        .valid_uri_names()
        .map(|uri| SubjectName::Uri(uri.to_owned()));
    let names = certificate.valid_dns_names();
    let names = names.map(|name| SubjectName::Dns(name.to_ascii_lowercase()));
    uris.chain(names).collect()
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, SanType};

    use super::*;

    #[test]
    fn the_names_of_a_certificate_are_its_uris_and_then_its_dns_names() {
        let mut params = CertificateParams::new(vec!["Checkout.internal".to_owned()]).unwrap();
        let uri = "spiffe://prod/checkout".try_into().unwrap();
        params.subject_alt_names.push(SanType::URI(uri));
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        let expected = ["spiffe://prod/checkout", "dns:checkout.internal"].map(|text| text.parse().unwrap());
        assert_eq!(subject_names(certificate.der()), expected);
        assert!(subject_names(&CertificateDer::from(vec![1, 2, 3])).is_empty());
    }

    #[test]
    fn a_name_is_a_uri_or_a_dns_name() {
        for text in [
            "spiffe://prod/checkout",
            "urn:a:b",
            "dns:checkout.internal",
            "https://a/b?c",
        ] {
            assert_eq!(text.parse::<SubjectName>().unwrap().to_string(), text);
        }
        for text in [
            "",
            "checkout.internal",
            "dns:",
            "dns:a b",
            "spiffe://a b",
            ":a",
            "1a:b",
            "dns:ä",
        ] {
            assert!(text.parse::<SubjectName>().is_err(), "{text}");
        }
    }
}
