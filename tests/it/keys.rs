//! LeadSquared's keys while the process runs: rotation without failed RPCs, pairs that are wrong, files that change, and keys that
//! are never shown. Also what a hostile server in place of LeadSquared can do with its responses.

use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use leadgate::grpc::pb;
use leadgate::grpc::pb::activity_service_client::ActivityServiceClient;
use leadgate::grpc::pb::user_service_client::UserServiceClient;
use leadgate_simulator::{KeyPair, Options, Simulator};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tonic::{Code, Status};

use crate::account::Account;
use crate::harness::{World, by_id, channel, concurrently, lead, listen, seen};
use crate::process::leadgate;

const NEXT: &str = "next = { access_key = \"u$rNext\", secret_key = \"next-secret\" }";

/// Limits that no test reaches.
const LIMITS: &str = "[tenants.acme.limits]\ncalls = 10000\nbulk = 10000";

fn options() -> Options {
    let mut options = Options::default();
    (options.limits.calls, options.limits.bulk) = (0, 0);
    options
}

fn next_pair() -> KeyPair {
    KeyPair {
        access_key: "u$rNext".to_owned(),
        secret_key: "next-secret".to_owned(),
    }
}

/// LeadSquared accepts these pairs from now on.
fn accept(options: &mut Options, pairs: &[KeyPair]) {
    options.access_key = "none".to_owned();
    options.further_keys = pairs.to_vec();
}

fn first_pair() -> KeyPair {
    let Options {
        access_key, secret_key, ..
    } = Options::default();
    KeyPair { access_key, secret_key }
}

/// A world with a next pair, whose options of the simulator are changed before the start.
async fn world(change: impl FnOnce(&mut Options)) -> World {
    let mut options = options();
    let upstream = listen().await;
    let address = upstream.local_addr().unwrap();
    change(&mut options);
    let settings = format!("{}{NEXT}\n{LIMITS}", tenant(address));
    let simulator = Simulator::new(options);
    tokio::spawn(simulator.clone().serve(upstream, std::future::pending()));
    World::gateway(simulator, &settings).await
}

fn tenant(address: SocketAddr) -> String {
    let KeyPair { access_key, secret_key } = first_pair();
    format!(
        "[tenants.acme]\nbase_url = \"http://{address}\"\naccess_key = \"{access_key}\"\nsecret_key = \"{secret_key}\"\n"
    )
}

/// Waits until a metric of the tenant's keys has this value.
async fn until(world: &World, metric: &str, labels: &str, value: u32) {
    world
        .until(&format!("leadgate_{metric}{{tenant=\"acme\",{labels}}} {value}"))
        .await;
}

async fn until_in_use(world: &World, pair: &str) {
    until(world, "key_in_use", &format!("pair=\"{pair}\""), 1).await;
}

/// RPCs of several kinds, one after the other and at the same time, until `stop`. Returns their number and the first error.
async fn load(world: &World, name: &str, stop: Arc<AtomicBool>) -> tokio::task::JoinHandle<Result<usize, Status>> {
    let client = world.client.clone();
    let ids = world.insert_leads(20);
    let name = name.to_owned();
    tokio::spawn(async move {
        let mut count = 0;
        while !stop.load(Ordering::Relaxed) {
            count += 1;
            let created = lead(&format!("{name}{count}"));
            let create = {
                let mut client = client.clone();
                async move {
                    let request = pb::CreateLeadRequest {
                        lead: Some(created),
                        ..Default::default()
                    };
                    client.create_lead(request).await.map(drop)
                }
            };
            let updates = ids.iter().map(|id| {
                let (mut client, lead_id) = (client.clone(), id.clone());
                async move {
                    let request = pb::UpdateLeadRequest {
                        lead_id,
                        lead: Some(pb::LeadFields {
                            first_name: Some(format!("New {count}")),
                            ..Default::default()
                        }),
                        ..Default::default()
                    };
                    client.update_lead(request).await.map(drop)
                }
            });
            let reads = ids.iter().map(|id| {
                let (mut client, key) = (client.clone(), Some(by_id(id)));
                async move {
                    let request = pb::GetLeadRequest {
                        key,
                        ..Default::default()
                    };
                    client.get_lead(request).await.map(drop)
                }
            });
            let create = concurrently([create]);
            let (created, updated, read) = tokio::join!(create, concurrently(updates), concurrently(reads));
            created
                .into_iter()
                .chain(updated)
                .chain(read)
                .collect::<Result<(), _>>()?;
        }
        Ok(count)
    })
}

