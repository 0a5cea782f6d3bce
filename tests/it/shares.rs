//! `leadgate shares` as an operator uses it: the binary as a client of a running gateway.

use std::time::Duration;

use leadgate::grpc::pb;
use pb::ShareState;
use pb::share_lead_request::{Lead, User};
use serde_json::Value as Json;

use crate::harness::listen;
use crate::process::{Said, leadgate, run};
use crate::share::{SAM, SITA, ShareFixture};

impl ShareFixture {
    async fn command(&self, arguments: &[&str]) -> Said {
        let address = self.world.address.to_string();
        run(&[&["shares", "--addr", &address], arguments].concat()).await.into()
    }

    /// Creates a share of a new lead.
    async fn share_for(&self, user: &str, minutes: i64) -> pb::Share {
        let lead = self.insert_lead("Ben");
        let request = pb::ShareLeadRequest {
            lead: Some(Lead::LeadId(lead)),
            user: Some(User::UserId(user.into())),
            duration: Some(prost_types::Duration {
                seconds: minutes * 60,
                nanos: 0,
            }),
            ..self.request()
        };
        self.try_share(request).await.unwrap()
    }

    async fn state_of(&self, share: &pb::Share) -> ShareState {
        self.get(&share.share_id).await.share.unwrap().state()
    }
}

/// The lines that begin with the id of a share.
fn rows(text: &str) -> Vec<&str> {
    let is_row = |line: &&str| line.split(' ').next().is_some_and(|word| word.len() == 36);
    text.lines().filter(is_row).collect()
}

#[tokio::test]
async fn list_shows_shares_as_a_table() {
    let fixture = ShareFixture::new().await;
    let share = fixture.share().await;
    let output = fixture.command(&["list"]).await;
    assert_eq!(output.code, Some(0), "{}", output.err);
    assert!(output.out.starts_with("SHARE "), "{}", output.out);
    let [row] = rows(&output.out)[..] else {
        panic!("{}", output.out);
    };
    let words: Vec<_> = row.split_whitespace().collect();
    assert_eq!(words[..5], [&share.share_id, "active", "1001", SAM, "write"]);
    assert!(row.ends_with(" in 29 min") || row.ends_with(" in 30 min"), "{row}");
    assert!(
        output
            .err
            .contains("1 share. The ledger has the shares made through leadgate"),
        "{}",
        output.err
    );
}

#[tokio::test]
async fn list_filters_and_limits() {
    let fixture = ShareFixture::new().await;
    let (soon, later) = (fixture.share_for(SAM, 30).await, fixture.share_for(SITA, 6000).await);
    let gone = fixture.share_for(SITA, 30).await;
    let revoked = fixture.command(&["revoke", "--yes", &gone.share_id]).await;
    assert_eq!(revoked.code, Some(0), "{}", revoked.err);

    let ids = async |arguments: &[&str]| -> Vec<String> {
        let output = fixture.command(&[&["list"], arguments].concat()).await;
        assert_eq!(output.code, Some(0), "{}", output.err);
        rows(&output.out).iter().map(|row| row[..36].to_owned()).collect()
    };
    let lead = soon.lead_id.as_str();
    let (soon, later, gone) = (soon.share_id.as_str(), later.share_id.as_str(), gone.share_id.as_str());
    // Newest first.
    assert_eq!(ids(&[]).await, [gone, later, soon]);
    assert_eq!(ids(&["--limit", "2"]).await, [gone, later]);
    assert_eq!(ids(&["--user", SITA]).await, [gone, later]);
    assert_eq!(ids(&["--user", "sita@simulator.example"]).await, [gone, later]);
    assert_eq!(ids(&["--lead", lead]).await, [soon]);
    assert_eq!(ids(&["--state", "Active,uncertain"]).await, [later, soon]);
    assert_eq!(ids(&["--state", "revoked"]).await, [gone]);
    // A revoked share does not expire.
    assert_eq!(ids(&["--expiring-within", "24h"]).await, [soon]);
    assert_eq!(ids(&["--expiring-within", "24h", "--state", "revoked"]).await, [gone]);

    let invalid = fixture.command(&["list", "--state", "lost"]).await;
    assert!(
        invalid.code == Some(2) && invalid.err.contains("must be pending"),
        "{}",
        invalid.err
    );
}

