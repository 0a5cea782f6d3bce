//! `leadgate caller`: API keys of callers. The settings have only the hashes of keys.

use std::io::{self, IsTerminal, Read};

use clap::Subcommand;
use leadgate::identity::api_key::{self, KeyHash};
use leadgate::identity::rest_key;
use leadgate::identity::{Credential, check_name};
use secrecy::{ExposeSecret, SecretString};

use crate::cli::client::note;
use crate::cli::output::print_line;

/// Maximum size of the input of `caller hash`, in bytes. A key is shorter.
const MAX_INPUT: u64 = 4096;

#[derive(Subcommand)]
pub(crate) enum CallerCommand {
    /// Make an API key for a caller. Prints the key to standard output, once, and its line of the settings to standard error.
    New {
        /// The name of the caller: 1 to 64 letters, digits, hyphens, underscores and dots
        name: String,
        /// Make a pair of keys of the REST listener instead. Prints access_key=... and secret_key=... as two lines.
        #[arg(long)]
        rest: bool,
    },
    /// Read an API key from standard input, and print its hash for the settings.
    Hash,
}

pub(crate) fn run(command: &CallerCommand) -> Result<(), String> {
    match command {
        CallerCommand::New { name, rest: false } => new(name),
        CallerCommand::New { name, rest: true } => new_rest(name),
        CallerCommand::Hash => hash(),
    }
}

fn new(name: &str) -> Result<(), String> {
    check_name(name).map_err(|error| format!("{name:?}: {error}"))?;
    let (key, table) = (api_key::generate(name), table(name));
    print_line!("{key}");
    note(&format!(
        "This key is not stored anywhere and not shown again. Add its hash to the settings of the gateway:\n\n\
         [callers.{table}]\napi_keys = [\"{}\"]\n\n\
         The caller also needs tenants, such as [\"acme\"], and allow, such as [\"LeadService/*\"]. Without them, it may do nothing.",
        KeyHash::of(&key)
    ));
    Ok(())
}

fn new_rest(name: &str) -> Result<(), String> {
    check_name(name).map_err(|error| format!("{name:?}: {error}"))?;
    let (access, secret) = rest_key::generate(name);
    print_line!("access_key={access}");
    print_line!("secret_key={secret}");
    let (table, hash) = (table(name), KeyHash::of(&secret));
    note(&format!(
        "The secret key is not stored anywhere and not shown again. Add the pair to the settings of the gateway:\n\n\
         [callers.{table}]\nrest_keys = [{{ access_key = \"{access}\", secret_key = \"{hash}\" }}]\n\n\
         The caller also needs tenants, such as [\"acme\"], and allow, such as [\"REST:LeadManagement.svc/*\"]. Without them, it may do \
         nothing."
    ));
    Ok(())
}

/// The name of a caller in the name of its table. A dot would separate tables.
fn table(name: &str) -> String {
    match name.contains('.') {
        true => format!("\"{name}\""),
        false => name.to_owned(),
    }
}

fn hash() -> Result<(), String> {
    let (stdin, mut text) = (io::stdin().lock(), String::new());
    let read = match stdin.is_terminal() {
        true => {
            note("Enter an API key (lg_...), and end the line.");
            io::BufRead::read_line(&mut stdin.take(MAX_INPUT), &mut text)
        }
        false => stdin.take(MAX_INPUT).read_to_string(&mut text),
    };
    let text = SecretString::from(text);
    read.map_err(|error| format!("reading standard input failed: {error}"))?;
    let key = text.expose_secret().trim_end_matches(['\r', '\n']);
    match api_key::credential(key) {
        Some(Credential::ApiKey { caller, hash }) if check_name(&caller).is_ok() => print_line!("{hash}"),
        _ => {
            return Err(
                "standard input has no API key: it must be one line, as `leadgate caller new` prints it".to_owned(),
            );
        }
    }
    Ok(())
}
