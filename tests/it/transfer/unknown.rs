//! Rows of unknown outcome: they are listed apart, sent again under the same request ids, and never imported from that list.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use leadgate_simulator::{Fault, FaultKind};

use super::double::{Double, Reply};
use super::{Fixture, alike, ended, interrupt, rows};

const IMPORT: [&str; 2] = ["import", "leads.csv"];
const CREATE: [&str; 4] = ["import", "leads.csv", "--mode", "create"];

/// The numbers of the rows in a file.
fn numbers(text: &str) -> Vec<String> {
    rows(text).iter().map(|row| row["row_number"].clone()).collect()
}

/// Rows of that many leads, with these names.
fn leads(names: &[&str]) -> String {
    let rows = names.iter().map(|name| format!("{name}@x.co,{name}\n"));
    std::iter::once("email_address,FirstName\n".to_owned())
        .chain(rows)
        .collect()
}

/// A switch that a test turns while the script of a double looks at it.
fn switch() -> (Arc<AtomicBool>, Arc<AtomicBool>) {
    let switch = Arc::new(AtomicBool::new(false));
    (switch.clone(), switch)
}

#[tokio::test]
async fn creates_that_cannot_be_looked_up_are_kept_apart_and_never_written_twice() {
    let fixture = Fixture::open(|_| {}).await;
    // The response to each bulk call is cut off, and the leads have no unique attributes.
    fixture
        .world
        .simulator
        .add_fault(Fault::new("*", FaultKind::GarbageJson).times(100))
        .unwrap();
    fixture.write("leads.csv", alike(20));
    let said = fixture.command(&CREATE).await;
    assert_eq!((said.code, fixture.leads().len()), (Some(3), 20), "{said:?}");
    assert!(
        said.out
            .starts_with("20 rows: 0 created, 0 updated, 0 rejected, 20 of unknown outcome"),
        "{said:?}"
    );
    for text in [
        "the outcome of 20 of 20 rows is unknown",
        "leads.csv.unknown.csv",
        "Do not import that file",
        "20 of these rows have neither an email address nor a phone",
        "may stay unknown",
        "search LeadSquared",
        "leads.csv.import-state",
    ] {
        assert!(said.err.contains(text), "{text} in {said:?}");
    }
    let files = ["leads.csv", "leads.csv.import-state", "leads.csv.unknown.csv"].map(str::to_owned);
    assert_eq!(fixture.files(), files.clone().into());
    let listed = rows(&fixture.read("leads.csv.unknown.csv"));
    let names: Vec<_> = listed.iter().map(|row| row["LastName"].clone()).collect();
    assert_eq!(names, (1..=20).map(|n| n.to_string()).collect::<Vec<_>>());
    for row in &listed {
        assert_eq!(
            (row["error_code"].as_str(), row["error_reason"].as_str()),
            ("ABORTED", "OUTCOME_UNKNOWN")
        );
        assert!(row["error_message"].contains("check by hand"), "{row:?}");
    }

    // The same command looks the rows up again, and writes none twice.
    let again = fixture.command(&CREATE).await;
    assert_eq!((again.code, fixture.leads().len()), (Some(3), 20), "{again:?}");
    assert!(
        again.err.contains("20 rows of unknown outcome are sent again"),
        "{again:?}"
    );
    assert_eq!(fixture.files(), files.clone().into());
    // The list is not imported, and a dry run changes nothing.
    let offered = fixture
        .command(&["import", "leads.csv.unknown.csv", "--mode", "create"])
        .await;
    assert!(
        offered.code == Some(2) && offered.err.contains("of 20 rows is unknown"),
        "{offered:?}"
    );
    let dry = fixture.command(&[&CREATE[..], &["--dry-run"]].concat()).await;
    assert_eq!((dry.code, fixture.files()), (Some(0), files.into()), "{dry:?}");

    let other = fixture.command(&IMPORT).await;
    assert!(
        other.code == Some(2) && other.err.contains("20 rows of unknown outcome twice"),
        "{other:?}"
    );

    // Another import does not overwrite it.
    std::fs::remove_file(fixture.path("leads.csv.import-state")).unwrap();
    let kept = fixture.read("leads.csv.unknown.csv");
    let other = fixture.command(&CREATE).await;
    assert!(other.code == Some(2) && other.err.contains("--unknown"), "{other:?}");
    assert_eq!(
        (fixture.read("leads.csv.unknown.csv"), fixture.leads().len()),
        (kept, 20)
    );
}