#[tokio::test]
async fn revoke_revokes_the_shares_with_the_ids() {
    let fixture = ShareFixture::new().await;
    let (first, second) = (fixture.share_for(SAM, 30).await, fixture.share_for(SAM, 30).await);
    let kept = fixture.share_for(SITA, 30).await;
    let output = fixture
        .command(&["revoke", "--yes", &first.share_id, &second.share_id])
        .await;
    assert_eq!(output.code, Some(0), "{}", output.err);
    let mut results = rows(&output.out);
    results.sort_unstable();
    assert_eq!(
        results,
        [
            format!("{}  revoked", first.share_id),
            format!("{}  revoked", second.share_id)
        ]
    );
    // The shares are shown before they are revoked.
    assert_eq!(rows(&output.err).len(), 2, "{}", output.err);
    let remaining = fixture.world.simulator.shares();
    assert_eq!(remaining.len(), 1);
    assert_eq!(remaining[0].user_id, SITA);
    assert_eq!(fixture.state_of(&kept).await, ShareState::Active);
}

#[tokio::test]
async fn revoke_revokes_all_shares_of_a_user_or_lead() {
    let fixture = ShareFixture::new().await;
    for _ in 0..20 {
        fixture.share_for(SAM, 30).await;
    }
    let long = fixture.share_for(SAM, 6000).await;
    let within = [
        "revoke",
        "--yes",
        "--user",
        "sam@simulator.example",
        "--expiring-within",
        "24h",
    ];
    let output = fixture.command(&within).await;
    assert_eq!((output.code, rows(&output.out).len()), (Some(0), 20), "{}", output.err);
    assert_eq!(fixture.world.simulator.shares().len(), 1);
    assert_eq!(fixture.state_of(&long).await, ShareState::Active);

    let output = fixture.command(&["revoke", "--yes", "--lead", &long.lead_id]).await;
    assert_eq!((output.code, rows(&output.out).len()), (Some(0), 1), "{}", output.err);
    let output = fixture.command(&["revoke", "--yes", "--user", SAM]).await;
    assert_eq!((output.code, output.out.as_str()), (Some(0), ""));
    assert!(output.err.contains("nothing to revoke"), "{}", output.err);
}

#[tokio::test]
async fn without_a_terminal_revoke_requires_yes() {
    let fixture = ShareFixture::new().await;
    let share = fixture.share().await;
    let output = fixture.command(&["revoke", &share.share_id]).await;
    assert_eq!(output.code, Some(1));
    assert_eq!(rows(&output.err).len(), 1, "{}", output.err);
    assert!(
        output.err.contains("no terminal") && output.err.contains("--yes"),
        "{}",
        output.err
    );
    assert_eq!(fixture.state_of(&share).await, ShareState::Active);
    // A revoke without a user, a lead or an id does not revoke all shares.
    let output = fixture.command(&["revoke", "--yes"]).await;
    assert_eq!(output.code, Some(2), "{}", output.err);
    let output = fixture.command(&["revoke", "--yes", "--expiring-within", "24h"]).await;
    assert_eq!(output.code, Some(2), "{}", output.err);
    assert_eq!(fixture.world.simulator.shares().len(), 1);
}

#[tokio::test]
async fn an_unknown_id_prevents_the_revoke_of_all() {
    let fixture = ShareFixture::new().await;
    let share = fixture.share().await;
    let nobody = uuid::Uuid::new_v4().to_string();
    let output = fixture
        .command(&["revoke", "--yes", &share.share_id, &nobody, "what"])
        .await;
    assert_eq!(output.code, Some(1));
    for text in [
        &format!("{nobody}: SHARE_NOT_FOUND: share not found"),
        "`leadgate shares list` lists",
        "what: INVALID_FIELD",
    ] {
        assert!(output.err.contains(text), "{text} in {}", output.err);
    }
    assert_eq!(fixture.state_of(&share).await, ShareState::Active);
}

