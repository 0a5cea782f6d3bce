//! Leads that are searched, listed and exported, as their callers see it.

use std::collections::BTreeSet;
use std::time::Duration;

use leadgate::grpc::pb;
use leadgate_simulator::{Fault, FaultKind, Options, Simulator};
use pb::field_value::Value;
use prost_types::{FieldMask, Timestamp};
use tonic::{Code, Status};

use crate::harness::{World, lead, listen, seen, tenant, text, value};

/// When most leads of these tests were modified, and the seconds around it.
const DAY: &str = "2026-03-01 10:00:00";

fn mask(paths: &[&str]) -> Option<FieldMask> {
    let paths = paths.iter().map(|path| (*path).to_owned()).collect();
    Some(FieldMask { paths })
}

fn at(text: &str) -> Option<Timestamp> {
    let at: jiff::Timestamp = text.parse().unwrap();
    Some(Timestamp {
        seconds: at.as_second(),
        nanos: at.subsec_nanosecond(),
    })
}

fn by(field: &str, operator: pb::SearchOperator, value: pb::FieldValue) -> pb::SearchLeadsRequest {
    pb::SearchLeadsRequest {
        field: field.into(),
        operator: operator.into(),
        value: Some(value),
        ..Default::default()
    }
}

async fn search(world: &World, request: pb::SearchLeadsRequest) -> Result<pb::SearchLeadsResponse, Status> {
    Ok(world.client.clone().search_leads(request).await?.into_inner())
}

async fn quick(world: &World, query: &str, read_mask: Option<FieldMask>) -> Result<Vec<pb::Lead>, Status> {
    let query = query.into();
    let request = pb::QuickSearchLeadsRequest { query, read_mask };
    Ok(world
        .client
        .clone()
        .quick_search_leads(request)
        .await?
        .into_inner()
        .leads)
}

fn day() -> pb::ListModifiedLeadsRequest {
    pb::ListModifiedLeadsRequest {
        start_time: at("2026-03-01T00:00:00Z"),
        end_time: at("2026-03-02T00:00:00Z"),
        ..Default::default()
    }
}

async fn list(world: &World, request: pb::ListModifiedLeadsRequest) -> Result<pb::ListModifiedLeadsResponse, Status> {
    Ok(world.client.clone().list_modified_leads(request).await?.into_inner())
}

fn export_of_day() -> pb::ExportLeadsRequest {
    pb::ExportLeadsRequest {
        start_time: at("2026-03-01T00:00:00Z"),
        end_time: at("2026-03-02T00:00:00Z"),
        read_mask: mask(&["lead_id"]),
        ..Default::default()
    }
}

/// The messages of an export, to its end.
async fn export(world: &World, request: pb::ExportLeadsRequest) -> Result<Vec<pb::ExportLeadsResponse>, Status> {
    let mut stream = world.client.clone().export_leads(request).await?.into_inner();
    let mut messages = vec![];
    while let Some(message) = stream.message().await? {
        messages.push(message);
    }
    Ok(messages)
}

fn ids<'a>(messages: impl IntoIterator<Item = &'a pb::ExportLeadsResponse>) -> Vec<String> {
    let leads = messages.into_iter().flat_map(|message| &message.leads);
    leads.map(|lead| lead.lead_id.clone()).collect()
}

fn names(leads: &[pb::Lead]) -> Vec<String> {
    let name = |lead: &pb::Lead| lead.fields.clone().unwrap_or_default().first_name.unwrap_or_default();
    let mut names: Vec<_> = leads.iter().map(name).collect();
    names.sort();
    names
}

/// Three leads that differ in everything.
fn town(world: &World) -> Vec<String> {
    let insert = |(name, amount, consent, created): (&str, &str, &str, &str)| {
        world.simulator.insert_lead(&[
            ("FirstName", name),
            ("EmailAddress", &format!("{name}@x.co")),
            ("mx_Loan_Amount", amount),
            ("mx_Consent", consent),
            ("mx_City", if name == "Bob" { "Goa" } else { "Pune" }),
            ("CreatedOn", created),
        ])
    };
    [
        ("Ann", "9", "1", "2026-01-01 00:00:00"),
        ("Bob", "10", "0", "2026-01-02 00:00:00"),
        ("Cid", "100", "1", "2026-01-03 00:00:00"),
    ]
    .map(insert)
    .to_vec()
}

