//! What the command may disturb, what ends it, what it cleans up, and what it never shows.

use std::process::Stdio;
use std::time::Duration;

use leadgate_simulator::{Fault, FaultKind, Refusal};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;

use super::{Account, FAST, Probed, signal, unlimited, until};
use crate::harness::World;
use crate::process::{Said, run};

const WRITES: [&str; 3] = ["--write", "--only", "duplicates,capture-id,values,batch-size,sharing"];

fn fails(said: &Said, code: i32, texts: &[&str]) {
    assert_eq!(said.code, Some(code), "{said:?}");
    for text in texts {
        assert!(said.err.contains(text), "{text} in {}", said.err);
    }
}

#[tokio::test]
async fn nothing_is_sent_without_a_confirmation_and_with_invalid_options() {
    let account = Account::start(unlimited()).await;
    fails(
        &account.run(&[]).await,
        2,
        &[
            "give --yes",
            "account",
            "It only reads.",
            "about 20 calls, at most 60 calls, at 1 call per 1s. No call begins after 1m 30s",
        ],
    );
    let texts = [
        "leadgate-probe",
        "may start automations",
        "exceeds the rate limit",
        "at most 660 calls",
    ];
    fails(&account.run(&["--write", "--burst"]).await, 2, &texts);
    let burst = account.run(&["--burst"]).await;
    fails(&burst, 2, &["bulk updates of random ids", "up to 600 calls together"]);
    assert!(!burst.err.contains("It only reads."), "{burst:?}");
    fails(
        &account.run(&["--burst", "--only", "limit"]).await,
        2,
        &["It only reads."],
    );
    fails(
        &account.run(&["--burst", "--max-calls", "1500"]).await,
        2,
        &["at most 1500 calls"],
    );
    for (only, flags) in [
        ("limit", "--burst"),
        ("account,values", "--write"),
        ("foreign", "--burst --operator"),
    ] {
        let said = account.run(&["--yes", "--only", only]).await;
        fails(&said, 2, &[&format!("needs {flags}")]);
    }
    let slow = Account::with(unlimited(), "[tenants.acme.limits]\ncalls = 1\nwindow = \"10s\"\n").await;
    fails(&slow.run(&[]).await, 2, &["at 1 call per 10s"]);
    fails(
        &account.run(&["--yes", "--only", "account,limits"]).await,
        2,
        &["unknown probe limits", "refusals-count"],
    );
    fails(
        &account.run(&["--yes", "--tenant", "other"]).await,
        2,
        &["unknown tenant other", "acme"],
    );
    fails(&account.run(&["--yes", "--operator"]).await, 2, &["--burst"]);
    fails(
        &account.run(&["--yes", "--through", "127.0.0.1:1"]).await,
        2,
        &["admin.token"],
    );
    let existing = account.path("leadgate.toml");
    fails(
        &account.run(&["--yes", "--settings", &existing]).await,
        2,
        &["exists already", "nothing was sent"],
    );
    assert!(std::fs::read_to_string(existing).unwrap().contains("access_key"));
    assert_eq!(account.endpoints(), Vec::<String>::new());
}

#[tokio::test]
async fn the_command_asks_on_a_terminal() {
    for (response, code, calls) in [("n\n", 2, 0), ("\n", 2, 0), ("y\n", 0, 1)] {
        let account = Account::start(unlimited()).await;
        let binary = env!("CARGO_BIN_EXE_leadgate");
        let path = account.path("leadgate.toml");
        let command = format!("{binary} probe --config {path} --only account; echo \"code=$?.end\"");
        let mut script = Command::new("script")
            .args(["--quiet", "--flush", "--command", &command, "/dev/null"])
            .env("SHELL", "/bin/sh")
            .kill_on_drop(true)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (mut keys, mut out) = (script.stdin.take().unwrap(), script.stdout.take().unwrap());
        let mut text = String::new();
        let mut has_responded = false;
        while !text.contains(".end") {
            let mut bytes = [0; 4096];
            let count = tokio::time::timeout(Duration::from_secs(30), out.read(&mut bytes))
                .await
                .unwrap()
                .unwrap();
            assert_ne!(count, 0, "{text}");
            text += &String::from_utf8_lossy(&bytes[..count]);
            if text.contains("Continue? [y/N]") && !has_responded {
                has_responded = true;
                keys.write_all(response.as_bytes()).await.unwrap();
                keys.flush().await.unwrap();
            }
        }
        assert!(text.contains(&format!("code={code}.end")), "{text}");
        assert_eq!(account.endpoints().len(), calls, "{text}");
    }
}