/// Runs load while LeadSquared switches to other pairs, and until the pair is in use. No RPC fails, and none is executed twice.
async fn rotate(world: &World, name: &str, to: &[KeyPair], in_use: &str) {
    let before = world.simulator.leads().len();
    let stop = Arc::new(AtomicBool::new(false));
    let running = load(world, name, stop.clone()).await;
    let is_loaded = async {
        while world.simulator.leads().len() < before + 25 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), is_loaded).await.unwrap();
    world.set_options(|options| accept(options, to));
    until_in_use(world, in_use).await;
    let at = world.simulator.leads().len();
    let continues = async {
        while world.simulator.leads().len() < at + 5 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), continues).await.unwrap();
    stop.store(true, Ordering::Relaxed);
    let created = running.await.unwrap().unwrap();
    assert_eq!(world.simulator.leads().len(), before + 20 + created);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_pair_takes_over_at_the_start_and_the_first_one_can_be_revoked() {
    let world = world(|options| options.further_keys = vec![next_pair()]).await;
    until_in_use(&world, "next").await;
    until(&world, "key_switches_total", "pair=\"next\"", 1).await;
    assert_eq!(world.calls("UserByAccessKey.Get").len(), 1);
    rotate(&world, "a", &[next_pair()], "next").await;
    let last = world.calls("Lead.Create").pop().unwrap();
    assert_eq!(last.header("x-lsq-accesskey"), Some("u$rNext"));
    assert_eq!(last.header("x-lsq-secretkey"), Some("next-secret"));
    // Nothing was sent with the revoked pair.
    assert!(world.simulator.calls().iter().all(|call| call.status != 401));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_rpc_fails_when_leadsquared_switches_after_the_gateway() {
    let world = world(|_| {}).await;
    until(&world, "key_checks_total", "pair=\"next\",result=\"rejected\"", 1).await;
    until_in_use(&world, "first").await;
    rotate(&world, "a", &[next_pair()], "next").await;
    until(&world, "key_switches_total", "pair=\"next\"", 1).await;
    assert_eq!(world.page("/ready").await.0, 200);
    // And back, because the new pair was revoked.
    rotate(&world, "b", &[first_pair()], "first").await;
    until(&world, "key_switches_total", "pair=\"first\"", 1).await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_rpc_fails_if_the_rejection_has_no_exception() {
    let world = world(|options| options.wrong_keys_in_envelope = false).await;
    until_in_use(&world, "first").await;
    rotate(&world, "a", &[next_pair()], "next").await;
    world.stop().await;
}

#[tokio::test]
async fn a_wrong_next_pair_changes_nothing() {
    let world = world(|_| {}).await.warm().await;
    until(&world, "key_checks_total", "pair=\"next\",result=\"rejected\"", 1).await;
    world.simulator.forget_calls();
    for n in 0..10 {
        world.create(lead(&format!("Asha{n}"))).await.unwrap();
    }
    assert_eq!(world.simulator.calls().len(), 10);
    assert!(!world.page("/ready").await.1.contains("CREDENTIALS"));

    // LeadSquared rejects both pairs. The pairs are checked once, not for each RPC.
    world.set_options(|options| accept(options, &[]));
    world.simulator.forget_calls();
    for n in 0..10 {
        let error = seen(world.create(lead(&format!("Ravi{n}"))).await.unwrap_err());
        error.is(Code::FailedPrecondition, "UPSTREAM_CREDENTIALS_REJECTED");
    }
    assert_eq!(world.calls("UserByAccessKey.Get").len(), 2);
    assert_eq!(world.calls("Lead.Create").len(), 10);
    assert!(world.page("/ready").await.1.contains("UPSTREAM_CREDENTIALS_REJECTED"));
    until_in_use(&world, "first").await;

    // LeadSquared accepts the next pair later. It is checked again after some seconds.
    world.set_options(|options| accept(options, &[next_pair()]));
    seen(world.create(lead("Meera")).await.unwrap_err()).is(Code::FailedPrecondition, "UPSTREAM_CREDENTIALS_REJECTED");
    assert_eq!(world.calls("UserByAccessKey.Get").len(), 2);
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(6)).await;
    tokio::time::resume();
    world.create(lead("Meera")).await.unwrap();
    until_in_use(&world, "next").await;
    assert!(!world.page("/ready").await.1.contains("CREDENTIALS"));
    world.stop().await;
}

#[tokio::test]
async fn keys_of_another_region_are_no_reason_to_switch() {
    let world = world(|_| {}).await.warm().await;
    until(&world, "key_checks_total", "pair=\"next\",result=\"rejected\"", 1).await;
    world.set_options(|options| {
        options.further_keys = vec![next_pair()];
        options.right_host = Some("api-in21.leadsquared.com".to_owned());
    });
    world.simulator.forget_calls();
    let error = seen(world.create(lead("Asha")).await.unwrap_err());
    error.is(Code::FailedPrecondition, "UPSTREAM_CREDENTIALS_REJECTED");
    assert_eq!(error.metadata["suggested_host"], "api-in21.leadsquared.com");
    assert_eq!(world.simulator.calls().len(), 1);
    until_in_use(&world, "first").await;
    world.stop().await;
}

/// Writes a folder of a secret, as Kubernetes mounts it.
fn write_pair(folder: &Path, pair: &KeyPair) {
    std::fs::create_dir(folder).unwrap();
    std::fs::write(folder.join("access"), format!("{}\n", pair.access_key)).unwrap();
    std::fs::write(folder.join("secret"), &pair.secret_key).unwrap();
}

fn numbered_pair(number: u32) -> KeyPair {
    KeyPair {
        access_key: format!("u$r{number}"),
        secret_key: format!("secret-{number}"),
    }
}

#[tokio::test]
async fn a_pair_of_files_is_used_when_both_have_changed_and_leadsquared_accepts_it() {
    let folder = tempfile::tempdir().unwrap();
    let (link, first) = (folder.path().join("keys"), folder.path().join("..1"));
    write_pair(&first, &numbered_pair(1));
    symlink(&first, &link).unwrap();

    let upstream = listen().await;
    let mut options = options();
    accept(&mut options, &[numbered_pair(1), numbered_pair(2)]);
    let settings = format!(
        "[tenants.acme]\nbase_url = \"http://{}\"\naccess_key = {{ file = \"{link}/access\" }}\n\
         secret_key = {{ file = \"{link}/secret\" }}\n{LIMITS}",
        upstream.local_addr().unwrap(),
        link = link.display(),
    );
    let simulator = Simulator::new(options);
    tokio::spawn(simulator.clone().serve(upstream, std::future::pending()));
    let world = World::gateway(simulator, &settings).await.warm().await;
    let used = async |name: &str| {
        world.create(lead(name)).await.unwrap();
        let call = world.calls("Lead.Create").pop().unwrap();
        call.header("x-lsq-accesskey").unwrap().to_owned()
    };
    assert_eq!(used("Asha").await, "u$r1");
    assert_eq!(world.calls("UserByAccessKey.Get").len(), 0);

    // Between the two writes, the pair fits neither the old nor the new keys.
    std::fs::write(first.join("access"), "u$r2").unwrap();
    until(&world, "key_checks_total", "pair=\"first\",result=\"rejected\"", 1).await;
    assert_eq!(used("Ravi").await, "u$r1");
    std::fs::write(first.join("secret"), "secret-2").unwrap();
    until(&world, "key_switches_total", "pair=\"first\"", 1).await;
    assert_eq!(used("Meera").await, "u$r2");

    // The link is replaced by one to another folder. LeadSquared does not accept these keys yet.
    let second = folder.path().join("..2");
    write_pair(&second, &numbered_pair(3));
    symlink(&second, folder.path().join("..tmp")).unwrap();
    std::fs::rename(folder.path().join("..tmp"), &link).unwrap();
    until(&world, "key_checks_total", "pair=\"first\",result=\"rejected\"", 2).await;
    assert_eq!(used("Dev").await, "u$r2");
    // Now it does, and rejects the others.
    world.set_options(|options| accept(options, &[numbered_pair(3)]));
    assert_eq!(used("Isha").await, "u$r3");
    until(&world, "key_switches_total", "pair=\"first\"", 2).await;
    world
        .until("leadgate_reloads_total{what=\"tenants.acme.keys\",result=\"ok\"} 3")
        .await;
    world.stop().await;
}

#[tokio::test]
async fn a_deleted_key_file_is_an_error_that_names_the_file_and_the_keys_stay_in_use() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("secret");
    std::fs::write(&path, "simulator-secret-key").unwrap();
    let settings = format!("secret_key = {{ file = \"{}\" }}", path.display());
    let account = Account::open(options(), "").await;
    let settings = account
        .settings
        .replace("secret_key = \"simulator-secret-key\"", &settings);
    let world = World::gateway(account.simulator.clone(), &settings).await.warm().await;
    std::fs::remove_file(&path).unwrap();
    world
        .until("leadgate_reloads_total{what=\"tenants.acme.keys\",result=\"failed\"} 1")
        .await;
    world.create(lead("Asha")).await.unwrap();
    world.stop().await;
}

