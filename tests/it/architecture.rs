//! The imports between the modules of the library, checked: each module imports only from the rows below its own in [`MODULES`],
//! and no imports are circular, neither between modules nor inside of a folder. Test modules are not checked.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The modules of the library, the highest layer first, with the modules that each one may import from: only from rows below
/// its own. A module that is missing here is an error, and so is a right that is not needed.
const MODULES: [(&str, &[&str]); 25] = [
    (
        "fuzzing",
        &["config", "crm", "domain", "gateway", "grpc", "identity", "tls"],
    ),
    ("probe", &["config", "crm", "domain", "error"]),
    (
        "app",
        &[
            "admin",
            "audit",
            "clock",
            "cluster",
            "config",
            "context",
            "crm",
            "domain",
            "files",
            "gateway",
            "grpc",
            "identity",
            "quota",
            "rest",
            "store",
            "telemetry",
            "tenant",
            "tls",
        ],
    ),
    (
        "config",
        &[
            "audit",
            "context",
            "crm",
            "domain",
            "files",
            "gateway",
            "grpc",
            "identity",
            "quota",
            "rest",
            "sharing",
            "store",
            "telemetry",
            "tls",
        ],
    ),
    (
        "rest",
        &[
            "audit",
            "context",
            "domain",
            "error",
            "gateway",
            "grpc",
            "identity",
            "telemetry",
            "tenant",
            "tls",
        ],
    ),
    (
        "admin",
        &[
            "audit",
            "clock",
            "domain",
            "gateway",
            "identity",
            "store",
            "telemetry",
            "tenant",
        ],
    ),
    (
        "grpc",
        &[
            "audit",
            "clock",
            "context",
            "domain",
            "error",
            "gateway",
            "identity",
            "telemetry",
            "tenant",
            "tls",
        ],
    ),
    ("tls", &["files", "telemetry"]),
    ("tenant", &["domain", "error", "gateway", "identity"]),
    (
        "gateway",
        &[
            "audit",
            "cached",
            "cluster",
            "context",
            "crm",
            "domain",
            "error",
            "quota",
            "sharing",
            "store",
            "telemetry",
            "users",
        ],
    ),
    (
        "sharing",
        &[
            "audit",
            "clock",
            "cluster",
            "context",
            "crm",
            "domain",
            "error",
            "store",
            "telemetry",
            "users",
        ],
    ),
    ("users", &["cached", "context", "crm", "domain", "error"]),
    ("cached", &["clock", "context", "crm", "error"]),
    (
        "store",
        &["clock", "cluster", "context", "domain", "error", "telemetry"],
    ),
    (
        "crm",
        &[
            "clock",
            "cluster",
            "context",
            "domain",
            "error",
            "identity",
            "quota",
            "telemetry",
        ],
    ),
    (
        "quota",
        &["clock", "cluster", "context", "domain", "error", "telemetry"],
    ),
    ("cluster", &["domain", "error"]),
    ("context", &["audit", "error", "identity", "telemetry"]),
    ("audit", &["clock", "error", "telemetry"]),
    ("domain", &["error"]),
    ("identity", &["files"]),
    ("files", &["telemetry"]),
    ("telemetry", &["clock"]),
    ("error", &[]),
    ("clock", &[]),
];

/// Crates that only these modules may use.
const CRATES: [(&str, &[&str]); 12] = [
    ("opentelemetry", &["telemetry"]),
    ("opentelemetry_http", &["telemetry"]),
    ("opentelemetry_otlp", &["telemetry"]),
    ("opentelemetry_sdk", &["telemetry"]),
    // Telemetry connects to the collector.
    ("tonic", &["grpc", "telemetry"]),
    ("tonic_types", &["grpc"]),
    // Telemetry reads the responses of the collector.
    ("prost", &["grpc", "telemetry"]),
    ("prost_types", &["grpc"]),
    ("reqwest", &["crm", "identity", "telemetry"]),
    ("sqlx", &["store"]),
    ("prometheus_client", &["telemetry"]),
    ("leadgate_simulator", &[]),
];

