//! Commands with credentials: the keys of callers, the options of client commands, `check`, and the demo with TLS. Files for shells and
//! for `man`.

use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use jsonwebtoken::Algorithm;
use leadgate::identity::api_key::{self, KeyHash};
use leadgate_simulator::Options;
use rcgen::{CertificateParams, KeyPair};
use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};

use crate::certificates::{Authority, TlsFiles, in_days};
use crate::harness::{World, listen, tenant};
use crate::process::{Said, leadgate, run};
use crate::tokens::{KeyServer, TokenKey, in_seconds, key_set};

const ISSUER: &str = "https://idp.example";
const CERTIFICATE_NAME: &str = "spiffe://prod/reports";

/// A gateway with TLS and a caller for each kind of credential, and the files of its clients.
struct Secured {
    world: World,
    files: TlsFiles,
    /// The API key and the token.
    secrets: [String; 2],
}

impl Secured {
    async fn start() -> Self {
        let files = TlsFiles::new();
        let issuer = TokenKey::new(Algorithm::EdDSA, "one");
        files.write("jwks.json", &key_set(&[&issuer]));
        let key = api_key::generate("checkout");
        let claims = json!({"iss": ISSUER, "aud": "leadgate", "sub": "support@prod", "exp": in_seconds(600)});
        let token = issuer.sign(&claims);
        let settings = format!(
            "[auth]\nmode = \"callers\"\n[auth.jwt]\nissuer = \"{ISSUER}\"\njwks = {{ file = \"{}\" }}\n\
             [callers.checkout]\napi_keys = [\"{}\"]\ntenants = [\"acme\"]\nallow = [\"ShareService/List*\"]\n\
             [callers.support]\nsubjects = [\"support@prod\"]\ntenants = [\"acme\"]\nallow = [\"ShareService/*\"]\n\
             [callers.reports]\ncertificates = [\"{CERTIFICATE_NAME}\"]\ntenants = [\"acme\"]\nallow = [\"*\"]\n",
            files.path("jwks.json").display(),
            KeyHash::of(&key),
        );
        let world = World::with_tls(Options::default(), &settings, &files, None).await;
        let client = files.client_authority.client(&[CERTIFICATE_NAME]);
        for (name, text) in [
            ("authority.crt", &files.server_authority.pem),
            ("client.crt", &client.cert),
            ("client.key", &client.key),
            ("key.txt", &key),
            ("token.txt", &token),
        ] {
            files.write(name, text);
        }
        let secrets = [key, token];
        Self { world, files, secrets }
    }

    fn address(&self) -> String {
        format!("https://localhost:{}", self.world.address.port())
    }

    fn path(&self, name: &str) -> String {
        self.files.path(name).to_str().unwrap().to_owned()
    }

    /// Runs a command with the paths of files for their names. No output has a secret.
    async fn command(&self, arguments: &[&str]) -> Said {
        let paths = arguments.iter().map(|text| match text.rsplit_once('.') {
            Some((_, "crt" | "key" | "txt")) => self.path(text),
            _ => (*text).to_owned(),
        });
        let paths: Vec<String> = paths.collect();
        let arguments: Vec<&str> = paths.iter().map(String::as_str).collect();
        let said: Said = run(&arguments).await.into();
        for secret in &self.secrets {
            assert!(!said.out.contains(secret) && !said.err.contains(secret), "{said:?}");
        }
        said
    }

    /// Lists shares with these options. TLS is always used.
    async fn list(&self, options: &[&str]) -> Said {
        let address = self.address();
        let list = ["shares", "list", "--addr", &address];
        self.command(&[&list, options].concat()).await
    }
}

/// Fails with one line that has all of these texts.
fn fails(said: &Said, texts: &[&str]) {
    assert_ne!(said.code, Some(0), "{said:?}");
    assert_eq!(said.err.lines().count(), 1, "{}", said.err);
    for text in texts {
        assert!(said.err.contains(text), "{text} in {}", said.err);
    }
}