#[tokio::test]
async fn no_log_line_of_any_level_has_a_key_or_the_password_of_the_proxy() {
    for http2 in [false, true] {
        let mut account = Account::open(options(), "").await;
        let upstream = account.settings.split("http://").nth(1).unwrap();
        let upstream = upstream.split('"').next().unwrap();
        account.settings += &format!(
            "{NEXT}\n{LIMITS}\n[tenants.acme.upstream]\nhttp2 = {http2}\nproxy = \"http://user:PR0XYPASSWORD@{upstream}\"\n\
             [log]\nfilter = \"trace,h2=trace,hyper=trace,rustls=trace,tower=trace\"\n"
        );
        let process = account.process().await;
        let mut child = process.start();
        let mut client = pb::lead_service_client::LeadServiceClient::new(process.channel().await);
        let request = pb::CreateLeadRequest {
            lead: Some(lead("Asha")),
            ..Default::default()
        };
        client.create_lead(request).await.unwrap();
        child.kill().await.unwrap();
        let log = std::fs::read_to_string(account.folder.path().join("log")).unwrap();
        assert!(
            log.contains("\"level\":\"TRACE\"") && log.contains("\"target\":\"hyper"),
            "{log}"
        );
        for secret in [
            "u$rNext",
            "next-secret",
            "u$rSimulatorAccessKey",
            "simulator-secret-key",
            "PR0XYPASSWORD",
            // In Base64, as a proxy gets it.
            "UFIwWFlQQVNTV09SRA",
            "dXNlcjpQUjBYWVBBU1NXT1JE",
        ] {
            let line = log.lines().find(|line| line.contains(secret));
            assert_eq!(line, None, "{secret}");
        }
    }
}