/// A module, such as `["grpc", "lead"]`. The root of the crate is empty.
type Module = Vec<String>;

/// The modules of a crate, each with the paths that its code names. Test modules are absent.
#[derive(Debug, Default)]
struct Crate {
    files: BTreeMap<Module, Source>,
}

/// What a file imports.
#[derive(Debug, Default)]
struct Source {
    /// The paths that start with `crate`, `self` or `super`, or with a child module of the file. They are absolute.
    paths: BTreeSet<Module>,
    /// The first segments of all other paths: crates.
    crates: BTreeSet<String>,
    /// The names that `use` declarations bring in, with their absolute paths.
    names: BTreeMap<String, Module>,
    /// Whether it has the identifier `Serialize`.
    is_serialized: bool,
}

impl Crate {
    fn library() -> Self {
        let mut library = Self::read(&sources_root(), "lib.rs");
        library
            .files
            .retain(|module, _| module.first().is_none_or(|first| first != "cli"));
        library
    }

    fn binary() -> Self {
        let mut binary = Self::read(&sources_root(), "main.rs");
        binary
            .files
            .retain(|module, _| module.first().is_none_or(|first| first == "cli"));
        binary
    }

    fn read(root: &Path, root_file: &str) -> Self {
        let mut texts = BTreeMap::new();
        for file in files(root) {
            let place = file.strip_prefix(root).unwrap();
            if let Some(module) = module_of(place, root_file) {
                texts.insert(module, fs::read_to_string(&file).unwrap());
            }
        }
        Self::of(texts)
    }

    fn of(texts: BTreeMap<Module, String>) -> Self {
        let mut tests = BTreeSet::new();
        let mut tokens = BTreeMap::new();
        for (module, text) in &texts {
            let mut all = lex(text);
            for name in remove_tests(&mut all) {
                tests.insert([module.as_slice(), &[name]].concat());
            }
            tokens.insert(module.clone(), all);
        }
        tokens.retain(|module, _| !tests.iter().any(|test| module.starts_with(test)));
        let modules: BTreeSet<Module> = tokens.keys().cloned().collect();
        let files = tokens.iter().map(|(module, tokens)| {
            let source = Source::new(module, tokens, &modules);
            (module.clone(), source)
        });
        Self { files: files.collect() }
    }

    /// The modules of the first level, each with all its files.
    fn top_level(&self) -> BTreeMap<&str, Vec<&Source>> {
        let mut modules: BTreeMap<&str, Vec<&Source>> = BTreeMap::new();
        for (module, source) in &self.files {
            if let Some(first) = module.first() {
                modules.entry(first).or_default().push(source);
            }
        }
        modules
    }

    /// The file that has the item of an absolute path. A name that a module imports is that of the file that it is imported from.
    fn target(&self, path: &[String]) -> Module {
        let mut path = path.to_vec();
        // Names that import each other in a circle would have no end.
        for _ in 0..8 {
            let length = (0..=path.len())
                .rev()
                .find(|length| self.files.contains_key(&path[..*length]));
            let (module, rest) = path.split_at(length.unwrap_or_default());
            let imported = rest.first().and_then(|name| self.files.get(module)?.names.get(name));
            match imported {
                Some(imported) if imported != &path => path = [imported.as_slice(), &rest[1..]].concat(),
                _ => return module.to_vec(),
            }
        }
        path
    }

    /// Circular imports between the direct children of each folder, such as `grpc: bulk -> lead -> bulk`. An import from a
    /// parent module, or into a child module, is no import between children.
    fn cycles(&self) -> Vec<String> {
        let mut folders: BTreeMap<Module, BTreeMap<String, BTreeSet<String>>> = BTreeMap::new();
        for (from, source) in &self.files {
            for path in &source.paths {
                let to = self.target(path);
                let common = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
                if let (Some(a), Some(b)) = (from.get(common), to.get(common)) {
                    let folder = folders.entry(from[..common].to_vec()).or_default();
                    folder.entry(a.clone()).or_default().insert(b.clone());
                }
            }
        }
        let cycles = folders.iter().flat_map(|(folder, imports)| {
            let name = match folder.is_empty() {
                true => "crate".to_owned(),
                false => folder.join("::"),
            };
            let found = imports.keys().filter_map(|start| cycle(start, imports));
            let found: BTreeSet<String> = found.map(|cycle| format!("{name}: {}", cycle.join(" -> "))).collect();
            found
        });
        cycles.collect()
    }
}

