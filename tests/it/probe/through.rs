//! Bursts: with a gateway that pauses the tenant meanwhile, and while somebody uses the web UI.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use leadgate::clock;
use leadgate::config::Config;
use leadgate::crm::raw::RawClient;
use leadgate::domain::pause::Pause;
use leadgate::probe::{self, BoxFuture, ProbeHooks, ProbeOptions, ProbeState};
use leadgate::store::Store;
use leadgate_simulator::Options;
use tokio_util::sync::CancellationToken;

use super::{Account, signal, unlimited, until};
use crate::harness::World;
use crate::process::Said;
use crate::steering::{SETTING, TOKEN, steer};

const RESUMED: &str = "leadgate_tenant_paused{tenant=\"acme\"} 0";
const PAUSED: &str = "leadgate_tenant_paused{tenant=\"acme\"} 1";
/// The only burst that this command sends itself.
const BURST: [&str; 5] = ["--burst", "--operator", "--only", "foreign", "--through"];

/// An account with a limit of 10 calls, its gateway, and the file of the token.
async fn gateway() -> (Account, World, String) {
    gateway_after(false).await
}

/// The same after an hour of a pause.
async fn gateway_after(is_paused: bool) -> (Account, World, String) {
    let mut options = unlimited();
    options.limits.calls = 10;
    options.limits.per = Duration::from_millis(300);
    let settings = "[tenants.acme.limits]\nwindow = \"300ms\"\ncalls = 10\n";
    let account = Account::with(options, settings).await;
    let text = std::fs::read_to_string(account.path("leadgate.toml")).unwrap();
    let text = format!("{}{SETTING}", text.replace("leadgate.db", "gateway.db"));
    if is_paused {
        let store = Store::open(&format!("sqlite://{}", account.path("gateway.db")))
            .await
            .unwrap();
        let pause = Pause::new(clock::now() - Duration::from_secs(3600), "maintenance").unwrap();
        store.pause("acme", &pause).await.unwrap();
        store.close().await;
    }
    let mut world = World::gateway(account.simulator.clone(), &text).await;
    if !is_paused {
        world = world.warm().await;
    }
    let token = account.path("token");
    std::fs::write(&token, TOKEN).unwrap();
    (account, world, token)
}

#[tokio::test]
async fn the_gateway_pauses_the_tenant_for_the_bursts_only() {
    let (account, world, token) = gateway().await;
    let address = format!("http://{}", world.admin);
    let child = account.spawn(&[&BURST[..], &[&address, "--token-file", &token, "--pace", "100ms"]].concat());
    world.until(PAUSED).await;
    let calls = account.simulator.calls().len();
    let probed = account.finish(child).await;
    assert_eq!(probed.said.code, Some(0), "{:?}", probed.said);
    world.until(RESUMED).await;
    assert!(
        account.simulator.calls().len() > calls + 20,
        "{:?}",
        account.endpoints()
    );
    for text in ["has paused the tenant acme", "has resumed the tenant acme"] {
        assert!(probed.said.err.contains(text), "{text}: {:?}", probed.said);
    }
    // Nobody uses the web UI.
    assert_eq!(probed.state("foreign"), "decided", "{:#}", probed.finding("foreign"));
    assert_eq!(probed.finding("foreign")["setting"], serde_json::Value::Null);
    let id = account.simulator.insert_lead(&[("FirstName", "Ann")]);
    world.get(crate::harness::by_id(&id)).await.unwrap();
    world.stop().await;
}

#[tokio::test]
async fn the_gateway_resumes_the_tenant_after_an_interruption() {
    let (account, world, token) = gateway().await;
    let address = world.admin.to_string();
    let child = account.spawn(&[&BURST[..], &[&address, "--token-file", &token, "--pace", "100ms"]].concat());
    world.until(PAUSED).await;
    until("no burst", || account.simulator.stats().refused > 0).await;
    signal(&child, "-INT").await;
    let probed = account.finish(child).await;
    assert_eq!(probed.said.code, Some(3), "{:?}", probed.said);
    world.until(RESUMED).await;
    world.stop().await;
}

#[tokio::test]
async fn a_tenant_that_was_paused_before_stays_paused() {
    let (account, world, token) = gateway_after(true).await;
    let address = world.admin.to_string();
    let calls = account.simulator.calls().len();
    let said = account
        .run(&[&BURST[..], &[&address, "--token-file", &token, "--yes"]].concat())
        .await;
    assert_eq!(said.code, Some(2), "{said:?}");
    assert!(said.err.contains("is paused already, since"), "{said:?}");
    assert_eq!(account.simulator.calls().len(), calls);
    world.until(PAUSED).await;
    world.stop().await;
}