#[tokio::test]
async fn check_reports_which_pairs_are_accepted() {
    let mut options = options();
    options.further_keys = vec![next_pair()];
    let account = Account::open(options, &format!("{NEXT}\n")).await;
    let config = account.folder.path().join("leadgate.toml");
    std::fs::write(&config, &account.settings).unwrap();
    let check = async || {
        let mut command = leadgate();
        command.args(["check", "--connect", "--config"]).arg(&config);
        let output = tokio::time::timeout(Duration::from_secs(60), command.output()).await;
        crate::process::Said::from(output.unwrap().unwrap())
    };
    let said = check().await;
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(said.out.contains("acme: the keys are valid"), "{said:?}");
    assert!(said.out.contains("acme: next: the keys are valid"), "{said:?}");
    for (pairs, rejected) in [([first_pair()], "next"), ([next_pair()], "first")] {
        account.simulator.set_options(|options| accept(options, &pairs));
        let said = check().await;
        assert_eq!(said.code, Some(0), "{said:?}");
        let text = format!("acme: the {rejected} pair of keys is not accepted: LeadSquared rejects");
        assert!(said.out.contains(&text), "{said:?}");
    }
    account.simulator.set_options(|options| accept(options, &[]));
    let said = check().await;
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.out.contains("acme: LeadSquared rejects"), "{said:?}");
    assert!(said.out.contains("acme: next: LeadSquared rejects"), "{said:?}");
}