#[tokio::test]
async fn a_store_in_use_is_warned_of() {
    let account = Account::start(unlimited()).await;
    let text = std::fs::read_to_string(account.path("leadgate.toml")).unwrap();
    let world = World::gateway(account.simulator.clone(), &text).await;
    let probed = account.probe(&["--only", "account"]).await;
    assert!(
        probed.said.err.contains("warning: a gateway uses the store"),
        "{:?}",
        probed.said
    );
    world.stop().await;
    let probed = account.probe(&["--only", "account"]).await;
    assert!(!probed.said.err.contains("warning"), "{:?}", probed.said);
}

#[tokio::test]
async fn the_first_rejection_of_the_keys_ends_the_command() {
    let account = Account::start(unlimited()).await;
    let fault = Fault {
        after: 2,
        ..Fault::new("*", FaultKind::Unauthorized)
    };
    account.simulator.add_fault(fault).unwrap();
    let probed = account.probe(&["--only", "account,bodies,read-batch"]).await;
    fails(&probed.said, 1, &["HTTP 401"]);
    assert_eq!(account.endpoints().len(), 3);
    assert_eq!(probed.report["ended"], "unauthorized");
    assert_eq!((probed.state("account"), probed.state("bodies")), ("decided", "failed"));
    // It has not run.
    assert_eq!(probed.state("read-batch"), "skipped");
}

#[tokio::test]
async fn a_lead_that_remains_after_a_rejection_of_the_keys_is_named() {
    let account = Account::start(unlimited()).await;
    let fault = Fault {
        times: 1_000,
        ..Fault::new("Lead.Update", FaultKind::Unauthorized)
    };
    account.simulator.add_fault(fault).unwrap();
    let probed = account.probe(&["--write", "--only", "values"]).await;
    let leads = account.simulator.leads();
    let id = leads[0]["ProspectID"].clone().unwrap();
    fails(&probed.said, 1, &["HTTP 401", "not deleted", &id]);
    assert!(probed.report["not_removed"][0].as_str().unwrap().contains(&id));
}

#[tokio::test]
async fn one_half_of_the_calls_of_the_day_remains() {
    let account = Account::with(unlimited(), &format!("{FAST}daily = 11\n")).await;
    let probed = account.probe(&[]).await;
    fails(&probed.said, 1, &["less than one half of limits.daily would be left"]);
    assert_eq!((account.endpoints().len(), &probed.report["calls"]), (5, &5.into()));
    assert_eq!(probed.report["ended"], "daily-budget");
}

#[tokio::test]
async fn the_lead_is_deleted_although_half_of_the_day_is_used() {
    let account = Account::with(unlimited(), &format!("{FAST}daily = 12\n")).await;
    let probed = account.probe(&["--write", "--only", "values"]).await;
    fails(&probed.said, 1, &["less than one half"]);
    assert!(account.endpoints().contains(&"Lead.Create".to_owned()));
    assert_eq!(account.simulator.leads().len(), 0, "{:?}", probed.said);
}

#[tokio::test]
async fn half_of_the_day_also_ends_a_burst() {
    let account = Account::with(unlimited(), &format!("{FAST}daily = 60\n")).await;
    let probed = account.probe(&["--burst", "--only", "limit"]).await;
    fails(&probed.said, 1, &["less than one half"]);
    assert_eq!(probed.report["ended"], "daily-budget");
    assert!(account.endpoints().len() <= 30, "{:?}", account.endpoints().len());
}

#[tokio::test]
async fn a_refusal_by_the_daily_limit_ends_the_command() {
    let account = Account::start(unlimited()).await;
    let fault = Fault {
        after: 3,
        ..Fault::new("*", FaultKind::RefuseDaily)
    };
    account.simulator.add_fault(fault).unwrap();
    let probed = account.probe(&["--only", "bodies,read-batch"]).await;
    fails(&probed.said, 1, &["daily limit"]);
    assert_eq!(account.endpoints().len(), 4);
}

