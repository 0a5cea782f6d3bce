//! `leadgate top`: the binary as a client of a running gateway, with a pipe and in a pseudo-terminal.

use std::process::Stdio;
use std::time::Duration;

use leadgate_simulator::{FaultKind, Latency, Options};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::task::JoinSet;

use crate::account::Account;
use crate::harness::{World, by_id, lead, lone_read};
use crate::process::{Said, leadgate, run};
use crate::steering::{SETTING, steer};

const LIMIT: Duration = Duration::from_secs(30);
const ESCAPE: char = '\u{1b}';

/// The lines of a picture as plain text.
async fn picture(lines: &mut Lines<BufReader<ChildStdout>>) -> String {
    let read = async {
        let mut text = String::new();
        while let Some(line) = lines.next_line().await.unwrap() {
            if line.is_empty() {
                break;
            }
            text += &line;
            text += "\n";
        }
        text
    };
    tokio::time::timeout(LIMIT, read).await.unwrap()
}

/// `leadgate top` with a pipe, and its output.
fn piped(address: &str, options: &[&str]) -> (Child, Lines<BufReader<ChildStdout>>) {
    let mut top = leadgate()
        .args(["top", "--addr", address])
        .args(options)
        .spawn()
        .unwrap();
    let lines = BufReader::new(top.stdout.take().unwrap()).lines();
    (top, lines)
}

async fn signal(process: &Child, name: &str) {
    let id = process.id().unwrap().to_string();
    let sent = Command::new("kill").args([name, &id]).status().await;
    assert!(sent.unwrap().success());
}

async fn ended(process: Child) -> Said {
    let output = tokio::time::timeout(LIMIT, process.wait_with_output()).await;
    output.unwrap().unwrap().into()
}

#[tokio::test]
async fn one_picture_is_printed_as_text() {
    let world = World::start().await.warm().await;
    let address = world.address.to_string();
    let said: Said = run(&["top", "--once", "--addr", &address, "--tenant", "acme"])
        .await
        .into();
    assert_eq!((said.code, said.err.as_str()), (Some(0), ""), "{said:?}");
    assert!(!said.out.contains(ESCAPE), "{said:?}");
    for line in [
        &format!("gateway      acme at {address}"),
        "verdict      OK: no call waits",
        "account      no cluster, replicas 1",
        "breaker      closed",
        "queue        critical-plus: 0 waiting",
    ] {
        assert!(said.out.lines().any(|found| found == line), "{line} in {}", said.out);
    }
    assert!(
        said.out.contains(" of 25 used, limit 25, ") && said.out.ends_with("\n\n"),
        "{said:?}"
    );
    let said: Said = run(&["top", "--once", "--addr", &address, "--tenant", "ghost"])
        .await
        .into();
    assert!(
        said.code == Some(1) && said.out.is_empty() && said.err.contains("--tenant"),
        "{said:?}"
    );
}

/// The line about the verdict.
async fn verdict(world: &World) -> String {
    let said: Said = run(&["top", "--once", "--addr", &world.address.to_string()])
        .await
        .into();
    assert_eq!((said.code, said.err.as_str()), (Some(0), ""), "{said:?}");
    let line = said.out.lines().find_map(|line| line.strip_prefix("verdict      "));
    line.unwrap().to_owned()
}

#[tokio::test]
async fn a_pause_and_rejected_keys_are_errors() {
    let world = World::with(Options::default(), SETTING).await.warm().await;
    let reason = r#"{"reason": "migration"}"#;
    assert_eq!(steer(world.admin, "POST", "tenants/acme/pause", reason).await.0, 200);
    let paused = verdict(&world).await;
    assert!(
        paused.starts_with("ERROR: paused by an operator since 20") && paused.ends_with(" UTC: migration"),
        "{paused}"
    );
    let page = world.snapshot(|page| page["verdict"]["kind"] == "paused").await;
    let text = page["verdict"]["text"].as_str().unwrap();
    assert!(
        text.starts_with("Paused since ") && text.ends_with(" UTC: migration"),
        "{text}"
    );
    assert_eq!(page["verdict"]["severity"], "error");
    assert_eq!(steer(world.admin, "POST", "tenants/acme/resume", "").await.0, 200);
    assert_eq!(verdict(&world).await, "OK: no call waits");

    world.fail_next("Lead.Create", FaultKind::Unauthorized);
    world.create(lead("Asha")).await.unwrap_err();
    let rejected = "ERROR: LeadSquared rejects the keys: check access_key, secret_key and base_url";
    assert_eq!(verdict(&world).await, rejected);
    world.create(lead("Asha")).await.unwrap();
    assert_eq!(verdict(&world).await, "OK: no call waits");
}

