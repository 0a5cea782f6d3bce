//! Rows of one lead take effect in the order of the file, also where rows are sent again.

use std::time::Duration;

use leadgate_simulator::{Fault, FaultKind, Options};

use super::double::{Double, Reply};
use super::{Fixture, SETTINGS, ended};

const IMPORT: [&str; 2] = ["import", "leads.csv"];

/// The rows whose names start with that letter.
fn of(letter: char, names: &[String]) -> Vec<&str> {
    let names = names.iter().filter(|name| name.starts_with(letter));
    names.map(String::as_str).collect()
}

#[tokio::test]
async fn a_row_that_is_sent_again_is_not_overtaken_by_later_rows_of_its_lead() {
    let double = Double::start(|name, before| match (name, before) {
        ("a1", 0 | 1) | ("a2", 0) => Reply::NotNow,
        _ => Reply::Taken,
    })
    .await;
    let fixture = Fixture::open(|_| {}).await;
    fixture.write(
        "leads.csv",
        "email_address,phone,FirstName\n\
         a@x.co,,a1\nb@x.co,,b1\nA@x.co ,,a2\na@x.co,+91-9845098450,a3\nb@x.co,,b2\nc@x.co,9845098450,a4\n",
    );
    let said = ended(fixture.spawn(double.address, &IMPORT)).await;
    assert_eq!(said.code, Some(0), "{said:?}");
    assert_eq!(of('a', &double.done()), ["a1", "a2", "a3", "a4"]);
    assert_eq!(of('a', &double.came()), ["a1", "a1", "a1", "a2", "a2", "a3", "a4"]);
    // Other leads do not wait for it.
    let done = double.done();
    let place = |name: &str| done.iter().position(|done| done == name).unwrap();
    assert!(place("b1") < place("b2") && place("b2") < place("a1"), "{done:?}");
}

#[tokio::test]
async fn rows_of_one_lead_keep_their_order_when_the_stream_breaks() {
    for reply in [Reply::Break, Reply::Lost] {
        let double = Double::start(move |name, before| match (name, before) {
            ("a1" | "b2" | "a3", 0) => reply,
            ("a2", 0) => Reply::NotNow,
            _ => Reply::Taken,
        })
        .await;
        let fixture = Fixture::open(|_| {}).await;
        fixture.write(
            "leads.csv",
            "email_address,FirstName\na@x.co,a1\nb@x.co,b1\na@x.co,a2\nb@x.co,b2\na@x.co,a3\nb@x.co,b3\n",
        );
        let said = ended(fixture.spawn(double.address, &IMPORT)).await;
        assert_eq!(said.code, Some(0), "{reply:?} {said:?}");
        assert_eq!(of('a', &double.done()), ["a1", "a2", "a3"], "{reply:?}");
        assert_eq!(of('b', &double.done()), ["b1", "b2", "b3"], "{reply:?}");
    }
}

#[tokio::test]
async fn a_later_row_is_sent_after_an_earlier_one_of_its_lead_is_rejected() {
    let double = Double::start(|name, _| if name == "a1" { Reply::NotNow } else { Reply::Taken }).await;
    let fixture = Fixture::open(|_| {}).await;
    fixture.write("leads.csv", "email_address,FirstName\na@x.co,a1\na@x.co,a2\n");
    let said = ended(fixture.spawn(double.address, &IMPORT)).await;
    assert_eq!(said.code, Some(1), "{said:?}");
    assert_eq!(double.done(), ["a2"]);
    assert_eq!(double.came().last().map(String::as_str), Some("a2"));
}

#[tokio::test]
async fn the_last_row_of_a_lead_stands_while_leadsquared_fails_now_and_then() {
    let settings = format!("{SETTINGS}\n[tenants.acme.upstream]\nmax_attempts = 1\n");
    let mut options = Options::default();
    (options.limits.calls, options.limits.bulk) = (0, 0);
    let fixture = Fixture::with(options, &settings).await;
    let bulk = "Lead/Bulk/CreateOrUpdate";
    fixture
        .world
        .simulator
        .add_fault(Fault::new(bulk, FaultKind::Empty503).times(2))
        .unwrap();
    fixture
        .world
        .simulator
        .add_fault(Fault::new(bulk, FaultKind::Empty503).after(2))
        .unwrap();
    let rows: String = (1..=3)
        .flat_map(|version| (1..=20).map(move |lead| format!("l{lead}@x.co,v{version}\n")))
        .collect();
    fixture.write("leads.csv", format!("EmailAddress,FirstName\n{rows}"));
    let limit = Duration::from_secs(60);
    let said = tokio::time::timeout(limit, fixture.command(&IMPORT)).await.unwrap();
    assert_eq!(said.code, Some(0), "{said:?}");
    let names: Vec<_> = fixture
        .leads()
        .into_iter()
        .map(|lead| lead["FirstName"].clone().unwrap())
        .collect();
    assert_eq!(names, vec!["v3"; 20]);
}
