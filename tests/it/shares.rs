//! `leadgate shares` as an operator uses it: the binary, as a client of a gateway that runs.

use std::time::Duration;

use leadgate::grpc::pb;
use pb::ShareState;
use pb::share_lead_request::{Lead, User};
use serde_json::Value as Json;

use crate::harness::listen;
use crate::process::{Said, leadgate, run};
use crate::share::{Office, SAM, SITA};

impl Office {
    async fn command(&self, arguments: &[&str]) -> Said {
        let address = self.world.address.to_string();
        run(&[&["shares", "--addr", &address], arguments].concat()).await.into()
    }

    /// A share of another lead.
    async fn share_with(&self, user: &str, minutes: i64) -> pb::Share {
        let lead = self.world.simulator.insert_lead(&[("FirstName", "Ben")]);
        let request = pb::ShareLeadRequest {
            lead: Some(Lead::LeadId(lead)),
            user: Some(User::UserId(user.into())),
            duration: Some(prost_types::Duration {
                seconds: minutes * 60,
                nanos: 0,
            }),
            ..self.request()
        };
        self.ask(request).await.unwrap()
    }

    async fn state(&self, share: &pb::Share) -> ShareState {
        self.get(&share.share_id).await.share.unwrap().state()
    }
}

/// The lines that begin with a share's id.
fn rows(text: &str) -> Vec<&str> {
    let is_row = |line: &&str| line.split(' ').next().is_some_and(|word| word.len() == 36);
    text.lines().filter(is_row).collect()
}

#[tokio::test]
async fn list_shows_shares_as_a_table() {
    let office = Office::quick().await;
    let share = office.share().await;
    let said = office.command(&["list"]).await;
    assert_eq!(said.code, Some(0), "{}", said.err);
    assert!(said.out.starts_with("SHARE "), "{}", said.out);
    let [row] = rows(&said.out)[..] else {
        panic!("{}", said.out);
    };
    let words: Vec<_> = row.split_whitespace().collect();
    assert_eq!(words[..5], [&share.share_id, "active", "1001", SAM, "write"]);
    assert!(row.ends_with(" in 29 min") || row.ends_with(" in 30 min"), "{row}");
    assert!(
        said.err
            .contains("1 share. The ledger has the shares made through leadgate"),
        "{}",
        said.err
    );
}

#[tokio::test]
async fn list_filters_and_limits() {
    let office = Office::quick().await;
    let (soon, later) = (office.share_with(SAM, 30).await, office.share_with(SITA, 6000).await);
    let gone = office.share_with(SITA, 30).await;
    let revoked = office.command(&["revoke", "--yes", &gone.share_id]).await;
    assert_eq!(revoked.code, Some(0), "{}", revoked.err);

    let ids = async |arguments: &[&str]| -> Vec<String> {
        let said = office.command(&[&["list"], arguments].concat()).await;
        assert_eq!(said.code, Some(0), "{}", said.err);
        rows(&said.out).iter().map(|row| row[..36].to_owned()).collect()
    };
    let lead = soon.lead_id.as_str();
    let (soon, later, gone) = (soon.share_id.as_str(), later.share_id.as_str(), gone.share_id.as_str());
    // The newest first.
    assert_eq!(ids(&[]).await, [gone, later, soon]);
    assert_eq!(ids(&["--limit", "2"]).await, [gone, later]);
    assert_eq!(ids(&["--user", SITA]).await, [gone, later]);
    assert_eq!(ids(&["--user", "sita@simulator.example"]).await, [gone, later]);
    assert_eq!(ids(&["--lead", lead]).await, [soon]);
    assert_eq!(ids(&["--state", "Active,uncertain"]).await, [later, soon]);
    assert_eq!(ids(&["--state", "revoked"]).await, [gone]);
    // What was revoked does not end any more.
    assert_eq!(ids(&["--expiring-within", "24h"]).await, [soon]);
    assert_eq!(ids(&["--expiring-within", "24h", "--state", "revoked"]).await, [gone]);

    let wrong = office.command(&["list", "--state", "lost"]).await;
    assert!(
        wrong.code == Some(2) && wrong.err.contains("must be pending"),
        "{}",
        wrong.err
    );
}

#[tokio::test]
async fn revoke_takes_back_what_was_named() {
    let office = Office::quick().await;
    let (first, second) = (office.share_with(SAM, 30).await, office.share_with(SAM, 30).await);
    let kept = office.share_with(SITA, 30).await;
    let said = office
        .command(&["revoke", "--yes", &first.share_id, &second.share_id])
        .await;
    assert_eq!(said.code, Some(0), "{}", said.err);
    let mut results = rows(&said.out);
    results.sort_unstable();
    assert_eq!(
        results,
        [
            format!("{}  revoked", first.share_id),
            format!("{}  revoked", second.share_id)
        ]
    );
    // What it was about to do was shown.
    assert_eq!(rows(&said.err).len(), 2, "{}", said.err);
    let left = office.world.simulator.shares();
    assert_eq!(left.len(), 1);
    assert_eq!(left[0].user_id, SITA);
    assert_eq!(office.state(&kept).await, ShareState::Active);
}

