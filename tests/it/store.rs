//! A gateway with a store that is damaged, deleted or on a full disk.

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
async fn a_damaged_share_is_moved_away_and_all_other_shares_are_usable() {
    let account = Account::open(Options::default(), SHARING).await;
    let world = account.gateway().await;
    let damaged = share(&account, &world).await.unwrap();
    let good = share(&account, &world).await.unwrap();
    world.stop().await;
    // As an older version wrote it for a number that is not finite. In progress, so that it is read at startup.
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
        let (_, output) = run(&account, command).await;
        assert!(output.contains("in use by another process"), "{output}");
        assert!(output.contains("leadgate_store_damaged_rows"), "{output}");
    }
    world.stop().await;

    for command in [&["check"][..], &["store", "repair"], &["store", "repair", "--apply"]] {
        let (succeeded, output) = run(&account, command).await;
        assert!(succeeded, "{output}");
        let line = format!("table share, tenant acme, id {damaged}: the content has an unexpected value at what");
        assert!(output.contains(&line), "{output}");
    }
    let (succeeded, output) = run(&account, &["store", "repair"]).await;
    assert!(succeeded && output.contains("no damaged rows"), "{output}");
    let world = account.gateway().await;
    assert_eq!(listed(&world).await, [new, good]);
    let request = pb::GetShareRequest { share_id: damaged };
    let error = seen(shares(&world).await.get_share(request).await.unwrap_err());
    error.is(Code::NotFound, "SHARE_NOT_FOUND");
    world.create(lead("Asha")).await.unwrap();
    world.stop().await;
}

#[tokio::test]
async fn with_a_deleted_store_the_gateway_is_not_ready_and_rejects_mutations_with_a_request_id() {
    let account = Account::open(Options::default(), SHARING).await;
    let world = account.gateway().await;
    share(&account, &world).await.unwrap();
    let store = account.folder.path().join("leadgate.db");
    let aside = account.folder.path().join("aside.db");
    std::fs::rename(&store, &aside).unwrap();
    let reason = wait_until_ready_is(&world, 503).await;
    assert!(reason.contains("leadgate.db was deleted or renamed"), "{reason}");
    world.until("leadgate_store_writable 0").await;
    let create = |id: uuid::Uuid| pb::CreateLeadRequest {
        lead: Some(lead("Asha")),
        request_id: id.to_string(),
        ..Default::default()
    };
    let request = create(uuid::Uuid::new_v4());
    let error = seen(world.client.clone().create_lead(request.clone()).await.unwrap_err());
    error.is(Code::Unavailable, "STORE_UNAVAILABLE");
    assert!(error.status.message().contains("cannot be written"), "{}", error.status);
    let error = seen(share(&account, &world).await.unwrap_err());
    error.is(Code::Unavailable, "STORE_UNAVAILABLE");
    assert_eq!(world.calls("Lead.Create").len(), 0);
    // A mutation without a request id does not use the store.
    world.create(lead("Ben")).await.unwrap();

    // A second gateway cannot use the path while the file is missing or replaced by an empty file.
    let config = leadgate::config::Config::read("test", &account.settings, std::iter::empty()).unwrap();
    let error = leadgate::app::App::new(config).await.err().unwrap();
    assert!(error.contains("in use by another process"), "{error}");
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
    world.client.clone().create_lead(request).await.unwrap();
    assert_eq!(world.page("/ready").await.0, 200);
    world.stop().await;
}

/// Waits until /ready has a status, and returns its text.
async fn wait_until_ready_is(world: &World, status: u16) -> String {
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
async fn with_a_full_disk_the_gateway_is_not_ready_until_there_is_free_space() {
    let account = Account::open(Options::default(), "").await;
    let admin = crate::harness::listen().await.local_addr().unwrap();
    let path = account.folder.path().join("leadgate.toml");
    let ports = format!("[server]\nlisten = \"127.0.0.1:0\"\n[admin]\nlisten = \"{admin}\"\n");
    std::fs::write(&path, format!("{ports}{}", account.settings)).unwrap();
    let mut gateway = LimitedGateway::start(&path);
    let limit = async |limit: &str| gateway.limit(limit).await;
    let url = format!("http://{admin}/ready");
    let wait_until = async |status: u16| {
        let seen = async {
            loop {
                if let Ok(response) = reqwest::get(&url).await
                    && response.status().as_u16() == status
                {
                    return response.text().await.unwrap();
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), seen).await.unwrap()
    };
    for _ in 0..2 {
        wait_until(200).await;
        limit("0").await;
        let reason = wait_until(503).await;
        assert!(reason.contains("the store cannot be written: "), "{reason}");
        assert!(reason.contains(account.folder.path().to_str().unwrap()), "{reason}");
        limit("unlimited").await;
    }
    wait_until(200).await;
    gateway.child.kill().await.unwrap();
}

/// A gateway with a limit of its file sizes, which simulates a full disk.
struct LimitedGateway {
    child: Child,
    id: String,
}

impl LimitedGateway {
    fn start(config: &Path) -> Self {
        // The signal is ignored, so that a write above the limit fails with an error.
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
async fn results_after_a_full_disk_survive_a_restart() {
    let account = Account::open(Options::default(), "").await;
    let process = account.process().await;
    let mut gateway = LimitedGateway::start(&process.path);
    let mut client = LeadServiceClient::new(process.channel().await);
    let create = |number: u128| pb::CreateLeadRequest {
        lead: Some(pb::LeadFields {
            first_name: Some(format!("Lead {number}")),
            ..Default::default()
        }),
        request_id: Uuid::from_u128(number).to_string(),
        ..Default::default()
    };
    // Reads the metadata, and stores a record with a result.
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
async fn the_files_of_a_store_are_accessible_only_to_their_owner() {
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
