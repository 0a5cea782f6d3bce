//! The targets of the fuzz tests: functions that check properties of what is read from outside, for any bytes. A target panics if
//! a property does not hold. The package in `fuzz` generates inputs. The tests below run each target with the inputs in
//! `fuzz/corpus`. CONTRIBUTING.md says how to add a target.

mod credentials;
mod settings;
mod values;

use std::sync::LazyLock;

use crate::config::Config;
use crate::grpc::ServerSettings;
use crate::{crm, gateway, grpc};

/// A target: its name, which is that of its corpus, and its function.
pub type Target = (&'static str, fn(&[u8]));

/// All targets of the library.
pub const TARGETS: [Target; 13] = [
    ("certificate", credentials::certificate),
    ("credential_text", credentials::credential_text),
    ("key_set", credentials::key_set),
    ("lead_fields", grpc::fuzzing::lead_fields),
    ("listing_token", gateway::fuzzing::listing_token),
    ("page_token", grpc::fuzzing::page_token),
    ("request_message", grpc::fuzzing::request_message),
    ("request_metadata", request_metadata),
    ("settings", settings::settings),
    ("token_claims", credentials::token_claims),
    ("token_text", credentials::token_text),
    ("upstream_response", crm::fuzzing::upstream_response),
    ("value_text", values::value_text),
];

/// Runs the target of that name.
pub fn run(name: &str, data: &[u8]) {
    let target = TARGETS.iter().find(|(target, _)| *target == name);
    let (_, run) = target.expect("the name is that of a target");
    run(data);
}

fn request_metadata(data: &[u8]) {
    static SETTINGS: LazyLock<ServerSettings> = LazyLock::new(|| {
        let tenant = "[tenants.acme]\nbase_url = \"http://127.0.0.1:1\"\naccess_key = \"a\"\nsecret_key = \"b\"";
        let config = Config::read("test", tenant, std::iter::empty());
        config.expect("the settings are valid").server
    });
    grpc::fuzzing::request_metadata(&SETTINGS, data);
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::{Path, PathBuf};

    use super::*;

    /// The target of the binary, which `cli/transfer/import/fuzzing.rs` tests.
    const OF_THE_BINARY: &str = "import_file";

    fn folder(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz").join(name)
    }

    fn files(folder: &Path) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        entries.map(|entry| entry.unwrap().path()).collect()
    }

    fn names(folder: &Path) -> BTreeSet<String> {
        let stem = |path: PathBuf| path.file_stem().unwrap().to_str().unwrap().to_owned();
        files(folder).into_iter().map(stem).collect()
    }

    #[test]
    fn the_properties_hold_for_every_input_of_the_corpus() {
        let mut failures = vec![];
        for (name, run) in TARGETS {
            let inputs = files(&folder("corpus").join(name));
            assert!(!inputs.is_empty(), "{name} has no corpus");
            for input in inputs {
                let data = std::fs::read(&input).unwrap();
                if std::panic::catch_unwind(|| run(&data)).is_err() {
                    failures.push(input);
                }
            }
        }
        assert!(failures.is_empty(), "see the panics above: {failures:#?}");
    }

    #[test]
    fn every_target_has_a_program_and_a_corpus() {
        let targets = TARGETS.iter().map(|(name, _)| (*name).to_owned());
        let targets: BTreeSet<String> = targets.chain([OF_THE_BINARY.to_owned()]).collect();
        assert_eq!(names(&folder("fuzz_targets")), targets);
        assert_eq!(names(&folder("corpus")), targets);
    }
}