#[tokio::test]
async fn revoke_takes_back_all_of_a_user() {
    let office = Office::quick().await;
    for _ in 0..20 {
        office.share_with(SAM, 30).await;
    }
    let long = office.share_with(SAM, 6000).await;
    let within = [
        "revoke",
        "--yes",
        "--user",
        "sam@simulator.example",
        "--expiring-within",
        "24h",
    ];
    let said = office.command(&within).await;
    assert_eq!((said.code, rows(&said.out).len()), (Some(0), 20), "{}", said.err);
    assert_eq!(office.world.simulator.shares().len(), 1);
    assert_eq!(office.state(&long).await, ShareState::Active);

    let said = office.command(&["revoke", "--yes", "--lead", &long.lead_id]).await;
    assert_eq!((said.code, rows(&said.out).len()), (Some(0), 1), "{}", said.err);
    let said = office.command(&["revoke", "--yes", "--user", SAM]).await;
    assert_eq!((said.code, said.out.as_str()), (Some(0), ""));
    assert!(said.err.contains("nothing to revoke"), "{}", said.err);
}

#[tokio::test]
async fn revoke_asks_first_and_has_to_be_told_where_it_cannot() {
    let office = Office::quick().await;
    let share = office.share().await;
    let said = office.command(&["revoke", &share.share_id]).await;
    assert_eq!(said.code, Some(1));
    assert_eq!(rows(&said.err).len(), 1, "{}", said.err);
    assert!(
        said.err.contains("no terminal") && said.err.contains("--yes"),
        "{}",
        said.err
    );
    assert_eq!(office.state(&share).await, ShareState::Active);
    // Of nobody is not of everybody.
    let said = office.command(&["revoke", "--yes"]).await;
    assert_eq!(said.code, Some(2), "{}", said.err);
    let said = office.command(&["revoke", "--yes", "--expiring-within", "24h"]).await;
    assert_eq!(said.code, Some(2), "{}", said.err);
    assert_eq!(office.world.simulator.shares().len(), 1);
}

#[tokio::test]
async fn one_that_is_not_there_keeps_all_from_being_revoked() {
    let office = Office::quick().await;
    let share = office.share().await;
    let nobody = uuid::Uuid::new_v4().to_string();
    let said = office
        .command(&["revoke", "--yes", &share.share_id, &nobody, "what"])
        .await;
    assert_eq!(said.code, Some(1));
    for text in [
        &format!("{nobody}: SHARE_NOT_FOUND: the ledger has no such share"),
        "`leadgate shares list` lists",
        "what: INVALID_FIELD",
    ] {
        assert!(said.err.contains(text), "{text} in {}", said.err);
    }
    assert_eq!(office.state(&share).await, ShareState::Active);
}

#[tokio::test]
async fn what_could_not_be_revoked_is_told_and_fails_the_command() {
    let office = Office::quick().await;
    let (over, active) = (office.share_with(SAM, 30).await, office.share().await);
    let first = office.command(&["revoke", "--yes", &over.share_id]).await;
    assert_eq!(first.code, Some(0), "{}", first.err);
    office
        .world
        .simulator
        .set_options(|options| options.role = "Sales_User".to_owned());
    let said = office
        .command(&["revoke", "--yes", &over.share_id, &active.share_id])
        .await;
    assert_eq!(said.code, Some(1), "{}", said.out);
    // What is revoked already stays so.
    assert!(
        said.out.contains(&format!("{}  revoked", over.share_id)),
        "{}",
        said.out
    );
    let failed = format!("{}  failed: UPSTREAM_FEATURE_DISABLED", active.share_id);
    assert!(said.out.contains(&failed), "{}", said.out);
    assert!(said.err.contains("revoking 1 of 2 shares failed"), "{}", said.err);
}

/// The names of the fields of a share, as the contract has them.
fn contract() -> Vec<&'static str> {
    let text = include_str!("../../proto/leadgate/v1/share.proto");
    let (_, message) = text.split_once("message Share {").unwrap();
    let (message, _) = message.split_once("\n}").unwrap();
    let fields = message.lines().filter(|line| line.ends_with(';'));
    fields.map(|line| line.split_whitespace().nth(1).unwrap()).collect()
}

#[tokio::test]
async fn export_has_every_share_with_every_field() {
    let office = Office::open(|_| {}, "roles = [\"Sales_User\", \"Administrator\"]\n").await;
    let share = office.share().await;
    // One that LeadSquared refuses: it knows sales users alone.
    let request = pb::ShareLeadRequest {
        user: Some(User::UserEmailAddress("asha@simulator.example".into())),
        ..office.request()
    };
    office.ask(request).await.unwrap_err();

    let said = office.command(&["export"]).await;
    assert_eq!(said.code, Some(0), "{}", said.err);
    let mut sheet = csv::Reader::from_reader(said.out.as_bytes());
    let names: Vec<_> = sheet.headers().unwrap().iter().map(str::to_owned).collect();
    assert_eq!(names, contract());
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
        "{said}",
        said = of(&rows[0], "failure")
    );

    let said = office.command(&["export", "--format", "jsonl"]).await;
    let lines: Vec<Json> = said
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
    let said = office
        .command(&["export", "--state", "active", "--format", "jsonl"])
        .await;
    assert_eq!(said.out.lines().count(), 1);
}