#[tokio::test]
async fn the_same_command_sends_exactly_the_rows_of_unknown_outcome_again() {
    let double = Double::start(|name, before| match (name, before) {
        ("a1" | "c1" | "e1", 0) | ("c1", 1) => Reply::Unknown,
        ("d1", _) | ("e1", _) => Reply::Refused,
        _ => Reply::Taken,
    })
    .await;
    let fixture = Fixture::open(|_| {}).await;
    fixture.write("leads.csv", leads(&["a1", "b1", "c1", "d1", "e1"]));
    let import = async || ended(fixture.spawn(double.address, &IMPORT)).await;
    let first = import().await;
    assert_eq!(first.code, Some(3), "{first:?}");
    assert!(first.err.contains("1 of 5 rows were rejected"), "{first:?}");
    assert_eq!(numbers(&fixture.read("leads.csv.unknown.csv")), ["1", "3", "5"]);
    assert_eq!(numbers(&fixture.read("leads.csv.rejected.csv")), ["4"]);
    assert_eq!(double.came(), ["a1", "b1", "c1", "d1", "e1"]);

    // The file of rejected rows may have been moved away to be corrected.
    std::fs::rename(fixture.path("leads.csv.rejected.csv"), fixture.path("right.csv")).unwrap();
    let second = import().await;
    assert_eq!(second.code, Some(3), "{second:?}");
    assert_eq!(double.came()[5..], ["a1", "c1", "e1"]);
    assert_eq!(numbers(&fixture.read("leads.csv.unknown.csv")), ["3"]);
    assert_eq!(numbers(&fixture.read("leads.csv.rejected.csv")), ["5"]);

    // A file that is corrected in place must not be written.
    let mut edited = fixture.read("leads.csv.rejected.csv");
    edited.push('x');
    fixture.write("leads.csv.rejected.csv", &edited);
    let refused = import().await;
    assert!(
        refused.code == Some(2) && refused.err.contains("has been changed"),
        "{refused:?}"
    );
    assert_eq!(fixture.read("leads.csv.rejected.csv"), edited);
    fixture.write("leads.csv.rejected.csv", edited.trim_end_matches('x'));

    let third = import().await;
    assert_eq!(third.code, Some(1), "{third:?}");
    assert!(
        third
            .out
            .starts_with("5 rows: 0 created, 0 updated, 3 created or updated, 2 rejected;"),
        "{third:?}"
    );
    assert_eq!(double.came()[8..], ["c1"]);
    assert_eq!(
        fixture.files(),
        ["leads.csv", "leads.csv.rejected.csv", "right.csv"]
            .map(str::to_owned)
            .into()
    );
}

#[tokio::test]
async fn an_import_that_ends_in_the_middle_keeps_its_rows_of_unknown_outcome() {
    for is_killed in [false, true] {
        let (open, watched) = switch();
        let double = Double::start(move |name, _| match name {
            _ if watched.load(Ordering::Relaxed) => Reply::Taken,
            "a1" | "a2" | "b1" => Reply::Unknown,
            "c1" => Reply::Silence,
            _ => Reply::Taken,
        })
        .await;
        let fixture = Fixture::open(|_| {}).await;
        let text = leads(&["a1", "b1", "d1", "c1", "e1"]);
        // Another row of the first lead.
        fixture.write("leads.csv", format!("{text}a1@x.co,a2\n"));
        let mut child = fixture.spawn(double.address, &IMPORT);
        fixture.until_settled("leads.csv.import-state", 2).await;
        if is_killed {
            child.kill().await.unwrap();
        } else {
            interrupt(&child).await;
            let said = ended(child).await;
            assert_eq!(said.code, Some(3), "{said:?}");
            assert!(
                said.err.contains("2 of unknown outcome") && said.err.contains("must not be imported"),
                "{said:?}"
            );
            assert_eq!(numbers(&fixture.read("leads.csv.unknown.csv")), ["1", "2"]);
        }
        let came = double.came().len();
        open.store(true, Ordering::Relaxed);
        let said = ended(fixture.spawn(double.address, &IMPORT)).await;
        assert_eq!(said.code, Some(0), "{said:?}");
        assert!(
            said.out
                .starts_with("6 rows: 0 created, 0 updated, 6 created or updated, 0 rejected;"),
            "{said:?}"
        );
        // Recorded rows are not sent again, and rows of one lead keep their order.
        assert_eq!(double.came()[came..], ["a1", "b1", "c1", "e1", "a2"]);
        assert_eq!(fixture.files(), ["leads.csv".to_owned()].into());
    }
}