fn many(world: &World, count: usize, modified: &str) -> Vec<String> {
    let insert = |i| {
        let name = format!("Lead {i}");
        world
            .simulator
            .insert_lead(&[("FirstName", &name), ("LeadLastModifiedOn", modified)])
    };
    (0..count).map(insert).collect()
}

/// Somebody modifies a lead now.
fn touch(world: &World, id: &str) {
    world
        .simulator
        .insert_lead(&[("ProspectID", id), ("FirstName", "Touched")]);
}

#[tokio::test]
async fn each_operator_finds_what_meets_it() {
    use pb::SearchOperator as Is;
    let world = World::start().await.warm().await;
    town(&world);
    let number = |number| value(Value::Integer(number));
    for (field, operator, value, found) in [
        ("mx_Loan_Amount", Is::Unspecified, number(10), vec!["Bob"]),
        ("mx_Loan_Amount", Is::Equal, text("10"), vec!["Bob"]),
        ("mx_Loan_Amount", Is::NotEqual, number(10), vec!["Ann", "Cid"]),
        ("mx_Loan_Amount", Is::Less, number(10), vec!["Ann"]),
        ("mx_Loan_Amount", Is::LessOrEqual, number(10), vec!["Ann", "Bob"]),
        (
            "mx_Loan_Amount",
            Is::Greater,
            value(Value::Number(9.5)),
            vec!["Bob", "Cid"],
        ),
        ("mx_Loan_Amount", Is::GreaterOrEqual, number(10), vec!["Bob", "Cid"]),
        ("first_name", Is::Like, text("%i%"), vec!["Cid"]),
        ("city", Is::Equal, text("pune"), vec!["Ann", "Cid"]),
        ("email_address", Is::Equal, text("ANN@X.CO"), vec!["Ann"]),
        ("mx_Consent", Is::Equal, value(Value::Flag(true)), vec!["Ann", "Cid"]),
        ("mx_consent", Is::Equal, text("false"), vec!["Bob"]),
        (
            "CreatedOn",
            Is::Greater,
            value(Value::Time(at("2026-01-02T00:00:00Z").unwrap())),
            vec!["Cid"],
        ),
        ("FirstName", Is::Equal, text("Nobody"), vec![]),
    ] {
        let answer = search(&world, by(field, operator, value.clone())).await.unwrap();
        assert_eq!(names(&answer.leads), found, "{field} {operator:?} {value:?}");
        assert_eq!(answer.next_page_token, "");
    }
}

#[tokio::test]
async fn a_search_shows_what_its_mask_names() {
    let world = World::start().await;
    town(&world);
    let request = pb::SearchLeadsRequest {
        read_mask: mask(&["fields.first_name", "fields.custom.mx_Loan_Amount"]),
        ..by("city", pb::SearchOperator::Equal, text("Goa"))
    };
    let found = search(&world, request).await.unwrap().leads.remove(0);
    let fields = found.fields.unwrap();
    assert_eq!(fields.first_name.as_deref(), Some("Bob"));
    assert_eq!(fields.custom["mx_Loan_Amount"], value(Value::Integer(10)));
    assert_eq!(
        (fields.city, fields.email_address, found.create_time),
        (None, None, None)
    );
    assert!(!found.lead_id.is_empty());
}