/// The shortest way from a module back to itself, if it is the first of its modules by name.
fn cycle(start: &str, imports: &BTreeMap<String, BTreeSet<String>>) -> Option<Vec<String>> {
    let mut ways = vec![vec![start.to_owned()]];
    let mut seen = BTreeSet::new();
    while !ways.is_empty() {
        let mut longer = vec![];
        for way in ways {
            for next in imports.get(way.last()?).into_iter().flatten() {
                if next == start {
                    let is_first = way.iter().all(|module| module.as_str() >= start);
                    return is_first.then(|| [way, vec![next.clone()]].concat());
                }
                if seen.insert(next.clone()) {
                    longer.push([way.clone(), vec![next.clone()]].concat());
                }
            }
        }
        ways = longer;
    }
    None
}

impl Source {
    fn new(module: &Module, tokens: &[Token], modules: &BTreeSet<Module>) -> Self {
        let mut source = Self::default();
        let mut at = 0;
        while at < tokens.len() {
            let is_use = tokens[at].is("use");
            let is_start = is_use || (tokens[at].is_name() && !is_after_path(tokens, at) && is_path(tokens, at + 1));
            if !is_start {
                source.is_serialized |= tokens[at].is("Serialize");
                at += 1;
                continue;
            }
            at += usize::from(is_use);
            let mut found = vec![];
            at = read_tree(tokens, at, &[], &mut found);
            for (path, name) in found {
                source.is_serialized |= path.iter().any(|part| part == "Serialize");
                source.add(module, path, name.filter(|_| is_use), modules);
            }
        }
        source
    }

    fn add(&mut self, module: &Module, path: Vec<String>, name: Option<String>, modules: &BTreeSet<Module>) {
        let mut parts = path.iter().peekable();
        let mut base = match parts.peek().map(|first| first.as_str()) {
            Some("crate") => vec![],
            Some("self" | "super") => module.clone(),
            Some(first) if modules.contains(&[module.as_slice(), &[first.to_owned()]].concat()) => module.clone(),
            Some(first) => {
                self.crates.insert(first.to_owned());
                return;
            }
            None => return,
        };
        while let Some(part) = parts.next_if(|part| ["crate", "self", "super"].contains(&part.as_str())) {
            if part == "super" {
                base.pop();
            }
        }
        let absolute: Module = base.into_iter().chain(parts.cloned()).collect();
        if let Some(name) = name {
            self.names.insert(name, absolute.clone());
        }
        self.paths.insert(absolute);
    }
}

/// Reads a path or a tree of paths; each one with the name that it has after a `use`. Returns the position after it.
fn read_tree(
    tokens: &[Token],
    mut at: usize,
    prefix: &[String],
    found: &mut Vec<(Vec<String>, Option<String>)>,
) -> usize {
    let mut path = prefix.to_vec();
    loop {
        match tokens.get(at) {
            Some(Token::Name(name)) => {
                path.push(name.clone());
                at += 1;
                if is_path(tokens, at) {
                    at += 2;
                    continue;
                }
                let mut name = path.last().cloned().filter(|name| name != "self");
                if tokens.get(at).is_some_and(|token| token.is("as")) {
                    name = match tokens.get(at + 1) {
                        Some(Token::Name(name)) => Some(name.clone()),
                        _ => None,
                    };
                    at += 2;
                }
                path.retain(|part| part != "self" || prefix.is_empty());
                let name = name.or_else(|| path.last().cloned());
                found.push((path, name));
                return at;
            }
            Some(Token::Sign('{')) => {
                at += 1;
                while !tokens.get(at).is_none_or(|token| *token == Token::Sign('}')) {
                    at = match tokens[at] {
                        Token::Sign(',') => at + 1,
                        _ => read_tree(tokens, at, &path, found),
                    };
                }
                return at + 1;
            }
            Some(Token::Sign(':')) => at += 1,
            // A glob, or the generics of a type.
            _ => {
                found.push((path, None));
                return at + 1;
            }
        }
    }
}