#[tokio::test]
async fn rows_that_are_sent_again_are_kept_when_that_breaks_off_too() {
    let (open, watched) = switch();
    let double = Double::start(move |name, before| match (name, before) {
        _ if watched.load(Ordering::Relaxed) => Reply::Taken,
        ("a1" | "c1" | "d1", 0) => Reply::Unknown,
        // The stream ends while a row is sent again, and then another row gets no response.
        ("c1", 1) => Reply::Break,
        ("d1", _) => Reply::Silence,
        _ => Reply::Taken,
    })
    .await;
    let fixture = Fixture::open(|_| {}).await;
    fixture.write("leads.csv", leads(&["a1", "b1", "c1", "d1"]));
    assert_eq!(ended(fixture.spawn(double.address, &IMPORT)).await.code, Some(3));
    let child = fixture.spawn(double.address, &IMPORT);
    let unsettled = || {
        let state: serde_json::Value = serde_json::from_str(&fixture.read("leads.csv.import-state")).unwrap();
        state["unknown"][0]["rows"] == serde_json::json!([4])
    };
    let limit = std::time::Duration::from_secs(30);
    let settling = async {
        while !unsettled() {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(limit, settling)
        .await
        .expect("all but the last row are settled");
    interrupt(&child).await;
    let said = ended(child).await;
    assert!(
        said.code == Some(3) && said.err.contains("The stream was interrupted"),
        "{said:?}"
    );
    assert_eq!(numbers(&fixture.read("leads.csv.unknown.csv")), ["4"]);
    let came = double.came().len();
    open.store(true, Ordering::Relaxed);
    let said = ended(fixture.spawn(double.address, &IMPORT)).await;
    assert!(said.code == Some(0) && said.out.starts_with("4 rows: "), "{said:?}");
    assert_eq!(double.came()[came..], ["d1"]);
    assert_eq!(fixture.files(), ["leads.csv".to_owned()].into());
}

#[tokio::test]
async fn rows_of_unknown_outcome_that_are_too_old_are_not_sent_again() {
    let double = Double::start(|name, _| if name == "a1" { Reply::Unknown } else { Reply::Taken }).await;
    let fixture = Fixture::open(|_| {}).await;
    fixture.write("leads.csv", leads(&["a1", "b1"]));
    assert_eq!(ended(fixture.spawn(double.address, &IMPORT)).await.code, Some(3));
    let state = fixture.read("leads.csv.import-state");
    let mut state: serde_json::Value = serde_json::from_str(&state).unwrap();
    state["unknown_since"] = "2026-01-01T00:00:00Z".into();
    fixture.write("leads.csv.import-state", state.to_string());
    let said = ended(fixture.spawn(double.address, &IMPORT)).await;
    assert_eq!(said.code, Some(3), "{said:?}");
    assert!(
        said.err.contains("store.keep_request_ids") && said.err.contains("search LeadSquared"),
        "{said:?}"
    );
    assert_eq!(double.came(), ["a1", "b1"]);
    assert_eq!(numbers(&fixture.read("leads.csv.unknown.csv")), ["1"]);
}

#[tokio::test]
async fn rows_of_json_lines_are_listed_as_json_lines() {
    let double = Double::start(|_, _| Reply::Unknown).await;
    let fixture = Fixture::open(|_| {}).await;
    fixture.write("leads.jsonl", "{\"email_address\":\"a@x.co\",\"first_name\":\"a1\"}\n");
    let said = ended(fixture.spawn(double.address, &["import", "leads.jsonl"])).await;
    assert_eq!(said.code, Some(3), "{said:?}");
    let listed: serde_json::Value = serde_json::from_str(&fixture.read("leads.jsonl.unknown.jsonl")).unwrap();
    assert_eq!(
        (&listed["first_name"], &listed["_error"]["reason"]),
        (&"a1".into(), &"OUTCOME_UNKNOWN".into())
    );
    let said = ended(fixture.spawn(double.address, &["import", "leads.jsonl.unknown.jsonl"])).await;
    assert_eq!(said.code, Some(2), "{said:?}");
}