/// Runs `caller hash` with this input.
async fn hash_of(input: &[u8]) -> Said {
    let mut child = leadgate()
        .args(["caller", "hash"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(input).await.unwrap();
    drop(stdin);
    child.wait_with_output().await.unwrap().into()
}

#[tokio::test]
async fn a_new_key_is_printed_with_its_settings_and_hashed_again() {
    for name in ["checkout", "a.b_c-1"] {
        let said: Said = run(&["caller", "new", name]).await.into();
        assert_eq!(said.code, Some(0), "{said:?}");
        let key = said.out.strip_suffix('\n').unwrap();
        assert!(
            api_key::is_key(key) && key.starts_with(&format!("lg_{name}_")),
            "{said:?}"
        );
        assert!(!said.err.contains(key), "{said:?}");
        let hash = KeyHash::of(key).to_string();
        // The paragraph in the middle is valid TOML.
        let settings: toml::Table = said.err.split("\n\n").nth(1).unwrap().parse().unwrap();
        assert_eq!(settings["callers"][name]["api_keys"][0].as_str(), Some(hash.as_str()));
        assert!(said.err.contains("tenants") && said.err.contains("allow"), "{said:?}");
        for end in ["", "\n", "\r\n"] {
            let said = hash_of(format!("{key}{end}").as_bytes()).await;
            assert_eq!((said.code, said.out), (Some(0), format!("{hash}\n")));
        }
    }
    let said: Said = run(&["caller", "new", "a.b_c-1", "--rest"]).await.into();
    assert_eq!(said.code, Some(0), "{said:?}");
    let lines: Vec<&str> = said.out.lines().collect();
    let access = lines[0].strip_prefix("access_key=").unwrap();
    let secret = lines[1].strip_prefix("secret_key=").unwrap();
    assert_eq!((lines.len(), secret.len()), (2, 43));
    assert!(
        access.starts_with("lgr_a.b_c-1_") && access.len() == "lgr_a.b_c-1_".len() + 16,
        "{access}"
    );
    let settings: toml::Table = said.err.split("\n\n").nth(1).unwrap().parse().unwrap();
    let pair = &settings["callers"]["a.b_c-1"]["rest_keys"][0];
    let hash = KeyHash::of(secret).to_string();
    assert_eq!(
        (pair["access_key"].as_str(), pair["secret_key"].as_str()),
        (Some(access), Some(hash.as_str()))
    );
    assert!(!said.err.contains(secret), "{said:?}");
    for (name, text) in [
        ("leadgate-x", "reserved"),
        ("", "1 to 64 letters"),
        ("two words", "1 to 64 letters"),
        (&"a".repeat(65), "1 to 64 letters"),
    ] {
        let said: Said = run(&["caller", "new", name]).await.into();
        fails(&said, &[text]);
        assert!(said.out.is_empty(), "{said:?}");
    }
}

#[tokio::test]
async fn a_text_that_is_no_key_is_not_repeated() {
    let key = api_key::generate("one");
    for input in [
        &key.as_bytes()[1..],
        b"",
        b"lg_mistyped",
        b"\xff\xfe",
        format!("{key}\n{key}\n").as_bytes(),
    ] {
        let said = hash_of(input).await;
        assert_eq!((said.code, said.out.as_str()), (Some(1), ""), "{said:?}");
        assert!(
            said.err.starts_with("leadgate: ") && said.err.contains("standard input"),
            "{said:?}"
        );
        assert!(
            !said.err.contains("mistyped") && !said.err.contains(&key[10..]),
            "{said:?}"
        );
    }
}

#[tokio::test]
async fn each_credential_is_given_by_option_or_by_variable() {
    let secured = Secured::start().await;
    let certificate = ["--cert", "client.crt", "--key", "client.key"];
    for credential in [
        &["--token-file", "key.txt"][..],
        &["--token-file", "token.txt"],
        &certificate,
    ] {
        for authority in ["--tls-ca", "--ca-file"] {
            let options = [credential, &[authority, "authority.crt"]].concat();
            let said = secured.list(&options).await;
            assert_eq!(said.code, Some(0), "{options:?}: {said:?}");
        }
        let address = secured.address();
        let health = ["health", "--addr", &address, "--tls-ca", "authority.crt"];
        let said = secured.command(&[&health, credential].concat()).await;
        assert_eq!((said.code, said.out.as_str()), (Some(0), "serving\n"), "{said:?}");
    }
    let variables: [(&str, String); 5] = [
        ("LEADGATE_ADDR", secured.address()),
        ("LEADGATE_TLS_CA", secured.path("authority.crt")),
        ("LEADGATE_TOKEN_FILE", secured.path("token.txt")),
        ("LEADGATE_CERT", secured.path("client.crt")),
        ("LEADGATE_KEY", secured.path("client.key")),
    ];
    for names in [&variables[..3], &[&variables[..2], &variables[3..]].concat()] {
        let output = leadgate().args(["shares", "list"]).envs(names.iter().cloned()).output();
        let said: Said = output.await.unwrap().into();
        assert_eq!(said.code, Some(0), "{names:?}: {said:?}");
    }
    // An option decides before a variable.
    let output = leadgate()
        .args(["shares", "list", "--token-file", &secured.path("missing.txt")])
        .envs(variables)
        .output();
    fails(&output.await.unwrap().into(), &["--token-file", "missing.txt"]);
}

#[tokio::test]
async fn a_rejected_caller_learns_what_to_do() {
    let secured = Secured::start().await;
    secured.files.write("unknown.txt", &api_key::generate("checkout"));
    let with = async |options: &[&str]| secured.list(&[&["--tls-ca", "authority.crt"], options].concat()).await;
    fails(&with(&[]).await, &["CALLER_UNKNOWN", "--token-file", "--cert"]);
    fails(
        &with(&["--token-file", "unknown.txt"]).await,
        &["CALLER_UNKNOWN", "--token-file"],
    );
    let key = ["--token-file", "key.txt"];
    fails(
        &with(&[&key[..], &["--tenant", "ghost"]].concat()).await,
        &["CALLER_NOT_ALLOWED", "--tenant", "callers.NAME.tenants"],
    );
    let address = secured.address();
    let revoke = [
        "shares",
        "revoke",
        "--user",
        "x",
        "--yes",
        "--addr",
        &address,
        "--tls-ca",
        "authority.crt",
    ];
    let said = secured.command(&[&revoke, &key[..]].concat()).await;
    assert_eq!(said.code, Some(0), "an empty list: {said:?}");
    let by_email = [
        "shares",
        "list",
        "--user",
        "x@example.com",
        "--addr",
        &address,
        "--tls-ca",
        "authority.crt",
    ];
    fails(
        &secured.command(&[&by_email, &key[..]].concat()).await,
        &["CALLER_NOT_ALLOWED", "callers.NAME.allow"],
    );
}

#[tokio::test]
async fn errors_of_certificates_say_what_to_do() {
    let secured = Secured::start().await;
    let files = &secured.files;
    files.write("other.crt", &Authority::new().pem);
    let key = ["--token-file", "key.txt"];
    let good = [&key[..], &["--tls-ca", "authority.crt"]].concat();
    let with = async |options: &[&str]| secured.list(options).await;
    // The certificate of the gateway.
    fails(
        &with(&[&key[..], &["--tls-ca", "other.crt"]].concat()).await,
        &["not trusted", "--tls-ca"],
    );
    fails(&with(&key).await, &["not trusted", "--tls-ca"]);
    fails(
        &with(&[&good[..], &["--server-name", "gateway.internal"]].concat()).await,
        &["another name", "--server-name"],
    );
    // The certificate of the client.
    let foreign = Authority::new().client(&[CERTIFICATE_NAME]);
    let expired = files.client_authority.client_until(&[CERTIFICATE_NAME], in_days(-1));
    for (name, client, text) in [
        (
            "foreign",
            &foreign,
            "rejected the client certificate of --cert: check its authority",
        ),
        ("expired", &expired, "expired.crt: the certificate has expired"),
    ] {
        files.write(&format!("{name}.crt"), &client.cert);
        files.write(&format!("{name}.key"), &client.key);
        let (cert, key) = (format!("{name}.crt"), format!("{name}.key"));
        let said = with(&["--tls-ca", "authority.crt", "--cert", &cert, "--key", &key]).await;
        fails(&said, &["--cert", text]);
    }
    let said = with(&[
        "--tls-ca",
        "authority.crt",
        "--cert",
        "client.crt",
        "--key",
        "foreign.key",
    ])
    .await;
    fails(&said, &["--cert and --key do not belong together"]);

    let expired = files.server_authority.server_until(in_days(-1));
    files.write_server(&expired);
    secured.world.tls.as_ref().unwrap().reload().unwrap();
    fails(&with(&good).await, &["has expired", "server.tls.cert_file"]);
    // A server with a certificate of another name, which --server-name gives.
    let mut params = CertificateParams::new(vec!["gateway.internal".to_owned()]).unwrap();
    params.is_ca = rcgen::IsCa::ExplicitNoCa;
    let pair = KeyPair::generate().unwrap();
    let other = params.self_signed(&pair).unwrap().pem();
    files.write("tls.crt", &other);
    files.write("tls.key", &pair.serialize_pem());
    files.write("authority.crt", &other);
    secured.world.tls.as_ref().unwrap().reload().unwrap();
    fails(&with(&good).await, &["another name", "--server-name"]);
    let said = with(&[&good[..], &["--server-name", "gateway.internal"]].concat()).await;
    assert_eq!(said.code, Some(0), "{said:?}");
    // The health check of the image has no options.
    let variables = [
        ("LEADGATE_ADDR", secured.address()),
        ("LEADGATE_TLS_CA", secured.path("authority.crt")),
        ("LEADGATE_SERVER_NAME", "gateway.internal".to_owned()),
    ];
    let output = leadgate().arg("health").envs(variables).output();
    let said: Said = output.await.unwrap().into();
    assert_eq!((said.code, said.out.as_str()), (Some(0), "serving\n"), "{said:?}");
}

#[tokio::test]
async fn options_that_do_not_fit_are_errors_before_anything_is_sent() {
    let secured = Secured::start().await;
    let files = &secured.files;
    for (name, text) in [
        ("empty.txt", " \n"),
        ("hash.txt", &KeyHash::of("x").to_string()),
        ("bearer.txt", "Bearer secret-token"),
        ("two.txt", "secret-token\nsecret-token"),
        ("odd.txt", "sécret-token"),
    ] {
        files.write(name, text);
    }
    let https = secured.address();
    let plain = "127.0.0.1:1";
    for (address, options, texts) in [
        (
            plain,
            &["--tls-ca", "authority.crt"][..],
            &["without TLS", "--tls-ca", "https://"][..],
        ),
        (
            "http://127.0.0.1:1",
            &["--cert", "client.crt", "--key", "client.key"],
            &["without TLS", "--cert", "https://"],
        ),
        (plain, &["--server-name", "x"], &["without TLS", "--server-name"]),
        (
            "http://192.0.2.1:1",
            &["--token-file", "key.txt"],
            &["without TLS", "--token-file", "--insecure-plaintext"],
        ),
        (
            "gateway.invalid:1",
            &["--token-file", "key.txt"],
            &["--insecure-plaintext"],
        ),
        (&https, &["--cert", "client.crt"], &["--cert requires --key"]),
        (&https, &["--key", "client.key"], &["--key requires --cert"]),
        (
            &https,
            &["--cert", "client.key", "--key", "client.key"],
            &["--cert", "no certificate"],
        ),
        (
            &https,
            &["--cert", "client.crt", "--key", "client.crt"],
            &["--key", "no private key"],
        ),
        (&https, &["--tls-ca", "key.txt"], &["--tls-ca", "no certificate"]),
        (
            &https,
            &["--tls-ca", "missing.crt"],
            &["--tls-ca", "reading", "missing.crt"],
        ),
        (
            &https,
            &["--token-file", "missing.txt"],
            &["--token-file", "reading", "missing.txt"],
        ),
        (&https, &["--token-file", "empty.txt"], &["empty.txt is empty"]),
        (&https, &["--token-file", "hash.txt"], &["hash of an API key"]),
        (&https, &["--token-file", "bearer.txt"], &["without \"Bearer\""]),
        (&https, &["--token-file", "two.txt"], &["one API key or token"]),
        (&https, &["--token-file", "odd.txt"], &["one API key or token"]),
    ] {
        for command in [&["shares", "list"][..], &["health"]] {
            let said = secured
                .command(&[command, &["--addr", address], options].concat())
                .await;
            fails(&said, texts);
            assert!(!said.err.contains("secret-token"), "{said:?}");
        }
    }
    // A secret instead of the path of its file is not shown, neither in errors nor in the help.
    let [key, token] = &secured.secrets;
    let variables = [("LEADGATE_TOKEN_FILE", token), ("LEADGATE_KEY", key)];
    for (name, secret) in variables {
        let command = [
            "shares",
            "list",
            "--addr",
            &https,
            "--cert",
            &secured.path("client.crt"),
        ];
        let said: Said = leadgate()
            .args(command)
            .env(name, secret)
            .output()
            .await
            .unwrap()
            .into();
        fails(&said, &["must be the path of a file, and not its content"]);
        assert!(!said.err.contains(secret), "{said:?}");
    }
    let said: Said = leadgate()
        .args(["health", "--help"])
        .envs(variables)
        .output()
        .await
        .unwrap()
        .into();
    assert!(
        said.out.contains("LEADGATE_TOKEN_FILE") && !said.out.contains(key) && !said.out.contains(token),
        "{said:?}"
    );

    // A loopback address needs no permission, and the network of the option is not checked.
    for (address, options) in [
        ("127.0.0.1:1", &["--token-file", "key.txt"][..]),
        ("localhost:1", &["--token-file", "key.txt"]),
        ("[::1]:1", &["--token-file", "key.txt"]),
        (
            "gateway.invalid:1",
            &["--token-file", "key.txt", "--insecure-plaintext"],
        ),
    ] {
        let said = secured
            .command(&[&["health", "--addr", address], options].concat())
            .await;
        fails(&said, &["cannot be reached"]);
    }
}

/// The output of `check` with these settings in a file of this mode.
async fn check(settings: &str, mode: u32, options: &[&str]) -> (Said, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("leadgate.toml");
    let account = tenant("acme", "127.0.0.1:1".parse().unwrap(), &Options::default());
    let store = format!("[store]\nurl = \"sqlite://{}/leadgate.db\"\n", folder.path().display());
    std::fs::write(&path, format!("{account}{store}{settings}")).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
    let path = path.to_str().unwrap().to_owned();
    let said = run(&[&["check", "--config", &path], options].concat()).await.into();
    (said, path)
}

#[tokio::test]
async fn check_warns_of_unusable_credentials_weak_modes_and_expiring_certificates() {
    let (said, _) = check("", 0o640, &["--strict"]).await;
    assert_eq!(
        (said.code, said.out.contains("warning: ")),
        (Some(0), false),
        "{said:?}"
    );
    // The settings have the keys themselves.
    let (said, path) = check("", 0o644, &[]).await;
    let weak = format!("every user of this machine can read {path}");
    assert!(said.code == Some(0) && said.out.contains(&weak), "{said:?}");
    let (said, _) = check("", 0o644, &["--strict"]).await;
    assert!(said.code == Some(1) && said.err.contains("--strict"), "{said:?}");

    let files = TlsFiles::new();
    files.write_server(&files.server_authority.server_until(in_days(5)));
    let key = files.path("tls.key");
    std::fs::set_permissions(&key, PermissionsExt::from_mode(0o604)).unwrap();
    let secret = files.path("secret.txt");
    files.write("secret.txt", "next-key");
    std::fs::set_permissions(&secret, PermissionsExt::from_mode(0o640)).unwrap();
    let settings = format!(
        "[tenants.acme.next]\naccess_key = {{ file = \"{secret}\" }}\nsecret_key = {{ file = \"{secret}\" }}\n\
         [server]\ntls = {{ cert_file = \"{}\", key_file = \"{}\" }}\n[auth]\nmode = \"callers\"\n\
         [callers.checkout]\nsubjects = [\"checkout\"]\ntenants = [\"acme\"]\n",
        files.path("tls.crt").display(),
        key.display(),
        secret = secret.display(),
    );
    let (said, _) = check(&settings, 0o600, &[]).await;
    assert_eq!(said.code, Some(0), "{said:?}");
    let warnings: Vec<&str> = said
        .out
        .lines()
        .filter_map(|line| line.strip_prefix("warning: "))
        .collect();
    for text in [
        "callers.checkout.subjects: cannot be used without [auth.jwt]",
        "callers.checkout.allow: is empty",
        "server.tls.key_file: every user of this machine can read ",
        "a certificate expires in 4 days",
    ] {
        assert!(
            warnings.iter().any(|warning| warning.contains(text)),
            "{text} in {warnings:#?}"
        );
    }
    assert!(!said.out.contains("secret.txt"), "{said:?}");
    std::fs::set_permissions(&secret, PermissionsExt::from_mode(0o644)).unwrap();
    let (said, _) = check(&settings, 0o600, &[]).await;
    for name in ["access_key", "secret_key"] {
        let text = format!("tenants.acme.next.{name}.file: every user");
        assert!(said.out.contains(&text), "{said:?}");
    }
}

#[tokio::test]
async fn check_reads_and_fetches_the_keys_of_the_token_issuer() {
    let jwt = |source: &str| format!("[auth.jwt]\nissuer = \"{ISSUER}\"\njwks = {{ {source} }}\n");
    let (said, _) = check(&jwt("file = \"/nonexistent/jwks.json\""), 0o600, &[]).await;
    assert!(
        said.code == Some(1) && said.err.contains("/nonexistent/jwks.json"),
        "{said:?}"
    );

    let server = KeyServer::start(key_set(&[&TokenKey::new(Algorithm::EdDSA, "one")])).await;
    let settings = jwt(&format!("url = \"http://{}/jwks.json\"", server.address));
    let (said, _) = check(&settings, 0o600, &[]).await;
    assert_eq!((said.code, server.requests()), (Some(0), 0), "{said:?}");
    let (said, _) = check(&settings, 0o600, &["--connect"]).await;
    assert!(said.out.contains("has 1 usable key(s)"), "{said:?}");
    server.set(None);
    let (said, _) = check(&settings, 0o600, &["--connect"]).await;
    let all = format!("{}{}", said.out, said.err);
    assert!(
        said.code == Some(1) && all.contains("auth.jwt.jwks: fetching") && all.contains("500"),
        "{said:?}"
    );
}

#[tokio::test]
async fn the_secure_demo_shows_each_credential_and_deletes_its_files() {
    let folder = tempfile::tempdir().unwrap();
    let mut demo = leadgate();
    let output = demo
        .args(["demo", "--secure", "--tour-only"])
        .env("TMPDIR", folder.path())
        .output();
    let said: Said = output.await.unwrap().into();
    assert_eq!(said.code, Some(0), "{said:?}");
    let mut rest = said.out.as_str();
    for text in [
        "1. checkout creates a lead",
        "   lead ",
        "2. support reads",
        "asha@example.com, no phone",
        "3. reports reads the quota",
        " of 25 calls",
        "4. reports creates a lead",
        "PermissionDenied: CALLER_NOT_ALLOWED",
        "5. support changes the email address",
        "PermissionDenied: CALLER_NOT_ALLOWED",
        "lead.email_address",
        "6. An API key",
        "Unauthenticated: CALLER_UNKNOWN",
        "7. legacy reads the lead",
        " bytes of JSON",
    ] {
        let (_, after) = rest.split_once(text).unwrap_or_else(|| panic!("{text} in {said:?}"));
        rest = after;
    }
    assert!(!said.out.contains("lg_") && !said.out.contains("lgr_"), "{said:?}");
    // Nothing is probably not meant.
    assert_eq!(said.err, "");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn the_commands_of_the_secure_demo_work_until_it_ends() {
    let folder = tempfile::tempdir().unwrap();
    let mut demo = leadgate()
        .args(["demo", "--secure"])
        .env("TMPDIR", folder.path())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(demo.stdout.take().unwrap()).lines();
    let mut text = String::new();
    while let Some(line) = lines.next_line().await.unwrap() {
        text += &line;
        text += "\n";
        if line.contains("State of the quota") {
            break;
        }
    }
    let text = text.replace("\\\n", " ");
    let commands: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("  leadgate "))
        .collect();
    assert_eq!(commands.len(), 3, "{text}");
    for command in commands {
        let arguments: Vec<&str> = command.split_whitespace().collect();
        let said: Said = run(&arguments).await.into();
        assert_eq!(said.code, Some(0), "{command}: {said:?}");
    }
    let curl = text.lines().find_map(|line| line.strip_prefix("  curl ")).unwrap();
    let mut shell = tokio::process::Command::new("sh");
    let got = shell.args(["-c", &format!("curl {curl}")]).output().await.unwrap();
    let lead: serde_json::Value = serde_json::from_slice(&got.stdout).unwrap();
    assert_eq!(lead[0]["EmailAddress"], "asha@example.com", "{curl}");
    let made = std::fs::read_dir(folder.path())
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    assert_eq!(made.metadata().unwrap().permissions().mode() & 0o777, 0o700);
    for file in std::fs::read_dir(&made).unwrap() {
        let file = file.unwrap();
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{file:?}");
    }
    let id = demo.id().unwrap().to_string();
    let mut kill = tokio::process::Command::new("kill");
    assert!(kill.args(["-INT", &id]).status().await.unwrap().success());
    assert!(demo.wait().await.unwrap().success());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn a_quiet_demo_prints_what_tests_need_and_ends_with_sigterm() {
    for is_secure in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let mut command = leadgate();
        command.args(["demo", "--quiet"]).env("TMPDIR", folder.path());
        if is_secure {
            command.arg("--secure");
        }
        let mut demo = command.spawn().unwrap();
        let mut lines = BufReader::new(demo.stdout.take().unwrap()).lines();
        let line = lines.next_line().await.unwrap().unwrap();
        let ready: serde_json::Value = serde_json::from_str(&line).unwrap();
        let text = |key: &str| {
            ready[key]
                .as_str()
                .unwrap_or_else(|| panic!("{key} in {line}"))
                .to_owned()
        };
        let mut calls = vec![vec!["shares", "list", "--addr"]];
        let address = match is_secure {
            false => format!("http://{}", text("address")),
            true => format!("https://{}", text("address")),
        };
        calls[0].push(&address);
        let (authority, certificate, key) = match is_secure {
            false => Default::default(),
            true => (text("ca_file"), text("cert_file"), text("key_file")),
        };
        let (token_file, key_file) = (folder.path().join("token"), folder.path().join("api-key"));
        if is_secure {
            std::fs::write(&token_file, text("token")).unwrap();
            calls[0].extend(["--tls-ca", &authority]);
            std::fs::write(&key_file, text("api_key")).unwrap();
            calls.extend([calls[0].clone(), calls[0].clone()]);
            calls[0].extend(["--token-file", token_file.to_str().unwrap()]);
            calls[1].extend(["--cert", &certificate, "--key", &key]);
            calls[2].extend(["--token-file", key_file.to_str().unwrap()]);
        }
        for arguments in calls {
            let said: Said = run(&arguments).await.into();
            assert_eq!(said.code, Some(0), "{arguments:?}: {said:?}");
        }
        let leads = format!("http://{}/_simulator/leads", text("simulator"));
        let leads = reqwest::get(leads).await.unwrap().text().await.unwrap();
        assert_eq!(leads, "[]");
        let client = reqwest::Client::builder().no_proxy();
        let (scheme, client) = match is_secure {
            false => ("http", client),
            true => {
                let pem = std::fs::read(text("ca_file")).unwrap();
                let authority = reqwest::Certificate::from_pem(&pem).unwrap();
                ("https", client.tls_certs_only([authority]))
            }
        };
        let users = format!(
            "{scheme}://{}/v2/UserManagement.svc/Users.Get?accessKey={}&secretKey={}",
            text("rest"),
            text("rest_access_key"),
            text("rest_secret_key")
        );
        let users = client.build().unwrap().get(users).send().await.unwrap();
        assert_eq!(users.status(), 200, "{users:?}");
        assert_eq!(
            (text("tenant"), text("access_key").is_empty()),
            ("demo".to_owned(), false)
        );

        let id = demo.id().unwrap().to_string();
        let mut kill = tokio::process::Command::new("kill");
        assert!(kill.args(["-TERM", &id]).status().await.unwrap().success());
        assert!(demo.wait().await.unwrap().success());
        assert_eq!(lines.next_line().await.unwrap(), None);
        for file in [&token_file, &key_file] {
            std::fs::remove_file(file).ok();
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}

#[tokio::test]
async fn a_missing_client_certificate_is_reported() {
    use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};

    let files = TlsFiles::new();
    files.write("authority.crt", &files.server_authority.pem);
    let server = files.server_authority.server();
    let config = ServerTlsConfig::new()
        .identity(Identity::from_pem(&server.cert, &server.key))
        .client_ca_root(Certificate::from_pem(&files.client_authority.pem));
    let (_, health) = tonic_health::server::health_reporter();
    let listener = listen().await;
    let address = format!("https://localhost:{}", listener.local_addr().unwrap().port());
    let incoming = tonic::transport::server::TcpIncoming::from(listener);
    let router = Server::builder().tls_config(config).unwrap().add_service(health);
    tokio::spawn(router.serve_with_incoming(incoming));
    let authority = files.path("authority.crt");
    let health = ["health", "--addr", &address, "--tls-ca", authority.to_str().unwrap()];
    let said: Said = run(&health).await.into();
    // The alert of the server may be lost when it closes the connection.
    fails(&said, &["client certificate", "--cert and --key"]);
    let plaintext = address.replace("https://", "http://");
    let said: Said = run(&["health", "--addr", &plaintext]).await.into();
    fails(&said, &["the server may use TLS", "https://"]);
}

/// Returns what bash proposes for the last word of a command line.
async fn completed(words: &[&str]) -> Vec<String> {
    let script = Said::from(run(&["completions", "bash"]).await);
    assert_eq!((script.code, script.err.as_str()), (Some(0), ""));
    // What readline does when the key for completion is pressed.
    let press = r#"
        eval "$LEADGATE_SCRIPT"
        COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMP_LINE="$*" COMP_POINT=${#COMP_LINE}
        specification=($(complete -p leadgate))
        for ((i = 0; i < ${#specification[@]}; i++)); do
            if [ "${specification[i]}" = -F ]; then function=${specification[i + 1]}; fi
        done
        "$function" leadgate "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
        printf '%s\n' "${COMPREPLY[@]}"
    "#;
    let output = tokio::process::Command::new("bash")
        .args(["--norc", "-euc", press, "bash"])
        .args(words)
        .env("LEADGATE_SCRIPT", &script.out)
        .output()
        .await
        .unwrap();
    let said = Said::from(output);
    assert_eq!(said.code, Some(0), "{said:?}");
    said.out.lines().map(str::to_owned).collect()
}

#[tokio::test]
async fn shells_complete_commands_and_options() {
    assert_eq!(completed(&["leadgate", "ser"]).await, ["serve"]);
    assert_eq!(completed(&["leadgate", "store", "back"]).await, ["backup"]);
    assert_eq!(completed(&["leadgate", "serve", "--con"]).await, ["--config"]);
    for shell in ["zsh", "fish", "powershell", "elvish"] {
        let said = Said::from(run(&["completions", shell]).await);
        assert_eq!((said.code, said.err.as_str()), (Some(0), ""));
        for text in ["leadgate", "serve", "config", "cluster"] {
            assert!(said.out.contains(text), "{text} for {shell}");
        }
    }
    let said = Said::from(run(&["completions", "cmd.exe"]).await);
    assert_eq!(said.code, Some(2), "{said:?}");
}

#[tokio::test]
async fn each_command_has_a_manual_page() {
    let folder = tempfile::tempdir().unwrap();
    let pages = folder.path().join("man1");
    let said = Said::from(run(&["man", pages.to_str().unwrap()]).await);
    assert_eq!((said.code, said.err.as_str()), (Some(0), ""));
    let page = |name: &str| std::fs::read_to_string(pages.join(format!("{name}.1"))).unwrap();
    let title = format!(".TH leadgate 1  \"leadgate {}\" leadgate", env!("CARGO_PKG_VERSION"));
    assert!(page("leadgate").contains(&title), "{}", page("leadgate"));

    let help = Said::from(run(&["--help"]).await).out;
    let commands = help
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| !line.is_empty());
    let commands: Vec<&str> = commands
        .filter_map(|line| line.split_whitespace().next())
        .filter(|command| *command != "help")
        .collect();
    assert!(commands.contains(&"serve"), "{help}");
    for command in commands {
        let entry = format!("leadgate\\-{command}(1)");
        assert!(page("leadgate").contains(&entry), "{command}");
        assert!(page(&format!("leadgate-{command}")).contains("NAME"), "{command}");
    }
    assert!(page("leadgate-serve").contains("\\-\\-config"));
    assert!(page("leadgate-store-backup").contains(".SH DESCRIPTION"));

    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let said = Said::from(run(&["man", file.join("man1").to_str().unwrap()]).await);
    assert_eq!(said.code, Some(1));
    fails(&said, &["writing manual pages to", "file/man1 failed"]);
}
