//! A store that goes wrong while the gateway runs, or did before.

use std::path::Path;
use std::process::Output;
use std::time::Duration;

use leadgate::grpc::pb;
use leadgate_simulator::Options;
use pb::lead_service_client::LeadServiceClient;
use pb::share_service_client::ShareServiceClient;
use tokio::process::{Child, Command};
use tonic::Code;
use tonic::transport::Channel;
use uuid::Uuid;

use crate::account::Account;
use crate::harness::{World, channel, lead, seen};
use crate::restart::SAM;

const SHARING: &str = "[tenants.acme.sharing]\ndefault_activity_type = 201\npoll_every = \"20ms\"\n";

/// Executes a statement on the store of a gateway that is stopped.
pub async fn execute(account: &Account, statement: &'static str) {
    let url = format!("sqlite://{}/leadgate.db", account.folder.path().display());
    let pool = sqlx::SqlitePool::connect(&url).await.unwrap();
    sqlx::query(statement).execute(&pool).await.unwrap();
    pool.close().await;
}

/// The output of a command with the account's settings.
async fn run(account: &Account, arguments: &[&str]) -> (bool, String) {
    let path = account.folder.path().join("leadgate.toml");
    std::fs::write(&path, &account.settings).unwrap();
    let Output { status, stdout, stderr } = Command::new(env!("CARGO_BIN_EXE_leadgate"))
        .args(arguments)
        .args(["--config", path.to_str().unwrap()])
        .output()
        .await
        .unwrap();
    let text = [stdout, stderr].map(|text| String::from_utf8(text).unwrap()).concat();
    (status.success(), text)
}

async fn shares(world: &World) -> ShareServiceClient<Channel> {
    ShareServiceClient::new(channel(world.address).await)
}

async fn share(account: &Account, world: &World) -> Result<String, tonic::Status> {
    let lead = account.simulator.insert_lead(&[("FirstName", "Asha")]);
    let request = pb::ShareLeadRequest {
        lead: Some(pb::share_lead_request::Lead::LeadId(lead)),
        user: Some(pb::share_lead_request::User::UserId(SAM.into())),
        access: pb::Access::Read.into(),
        wait_for: pb::WaitFor::Active.into(),
        ..Default::default()
    };
    let shared = shares(world).await.share_lead(request).await?;
    Ok(shared.into_inner().share.unwrap().share_id)
}

async fn listed(world: &World) -> Vec<String> {
    let request = pb::ListSharesRequest::default();
    let listed = shares(world).await.list_shares(request).await.unwrap().into_inner();
    listed.shares.into_iter().map(|share| share.share_id).collect()
}

#[tokio::test]
async fn a_damaged_share_costs_itself_alone_and_can_be_moved_away() {
    let account = Account::open(Options::default(), SHARING).await;
    let world = account.gateway().await;
    let damaged = share(&account, &world).await.unwrap();
    let good = share(&account, &world).await.unwrap();
    world.stop().await;
    // As an older version left it for a number that is none: unsettled, so that it is read at the start.
    execute(
        &account,
        "UPDATE share SET unsettled = 1,
             document = replace(document, '\"fields\":{}', '\"fields\":{\"mx_Score\":{\"Number\":null}}')
         WHERE id = (SELECT MIN(id) FROM share)",
    )
    .await;

    let world = account.gateway().await;
    assert_eq!(listed(&world).await, std::slice::from_ref(&good));
    let new = share(&account, &world).await.unwrap();
    let request = pb::RevokeSharesRequest {
        user_id: SAM.into(),
        ..Default::default()
    };
    let mut revoked = shares(&world).await.revoke_shares(request).await.unwrap().into_inner();
    let mut revoked_ids = Vec::new();
    while let Some(one) = revoked.message().await.unwrap() {
        assert!(one.error.is_none(), "{one:?}");
        revoked_ids.push(one.share.unwrap().share_id);
    }
    revoked_ids.sort_unstable();
    assert_eq!(revoked_ids, [good.clone(), new.clone()]);
    let request = pb::GetShareRequest {
        share_id: damaged.clone(),
    };
    let error = seen(shares(&world).await.get_share(request).await.unwrap_err());
    error.is(Code::Unavailable, "STORE_UNAVAILABLE");
    assert!(error.status.message().contains("cannot be read"), "{}", error.status);
    world.until("leadgate_store_damaged_rows 1").await;
    for command in [&["check"][..], &["store", "repair"]] {
        let (_, said) = run(&account, command).await;
        assert!(said.contains("in use by another process"), "{said}");
        assert!(said.contains("leadgate_store_damaged_rows"), "{said}");
    }
    world.stop().await;

    for command in [&["check"][..], &["store", "repair"], &["store", "repair", "--apply"]] {
        let (is_good, said) = run(&account, command).await;
        assert!(is_good, "{said}");
        let line = format!("table share, tenant acme, id {damaged}: the content has an unexpected value at what");
        assert!(said.contains(&line), "{said}");
    }
    let (is_good, said) = run(&account, &["store", "repair"]).await;
    assert!(is_good && said.contains("no damaged rows"), "{said}");
    let world = account.gateway().await;
    assert_eq!(listed(&world).await, [new, good]);
    let request = pb::GetShareRequest { share_id: damaged };
    let error = seen(shares(&world).await.get_share(request).await.unwrap_err());
    error.is(Code::NotFound, "SHARE_NOT_FOUND");
    world.create(lead("Asha")).await.unwrap();
    world.stop().await;
}