fn is_path(tokens: &[Token], at: usize) -> bool {
    tokens.get(at..at + 2) == Some(&[Token::Sign(':'), Token::Sign(':')])
}

fn is_after_path(tokens: &[Token], at: usize) -> bool {
    at >= 2 && is_path(tokens, at - 2)
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Name(String),
    Sign(char),
}

impl Token {
    fn is(&self, name: &str) -> bool {
        matches!(self, Self::Name(own) if own == name)
    }

    fn is_name(&self) -> bool {
        matches!(self, Self::Name(_))
    }
}

/// The names and signs of a text, without comments and literals.
fn lex(text: &str) -> Vec<Token> {
    let mut tokens = vec![];
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = if let Some(length) = comment(rest).or_else(|| string(rest)).or_else(|| character(rest)) {
            length
        } else if first.is_alphanumeric() || first == '_' {
            let is_part = |c: char| c.is_alphanumeric() || c == '_';
            let length = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
            tokens.push(Token::Name(rest[..length].to_owned()));
            length
        } else {
            tokens.extend((!first.is_whitespace()).then_some(Token::Sign(first)));
            first.len_utf8()
        };
        rest = &rest[length..];
    }
    tokens
}

fn comment(text: &str) -> Option<usize> {
    if text.starts_with("//") {
        return Some(text.find('\n').unwrap_or(text.len()));
    }
    let mut depth = usize::from(text.starts_with("/*"));
    if depth == 0 {
        return None;
    }
    let mut at = 2;
    while depth > 0 && at < text.len() {
        let rest = &text.as_bytes()[at..];
        let (change, length) = match (rest.starts_with(b"/*"), rest.starts_with(b"*/")) {
            (true, _) => (1, 2),
            (_, true) => (-1, 2),
            _ => (0, 1),
        };
        depth = depth.saturating_add_signed(change);
        at += length;
    }
    Some(at)
}

fn string(text: &str) -> Option<usize> {
    let prefix = text.find(|c: char| !matches!(c, 'b' | 'c' | 'r'))?;
    let hashes = text[prefix..].find(|c| c != '#')?;
    let open = prefix + hashes;
    if prefix > 2 || !text[open..].starts_with('"') {
        return None;
    }
    if text[..prefix].contains('r') {
        let close = format!("\"{}", "#".repeat(hashes));
        return text[open + 1..].find(&close).map(|at| open + 1 + at + close.len());
    }
    if hashes > 0 {
        return None;
    }
    let mut is_escaped = false;
    let close = text[open + 1..].find(|c| {
        let closes = c == '"' && !is_escaped;
        is_escaped = c == '\\' && !is_escaped;
        closes
    });
    close.map(|at| open + 1 + at + 1)
}

/// A literal such as `'a'` or `b'\''`, and no lifetime.
fn character(text: &str) -> Option<usize> {
    let quoted = text.strip_prefix('b').unwrap_or(text).strip_prefix('\'')?;
    let begin = text.len() - quoted.len();
    let mut characters = quoted.char_indices();
    let (_, first) = characters.next()?;
    if first != '\\' {
        let (at, second) = characters.next()?;
        return (second == '\'').then_some(begin + at + 1);
    }
    characters.next();
    characters.find(|(_, c)| *c == '\'').map(|(at, _)| begin + at + 1)
}

/// Removes the items under `#[cfg(test)]`, and returns the modules that are declared there and are files.
fn remove_tests(tokens: &mut Vec<Token>) -> Vec<String> {
    let mark = lex("#[cfg(test)]");
    let mut declared = vec![];
    while let Some(start) = tokens.windows(mark.len()).position(|window| window == mark) {
        let mut end = start + mark.len();
        while tokens[end..].starts_with(&[Token::Sign('#'), Token::Sign('[')]) {
            end += close(&tokens[end + 1..]) + 1;
        }
        let item = &tokens[end..];
        let length = item_length(item);
        let is_file = item.get(length - 1) == Some(&Token::Sign(';'));
        let at = item.iter().position(|token| token.is("mod"));
        if let (true, Some(Token::Name(name))) = (is_file, at.and_then(|at| item.get(at + 1))) {
            declared.push(name.clone());
        }
        tokens.drain(start..end + length);
    }
    declared
}