#[tokio::test]
async fn pages_of_a_search_are_whole_and_in_order() {
    let options = Options {
        unstable_ties: true,
        ..Options::default()
    };
    let world = World::with(options, "").await;
    let mut expected = many(&world, 25, DAY);
    expected.sort();
    let (mut found, mut page_token, mut pages) = (vec![], String::new(), 0);
    loop {
        let request = pb::SearchLeadsRequest {
            page_size: 10,
            page_token,
            read_mask: mask(&["lead_id"]),
            ..by("first_name", pb::SearchOperator::Like, text("Lead%"))
        };
        let page = search(&world, request).await.unwrap();
        found.extend(page.leads.into_iter().map(|lead| lead.lead_id));
        page_token = page.next_page_token;
        pages += 1;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!((found, pages), (expected, 3));
}

#[tokio::test]
async fn a_search_is_ordered_as_asked() {
    let world = World::start().await;
    let [ann, bob, cid] = town(&world).try_into().unwrap();
    for (order_by, expected) in [
        ("create_time desc", [&cid, &bob, &ann]),
        ("mx_Loan_Amount", [&ann, &bob, &cid]),
        ("first_name desc", [&cid, &bob, &ann]),
    ] {
        let request = pb::SearchLeadsRequest {
            order_by: order_by.into(),
            ..by("email_address", pb::SearchOperator::Like, text("%x.co"))
        };
        let leads = search(&world, request).await.unwrap().leads;
        let found: Vec<_> = leads.iter().map(|lead| &lead.lead_id).collect();
        assert_eq!(found, expected, "{order_by}");
    }
}

#[tokio::test]
async fn faults_of_a_search_are_told_at_once_and_cost_nothing() {
    let world = World::start().await.warm().await;
    let request = pb::SearchLeadsRequest {
        field: "mx_Town".into(),
        operator: 99,
        value: None,
        order_by: "nothing desc".into(),
        page_size: 1001,
        page_token: "somebody's".into(),
        read_mask: mask(&["fields.custom.mx_Nothing"]),
    };
    let error = seen(search(&world, request).await.unwrap_err());
    error.is(Code::InvalidArgument, "INVALID_FIELD");
    let mut fields = error.fields();
    fields.sort_unstable();
    let all = [
        "field",
        "operator",
        "order_by",
        "page_size",
        "page_token",
        "read_mask.paths[0]",
        "value",
    ];
    assert_eq!(fields, all);
    let set = value(Value::FieldSet(pb::FieldSet::default()));
    for (field, given) in [
        ("mx_KYC", set),
        ("mx_Consent", text("maybe")),
        ("first_name", text(" ")),
    ] {
        let error = seen(
            search(&world, by(field, pb::SearchOperator::Equal, given))
                .await
                .unwrap_err(),
        );
        assert_eq!(error.fields(), ["value"], "{field}");
    }
    assert!(world.simulator.calls().is_empty());
}

#[tokio::test]
async fn nothing_is_searched_by_an_attribute_that_nobody_knows_to_be_there() {
    let (options, upstream) = (Options::default(), listen().await);
    let settings = tenant("acme", upstream.local_addr().unwrap(), &options);
    let simulator = Simulator::new(options);
    let fault = Fault::new("LeadsMetaData.Get", FaultKind::Empty500).times(100);
    simulator.add_fault(fault).unwrap();
    tokio::spawn(simulator.clone().serve(upstream, std::future::pending()));
    let world = World::gateway(simulator, &settings).await;
    let request = by("mx_City", pb::SearchOperator::Equal, text("Pune"));
    let error = seen(search(&world, request).await.unwrap_err());
    error.is(Code::Unavailable, "UPSTREAM_UNAVAILABLE");
    assert!(world.calls("Leads.Get").is_empty());
}

#[tokio::test]
async fn a_criterion_that_leadsquared_passes_over_finds_nobody() {
    let world = World::start().await;
    let everybody = serde_json::json!([
        {"ProspectID": "a", "EmailAddress": "ann@x.co", "mx_Consent": "1"},
        {"ProspectID": "b", "EmailAddress": "bob@x.co", "mx_Consent": "0"},
    ]);
    let answer = || FaultKind::Respond {
        status: 200,
        body: everybody.to_string(),
        content_type: None,
        commit: false,
    };
    for (field, given) in [
        ("email_address", text("ann@x.co")),
        ("mx_Consent", value(Value::Flag(true))),
    ] {
        world.simulator.add_fault(Fault::new("Leads.Get", answer())).unwrap();
        let error = seen(
            search(&world, by(field, pb::SearchOperator::Equal, given))
                .await
                .unwrap_err(),
        );
        error.is(Code::Internal, "UPSTREAM_UNREADABLE");
    }
}

#[tokio::test]
async fn a_quick_search_finds_a_word_and_shows_what_the_mask_names() {
    let world = World::start().await;
    town(&world);
    let found = quick(&world, " pUn ", mask(&["fields.first_name"])).await.unwrap();
    assert_eq!(names(&found), ["Ann", "Cid"]);
    assert!(found.iter().all(|lead| lead.fields.as_ref().unwrap().city.is_none()));
    assert!(quick(&world, "nobody", None).await.unwrap().is_empty());
    world.simulator.forget_calls();
    let error = seen(quick(&world, " ", mask(&["x"])).await.unwrap_err());
    error.is(Code::InvalidArgument, "INVALID_FIELD");
    assert_eq!(error.fields(), ["read_mask.paths[0]", "query"]);
    assert!(world.simulator.calls().is_empty());
}

#[tokio::test]
async fn a_range_has_its_start_and_not_its_end_to_the_millisecond() {
    for recent_rows_have_total in [false, true] {
        let options = Options {
            recent_rows_have_total,
            ..Options::default()
        };
        let world = World::with(options, "").await;
        for (name, modified) in [
            ("Before", "2026-03-01 09:59:59.899"),
            ("First", "2026-03-01 09:59:59.900"),
            ("Last", "2026-03-01 10:00:01.499"),
            ("End", "2026-03-01 10:00:01.500"),
            ("Whole", "2026-03-01 10:00:02"),
        ] {
            world
                .simulator
                .insert_lead(&[("FirstName", name), ("LeadLastModifiedOn", modified)]);
        }
        let range = |start, end| pb::ListModifiedLeadsRequest {
            start_time: at(start),
            end_time: at(end),
            read_mask: mask(&["fields.first_name"]),
            ..Default::default()
        };
        let answer = list(&world, range("2026-03-01T09:59:59.9Z", "2026-03-01T10:00:01.5Z"))
            .await
            .unwrap();
        assert_eq!(names(&answer.leads), ["First", "Last"]);
        assert_eq!(answer.next_page_token, "");
        // What was needed to know that is not shown.
        let fields = answer.leads[0].fields.clone().unwrap();
        assert!(fields.custom.is_empty(), "{fields:?}");
        let answer = list(&world, range("2026-03-01T10:00:01.5Z", "2026-03-01T10:00:02Z"))
            .await
            .unwrap();
        assert_eq!(names(&answer.leads), ["End"]);
        let answer = list(&world, range("2026-02-01T00:00:00Z", "2026-02-02T00:00:00Z"))
            .await
            .unwrap();
        assert_eq!((answer.leads.len(), answer.total_size), (0, 0));
    }
}

#[tokio::test]
async fn without_an_end_the_range_ends_now() {
    let world = World::start().await;
    let id = world.create(lead("Asha")).await.unwrap();
    tokio::time::sleep(Duration::from_millis(20)).await;
    let request = pb::ListModifiedLeadsRequest {
        end_time: None,
        ..day()
    };
    let answer = list(&world, request).await.unwrap();
    assert_eq!(answer.leads[0].lead_id, id);
    // With the metadata, and no mask, it is typed.
    let modified = &answer.leads[0].read_only_fields["LeadLastModifiedOn"];
    assert!(matches!(modified.value, Some(pb::field_value::Value::Time(_))));
}

/// All pages of the day, and the leads on them; between two pages something happens.
async fn pages(world: &World, page_size: i32, mut between: impl FnMut(usize)) -> (usize, Vec<String>) {
    let (mut found, mut page_token) = (vec![], String::new());
    for count in 1.. {
        let request = pb::ListModifiedLeadsRequest {
            page_size,
            page_token,
            read_mask: mask(&["lead_id"]),
            ..day()
        };
        let page = list(world, request).await.unwrap();
        assert!(page.leads.len() <= page_size as usize);
        found.extend(page.leads.into_iter().map(|lead| lead.lead_id));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return (count, found);
        }
        between(count);
    }
    unreachable!()
}