#[tokio::test]
async fn without_a_pause_there_is_no_burst() {
    let (account, world, token) = gateway().await;
    let calls = account.simulator.calls().len();
    let right = world.admin.to_string();
    for (address, written, text) in [
        (right.as_str(), "wrong wrong wrong wrong wrong wrong", "TOKEN_INVALID"),
        (&right, "", "TOKEN_INVALID"),
        ("127.0.0.1:1", TOKEN, "refused"),
    ] {
        std::fs::write(&token, written).unwrap();
        let said = account
            .run(&[&BURST[..], &[address, "--token-file", &token, "--yes"]].concat())
            .await;
        let Said { code, err, .. } = &said;
        assert_eq!(*code, Some(2), "{err}");
        assert!(err.contains(text) && !err.contains("wrong wrong"), "{err}");
        assert!(!err.contains("paused"), "{err}");
    }
    assert_eq!(account.simulator.calls().len(), calls);
    world.stop().await;
}

#[tokio::test]
async fn the_pause_of_an_operator_during_the_run_is_neither_replaced_nor_ended() {
    // Before the bursts: the first probe is slow. During them: the operator gives another reason.
    for is_during in [false, true] {
        let (account, world, token) = gateway().await;
        let address = world.admin.to_string();
        if !is_during {
            account.slow(500);
        }
        let calls = account.simulator.calls().len();
        let arguments = ["--burst", "--operator", "--only", "account,bodies,foreign", "--through"];
        let child = account.spawn(&[&arguments[..], &[&address, "--token-file", &token, "--pace", "100ms"]].concat());
        match is_during {
            true => world.until(PAUSED).await,
            false => until("no read", || account.simulator.calls().len() > calls).await,
        }
        let reason = "{\"reason\": \"maintenance\"}";
        let (status, json) = steer(world.admin, "POST", "tenants/acme/pause", reason).await;
        assert_eq!(status, 200, "{json}");
        let probed = account.finish(child).await;
        let (_, pause) = steer(world.admin, "GET", "tenants/acme/pause", "").await;
        assert_eq!(
            (&pause["paused"], &pause["reason"]),
            (&true.into(), &"maintenance".into())
        );
        let (code, state, text) = match is_during {
            true => (0, "decided", "stays paused"),
            false => (1, "skipped", "is paused already"),
        };
        assert_eq!(
            (probed.said.code, probed.state("foreign")),
            (Some(code), state),
            "{:?}",
            probed.said
        );
        assert!(probed.said.err.contains(text), "{:?}", probed.said);
        world.stop().await;
    }
}

/// Hooks of a person who uses the web UI from the time at which the command waits for it.
struct Operator {
    is_using: AtomicBool,
}

impl ProbeHooks for Operator {
    fn progress(&self, _: &str, _: u32, _: f32) {}

    fn pause(&self) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn resume(&self) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn operator(&self) -> BoxFuture<'_, ()> {
        self.is_using.store(true, Ordering::Relaxed);
        Box::pin(std::future::ready(()))
    }
}

#[tokio::test]
async fn calls_of_the_web_ui_shrink_the_window() {
    for counts in [true, false] {
        let mut options = unlimited();
        options.limits.calls = 30;
        options.limits.per = Duration::from_secs(1);
        let account = Account::with(options, "[tenants.acme.limits]\nwindow = \"1s\"\ncalls = 30\n").await;
        let path = std::path::PathBuf::from(account.path("leadgate.toml"));
        let config = Config::load(Some(&path), std::iter::empty()).unwrap();
        let tenant = &config.tenants["acme"];
        let client = RawClient::new("acme", tenant.base_url.clone(), &tenant.keys, tenant.upstream.clone()).unwrap();
        let options = ProbeOptions {
            burst: true,
            operator: true,
            only: Some(["foreign".to_owned()].into()),
            pace: Duration::from_millis(200),
            ..ProbeOptions::default()
        };
        let operator = Operator {
            is_using: AtomicBool::new(false),
        };
        let cancelled = CancellationToken::new();
        let running = probe::run(&client, tenant, &options, &operator, &cancelled);
        // The calls of the web UI: 20 per second. If they do not count, there are none.
        let url = format!(
            "http://{}/v2/LeadManagement.svc/LeadsMetaData.Get?schemaName=ProspectID",
            account.upstream
        );
        let web_ui = async {
            let (client, keys) = (reqwest::Client::new(), Options::default());
            loop {
                tokio::time::sleep(Duration::from_millis(50)).await;
                if counts && operator.is_using.load(Ordering::Relaxed) {
                    let request = client.get(&url).header("x-lsq-accesskey", &keys.access_key);
                    let request = request.header("x-lsq-secretkey", &keys.secret_key);
                    request.send().await.unwrap();
                }
            }
        };
        let report = tokio::select! {
            report = running => report,
            () = web_ui => unreachable!(),
        };
        let finding = &report.rows[0].finding;
        assert_eq!(finding.state, ProbeState::Decided, "{finding:#?}");
        let reserve = finding.settings.first().map(|setting| setting.path);
        assert_eq!(reserve, counts.then_some("limits.reserve"), "{finding:#?}");
    }
}
