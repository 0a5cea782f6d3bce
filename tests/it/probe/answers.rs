//! Each answer that a probe distinguishes, played by the simulator.

use std::time::Duration;

use leadgate::config::Config;
use leadgate::grpc::pb;
use leadgate_simulator::{BodyForm, CaptureMessage, DuplicateMessage, Options, OverMaximum, ShareFailures, Simulator};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::{Account, Probed, unlimited};
use crate::harness::{World, lead, listen};
use crate::process::run;

const IDS: [&str; 15] = [
    "account",
    "region",
    "connection",
    "bodies",
    "limit",
    "refusals-count",
    "bulk-bucket",
    "failures-charged",
    "duplicates",
    "capture-id",
    "values",
    "batch-size",
    "read-batch",
    "sharing",
    "foreign",
];

/// The simulator with these options, probed with these arguments.
async fn probe(change: impl FnOnce(&mut Options), arguments: &[&str]) -> Probed {
    let mut options = unlimited();
    change(&mut options);
    let account = Account::start(options).await;
    let probed = account.probe(arguments).await;
    assert_eq!(probed.said.code, Some(0), "{:?}", probed.said);
    assert_eq!(account.simulator.stats().leads, 0, "{:?}", account.simulator.leads());
    probed
}

#[tokio::test]
async fn without_flags_a_run_reads_only_and_has_few_calls() {
    let account = Account::start(unlimited()).await;
    let probed = account.probe(&[]).await;
    assert_eq!(probed.said.code, Some(0), "{:?}", probed.said);
    let ids: Vec<_> = probed.report["probes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|probe| probe["id"].clone())
        .collect();
    assert_eq!(ids, IDS);
    for id in ["account", "connection", "bodies", "read-batch"] {
        probed.decided(id);
    }
    for (id, reason) in [
        ("region", "not a known API host"),
        ("limit", "needs --burst"),
        ("bulk-bucket", "needs --burst"),
        ("duplicates", "needs --write"),
        ("sharing", "needs --write"),
        ("foreign", "needs --burst --operator"),
    ] {
        assert_eq!(probed.state(id), "skipped");
        let answer = probed.finding(id)["answer"].as_str().unwrap();
        assert!(answer.contains(reason), "{answer}");
    }
    let calls = account.simulator.calls();
    assert_eq!(probed.report["calls"], calls.len());
    assert!(calls.len() <= 60, "{}", calls.len());
    let reads = [
        "LeadsMetaData.Get",
        "UserByAccessKey.Get",
        "Leads/Retrieve/ByIds",
        "ProspectActivity.Retrieve",
    ];
    assert!(
        calls.iter().all(|call| reads.contains(&call.endpoint.as_str())),
        "{:?}",
        account.endpoints()
    );
    for text in [
        "PROBE",
        "read-batch",
        "skipped",
        "batching.max_reads = 10000",
        "calls were sent",
        // The lines to paste.
        "[tenants.acme.batching]\nmax_reads = 10000",
    ] {
        assert!(probed.said.out.contains(text), "{text}: {}", probed.said.out);
    }
}

#[tokio::test]
async fn the_fragment_is_accepted_by_check_and_takes_effect() {
    let mut options = unlimited();
    options.by_ids_max = 1_000;
    options.null_clears = true;
    options.empty_ignored = true;
    options.bulk_upsert_max = 10;
    let account = Account::start(options).await;
    let probed = account.probe(&["--write"]).await;
    assert_eq!(probed.said.code, Some(0), "{:?}", probed.said);
    let path = account.path("leadgate.toml");
    let mut text = std::fs::read_to_string(&path).unwrap();
    text += &probed.settings;
    std::fs::write(&path, &text).unwrap();
    let said: super::Said = run(&["check", "--config", &path]).await.into();
    assert_eq!(said.code, Some(0), "{said:?}\n{text}");
    let config = Config::read("", &text, std::iter::empty()).unwrap();
    let batching = &config.tenants["acme"].batching;
    assert_eq!(
        (batching.max_reads, batching.max_upserts, batching.max_updates),
        (1_000, 10, 25)
    );
    // A second run finds no difference.
    let probed = account.probe(&["--write"]).await;
    assert!(!probed.settings.contains("in force"), "{}", probed.settings);
    assert!(probed.settings.contains("clear_with = \"null\""), "{}", probed.settings);
}

#[tokio::test]
async fn the_role_and_the_host_of_the_keys_are_found() {
    let probed = probe(|_| {}, &["--only", "account"]).await;
    assert_eq!(probed.decided("account")["is_administrator"], true);
    assert_eq!(probed.finding("account")["setting"], Value::Null);
    let probed = probe(
        |options| {
            options.role = "Sales_User".to_owned();
            options.right_host = Some("api-in21.leadsquared.com".to_owned());
        },
        &["--only", "account"],
    )
    .await;
    assert_eq!(probed.decided("account")["is_administrator"], false);
    let setting = json!({"base_url": "https://api-in21.leadsquared.com"});
    assert_eq!(probed.finding("account")["setting"], setting);
    assert!(
        probed.settings.contains("# In [tenants.acme]: base_url"),
        "{}",
        probed.settings
    );
}

#[tokio::test]
async fn each_response_of_another_region_is_found() {
    let own = "api-in21.leadsquared.com";
    let account = Account::start(unlimited()).await;
    for (right_host, message, names_own_host, accepted) in [
        (Some(own), "Use https://{host} for this account", true, false),
        (Some(own), "Wrong region", false, false),
        (None, "", false, true),
    ] {
        let listener = listen().await;
        let url = format!("http://{}", listener.local_addr().unwrap());
        let other = Simulator::new(Options {
            right_host: right_host.map(str::to_owned),
            wrong_host_message: message.to_owned(),
            ..unlimited()
        });
        let stop = CancellationToken::new();
        let _stop = stop.clone().drop_guard();
        tokio::spawn(other.serve(listener, stop.cancelled_owned()));
        // The host of the account, without which the other one cannot be compared. The read of the owner succeeds with it.
        account
            .simulator
            .set_options(|options| options.right_host = Some(own.to_owned()));
        let probed = account
            .probe(&["--only", "account,region", "--other-region", &url])
            .await;
        assert_eq!(probed.said.code, Some(0), "{:?}", probed.said);
        let value = probed.decided("region");
        assert_eq!(value["names_own_host"], names_own_host, "{value}");
        assert_eq!(value["accepted"], accepted, "{value}");
    }
}

#[tokio::test]
async fn the_time_after_which_idle_connections_are_closed_is_found() {
    let arguments = ["--only", "connection", "--pace", "20ms"];
    // The connections are used again after 80 ms, 200 ms, 500 ms and 1.1 s.
    for (idle_close, state, has_closed) in [
        (Duration::ZERO, "decided", false),
        (Duration::from_millis(350), "decided", true),
        (Duration::from_millis(20), "undecided", true),
    ] {
        let probed = probe(|options| options.idle_close = idle_close, &arguments).await;
        let finding = probed.finding("connection");
        let (value, setting) = (&finding["value"], &finding["setting"]);
        assert_eq!(
            (probed.state("connection"), value["closed_after_seconds"].is_number()),
            (state, has_closed),
            "{value}"
        );
        let follows = state == "decided" && has_closed;
        assert_eq!(setting["upstream.idle_timeout"].is_string(), follows, "{setting}");
    }
}

#[tokio::test]
async fn idle_connections_are_used_on_time_although_other_probes_run() {
    // The other probes take longer than the first idle times.
    let mut options = unlimited();
    options.idle_close = Duration::from_millis(1_800);
    let account = Account::start(options).await;
    let arguments = [
        "--write",
        "--only",
        "connection,bodies,read-batch,duplicates,values",
        "--pace",
        "100ms",
    ];
    let probed = account.probe(&arguments).await;
    let value = probed.decided("connection");
    // 4, 10 and 25 times the pace: 0.4 s, 1 s and 2.5 s.
    let (open, closed) = (
        value["open_after_seconds"].as_f64(),
        value["closed_after_seconds"].as_f64(),
    );
    assert!(open >= Some(0.99) && open < Some(1.8), "{value}");
    assert!(closed >= Some(2.4) && closed < Some(3.5), "{value}");
}

#[tokio::test]
async fn the_headers_and_the_version_of_a_response_are_found() {
    for is_http1 in [true, false] {
        let change = |options: &mut Options| {
            options.http1_only = is_http1;
            let cookie = ("set-cookie".to_owned(), "session=secret".to_owned());
            options.response_headers.extend([cookie]);
        };
        let probed = probe(change, &["--only", "connection"]).await;
        let value = probed.decided("connection");
        assert_eq!((&value["cookies"], &value["http2"]), (&json!(1), &json!(!is_http1)));
        let content_type = value["content_type"].as_str().unwrap();
        assert!(content_type.starts_with("application/json"), "{content_type}");
        assert!(!probed.report.to_string().contains("secret"), "{:#}", probed.report);
    }
}

#[tokio::test]
async fn each_refused_form_of_a_body_is_found() {
    for (form, status, key) in [
        (BodyForm::Chunked, 411, "chunked_post"),
        (BodyForm::EmptyPost, 411, "empty_post"),
        (BodyForm::GetWithLength, 400, "get_with_length"),
    ] {
        let change = |options: &mut Options| {
            options.refused_bodies.insert(form, status);
        };
        let probed = probe(change, &["--only", "bodies"]).await;
        let value = probed.decided("bodies");
        for name in ["chunked_post", "empty_post", "get_with_length"] {
            assert_eq!(value[name]["accepted"], name != key, "{form:?}: {value}");
        }
        assert_eq!(value[key]["status"], status);
    }
}

#[tokio::test]
async fn the_size_of_a_read_is_found() {
    type Change = fn(&mut Options);
    let cases: [(Change, u64); 4] = [
        (|_| {}, 10_000),
        (|options| options.by_ids_max = 5_000, 5_000),
        // The error names the number.
        (|options| options.by_ids_max = 200, 200),
        // 1,000 ids have 39 kB, and 5,000 have 195 kB.
        (|options| options.max_body = 100_000, 1_000),
    ];
    for (change, max) in cases {
        let probed = probe(change, &["--only", "read-batch"]).await;
        assert_eq!(probed.decided("read-batch")["max_ids"], max);
        assert_eq!(
            probed.finding("read-batch")["setting"],
            json!({"batching.max_reads": max})
        );
    }
}

#[tokio::test]
async fn the_value_that_clears_is_found_and_the_gateway_clears_with_it() {
    type Change = fn(&mut Options);
    let cases: [(Change, &str, Value); 4] = [
        (|_| {}, "both", Value::Null),
        (
            |options| options.null_clears = false,
            "empty-text",
            json!({"writes.clear_with": "empty-text"}),
        ),
        (
            |options| options.null_ignored = true,
            "empty-text",
            json!({"writes.clear_with": "empty-text"}),
        ),
        (
            |options| options.empty_ignored = true,
            "null",
            json!({"writes.clear_with": "null"}),
        ),
    ];
    for (change, clear_with, setting) in cases {
        let probed = probe(change, &["--write", "--only", "values"]).await;
        assert_eq!(probed.decided("values")["clear_with"], clear_with);
        assert_eq!(probed.finding("values")["setting"], setting);
        let mut options = unlimited();
        change(&mut options);
        let world = World::with(options, &probed.settings).await;
        let id = world
            .simulator
            .insert_lead(&[("FirstName", "Ann"), ("Company", "Acme")]);
        let update = pb::UpdateLeadRequest {
            lead_id: id.clone(),
            lead: Some(pb::LeadFields::default()),
            clear_fields: vec!["Company".to_owned()],
            ..Default::default()
        };
        world.update(update).await.unwrap();
        assert_eq!(world.value_of(&id, "Company"), None, "{clear_with}");
        world.stop().await;
    }
}

#[tokio::test]
async fn the_stored_values_are_found() {
    type Change = fn(&mut Options);
    let cases: [(Change, &str, Value); 5] = [
        (|_| {}, "number", json!({"refused": 400})),
        (|options| options.strings_only = false, "number", json!("7")),
        (|options| options.strings_only = false, "boolean", json!("1")),
        (
            |options| options.max_length_enforced = false,
            "long_text",
            json!({"stored_characters": 300}),
        ),
        (
            |options| options.max_length_cuts = true,
            "long_text",
            json!({"stored_characters": 256}),
        ),
    ];
    for (change, key, value) in cases {
        let probed = probe(change, &["--write", "--only", "values"]).await;
        assert_eq!(probed.decided("values")[key], value);
    }
}

#[tokio::test]
async fn the_form_of_a_duplicate_is_found() {
    type Change = fn(&mut Options);
    let cases: [(Change, [bool; 2], u16, bool); 5] = [
        (|_| {}, [true, true], 500, false),
        (|options| options.logical_error_status = 200, [true, true], 200, false),
        (
            |options| options.duplicate_message = DuplicateMessage::Database,
            [true, true],
            500,
            false,
        ),
        (
            |options| options.own_unique_resend_fails = true,
            [true, true],
            500,
            true,
        ),
        (
            |options| options.unique.retain(|name| name == "EmailAddress"),
            [true, false],
            500,
            false,
        ),
    ];
    for (change, unique, status, own_values_clash) in cases {
        let probed = probe(change, &["--write", "--only", "duplicates"]).await;
        let value = probed.decided("duplicates");
        assert_eq!(
            [&value["email_is_unique"], &value["phone_is_unique"]],
            unique.map(Value::from).each_ref()
        );
        assert_eq!(value["create_same_email"]["status"], status);
        assert_eq!(value["create_same_email"]["exception"], "MXDuplicateEntryException");
        assert_eq!(value["names_attribute"], true);
        assert_eq!(value["own_values_clash"], own_values_clash);
        if unique[1] {
            assert_eq!(value["capture_same_phone"]["status"], 200, "{value}");
        }
    }
    let probed = probe(|options| options.unique.clear(), &["--write", "--only", "duplicates"]).await;
    assert_eq!(probed.decided("duplicates")["email_is_unique"], false);
    assert_eq!(probed.finding("duplicates")["setting"], json!({"writes.unique": []}));
}

#[tokio::test]
async fn the_id_of_a_captured_lead_is_found_and_the_gateway_returns_it() {
    for (message, place, setting) in [
        (CaptureMessage::Both, ["absent", "lead", "lead"], Value::Null),
        (CaptureMessage::RelatedIdOnly, ["absent", "absent", "lead"], Value::Null),
        (CaptureMessage::PlainString, ["lead", "absent", "absent"], Value::Null),
        (
            CaptureMessage::ActivityAndLead,
            ["absent", "other", "lead"],
            json!({"writes.captured_lead_id": "related-id"}),
        ),
    ] {
        let probed = probe(
            |options| options.capture_message = message,
            &["--write", "--only", "capture-id"],
        )
        .await;
        let value = probed.decided("capture-id");
        assert_eq!(
            [&value["message"], &value["id"], &value["related_id"]],
            place.map(Value::from).each_ref()
        );
        assert_eq!(probed.finding("capture-id")["setting"], setting);
        let options = Options {
            capture_message: message,
            ..unlimited()
        };
        let world = World::with(options, &probed.settings).await;
        let request = pb::CaptureLeadRequest {
            lead: Some(lead("Ann")),
            ..Default::default()
        };
        let captured = world.client.clone().capture_lead(request).await.unwrap().into_inner();
        let leads = world.simulator.leads();
        assert_eq!(
            Some(captured.lead_id.as_str()),
            leads[0]["ProspectID"].as_deref(),
            "{message:?}"
        );
        world.stop().await;
    }
}

#[tokio::test]
async fn the_sizes_of_batches_are_found() {
    type Change = fn(&mut Options);
    let cases: [(Change, &str, [u64; 2]); 4] = [
        (|_| {}, "rejected", [25, 25]),
        (
            |options| options.bulk_over_maximum = OverMaximum::Truncate,
            "truncated",
            [25, 25],
        ),
        (
            |options| options.bulk_over_maximum = OverMaximum::Accept,
            "per-row",
            [25, 25],
        ),
        (
            |options| {
                options.bulk_update_max = 20;
                options.bulk_upsert_max = 10;
            },
            "rejected",
            [20, 10],
        ),
    ];
    for (change, over_maximum, sizes) in cases {
        let probed = probe(change, &["--write", "--only", "batch-size"]).await;
        let value = probed.decided("batch-size");
        assert_eq!(value["updates"]["over_maximum"], over_maximum, "{value}");
        let setting = json!({"batching.max_updates": sizes[0], "batching.max_upserts": sizes[1]});
        assert_eq!(probed.finding("batch-size")["setting"], setting);
    }
}

#[tokio::test]
async fn whether_sharing_is_enabled_is_found() {
    type Change = fn(&mut Options);
    let cases: [(Change, &str); 4] = [
        (|_| {}, "enabled"),
        (|options| options.share_failures = ShareFailures::Later, "enabled"),
        (|options| options.sharing_enabled = false, "disabled"),
        (|options| options.role = "Sales_User".to_owned(), "not-administrator"),
    ];
    for (change, result) in cases {
        let probed = probe(change, &["--write", "--only", "account,sharing"]).await;
        let value = probed.decided("sharing");
        assert_eq!(value["sharing"], result, "{value}");
    }
    let later = probe(
        |options| options.share_failures = ShareFailures::Later,
        &["--write", "--only", "sharing"],
    )
    .await;
    assert!(
        later.decided("sharing")["status"]["share_status"].is_number(),
        "{:#}",
        later.report
    );
}

#[tokio::test]
async fn an_account_with_a_small_plan_is_probed_within_the_budget() {
    let mut options = unlimited();
    options.limits.calls = 2;
    options.limits.per = Duration::from_millis(300);
    // The settings have the defaults, so the command learns the limit from its refusals.
    let account = Account::start(options).await;
    let probed = account.probe(&[]).await;
    assert_eq!(probed.said.code, Some(0), "{:?}", probed.said);
    for id in ["account", "bodies", "read-batch"] {
        probed.decided(id);
    }
    let calls = account.simulator.calls().len();
    assert!(calls <= 60, "{calls}");
    assert!(account.simulator.stats().refused > 0);
}