#[tokio::test]
async fn a_deleted_store_makes_the_gateway_unready_and_refuses_what_needs_it() {
    let account = Account::open(Options::default(), SHARING).await;
    let world = account.gateway().await;
    share(&account, &world).await.unwrap();
    let store = account.folder.path().join("leadgate.db");
    let aside = account.folder.path().join("aside.db");
    std::fs::rename(&store, &aside).unwrap();
    let reason = until_ready_is(&world, 503).await;
    assert!(reason.contains("leadgate.db was deleted or renamed"), "{reason}");
    let create = |id: uuid::Uuid| pb::CreateLeadRequest {
        lead: Some(lead("Asha")),
        request_id: id.to_string(),
        ..Default::default()
    };
    let refused = create(uuid::Uuid::new_v4());
    let error = seen(world.client.clone().create_lead(refused.clone()).await.unwrap_err());
    error.is(Code::Unavailable, "STORE_UNAVAILABLE");
    assert!(error.status.message().contains("cannot be written"), "{}", error.status);
    let error = seen(share(&account, &world).await.unwrap_err());
    error.is(Code::Unavailable, "STORE_UNAVAILABLE");
    assert_eq!(world.calls("Lead.Create").len(), 0);
    // What needs no store goes on.
    world.create(lead("Ben")).await.unwrap();

    // No second gateway on the path, where there is no file now or an empty one.
    let config = leadgate::config::Config::read("test", &account.settings, std::iter::empty()).unwrap();
    let fault = leadgate::app::App::new(config).await.err().unwrap();
    assert!(fault.contains("in use by another process"), "{fault}");
    std::fs::write(&store, "").unwrap();
    let reason = async {
        loop {
            let (_, reason) = world.page("/ready").await;
            if reason.contains("was replaced") {
                return;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(10), reason).await.unwrap();
    world.stop().await;

    std::fs::rename(&aside, &store).unwrap();
    let world = account.gateway().await;
    assert_eq!(listed(&world).await.len(), 1);
    world.client.clone().create_lead(refused).await.unwrap();
    assert_eq!(world.page("/ready").await.0, 200);
    world.stop().await;
}

/// The text of /ready once it has that status.
async fn until_ready_is(world: &World, status: u16) -> String {
    let seen = async {
        loop {
            let (now, text) = world.page("/ready").await;
            if now == status {
                return text;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), seen).await.unwrap()
}

#[tokio::test]
async fn a_full_disk_makes_the_gateway_unready_until_there_is_room_again() {
    let account = Account::open(Options::default(), "").await;
    let admin = crate::harness::listen().await.local_addr().unwrap();
    let path = account.folder.path().join("leadgate.toml");
    let ports = format!("[server]\nlisten = \"127.0.0.1:0\"\n[admin]\nlisten = \"{admin}\"\n");
    std::fs::write(&path, format!("{ports}{}", account.settings)).unwrap();
    let mut gateway = Limited::start(&path);
    let limit = async |limit: &str| gateway.limit(limit).await;
    let url = format!("http://{admin}/ready");
    let until = async |status: u16| {
        let seen = async {
            loop {
                if let Ok(answer) = reqwest::get(&url).await
                    && answer.status().as_u16() == status
                {
                    return answer.text().await.unwrap();
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), seen).await.unwrap()
    };
    for _ in 0..2 {
        until(200).await;
        limit("0").await;
        let reason = until(503).await;
        assert!(reason.contains("the store cannot be written: "), "{reason}");
        assert!(reason.contains(account.folder.path().to_str().unwrap()), "{reason}");
        limit("unlimited").await;
    }
    until(200).await;
    gateway.child.kill().await.unwrap();
}

/// A gateway whose files can be kept from growing, as on a full disk.
struct Limited {
    child: Child,
    id: String,
}

impl Limited {
    fn start(config: &Path) -> Self {
        // Without the signal a write above the limit fails.
        let child = Command::new("sh")
            .args(["-c", "trap '' XFSZ; exec \"$0\" serve --config \"$1\" 2>/dev/null"])
            .args([env!("CARGO_BIN_EXE_leadgate"), config.to_str().unwrap()])
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let id = child.id().unwrap().to_string();
        Self { child, id }
    }

    async fn limit(&self, limit: &str) {
        let arguments = ["--pid", &self.id, &format!("--fsize={limit}:")];
        let limited = Command::new("prlimit").args(arguments).status().await;
        assert!(limited.unwrap().success());
    }
}

#[tokio::test]
async fn what_is_acknowledged_after_a_full_disk_outlives_the_process() {
    let account = Account::open(Options::default(), "").await;
    let process = account.process().await;
    let mut gateway = Limited::start(&process.path);
    let mut client = LeadServiceClient::new(process.channel().await);
    let create = |number: u128| pb::CreateLeadRequest {
        lead: Some(pb::LeadFields {
            first_name: Some(format!("Lead {number}")),
            ..Default::default()
        }),
        request_id: Uuid::from_u128(number).to_string(),
        ..Default::default()
    };
    // The metadata, and a record with an answer.
    client.create_lead(create(1)).await.unwrap();
    for number in 2..5 {
        gateway.limit("0").await;
        let error = seen(client.create_lead(create(number)).await.unwrap_err());
        error.is(Code::Unavailable, "STORE_UNAVAILABLE");
        gateway.limit("unlimited").await;
    }
    let mut ids = Vec::new();
    for number in 2..6 {
        ids.push(client.create_lead(create(number)).await.unwrap().into_inner().lead_id);
    }
    gateway.child.kill().await.unwrap();
    let mut gateway = process.start();
    let mut client = LeadServiceClient::new(process.channel().await);
    for (number, id) in (2..6).zip(ids) {
        let again = client.create_lead(create(number)).await.unwrap().into_inner().lead_id;
        assert_eq!(again, id);
    }
    assert_eq!(account.simulator.leads().len(), 5);
    gateway.kill().await.unwrap();
}

#[tokio::test]
async fn the_files_of_a_store_are_for_their_owner_alone() {
    let account = Account::open(Options::default(), "").await;
    let world = account.gateway().await;
    world.create(lead("Asha")).await.unwrap();
    let mut names = Vec::new();
    for entry in std::fs::read_dir(account.folder.path()).unwrap() {
        let entry = entry.unwrap();
        let mode = std::os::unix::fs::PermissionsExt::mode(&entry.metadata().unwrap().permissions());
        assert_eq!(mode & 0o777, 0o600, "{entry:?}");
        names.push(entry.file_name().into_string().unwrap());
    }
    names.sort_unstable();
    assert_eq!(names, ["leadgate.db", "leadgate.db-lock", "leadgate.db-wal"]);
    world.stop().await;
}
