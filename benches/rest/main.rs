//! What the REST listener costs, and how it shares the quota with gRPC: the latency that it adds, and a saturated quota.
//!
//! `cargo bench --profile dist --bench rest` prints the tables; with `-- --write docs/benchmarks` it writes
//! `docs/benchmarks/rest.md`. With `-- --quick` the rounds are short. `-- --only latency` measures one part: `latency`, `saturated` or
//! `bulk`.

#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::unwrap_used,
    dead_code,
    missing_docs
)]

#[path = "../overhead/gateway.rs"]
mod gateway;
mod latency;
#[path = "../machine/mod.rs"]
mod machine;
#[path = "../overhead/process.rs"]
mod process;
mod saturation;

use std::path::Path;

use leadgate::identity::api_key::KeyHash;

/// The allocator of the gateway.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The secret key of each caller of the REST listener.
const SECRET: &str = "a-secret-of-43-characters-012345678901234567";

/// Measures one part. The argument says whether the rounds are short.
type Part = fn(bool) -> String;

/// The access key of a caller of the REST listener.
fn access_key(caller: &str) -> String {
    format!("lgr_{caller}_0123456789abcdef")
}

/// The settings of a caller of the REST listener.
fn rest_caller(name: &str, weight: u32) -> String {
    format!(
        "[callers.{name}]\ntenants = [\"t0\"]\nallow = [\"REST:*\"]\nweight = {weight}\nrest_keys = [{{ access_key = \"{}\", \
         secret_key = \"{}\" }}]\n",
        access_key(name),
        KeyHash::of(SECRET)
    )
}

/// The median of some values.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// The argument after this one.
fn argument(name: &str) -> Option<String> {
    std::env::args().skip_while(|argument| argument != name).nth(1)
}

fn main() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    if let Some(role) = argument("--role") {
        assert_eq!(role, "simulator");
        return latency::simulator();
    }
    let is_quick = std::env::args().any(|argument| argument == "--quick");
    let only = argument("--only");
    let machine = format!("{}, shared with others", machine::processor());
    let mut text = include_str!("rest.md").replace("{machine}", &machine);
    let parts: [(&str, Part); 3] = [
        ("latency", latency::table),
        ("saturated", saturation::saturated),
        ("bulk", saturation::bulk),
    ];
    for (name, part) in parts {
        if only.as_ref().is_some_and(|only| only != name) {
            continue;
        }
        let table = part(is_quick);
        println!("{name}\n\n{table}");
        text = text.replace(&format!("{{{name}}}"), table.trim_end());
    }
    if let Some(target) = argument("--write") {
        std::fs::create_dir_all(&target).unwrap();
        std::fs::write(Path::new(&target).join("rest.md"), text).unwrap();
    }
}