/// The number of tokens of an item: up to its semicolon, or to the end of its braces.
fn item_length(tokens: &[Token]) -> usize {
    const WITHOUT_BODY: [&str; 5] = ["use", "const", "static", "type", "extern"];
    let ends_with_semicolon = tokens
        .iter()
        .take(2)
        .any(|token| WITHOUT_BODY.iter().any(|word| token.is(word)))
        && !tokens.iter().take(3).any(|token| token.is("fn"));
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        match token {
            Token::Sign(';' | ',') => return at + 1,
            Token::Sign('{') if !ends_with_semicolon => return at + close(&tokens[at..]),
            Token::Sign('{' | '(' | '[') => at += close(&tokens[at..]),
            _ => at += 1,
        }
    }
    tokens.len()
}

/// The number of tokens up to the end of the bracket that is first.
fn close(tokens: &[Token]) -> usize {
    let mut depth = 0_usize;
    for (at, token) in tokens.iter().enumerate() {
        match token {
            Token::Sign('{' | '(' | '[') => depth += 1,
            Token::Sign('}' | ')' | ']') => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return at + 1;
        }
    }
    tokens.len()
}

/// The module of a file; `None` if it is the root of another crate, or a test.
fn module_of(place: &Path, root_file: &str) -> Option<Module> {
    let mut parts: Vec<String> = place.iter().map(|part| part.to_str().unwrap().to_owned()).collect();
    let file = parts.pop()?;
    let is_root = parts.is_empty() && ["lib.rs", "main.rs"].contains(&file.as_str());
    if (is_root && file != root_file) || file == "tests.rs" || parts.iter().any(|part| part == "tests") {
        return None;
    }
    if !is_root && file != "mod.rs" {
        parts.push(file.trim_end_matches(".rs").to_owned());
    }
    Some(parts)
}

fn sources_root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = vec![];
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}

#[test]
fn each_module_imports_only_from_the_modules_that_it_may() {
    let library = Crate::library();
    let modules = library.top_level();
    let mut errors = vec![];
    for (name, sources) in &modules {
        let Some((_, may)) = MODULES.iter().find(|(module, _)| module == name) else {
            errors.push(format!("{name} is not in the table"));
            continue;
        };
        let paths = sources.iter().flat_map(|source| &source.paths);
        let imported: BTreeSet<&str> = paths.filter_map(|path| path.first()).map(String::as_str).collect();
        for other in imported.iter().filter(|other| modules.contains_key(*other)) {
            if other != name && !may.contains(other) {
                errors.push(format!("{name} imports from {other}"));
            }
        }
        for right in *may {
            if !imported.contains(right) {
                errors.push(format!("{name} may import from {right} and does not"));
            }
        }
    }
    assert_eq!(modules.len(), MODULES.len());
    assert!(errors.is_empty(), "{errors:#?}");
}

#[test]
fn modules_import_only_from_lower_layers() {
    for (row, (name, may)) in MODULES.iter().enumerate() {
        for other in *may {
            let other_row = MODULES.iter().position(|(module, _)| module == other);
            assert!(
                other_row.is_some_and(|other_row| other_row > row),
                "{name} is not above {other}"
            );
        }
    }
}

#[test]
fn no_imports_are_circular() {
    let cycles = [Crate::library().cycles(), Crate::binary().cycles()].concat();
    assert!(cycles.is_empty(), "{cycles:#?}");
}

#[test]
fn some_crates_are_used_in_one_module_only() {
    let library = Crate::library();
    let mut errors = vec![];
    for (name, sources) in library.top_level() {
        for (used, may) in CRATES {
            if sources.iter().any(|source| source.crates.contains(used)) && !may.contains(&name) {
                errors.push(format!("{name} uses {used}"));
            }
        }
    }
    assert!(errors.is_empty(), "{errors:#?}");
}