#[tokio::test]
async fn pages_of_modified_leads_are_whole_and_ordered_by_id() {
    let world = World::start().await;
    let mut expected = many(&world, 30, DAY);
    many(&world, 3, "2026-03-02 10:00:00");
    expected.sort();
    assert_eq!(pages(&world, 10, |_| {}).await, (3, expected));
}

#[tokio::test]
async fn what_stays_in_the_range_is_listed_though_others_leave_it() {
    let world = World::start().await;
    let mut stays = many(&world, 40, DAY);
    stays.sort();
    let leaving: Vec<String> = stays.drain(..12).collect();
    let (count, found) = pages(&world, 10, |page| {
        if page == 1 {
            leaving.iter().for_each(|id| touch(&world, id));
        }
    })
    .await;
    let found: BTreeSet<_> = found.into_iter().collect();
    assert!(stays.iter().all(|id| found.contains(id)));
    // Three full pages are left, and as many are read again as leads may have moved.
    assert!(count <= 6, "{count}");
}

#[tokio::test]
async fn faults_of_a_listing_are_told_at_once_and_cost_nothing() {
    let world = World::start().await.warm().await;
    let error = seen(
        list(
            &world,
            pb::ListModifiedLeadsRequest {
                start_time: None,
                end_time: Some(Timestamp { seconds: 0, nanos: -1 }),
                page_size: 5001,
                read_mask: mask(&["x"]),
                ..day()
            },
        )
        .await
        .unwrap_err(),
    );
    error.is(Code::InvalidArgument, "INVALID_FIELD");
    let mut fields = error.fields();
    fields.sort_unstable();
    assert_eq!(fields, ["end_time", "page_size", "read_mask.paths[0]", "start_time"]);

    let same = || at("2026-03-02T00:00:00Z");
    for (start_time, end_time, field) in [
        (same(), same(), "end_time"),
        (at("9000-01-01T00:00:00Z"), None, "start_time"),
    ] {
        let request = pb::ListModifiedLeadsRequest {
            start_time,
            end_time,
            ..day()
        };
        assert_eq!(seen(list(&world, request).await.unwrap_err()).fields(), [field]);
    }
    assert!(world.simulator.calls().is_empty());
}