#[tokio::test]
async fn all_leads_of_the_command_are_deleted_in_reverse_order() {
    let mut options = unlimited();
    options.unique.clear();
    let account = Account::start(options).await;
    account
        .simulator
        .insert_lead(&[("FirstName", "Ann"), ("EmailAddress", "ann@example.com")]);
    let probed = account.probe(&WRITES).await;
    assert_eq!(probed.said.code, Some(0), "{:?}", probed.said);
    let leads = account.simulator.leads();
    assert_eq!((leads.len(), leads[0]["FirstName"].as_deref()), (1, Some("Ann")));
    let deleted: Vec<_> = account
        .simulator
        .calls()
        .into_iter()
        .filter(|call| call.endpoint == "Lead/Delete/ById")
        .filter_map(|call| call.parameter("leadId").map(str::to_owned))
        .collect();
    // The probe lead was created first.
    let created = account
        .simulator
        .calls()
        .into_iter()
        .find(|call| call.endpoint == "Lead.Update")
        .unwrap();
    assert!(deleted.len() >= 3, "{deleted:?}");
    assert_eq!(deleted.last().map(String::as_str), created.parameter("leadId"));
}

#[tokio::test]
async fn the_leads_are_tagged() {
    let mut options = unlimited();
    options.delete_enabled = false;
    let account = Account::start(options).await;
    let probed = account.probe(&WRITES).await;
    let leads = account.simulator.leads();
    assert_eq!(leads.len(), 1, "{leads:?}");
    let value = |name: &str| leads[0][name].clone().unwrap_or_default();
    assert!(value("EmailAddress").ends_with("@example.invalid"));
    assert_eq!([value("DoNotEmail"), value("DoNotCall")], ["1", "1"]);
    // The lead cannot be deleted: it is renamed and named.
    assert_eq!(value("FirstName"), "leadgate-probe-delete-me");
    let id = value("ProspectID");
    fails(&probed.said, 1, &["not deleted", &id, "leadgate-probe-delete-me"]);
}

#[tokio::test]
async fn a_lead_whose_create_has_no_response_is_found_and_deleted() {
    for kind in [FaultKind::CommitThenDrop, FaultKind::GarbageJson] {
        let account = Account::start(unlimited()).await;
        account.simulator.add_fault(Fault::new("Lead.Create", kind)).unwrap();
        let probed = account.probe(&["--write", "--only", "values"]).await;
        fails(&probed.said, 1, &["a probe failed"]);
        assert_eq!(probed.state("values"), "failed");
        assert!(account.endpoints().contains(&"Leads.GetByEmailaddress".to_owned()));
        assert_eq!(account.simulator.leads().len(), 0);
    }
}

#[tokio::test]
async fn a_deletion_is_believed_only_after_a_look_up() {
    let account = Account::start(unlimited()).await;
    let kind = FaultKind::Respond {
        status: 200,
        body: "{}".to_owned(),
        content_type: None,
        commit: false,
    };
    account
        .simulator
        .add_fault(Fault::new("Lead/Delete/ById", kind))
        .unwrap();
    let probed = account.probe(&["--write", "--only", "values"]).await;
    let id = account.simulator.leads()[0]["ProspectID"].clone().unwrap();
    fails(&probed.said, 1, &["not deleted", &id, "still exists"]);
}

#[tokio::test]
async fn nothing_is_written_to_an_account_that_cannot_be_read() {
    let account = Account::start(unlimited()).await;
    let kind = FaultKind::Respond {
        status: 502,
        body: "<html>Bad Gateway</html>".to_owned(),
        content_type: None,
        commit: false,
    };
    account
        .simulator
        .add_fault(Fault::new("UserByAccessKey.Get", kind))
        .unwrap();
    let probed = account.probe(&["--write", "--only", "account,values,sharing"]).await;
    assert_eq!(account.endpoints().len(), 1, "{:?}", account.endpoints());
    assert_eq!(probed.finding("account")["answer"], "the read failed");
    let answer = probed.finding("values")["answer"].as_str().unwrap();
    assert!(
        answer.contains("nothing is written") && answer.contains("502"),
        "{answer}"
    );
}

#[tokio::test]
async fn a_full_disk_loses_neither_the_table_nor_the_lead_that_remains() {
    let mut options = unlimited();
    options.delete_enabled = false;
    let account = Account::start(options).await;
    let settings = account.path("settings.toml");
    let device = std::path::Path::new(&account.path("report.json")).to_owned();
    // No file may have a byte.
    let arguments = [
        "--yes",
        "--pace",
        "5ms",
        "--write",
        "--only",
        "values",
        "--settings",
        &settings,
    ];
    let mut command = Command::new("sh");
    let binary = env!("CARGO_BIN_EXE_leadgate");
    let script = format!(
        "ulimit -f 0; trap '' XFSZ; exec {binary} probe --config {} {} --json {}",
        account.path("leadgate.toml"),
        arguments.join(" "),
        device.display()
    );
    let said: Said = command.args(["-c", &script]).output().await.unwrap().into();
    let id = account.simulator.leads()[0]["ProspectID"].clone().unwrap();
    fails(
        &said,
        1,
        &["not deleted", &id, "report.json failed", "settings.toml failed"],
    );
    assert!(
        said.out.contains("values") && said.out.contains("calls were sent"),
        "{said:?}"
    );
}