/// A server in place of LeadSquared that sends the same response to every request, and then what `rest` sends.
async fn hostile<F>(response: Vec<u8>, rest: impl Fn(TcpStream) -> F + Clone + Send + Sync + 'static) -> SocketAddr
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = listen().await;
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let (response, rest) = (response.clone(), rest.clone());
            tokio::spawn(async move {
                let mut request = Vec::new();
                let is_complete = |request: &[u8]| {
                    let text = String::from_utf8_lossy(request).to_lowercase();
                    let Some((head, body)) = text.split_once("\r\n\r\n") else {
                        return false;
                    };
                    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
                    body.len() >= length.map_or(0, |length| length.parse().unwrap())
                };
                while !is_complete(&request) {
                    if stream.read_buf(&mut request).await.unwrap_or(0) == 0 {
                        return;
                    }
                }
                if stream.write_all(&response).await.is_ok() {
                    rest(stream).await;
                }
            });
        }
    });
    address
}

fn response(status: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n{headers}\r\n");
    [head.as_bytes(), body].concat()
}

async fn nothing(_: TcpStream) {}

/// A gateway in front of a server that is not LeadSquared.
async fn before(address: SocketAddr, upstream: &str) -> World {
    let settings = format!(
        "{}{LIMITS}\n[tenants.acme.upstream]\nmax_attempts = 1\nbreaker_failures = 0\n{upstream}",
        tenant(address)
    );
    World::gateway(Simulator::new(Options::default()), &settings).await
}