#[tokio::test]
async fn a_failed_revoke_is_reported_and_the_command_fails() {
    let fixture = ShareFixture::new().await;
    let (revoked, active) = (fixture.share_for(SAM, 30).await, fixture.share().await);
    let first = fixture.command(&["revoke", "--yes", &revoked.share_id]).await;
    assert_eq!(first.code, Some(0), "{}", first.err);
    fixture
        .world
        .set_options(|options| options.role = "Sales_User".to_owned());
    let output = fixture
        .command(&["revoke", "--yes", &revoked.share_id, &active.share_id])
        .await;
    assert_eq!(output.code, Some(1), "{}", output.out);
    // The first share was already revoked.
    assert!(
        output.out.contains(&format!("{}  revoked", revoked.share_id)),
        "{}",
        output.out
    );
    let failed = format!("{}  failed: UPSTREAM_FEATURE_DISABLED", active.share_id);
    assert!(output.out.contains(&failed), "{}", output.out);
    assert!(output.err.contains("revoking 1 of 2 shares failed"), "{}", output.err);
}

/// The names of the fields of a share in the public contract.
fn contract_fields() -> Vec<&'static str> {
    let text = include_str!("../../proto/leadgate/v1/share.proto");
    let (_, message) = text.split_once("message Share {").unwrap();
    let (message, _) = message.split_once("\n}").unwrap();
    let fields = message.lines().filter(|line| line.ends_with(';'));
    fields.map(|line| line.split_whitespace().nth(1).unwrap()).collect()
}

#[tokio::test]
async fn export_writes_every_share_with_every_field() {
    let fixture = ShareFixture::with(|_| {}, "roles = [\"Sales_User\", \"Administrator\"]\n").await;
    let share = fixture.share().await;
    // LeadSquared rejects this share, because Asha is not a sales user.
    let request = pb::ShareLeadRequest {
        user: Some(User::UserEmailAddress("asha@simulator.example".into())),
        ..fixture.request()
    };
    fixture.try_share(request).await.unwrap_err();

    let output = fixture.command(&["export"]).await;
    assert_eq!(output.code, Some(0), "{}", output.err);
    let mut sheet = csv::Reader::from_reader(output.out.as_bytes());
    let names: Vec<_> = sheet.headers().unwrap().iter().map(str::to_owned).collect();
    assert_eq!(names, contract_fields());
    let rows: Vec<csv::StringRecord> = sheet.records().map(Result::unwrap).collect();
    assert_eq!(rows.len(), 2);
    let of = |row: &csv::StringRecord, name: &str| {
        let at = names.iter().position(|known| known == name).unwrap();
        row[at].to_owned()
    };
    assert_eq!(of(&rows[1], "share_id"), share.share_id);
    assert_eq!(of(&rows[1], "state"), "SHARE_STATE_ACTIVE");
    assert_eq!(of(&rows[1], "access"), "ACCESS_WRITE");
    assert_eq!(of(&rows[1], "duration"), "1800s");
    let expires: jiff::Timestamp = of(&rows[1], "expire_time").parse().unwrap();
    assert_eq!(expires.as_second(), share.expire_time.unwrap().seconds);
    assert_eq!(of(&rows[0], "state"), "SHARE_STATE_FAILED");
    assert!(
        of(&rows[0], "failure").starts_with("NOT_A_SALES_USER: "),
        "{output}",
        output = of(&rows[0], "failure")
    );

    let output = fixture.command(&["export", "--format", "jsonl"]).await;
    let lines: Vec<Json> = output
        .out
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    for (line, row) in lines.iter().zip(&rows) {
        for name in &names {
            assert_eq!(line[name].as_str().unwrap_or_default(), of(row, name), "{name}");
        }
    }
    assert_eq!(lines.len(), 2);
    let output = fixture
        .command(&["export", "--state", "active", "--format", "jsonl"])
        .await;
    assert_eq!(output.out.lines().count(), 1);
}