#[tokio::test]
async fn a_token_is_good_for_its_own_request_only() {
    let world = World::start().await;
    many(&world, 3, DAY);
    let first = pb::ListModifiedLeadsRequest { page_size: 2, ..day() };
    let page_token = list(&world, first.clone()).await.unwrap().next_page_token;
    world.simulator.forget_calls();
    let again = pb::ListModifiedLeadsRequest { page_token, ..first };
    for wrong in [
        pb::ListModifiedLeadsRequest {
            page_token: "p2".into(),
            ..again.clone()
        },
        pb::ListModifiedLeadsRequest {
            page_size: 3,
            ..again.clone()
        },
        pb::ListModifiedLeadsRequest {
            start_time: at("2026-02-28T00:00:00Z"),
            ..again.clone()
        },
        pb::ListModifiedLeadsRequest {
            end_time: at("2026-03-03T00:00:00Z"),
            ..again.clone()
        },
    ] {
        assert_eq!(seen(list(&world, wrong).await.unwrap_err()).fields(), ["page_token"]);
    }
    assert!(world.simulator.calls().is_empty());
    assert_eq!(list(&world, again).await.unwrap().leads.len(), 1);
}

#[tokio::test]
async fn a_page_with_fewer_leads_than_it_counts_is_not_taken_for_the_last() {
    let world = World::start().await;
    let short = serde_json::json!({"RecordCount": 7, "Leads": [{"LeadPropertyList": [
        {"Attribute": "ProspectID", "Value": "a"},
    ]}]});
    let answer = FaultKind::Respond {
        status: 200,
        body: short.to_string(),
        content_type: None,
        commit: false,
    };
    world
        .simulator
        .add_fault(Fault::new("Leads.RecentlyModified", answer.clone()).times(3))
        .unwrap();
    seen(list(&world, day()).await.unwrap_err()).is(Code::Internal, "UPSTREAM_UNREADABLE");
    // Once may be chance.
    many(&world, 3, DAY);
    world
        .simulator
        .add_fault(Fault::new("Leads.RecentlyModified", answer))
        .unwrap();
    assert_eq!(list(&world, day()).await.unwrap().leads.len(), 3);
}

#[tokio::test]
async fn an_export_gives_each_lead_once_in_messages_of_a_hundred() {
    let world = World::start().await;
    let mut expected = many(&world, 5_250, DAY);
    expected.sort();
    let messages = export(&world, export_of_day()).await.unwrap();
    assert_eq!(ids(&messages), expected);
    assert!(messages.iter().all(|message| message.leads.len() <= 100));
    assert!(messages.iter().all(|message| message.total_size == 5_250));
    assert_eq!(world.calls("Leads.RecentlyModified").len(), 2);
}