#[tokio::test]
async fn no_text_of_leadsquared_controls_the_terminal() {
    let account = Account::start(unlimited()).await;
    let text = "bad \u{1b}]0;title\u{7} \u{9b}31m \u{202e}txt";
    let body =
        serde_json::json!({"Status": "Error", "ExceptionType": "MXInvalidInputException", "ExceptionMessage": text});
    let kind = FaultKind::Respond {
        status: 500,
        body: body.to_string(),
        content_type: None,
        commit: false,
    };
    account
        .simulator
        .add_fault(Fault::new("Leads/Retrieve/ByIds", kind))
        .unwrap();
    let probed = account.probe(&["--only", "read-batch"]).await;
    assert!(probed.said.out.contains("]0;title"), "{:?}", probed.said);
    for output in [&probed.said.out, &probed.said.err, &probed.report.to_string()] {
        let is_safe = |c: char| c == '\n' || !c.is_control() && !('\u{202a}'..='\u{202e}').contains(&c);
        assert!(output.chars().all(is_safe), "{output:?}");
    }
}

#[tokio::test]
async fn a_second_signal_removes_the_empty_files_and_further_hangups_do_not_count() {
    let account = Account::start(unlimited()).await;
    let by = Duration::from_secs(30);
    account
        .simulator
        .add_fault(Fault::new("Lead.Create", FaultKind::Delay { by }))
        .unwrap();
    let mut command = account.command(&["--yes", "--pace", "5ms", "--write", "--only", "values"]);
    let paths = ["report.json", "settings.toml"].map(|name| account.path(name));
    command.args(["--json", &paths[0], "--settings", &paths[1]]);
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    until("no create", || account.endpoints().contains(&"Lead.Create".to_owned())).await;
    assert!(paths.iter().all(|path| std::path::Path::new(path).exists()));
    signal(&child, "-HUP").await;
    let (mut err, mut text) = (child.stderr.take().unwrap(), String::new());
    while !text.contains("interrupted") {
        let mut bytes = [0; 4096];
        let count = err.read(&mut bytes).await.unwrap();
        assert_ne!(count, 0, "{text}");
        text += &String::from_utf8_lossy(&bytes[..count]);
    }
    // A terminal that closes may send several.
    signal(&child, "-HUP").await;
    signal(&child, "-INT").await;
    let status = child.wait().await.unwrap();
    assert_eq!(status.code(), Some(130));
    assert!(!paths.iter().any(|path| std::path::Path::new(path).exists()));
}

#[tokio::test]
async fn a_lead_of_the_account_is_neither_written_nor_deleted() {
    let account = Account::start(unlimited()).await;
    let id = account
        .simulator
        .insert_lead(&[("FirstName", "Ann"), ("EmailAddress", "ann@example.com")]);
    let before = account.simulator.leads();
    // LeadSquared returns the id of another lead.
    let body = serde_json::json!({"Status": "Success", "Message": {"Id": id, "RelatedId": id, "IsCreated": true}});
    for on in ["Lead.Create", "Lead.Capture"] {
        let kind = FaultKind::Respond {
            status: 200,
            body: body.to_string(),
            content_type: None,
            commit: false,
        };
        let fault = Fault {
            after: u32::from(on == "Lead.Capture"),
            times: 100,
            ..Fault::new(on, kind)
        };
        account.simulator.clear_faults();
        account.simulator.add_fault(fault).unwrap();
        let probed = account.probe(&WRITES).await;
        assert_eq!(account.simulator.leads(), before, "{on}: {:?}", probed.said);
    }
}

#[tokio::test]
async fn an_interruption_deletes_the_lead_and_writes_the_report() {
    for name in ["-INT", "-TERM", "-HUP"] {
        let account = Account::start(unlimited()).await;
        account.slow(100);
        let child = account.spawn(&WRITES);
        until("no lead", || account.simulator.stats().leads > 0).await;
        signal(&child, name).await;
        let Probed { said, report, .. } = account.finish(child).await;
        fails(&said, 3, &["interrupted"]);
        assert_eq!(report["ended"], "interrupted");
        assert_eq!(account.simulator.leads().len(), 0, "{said:?}");
        assert!(account.endpoints().len() < 15, "{:?}", account.endpoints());
    }
}