#[test]
fn only_records_have_a_stored_form() {
    let library = Crate::library();
    // The second one writes any record as text.
    let is_record = |module: &Module| {
        module.starts_with(&["store".to_owned(), "record".to_owned()]) || module.join("::") == "store::damage"
    };
    for (module, source) in &library.files {
        let is_checked = module
            .first()
            .is_some_and(|first| ["domain", "error", "gateway", "sharing", "store"].contains(&first.as_str()));
        if is_checked && !is_record(module) {
            assert!(!source.is_serialized, "{} has a stored form", module.join("::"));
        }
        if module.starts_with(&["store".to_owned(), "record".to_owned()]) {
            for path in &source.paths {
                let first = path.first().map_or("", String::as_str);
                let is_allowed = ["domain", "error", "store"].contains(&first);
                assert!(is_allowed, "{} imports from {first}", module.join("::"));
            }
        }
    }
}

mod checker {
    use super::*;

    fn module(name: &str) -> Module {
        name.split("::")
            .filter(|part| !part.is_empty())
            .map(str::to_owned)
            .collect()
    }

    fn crate_of(texts: &[(&str, &str)]) -> Crate {
        Crate::of(
            texts
                .iter()
                .map(|(name, text)| (module(name), (*text).to_owned()))
                .collect(),
        )
    }

    fn paths(text: &str) -> Vec<String> {
        let read = crate_of(&[("a", text), ("a::child", "")]);
        read.files[&module("a")]
            .paths
            .iter()
            .map(|path| path.join("::"))
            .collect()
    }

    #[test]
    fn all_paths_of_a_file_are_found() {
        let text =
            "use crate::{b::{self, X}, c as d}; use super::e::*; fn f() -> super::g::T<crate::h::U> { child::i() }
            // crate::comment::X
            const S: &str = \"crate::string::X\"; const C: char = '\"'; fn l<'a>(_: &'a str) { crate::j(); }";
        let expected = ["a::child::i", "b", "b::X", "c", "e", "g::T", "h::U", "j"];
        assert_eq!(paths(text), expected);
    }

    #[test]
    fn tests_are_not_read_and_the_code_after_them_is() {
        let text = "#[cfg(test)] use crate::x::{A, B};
            #[cfg(test)] #[allow(dead_code)] mod tests { use crate::y::C; fn f() { } }
            #[cfg(test)] mod child;
            #[cfg(test)] pub fn only_in_tests() -> crate::z::D { loop {} }
            use crate::real::E;";
        assert_eq!(paths(text), ["real::E"]);
        let read = crate_of(&[("a", text), ("a::child", "use crate::w::F;")]);
        assert!(!read.files.contains_key(&module("a::child")));
        assert_eq!(module_of(Path::new("a/tests/b.rs"), "lib.rs"), None);
        assert_eq!(module_of(Path::new("a/tests.rs"), "lib.rs"), None);
    }

    #[test]
    fn circular_imports_are_found_between_modules_and_inside_of_folders() {
        let between = crate_of(&[("a", "use crate::b::c::X;"), ("b", ""), ("b::c", "use crate::a::Y;")]);
        assert_eq!(between.cycles(), ["crate: a -> b -> a"]);
        let inside = crate_of(&[
            ("a", "mod x; mod y; mod z; pub use x::X;"),
            ("a::x", "use super::y::Y;"),
            ("a::y", "use super::z::{self};"),
            // By a name that the parent imports.
            ("a::z", "use super::X;"),
        ]);
        assert_eq!(inside.cycles(), ["a: x -> y -> z -> x"]);
    }

    #[test]
    fn imports_from_a_parent_and_into_a_child_are_not_circular() {
        let read = crate_of(&[
            ("a", "mod x; pub struct A; use x::X; use crate::b::B;"),
            ("a::x", "use super::A; use crate::b::B;"),
            ("b", ""),
        ]);
        assert_eq!(read.cycles(), Vec::<String>::new());
    }
}