#[tokio::test]
async fn an_exported_file_is_complete_or_does_not_exist() {
    let fixture = ShareFixture::new().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("shares.csv");
    let file = path.to_str().unwrap();
    // Without shares the file has only the header.
    let output = fixture.command(&["export", "--out", file]).await;
    assert_eq!((output.code, output.out.as_str()), (Some(0), ""), "{}", output.err);
    assert_eq!(
        std::fs::read_to_string(&path).unwrap().trim_end(),
        contract_fields().join(",")
    );

    fixture.share().await;
    let output = fixture.command(&["export", "--out", file]).await;
    assert!(output.err.contains("1 share in "), "{}", output.err);
    let written = std::fs::read_to_string(&path).unwrap();
    assert_eq!(written.lines().count(), 2);

    let output = fixture.command(&["export", "--lead", "?", "--out", file]).await;
    assert!(
        output.code == Some(1) && output.err.contains("INVALID_FIELD"),
        "{}",
        output.err
    );
    assert_eq!(std::fs::read_to_string(&path).unwrap(), written);
    let files = std::fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(files, 1);
    // A path that is not a regular file is not replaced.
    let other = tempfile::tempdir().unwrap();
    let socket = other.path().join("socket");
    let _listening = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let missing = other.path().join("missing/shares.csv");
    for path in [&socket, &missing] {
        let path = path.to_str().unwrap();
        let output = fixture.command(&["export", "--out", path]).await;
        assert_eq!(output.code, Some(1));
        assert!(output.err.contains(&format!("writing {path} failed")), "{}", output.err);
    }
}

#[tokio::test]
async fn all_pages_of_shares_are_listed() {
    let fixture = ShareFixture::new().await;
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..520 {
        let lead = fixture.insert_lead("Ben");
        let request = pb::ShareLeadRequest {
            lead: Some(Lead::LeadId(lead)),
            wait_for: pb::WaitFor::None.into(),
            ..fixture.request()
        };
        let mut client = fixture.client.clone();
        calls.spawn(async move { client.share_lead(request).await.unwrap() });
    }
    calls.join_all().await;
    let output = fixture.command(&["list"]).await;
    let mut ids: Vec<_> = rows(&output.out).iter().map(|row| &row[..36]).collect();
    ids.dedup();
    assert_eq!(ids.len(), 520, "{}", output.err);
    let output = fixture.command(&["list", "--limit", "510"]).await;
    assert_eq!(rows(&output.out).len(), 510);
}

#[tokio::test]
async fn an_unreachable_gateway_and_an_unknown_tenant_are_reported() {
    let address = listen().await.local_addr().unwrap().to_string();
    let output: Said = run(&["shares", "list", "--addr", &address]).await.into();
    assert_eq!(output.code, Some(1));
    assert!(
        output
            .err
            .contains(&format!("the gateway at {address} cannot be reached")),
        "{}",
        output.err
    );
    assert!(output.err.contains("--addr"), "{}", output.err);

    let fixture = ShareFixture::new().await;
    let output = fixture.command(&["list", "--tenant", "other"]).await;
    assert_eq!(output.code, Some(1));
    assert!(
        output.err.contains("--tenant") && output.err.lines().count() == 1,
        "{}",
        output.err
    );
    let output = fixture.command(&["list", "--tenant", "acme"]).await;
    assert_eq!(output.code, Some(0), "{}", output.err);
    let output = fixture.command(&["list", "--user", "nobody@example.com"]).await;
    assert!(
        output.code == Some(1) && output.err.contains("USER_NOT_FOUND"),
        "{}",
        output.err
    );
    // The admin port is not the port of the gateway.
    let admin = format!("http://{}", fixture.world.admin);
    let output: Said = run(&["shares", "list", "--addr", &admin]).await.into();
    assert!(
        output.code == Some(1) && output.err.contains("is it a leadgate"),
        "{}",
        output.err
    );
}

#[tokio::test]
async fn a_closed_output_ends_the_command_without_an_error() {
    let fixture = ShareFixture::new().await;
    fixture.share().await;
    let address = fixture.world.address.to_string();
    for arguments in [&["list"][..], &["export"], &["export", "--format", "jsonl"]] {
        let mut child = leadgate()
            .args(["shares", "--addr", &address])
            .args(arguments)
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let limit = Duration::from_secs(30);
        let ended = tokio::time::timeout(limit, child.wait_with_output()).await;
        let output = Said::from(ended.unwrap().unwrap());
        assert_eq!(output.code, Some(0), "{arguments:?}: {}", output.err);
    }
}