#[tokio::test]
async fn an_export_that_broke_off_is_resumed() {
    let world = World::start().await;
    let expected: BTreeSet<_> = many(&world, 5_250, DAY).into_iter().collect();
    let mut first = vec![];
    {
        let mut client = world.client.clone();
        let mut stream = client.export_leads(export_of_day()).await.unwrap().into_inner();
        // All of the first page, and a part of the second.
        while first.len() < 51 {
            first.push(stream.message().await.unwrap().unwrap());
        }
    }
    world.simulator.forget_calls();
    let resumed = pb::ExportLeadsRequest {
        resume_token: first.last().unwrap().resume_token.clone(),
        ..export_of_day()
    };
    let rest = export(&world, resumed).await.unwrap();
    assert_eq!(world.calls("Leads.RecentlyModified").len(), 1);
    assert_eq!(ids(&rest).len(), 250);
    let all: BTreeSet<_> = ids(first.iter().chain(&rest)).into_iter().collect();
    assert_eq!(all, expected);

    // Nothing is left behind the last one, and nothing is asked for it.
    world.simulator.forget_calls();
    let after = pb::ExportLeadsRequest {
        resume_token: rest.last().unwrap().resume_token.clone(),
        ..export_of_day()
    };
    let nothing = export(&world, after.clone()).await.unwrap();
    assert_eq!(
        (nothing.len(), ids(&nothing).len(), nothing[0].total_size),
        (1, 0, 5_250)
    );
    assert!(world.simulator.calls().is_empty());
    let other = pb::ExportLeadsRequest {
        start_time: at("2026-02-01T00:00:00Z"),
        ..after
    };
    assert_eq!(
        seen(export(&world, other).await.unwrap_err()).fields(),
        ["resume_token"]
    );
}

#[tokio::test]
async fn leads_that_are_modified_during_an_export_neither_hide_others_nor_come_twice() {
    let world = World::start().await;
    let mut stays = many(&world, 10_200, DAY);
    stays.sort();
    let leaving: Vec<String> = stays.drain(..300).collect();
    let by = Duration::from_millis(1500);
    world
        .simulator
        .add_fault(Fault::new("Leads.RecentlyModified", FaultKind::Delay { by }).after(1))
        .unwrap();
    let exporting = {
        let mut client = world.client.clone();
        tokio::spawn(async move {
            let mut stream = client.export_leads(export_of_day()).await?.into_inner();
            let mut messages = vec![];
            while let Some(message) = stream.message().await? {
                messages.push(message);
            }
            Ok::<_, Status>(messages)
        })
    };
    let second = async {
        while world.calls("Leads.RecentlyModified").len() < 2 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), second).await.unwrap();
    leaving.iter().for_each(|id| touch(&world, id));
    let messages = exporting.await.unwrap().unwrap();
    let came = ids(&messages);
    let all: BTreeSet<_> = came.iter().cloned().collect();
    assert_eq!(came.len(), all.len());
    assert!(stays.iter().all(|id| all.contains(id)));
    // One of the pages before moved.
    assert!(world.calls("Leads.RecentlyModified").len() >= 3);
}

#[tokio::test]
async fn an_empty_export_says_so_in_one_message() {
    let world = World::start().await;
    let messages = export(&world, export_of_day()).await.unwrap();
    assert_eq!(messages.len(), 1);
    assert_eq!((messages[0].leads.len(), messages[0].total_size), (0, 0));
    assert!(!messages[0].resume_token.is_empty());
}

#[tokio::test]
async fn faults_of_an_export_end_it_before_a_call_is_spent() {
    let world = World::start().await.warm().await;
    let request = pb::ExportLeadsRequest {
        end_time: at("2026-02-02T00:00:00Z"),
        read_mask: mask(&["fields.custom.mx_Nothing", "x"]),
        resume_token: String::new(),
        ..export_of_day()
    };
    let error = seen(export(&world, request).await.unwrap_err());
    error.is(Code::InvalidArgument, "INVALID_FIELD");
    assert_eq!(error.fields(), ["read_mask.paths[1]", "end_time"]);
    assert!(world.simulator.calls().is_empty());
}