#[tokio::test]
async fn an_exported_file_is_whole_or_not_there() {
    let office = Office::quick().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("shares.csv");
    let file = path.to_str().unwrap();
    // Without shares it has the names alone.
    let said = office.command(&["export", "--out", file]).await;
    assert_eq!((said.code, said.out.as_str()), (Some(0), ""), "{}", said.err);
    assert_eq!(std::fs::read_to_string(&path).unwrap().trim_end(), contract().join(","));

    office.share().await;
    let said = office.command(&["export", "--out", file]).await;
    assert!(said.err.contains("1 share in "), "{}", said.err);
    let there = std::fs::read_to_string(&path).unwrap();
    assert_eq!(there.lines().count(), 2);

    let said = office.command(&["export", "--lead", "?", "--out", file]).await;
    assert!(
        said.code == Some(1) && said.err.contains("INVALID_FIELD"),
        "{}",
        said.err
    );
    assert_eq!(std::fs::read_to_string(&path).unwrap(), there);
    let left = std::fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(left, 1);
    // What is no file is not replaced by one.
    let other = tempfile::tempdir().unwrap();
    let socket = other.path().join("socket");
    let _listening = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let missing = other.path().join("missing/shares.csv");
    for path in [&socket, &missing] {
        let path = path.to_str().unwrap();
        let said = office.command(&["export", "--out", path]).await;
        assert_eq!(said.code, Some(1));
        assert!(said.err.contains(&format!("writing {path} failed")), "{}", said.err);
    }
}

#[tokio::test]
async fn many_shares_come_page_by_page() {
    let office = Office::quick().await;
    let mut asking = tokio::task::JoinSet::new();
    for _ in 0..520 {
        let lead = office.world.simulator.insert_lead(&[("FirstName", "Ben")]);
        let request = pb::ShareLeadRequest {
            lead: Some(Lead::LeadId(lead)),
            wait_for: pb::WaitFor::None.into(),
            ..office.request()
        };
        let mut client = office.client.clone();
        asking.spawn(async move { client.share_lead(request).await.unwrap() });
    }
    asking.join_all().await;
    let said = office.command(&["list"]).await;
    let mut ids: Vec<_> = rows(&said.out).iter().map(|row| &row[..36]).collect();
    ids.dedup();
    assert_eq!(ids.len(), 520, "{}", said.err);
    let said = office.command(&["list", "--limit", "510"]).await;
    assert_eq!(rows(&said.out).len(), 510);
}

#[tokio::test]
async fn a_gateway_that_is_not_there_and_a_tenant_that_is_not_there() {
    let address = listen().await.local_addr().unwrap().to_string();
    let said: Said = run(&["shares", "list", "--addr", &address]).await.into();
    assert_eq!(said.code, Some(1));
    assert!(
        said.err
            .contains(&format!("the gateway at {address} cannot be reached")),
        "{}",
        said.err
    );
    assert!(said.err.contains("--addr"), "{}", said.err);

    let office = Office::quick().await;
    let said = office.command(&["list", "--tenant", "other"]).await;
    assert_eq!(said.code, Some(1));
    assert!(
        said.err.contains("--tenant") && said.err.lines().count() == 1,
        "{}",
        said.err
    );
    let said = office.command(&["list", "--tenant", "acme"]).await;
    assert_eq!(said.code, Some(0), "{}", said.err);
    let said = office.command(&["list", "--user", "nobody@example.com"]).await;
    assert!(
        said.code == Some(1) && said.err.contains("USER_NOT_FOUND"),
        "{}",
        said.err
    );
    // Whoever serves there is no gateway.
    let admin = format!("http://{}", office.world.admin);
    let said: Said = run(&["shares", "list", "--addr", &admin]).await.into();
    assert!(
        said.code == Some(1) && said.err.contains("is it a leadgate"),
        "{}",
        said.err
    );
}

#[tokio::test]
async fn nobody_has_to_read_to_the_end() {
    let office = Office::quick().await;
    office.share().await;
    let address = office.world.address.to_string();
    for arguments in [&["list"][..], &["export"], &["export", "--format", "jsonl"]] {
        let mut child = leadgate()
            .args(["shares", "--addr", &address])
            .args(arguments)
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let limit = Duration::from_secs(30);
        let ended = tokio::time::timeout(limit, child.wait_with_output()).await;
        let said = Said::from(ended.unwrap().unwrap());
        assert_eq!(said.code, Some(0), "{arguments:?}: {}", said.err);
    }
}