#[tokio::test]
async fn a_redirect_is_an_error_and_is_not_followed() {
    let reached = Arc::new(AtomicUsize::new(0));
    let counted = reached.clone();
    let other = hostile(response("200 OK", "", b"[]"), move |_| {
        counted.fetch_add(1, Ordering::Relaxed);
        std::future::ready(())
    })
    .await;
    for status in [
        "301 Moved Permanently",
        "302 Found",
        "307 Temporary Redirect",
        "308 Permanent Redirect",
    ] {
        let location = format!("location: http://{other}/v2/\r\n");
        let address = hostile(response(status, &location, b""), nothing).await;
        let world = before(address, "").await;
        let error = seen(
            world
                .get(by_id("00000000-0000-4000-8000-000000000001"))
                .await
                .unwrap_err(),
        );
        error.is(Code::Unknown, "UPSTREAM_EXCEPTION");
        assert_eq!(error.metadata["upstream_status"], status[..3]);
        let error = seen(world.create(lead("Asha")).await.unwrap_err());
        assert_eq!(error.metadata["upstream_status"], status[..3]);
        world.stop().await;
    }
    assert_eq!(reached.load(Ordering::Relaxed), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn deeply_nested_json_is_an_unreadable_response() {
    const DEPTH: usize = 100_000;
    let arrays = format!("{}{}", "[".repeat(DEPTH), "]".repeat(DEPTH));
    let objects = format!("{}1{}", "{\"Leads\":".repeat(DEPTH), "}".repeat(DEPTH));
    let bodies = [
        arrays.clone(),
        // Without the closing brackets.
        "[".repeat(DEPTH),
        objects,
        "{\"a\":".repeat(DEPTH),
        format!("{{\"RecordCount\":1,\"Leads\":{arrays}}}"),
        format!("{{\"RecordCount\":1,\"List\":[{{\"ProspectID\":{arrays}}}]}}"),
        format!("[{{\"ProspectID\":{arrays}}}]"),
        format!("{{\"Status\":{arrays}}}"),
        format!("{{\"Status\":\"Success\",\"Message\":{{\"Id\":{arrays}}}}}"),
        format!("{{\"Status\":\"Error\",\"ExceptionMessage\":{arrays},\"ExceptionType\":{arrays}}}"),
        format!("[{{\"LeadPropertyList\":[{{\"Attribute\":\"ProspectID\",\"Value\":{arrays}}}]}}]"),
        format!("{{\"ProspectActivities\":[{{\"Id\":{arrays},\"ActivityFields\":{arrays}}}]}}"),
    ];
    let id = "00000000-0000-4000-8000-000000000001";
    for body in bodies {
        let address = hostile(
            response("200 OK", "content-type: application/json\r\n", body.as_bytes()),
            nothing,
        )
        .await;
        let world = before(address, "").await;
        let start = body[..body.len().min(60)].to_owned();
        let mut codes = vec![];
        codes.push(world.get(by_id(id)).await.err());
        codes.push(world.create(lead("Asha")).await.err());
        let update = pb::UpdateLeadRequest {
            lead_id: id.to_owned(),
            lead: Some(lead("Asha")),
            ..Default::default()
        };
        codes.push(world.update(update).await.err());
        let mut client = world.client.clone();
        codes.push(
            client
                .describe_lead_fields(pb::DescribeLeadFieldsRequest::default())
                .await
                .err(),
        );
        let quick = pb::QuickSearchLeadsRequest {
            query: "Asha".to_owned(),
            ..Default::default()
        };
        codes.push(client.quick_search_leads(quick).await.err());
        let mut users = UserServiceClient::new(channel(world.address).await);
        codes.push(users.list_users(pb::ListUsersRequest::default()).await.err());
        let mut activities = ActivityServiceClient::new(channel(world.address).await);
        let list = pb::ListLeadActivitiesRequest {
            lead_id: id.to_owned(),
            ..Default::default()
        };
        codes.push(activities.list_lead_activities(list).await.err());
        codes.push(
            activities
                .list_activity_types(pb::ListActivityTypesRequest::default())
                .await
                .err(),
        );
        // A value that no one reads may have any depth, so not each RPC fails. None fails in another way.
        for error in codes.iter().flatten() {
            assert!(
                matches!(
                    error.code(),
                    Code::Internal | Code::Aborted | Code::Unknown | Code::NotFound
                ),
                "{start}: {error:?}"
            );
        }
        assert!(codes.iter().flatten().count() >= 3, "{start}: {codes:?}");
        // The process still works.
        assert_eq!(world.page("/live").await.0, 200);
        world.stop().await;
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[tokio::test]
async fn a_response_that_is_too_long_after_decompression_is_an_error_while_it_is_read() {
    let limit = "max_answer_bytes = 1000000";
    let id = "00000000-0000-4000-8000-000000000001";
    let is_too_long = |error: Status| {
        let error = seen(error);
        error.is(Code::Internal, "UPSTREAM_UNREADABLE");
        assert!(
            error.metadata["json_path"].contains("upstream.max_answer_bytes"),
            "{error:?}"
        );
    };
    // 200 MB of spaces in 200 KB.
    let bomb = gzip(&vec![b' '; 200_000_000]);
    assert!(bomb.len() < 400_000, "{}", bomb.len());
    let address = hostile(response("200 OK", "content-encoding: gzip\r\n", &bomb), nothing).await;
    let world = before(address, limit).await;
    is_too_long(world.get(by_id(id)).await.unwrap_err());
    world.stop().await;

    // Responses without an end, plain and compressed.
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    let mut block = || {
        encoder.write_all(&[b' '; 100_000]).unwrap();
        encoder.flush().unwrap();
        std::mem::take(encoder.get_mut())
    };
    let (first, compressed) = (block(), block());
    let plain = vec![b' '; 10_000];
    for (encoding, first, part) in [
        ("", plain.clone(), plain),
        ("content-encoding: gzip\r\n", first, compressed),
    ] {
        let chunk = |part: &[u8]| [format!("{:x}\r\n", part.len()).as_bytes(), part, b"\r\n"].concat();
        let head = format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n{encoding}\r\n");
        let (start, part) = ([head.as_bytes(), &chunk(&first)].concat(), chunk(&part));
        let address = hostile(start, move |mut stream| {
            let part = part.clone();
            async move { while stream.write_all(&part).await.is_ok() {} }
        })
        .await;
        let world = before(address, limit).await;
        let began = tokio::time::Instant::now();
        is_too_long(world.get(by_id(id)).await.unwrap_err());
        assert!(began.elapsed() < Duration::from_secs(10));
        world.stop().await;
    }
}
