//! The parts of a URL for PostgreSQL.

use secrecy::SecretString;
use url::Url;

/// The schemes of a URL for PostgreSQL.
const SCHEMES: [&str; 2] = ["postgres://", "postgresql://"];
/// The parameters that a URL may have.
const PARAMETERS: [&str; 6] = ["host", "port", "sslmode", "sslrootcert", "sslcert", "sslkey"];

/// Whether a URL names a PostgreSQL store.
pub(super) fn is_postgres(url: &str) -> bool {
    url.starts_with("postgres:") || url.starts_with("postgresql:")
}

/// Returns a URL without its password and its parameters, for logs and errors.
pub(super) fn shown(url: &str) -> String {
    match Parts::read(url) {
        Ok(parts) => {
            let user = parts.user.map(|user| format!("{user}@")).unwrap_or_default();
            let hosts = parts.hosts.unwrap_or_default();
            let database = parts.database.unwrap_or_default();
            format!("postgres://{user}{hosts}/{database}")
        }
        Err(_) => "postgres://(invalid)".to_owned(),
    }
}

/// Whether a URL has a password.
pub(super) fn has_password(url: &str) -> bool {
    is_postgres(url) && Parts::read(url).is_ok_and(|parts| parts.password.is_some())
}

/// The parts of a URL, decoded.
pub(super) struct Parts {
    pub(super) user: Option<String>,
    pub(super) password: Option<SecretString>,
    /// The hosts with their ports, separated by commas.
    pub(super) hosts: Option<String>,
    pub(super) database: Option<String>,
    pub(super) parameters: Vec<(String, String)>,
}

impl Parts {
    /// Splits a URL. The type `Url` reads only the part without the hosts, since it does not know lists of hosts.
    pub(super) fn read(url: &str) -> Result<Self, String> {
        let rest = SCHEMES.iter().find_map(|scheme| url.strip_prefix(scheme));
        let rest = rest.ok_or("the URL must begin with postgres://")?;
        if rest.contains('#') {
            return Err("the URL has an unescaped #: write it as %23".to_owned());
        }
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        // A password may contain an unescaped slash or at sign.
        let (credentials, rest) = match rest.rsplit_once('@') {
            Some((credentials, rest)) => (Some(credentials), rest),
            None => (None, rest),
        };
        let (hosts, database) = rest.split_once('/').unwrap_or((rest, ""));
        let (user, password) = match credentials {
            Some(credentials) => credentials
                .split_once(':')
                .map_or((credentials, None), |(user, password)| (user, Some(password))),
            None => ("", None),
        };
        let password = password
            .map(decoded)
            .transpose()?
            .filter(|password| !password.is_empty());
        // Any host: only the parameters are read.
        let parsed = Url::parse(&format!("postgres://localhost/?{query}")).map_err(|_| "the parameters are invalid")?;
        let mut parameters = vec![];
        for (name, value) in parsed.query_pairs() {
            if !PARAMETERS.contains(&&*name) {
                return Err(format!(
                    "the URL has an unknown parameter; known parameters: {}; the timeout and the number of connections are \
                     store.connect_timeout and store.max_connections",
                    PARAMETERS.join(", ")
                ));
            }
            parameters.push((name.into_owned(), value.into_owned()));
        }
        let given = |text: &str| Ok::<_, String>(Some(decoded(text)?).filter(|text| !text.is_empty()));
        Ok(Self {
            user: given(user)?,
            password: password.map(SecretString::from),
            hosts: given(hosts)?,
            database: given(database)?,
            parameters,
        })
    }
}

/// Decodes the escapes of a part of a URL.
fn decoded(text: &str) -> Result<String, String> {
    let error = || "a part of the URL has an invalid escape; write % as %25".to_owned();
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        if *byte != b'%' {
            bytes.push(*byte);
            continue;
        }
        let digits = after.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        let value = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(value.ok_or_else(error)?);
        rest = &after[2..];
    }
    String::from_utf8(bytes).map_err(|_| error())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shown_url_has_no_password() {
        assert_eq!(
            shown("postgres://u:pass@h:1,i/d?sslmode=require"),
            "postgres://u@h:1,i/d"
        );
        assert_eq!(shown("postgres://u:pa#ss@h/d"), "postgres://(invalid)");
        assert!(has_password("postgres://u:pass@h/d") && !has_password("postgres://u@h/d"));
    }
}