#[tokio::test]
async fn the_end_of_the_command_is_no_error_of_the_status_page() {
    let world = World::start().await.warm().await;
    let (top, mut lines) = piped(&world.address.to_string(), &["--interval", "100ms"]);
    picture(&mut lines).await;
    signal(&top, "-TERM").await;
    assert_eq!(ended(top).await.code, Some(0));
    world
        .until("leadgate_rpcs_total{method=\"/leadgate.v1.QuotaService/WatchQuota\",code=\"CANCELLED\"} 1")
        .await;
    // A later error is there, so one of the stream would be there, too.
    world
        .get(by_id("00000000-0000-4000-8000-000000000001"))
        .await
        .unwrap_err();
    let page = world.snapshot(|page| page["errors"][0]["count"] == 1).await;
    let codes: Vec<_> = page["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|error| &error["code"])
        .collect();
    assert_eq!(codes, ["NOT_FOUND"], "{page}");
}

#[tokio::test]
async fn options_out_of_range_are_errors_before_anything_is_sent() {
    for (options, text) in [
        (&["--interval", "99ms"][..], "must be 100ms to 1h"),
        (&["--interval", "2h"], "must be 100ms to 1h"),
        (&["--once", "--reconnect-for", "1s"], "cannot be used with"),
    ] {
        let said: Said = run(&[&["top", "--addr", "127.0.0.1:1"], options].concat()).await.into();
        assert!(said.code == Some(2) && said.err.contains(text), "{said:?}");
    }
    let said: Said = run(&["top", "--addr", "127.0.0.1:1"]).await.into();
    assert!(
        said.code == Some(1) && said.err.contains("cannot be reached"),
        "{said:?}"
    );
}

#[tokio::test]
async fn a_pipe_gets_pictures_with_the_waiting_calls_until_a_signal() {
    let options = Options {
        latency: Latency {
            min: Duration::from_secs(1),
            max: Duration::from_secs(1),
        },
        ..Options::default()
    };
    let world = World::with(options, "[tenant_defaults.limits]\ncalls = 2\n")
        .await
        .warm()
        .await;
    let id = world.simulator.insert_lead(&[("FirstName", "Asha")]);
    let (top, mut lines) = piped(&world.address.to_string(), &["--interval", "100ms"]);
    let first = picture(&mut lines).await;
    assert!(first.contains("no call waits"), "{first}");
    let mut reads = JoinSet::new();
    for _ in 0..6 {
        let (mut client, request) = (world.client.clone(), lone_read(&id));
        reads.spawn(async move { client.batch_get_leads(request).await.map(drop) });
    }
    let waiting = loop {
        let text = picture(&mut lines).await;
        assert!(!text.is_empty());
        if text.contains("quota of calls full: 4 calls wait") {
            break text;
        }
    };
    for text in [
        "verdict      WARNING: quota of calls full: ",
        "2 of 2 used",
        "queue        sheddable-plus: 4 waiting, oldest ",
        "caller       anonymous: 4 waiting",
        "foreign 0 (+0)",
    ] {
        assert!(waiting.contains(text), "{text} in {waiting}");
    }
    assert!(!waiting.contains(ESCAPE), "{waiting}");
    signal(&top, "-TERM").await;
    let said = ended(top).await;
    assert_eq!((said.code, said.err.as_str()), (Some(0), ""), "{said:?}");
}

#[tokio::test]
async fn a_closed_pipe_ends_the_command() {
    let world = World::start().await;
    let (top, mut lines) = piped(&world.address.to_string(), &["--interval", "100ms"]);
    picture(&mut lines).await;
    drop(lines);
    let said = ended(top).await;
    assert_eq!((said.code, said.err.as_str()), (Some(0), ""), "{said:?}");
}

#[tokio::test]
async fn pictures_continue_after_the_gateway_was_restarted() {
    let account = Account::open(Options::default(), "").await;
    let process = account.process().await;
    let mut gateway = process.start();
    process.channel().await;
    let address = process.address.to_string();
    let options = ["--interval", "100ms"];
    let (mut top, mut lines) = piped(&address, &options);
    let (brief, mut brief_lines) = piped(&address, &[&options[..], &["--reconnect-for", "0s"]].concat());
    picture(&mut lines).await;
    picture(&mut brief_lines).await;
    signal(&gateway, "-TERM").await;
    gateway.wait().await.unwrap();
    while !picture(&mut brief_lines).await.is_empty() {}
    let said = ended(brief).await;
    assert!(said.code == Some(1) && said.err.contains("--reconnect-for"), "{said:?}");

    // A picture with a later time is of the second process.
    let mut log = BufReader::new(top.stderr.take().unwrap()).lines();
    let note = tokio::time::timeout(LIMIT, log.next_line())
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    assert!(
        note.contains("The stream was interrupted") && note.contains("10m"),
        "{note}"
    );
    let _second = process.start();
    let restarted = leadgate::clock::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let after = async {
        loop {
            let text = picture(&mut lines).await;
            let time = text.split_whitespace().nth(1).expect("another picture");
            if time > restarted.as_str() {
                break;
            }
        }
    };
    tokio::time::timeout(LIMIT, after).await.unwrap();
    signal(&top, "-INT").await;
    assert_eq!(ended(top).await.code, Some(0));
}

/// `leadgate top` in a pseudo-terminal of util-linux's `script`, followed by the state of the terminal. The output has the words of
/// the screen in the order of their changes: a space that does not change is not in it.
struct Terminal {
    script: Child,
    keys: ChildStdin,
    out: ChildStdout,
    /// All output so far.
    text: String,
}

impl Terminal {
    fn start(address: &str, options: &str, variables: &[(&str, &str)]) -> Self {
        let top = format!(
            "{} top --addr {address} --interval 100ms {options}",
            env!("CARGO_BIN_EXE_leadgate")
        );
        // The shell prints its process id, which is then that of the command.
        let commands = format!("stty rows 24 cols 80; sh -c 'echo \"pid=$$.\"; exec {top}'; echo \"code=$?\"; stty -a");
        let mut script = Command::new("script")
            .args(["--quiet", "--flush", "--command", &commands, "/dev/null"])
            .env_remove("NO_COLOR")
            .env("SHELL", "/bin/sh")
            .env("TERM", "xterm")
            .envs(variables.iter().copied())
            .kill_on_drop(true)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        Self {
            keys: script.stdin.take().unwrap(),
            out: script.stdout.take().unwrap(),
            script,
            text: String::new(),
        }
    }

    /// Reads the output until it has a text.
    async fn until(&mut self, text: &str) {
        let read = async {
            let mut bytes = [0; 4096];
            while !self.text.contains(text) {
                let count = self.out.read(&mut bytes).await.unwrap();
                assert_ne!(count, 0, "{text} in {}", self.text);
                self.text += &String::from_utf8_lossy(&bytes[..count]);
            }
        };
        tokio::time::timeout(LIMIT, read).await.unwrap();
    }

    async fn press(&mut self, key: &[u8]) {
        self.keys.write_all(key).await.unwrap();
        self.keys.flush().await.unwrap();
    }

    /// The output after the end of the command, which must have restored the terminal.
    async fn restored(mut self, code: u8) -> String {
        self.until(&format!("code={code}")).await;
        self.until("-echoprt").await;
        drop(self.keys);
        let _ = tokio::time::timeout(LIMIT, self.script.wait()).await.unwrap();
        let (screen, after) = self.text.split_once("\u{1b}[?1049l").unwrap();
        assert!(screen.contains("\u{1b}[?1049h"), "the alternate screen: {screen}");
        assert!(after.contains("\u{1b}[?25h"), "the cursor: {after}");
        let modes: Vec<&str> = after.split_whitespace().collect();
        for mode in ["icanon", "echo", "isig", "opost"] {
            assert!(modes.contains(&mode), "{mode} in {after}");
        }
        after.to_owned()
    }
}

/// The parameters of all codes that set a color.
fn colors(text: &str) -> Vec<u8> {
    let codes = text.split("\u{1b}[").filter_map(|code| code.split_once('m'));
    let numbers = codes
        .flat_map(|(code, _)| code.split(';'))
        .filter_map(|number| number.parse().ok());
    // 39, 49 and 59 are the default colors.
    numbers
        .filter(|number| !matches!(number, 0..=29 | 39 | 49 | 59))
        .collect()
}

#[tokio::test]
async fn each_key_that_quits_restores_the_terminal() {
    let world = World::start().await;
    for key in [&b"q"[..], b"\x1b", b"\x03"] {
        let mut terminal = Terminal::start(&world.address.to_string(), "--tenant acme", &[]);
        terminal.until("waits").await;
        assert!(!colors(&terminal.text).is_empty(), "{}", terminal.text);
        terminal.press(b"p").await;
        terminal.until("PAUSED").await;
        terminal.press(b"?").await;
        terminal.until("closes").await;
        terminal.press(key).await;
        terminal.restored(0).await;
    }
}

#[tokio::test]
async fn without_colors_the_screen_has_no_color_codes() {
    let world = World::start().await;
    let mut terminal = Terminal::start(&world.address.to_string(), "", &[("NO_COLOR", "1")]);
    terminal.until("quit").await;
    terminal.press(b"q").await;
    assert_eq!(colors(&terminal.text), Vec::<u8>::new(), "{}", terminal.text);
    terminal.restored(0).await;
}

#[tokio::test]
async fn an_error_is_printed_after_the_terminal_is_restored() {
    let world = World::start().await;
    let mut terminal = Terminal::start(&world.address.to_string(), "--reconnect-for 0s", &[]);
    terminal.until("waits").await;
    world.stop().await;
    let after = terminal.restored(1).await;
    assert!(
        after.contains("leadgate: ") && after.contains("(--reconnect-for)"),
        "{after}"
    );
}

#[tokio::test]
async fn each_signal_that_ends_the_command_restores_the_terminal() {
    let world = World::start().await;
    for name in ["-TERM", "-HUP", "-QUIT"] {
        let mut terminal = Terminal::start(&world.address.to_string(), "", &[]);
        terminal.until("waits").await;
        let (_, id) = terminal.text.split_once("pid=").unwrap();
        let (id, _) = id.split_once('.').unwrap();
        let sent = Command::new("kill").args([name, id]).status().await;
        assert!(sent.unwrap().success());
        terminal.restored(0).await;
    }
}