#[tokio::test]
async fn an_interruption_during_a_create_waits_for_its_response() {
    let account = Account::start(unlimited()).await;
    let by = Duration::from_millis(400);
    account
        .simulator
        .add_fault(Fault::new("Lead.Create", FaultKind::Delay { by }))
        .unwrap();
    let child = account.spawn(&["--write", "--only", "values"]);
    until("no create", || account.endpoints().contains(&"Lead.Create".to_owned())).await;
    signal(&child, "-INT").await;
    let probed = account.finish(child).await;
    fails(&probed.said, 3, &["interrupted"]);
    assert_eq!(account.simulator.leads().len(), 0);
    assert!(account.endpoints().contains(&"Lead/Delete/ById".to_owned()));
}

#[tokio::test]
async fn no_key_and_no_data_of_a_lead_are_shown() {
    let mut options = unlimited();
    options.access_key = "u$rCanaryAccess".to_owned();
    options.secret_key = "canary-secret".to_owned();
    options.unique.clear();
    let account = Account::start(options).await;
    let canary = [
        ("FirstName", "Canaryann"),
        ("EmailAddress", "canary@example.com"),
        ("Phone", "+91-9876501234"),
    ];
    account.simulator.insert_lead(&canary);
    // LeadSquared, or a proxy, repeats keys and data in its errors.
    let text = "Lead 'Canaryann' canary@example.com +91-98765 01234 u$rCanaryAccess canary-secret exists";
    let exception =
        serde_json::json!({"Status": "Error", "ExceptionType": "MXNobodyKnowsException", "ExceptionMessage": text});
    for (on, status, body) in [
        ("Leads/Retrieve/ByIds", 500, exception.to_string()),
        ("Lead.Capture", 500, exception.to_string()),
        ("Lead.Update", 400, text.to_owned()),
        ("EntityAccess.Share", 403, format!("<html>{text}</html>")),
        ("Lead/Bulk/UpdateV2", 500, exception.to_string()),
        ("LeadsMetaData.Get", 502, text.to_owned()),
    ] {
        let kind = FaultKind::Respond {
            status,
            body,
            content_type: None,
            commit: false,
        };
        account
            .simulator
            .add_fault(Fault {
                times: 3,
                ..Fault::new(on, kind)
            })
            .unwrap();
    }
    let probed = account.probe(&["--write", "--burst"]).await;
    let outputs = [
        probed.said.out.clone(),
        probed.said.err.clone(),
        probed.report.to_string(),
        probed.settings.clone(),
    ];
    for output in outputs {
        let output = output.to_lowercase();
        for secret in ["canary", "98765", "01234", "u$r"] {
            assert!(!output.contains(secret), "{secret} in {output}");
        }
    }
    // The texts are shown without the data.
    assert!(probed.report.to_string().contains("MXNobodyKnowsException"));
    assert!(probed.report.to_string().contains("(email)"));
}

#[tokio::test]
async fn every_status_of_a_refusal_is_repeated_after_the_window() {
    for refusal in [Refusal::S429, Refusal::S403, Refusal::S200] {
        let mut options = unlimited();
        options.limits.refusal = refusal;
        let account = Account::start(options).await;
        account.simulator.add_fault(Fault::new("*", FaultKind::Refuse)).unwrap();
        let probed = account.probe(&["--only", "account"]).await;
        assert_eq!(probed.said.code, Some(0), "{:?}", probed.said);
        assert_eq!(
            (
                probed.decided("account")["is_administrator"].as_bool(),
                account.endpoints().len()
            ),
            (Some(true), 2)
        );
    }
}

#[tokio::test]
async fn check_mentions_the_command_while_the_limits_are_defaults() {
    let account = Account::with(unlimited(), "").await;
    let path = account.path("leadgate.toml");
    let said: Said = run(&["check", "--config", &path, "--connect"]).await.into();
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(said.out.contains("leadgate probe"), "{said:?}");
    let account = Account::with(unlimited(), "[tenants.acme.limits]\ncalls = 72\n").await;
    let path = account.path("leadgate.toml");
    let said: Said = run(&["check", "--config", &path, "--connect"]).await.into();
    assert!(!said.out.contains("leadgate probe"), "{said:?}");
}
