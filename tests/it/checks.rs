//! Checks of values: which values are accepted, which are rejected without a call, and how accepted values are stored and read.

use std::collections::BTreeMap;

use leadgate::domain::value::Value as Stored;
use leadgate::grpc::pb;
use leadgate_simulator::{Fault, FaultKind, FieldSpec, Options, PhoneLookup};
use pb::activity_service_client::ActivityServiceClient;
use pb::field_value::Value;
use pb::get_lead_request::Key;
use pb::user_service_client::UserServiceClient;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use prost_types::Timestamp;
use tonic::{Code, Status};

use crate::harness::{Seen, World, by_id, channel, custom, lead, seen, text, value};
use crate::share::ShareFixture;

/// Limits that never delay a test.
const QUICK: &str = "[tenants.acme.limits]\ncalls = 10000\nbulk = 10000\n";

/// The year 1: `DateTime.MinValue` in .NET and `time.Time{}` in Go.
const YEAR_1: Timestamp = Timestamp {
    seconds: -62_135_596_800,
    nanos: 0,
};

/// A field of the account besides the default ones.
fn field(name: &str, data_type: &str, render_type: &str) -> FieldSpec {
    FieldSpec {
        schema_name: name.to_owned(),
        display_name: name.to_owned(),
        data_type: data_type.to_owned(),
        render_type: render_type.to_owned(),
        ..FieldSpec::default()
    }
}

fn options() -> Options {
    let mut options = Options::default();
    (options.limits.calls, options.limits.bulk) = (0, 0);
    options.fields.extend([
        field("mx_Wake_Up", "Time", "Time"),
        field("mx_Landline", "Phone", "Phone"),
        field("mx_Work_Mail", "Email", "Email"),
        field("mx_Remarks", "Text", "TextArea"),
    ]);
    options
}

async fn world() -> World {
    World::with(options(), QUICK).await.warm().await
}

fn some(text: &str) -> Option<String> {
    Some(text.to_owned())
}

fn with(pairs: &[(&str, pb::FieldValue)]) -> pb::LeadFields {
    pb::LeadFields {
        custom: custom(pairs),
        ..lead("Asha")
    }
}

async fn validate(world: &World, lead: pb::LeadFields) -> Result<(), Status> {
    let request = pb::CreateLeadRequest {
        lead: Some(lead),
        validate_only: true,
        ..Default::default()
    };
    world.client.clone().create_lead(request).await.map(drop)
}

/// The paths and texts of the violations.
fn violations(error: &Seen) -> Vec<(&str, &str)> {
    let bad = error.details.bad_request().unwrap();
    let found = bad.field_violations.iter();
    found
        .map(|found| (found.field.as_str(), found.description.as_str()))
        .collect()
}

/// The path and text of the only violation of a write.
async fn rejected(world: &World, lead: pb::LeadFields) -> (String, String) {
    let checked = seen(validate(world, lead.clone()).await.unwrap_err());
    checked.is(Code::InvalidArgument, "INVALID_FIELD");
    let error = seen(world.create(lead).await.unwrap_err());
    error.is(Code::InvalidArgument, "INVALID_FIELD");
    assert_eq!(violations(&error), violations(&checked));
    let [(field, text)] = violations(&error)[..] else {
        panic!("{error:?}");
    };
    (field.to_owned(), text.to_owned())
}

#[tokio::test]
async fn invalid_values_are_rejected_without_a_call() {
    let world = world().await;
    let number = |number| value(Value::Number(number));
    for (name, given, hint) in [
        ("mx_DOB", text("tomorrow"), "yyyy-MM-dd"),
        ("mx_DOB", text("31-12-25"), "yyyy-MM-dd"),
        ("mx_DOB", text("31-12-2025"), "yyyy-MM-dd"),
        ("mx_DOB", text("12/31/25"), "yyyy-MM-dd"),
        ("mx_DOB", text("2025-1"), "yyyy-MM-dd"),
        ("mx_DOB", text("2025-02-30"), "yyyy-MM-dd"),
        ("mx_DOB", text("0025-12-31"), "from the year 1000 on"),
        ("mx_Next_Call", text("2025-12-31 10:00:00 x"), "yyyy-MM-dd HH:mm:ss"),
        ("mx_Next_Call", value(Value::Integer(45_658)), "must be a time"),
        ("mx_Next_Call", value(Value::Time(YEAR_1)), "zero value"),
        ("mx_Wake_Up", text("2025-12-31"), "HH:mm"),
        ("mx_Wake_Up", value(Value::Time(Timestamp::default())), "time of day"),
        ("mx_Consent", value(Value::Integer(3)), "true or false"),
        ("mx_Consent", text("yes"), "true or false"),
        ("mx_Loan_Amount", text("1,234"), "must be a number"),
        ("mx_Loan_Amount", text("1e400"), "must be a number"),
        ("mx_Loan_Amount", text("+5"), "must be a number"),
        ("mx_Loan_Amount", number(12_345_678_901_234_567_890.0), "2^53"),
        ("mx_Loan_Amount", value(Value::Flag(true)), "must be a number"),
        (
            "mx_Segment",
            text("Wholesale"),
            "one of the 3 options of mx_Segment: \"Retail\", \"SME\", \"Corporate\"",
        ),
        ("mx_Segment", text("retail"), "3 options"),
        ("mx_Work_Mail", text("i@x.co;"), "U+003B"),
        ("mx_Work_Mail", text("i@x.co\u{200b}"), "U+200B"),
        ("mx_Landline", text("abc"), "must be one phone number"),
        ("mx_Landline", text("9.19845E+11"), "spreadsheet (Excel) has shortened"),
        ("mx_Landline", number(919_845_098_450.0), "must be one phone number"),
        ("mx_Remarks", text("ring\u{7}"), "U+0007"),
        ("mx_Remarks", text("a\u{202e}b"), "U+202E"),
        ("mx_Remarks", text("\u{feff}a"), "U+FEFF"),
        ("mx_Remarks", text("a\u{fffe}"), "U+FFFE"),
        ("mx_Segment", text("Retail\n"), "U+000A"),
    ] {
        let (at, description) = rejected(&world, with(&[(name, given.clone())])).await;
        assert_eq!(at, format!("lead.custom[\"{name}\"]"), "{given:?}");
        assert!(description.contains(hint), "{name} {given:?}: {description}");
    }
    for (lead, at, hint) in [
        (
            pb::LeadFields {
                email_address: some("a@x.co "),
                ..Default::default()
            },
            "lead.email_address",
            "U+0020 at position 7",
        ),
        (
            pb::LeadFields {
                email_address: some("mailto:a@x.co"),
                ..Default::default()
            },
            "lead.email_address",
            "U+003A",
        ),
        (
            pb::LeadFields {
                email_address: some("Asha <a@x.co>"),
                ..Default::default()
            },
            "lead.email_address",
            "U+0020",
        ),
        (
            pb::LeadFields {
                email_address: some("a@b@x.co"),
                ..Default::default()
            },
            "lead.email_address",
            "more than one @",
        ),
        (
            pb::LeadFields {
                phone: some("N/A"),
                ..lead("Asha")
            },
            "lead.phone",
            "U+004E",
        ),
        (
            pb::LeadFields {
                phone: some("9.19845E+11"),
                ..lead("Asha")
            },
            "lead.phone",
            "spreadsheet (Excel)",
        ),
        (
            pb::LeadFields {
                mobile: some("98450 98450 / 98451 98451"),
                ..lead("Asha")
            },
            "lead.mobile",
            "several numbers",
        ),
        (
            pb::LeadFields {
                mobile: some("12"),
                ..lead("Asha")
            },
            "lead.mobile",
            "2 digits",
        ),
        (
            pb::LeadFields {
                first_name: some("A\0"),
                ..lead("Asha")
            },
            "lead.first_name",
            "U+0000",
        ),
        (
            pb::LeadFields {
                last_name: some("A\nB"),
                ..lead("Asha")
            },
            "lead.last_name",
            "U+000A",
        ),
        (
            pb::LeadFields {
                last_name: some(&"x".repeat(129)),
                ..lead("Asha")
            },
            "lead.last_name",
            "129 characters; at most 128",
        ),
        (
            pb::LeadFields {
                notes: some("a\u{2066}b"),
                ..lead("Asha")
            },
            "lead.notes",
            "U+2066",
        ),
    ] {
        let (found, description) = rejected(&world, lead.clone()).await;
        assert_eq!(found, at, "{lead:?}");
        assert!(description.contains(hint), "{lead:?}: {description}");
    }
    assert!(world.simulator.calls().is_empty());
}

#[tokio::test]
async fn options_are_not_checked_if_the_setting_is_off() {
    let settings = format!("{QUICK}[tenant_defaults.writes]\ncheck_options = false\n");
    let world = World::with(options(), &settings).await.warm().await;
    let id = world.create(with(&[("mx_Segment", text("Wholesale"))])).await.unwrap();
    let read = world.get(by_id(&id)).await.unwrap().fields.unwrap();
    assert_eq!(read.custom["mx_Segment"], text("Wholesale"));
}

#[tokio::test]
async fn violations_of_names_to_clear_have_their_paths() {
    let world = world().await;
    let id = world.create(lead("Asha")).await.unwrap();
    world.simulator.forget_calls();
    let clear = |names: &[&str]| pb::UpdateLeadRequest {
        lead_id: id.clone(),
        clear_fields: names.iter().map(|name| (*name).to_owned()).collect(),
        ..Default::default()
    };
    let names = ["mx_City", "City", "mx_Nothing", "city", "ProspectID", "CreatedOn"];
    let error = seen(world.client.clone().update_lead(clear(&names)).await.unwrap_err());
    error.is(Code::InvalidArgument, "INVALID_FIELD");
    assert_eq!(
        violations(&error),
        [
            (
                "clear_fields[1]",
                "the account has no attribute City; did you mean mx_City?"
            ),
            ("clear_fields[2]", "the account has no attribute mx_Nothing"),
            ("clear_fields[3]", "duplicate: mx_City is also in clear_fields[0]"),
            ("clear_fields[4]", "ProspectID cannot be cleared"),
            (
                "clear_fields[5]",
                "CreatedOn is computed by LeadSquared and cannot be written"
            ),
        ]
    );
    assert!(world.simulator.calls().is_empty());
}

#[tokio::test]
async fn attributes_unknown_to_leadsquared_have_the_paths_of_the_request() {
    let world = World::with(options(), QUICK).await;
    // An account without metadata: LeadSquared decides.
    let nothing = FaultKind::Respond {
        status: 200,
        body: "[]".to_owned(),
        content_type: None,
        commit: false,
    };
    world
        .simulator
        .add_fault(Fault::new("LeadsMetaData.Get", nothing).times(100))
        .unwrap();
    let id = world.simulator.insert_lead(&[("FirstName", "Asha")]);
    let request = pb::UpdateLeadRequest {
        lead_id: id,
        lead: Some(pb::LeadFields {
            custom: custom(&[("mx_Town", text("Pune"))]),
            ..Default::default()
        }),
        clear_fields: vec!["phone".into(), "City".into()],
        ..Default::default()
    };
    let error = seen(world.client.clone().update_lead(request).await.unwrap_err());
    error.is(Code::InvalidArgument, "INVALID_FIELD");
    assert_eq!(error.fields(), ["lead.custom[\"mx_Town\"]", "clear_fields[1]"]);
}

#[tokio::test]
async fn attributes_are_spelled_as_in_the_metadata() {
    let world = world().await;
    let id = world
        .create(with(&[
            ("MX_LOAN_AMOUNT", value(Value::Integer(5))),
            (
                "mx_kyc",
                value(Value::FieldSet(pb::FieldSet {
                    value: String::new(),
                    fields: [("Status".to_owned(), "Done".to_owned())].into(),
                })),
            ),
        ]))
        .await
        .unwrap();
    let read = world.get(by_id(&id)).await.unwrap().fields.unwrap();
    assert_eq!(read.custom["mx_Loan_Amount"], value(Value::Integer(5)));
    let request = pb::UpdateLeadRequest {
        lead_id: id.clone(),
        clear_fields: vec!["mx_loan_amount".into()],
        ..Default::default()
    };
    world.client.clone().update_lead(request).await.unwrap();
    let read = world.get(by_id(&id)).await.unwrap().fields.unwrap();
    assert!(!read.custom.contains_key("mx_Loan_Amount") && read.custom.contains_key("mx_KYC"));

    let twice = pb::LeadFields {
        city: some("Pune"),
        ..with(&[
            ("MX_CITY", text("Delhi")),
            ("mx_dob", text("1990-02-28")),
            ("mx_DOB", text("1990-02-28")),
        ])
    };
    let error = seen(world.create(twice).await.unwrap_err());
    error.is(Code::InvalidArgument, "INVALID_FIELD");
    assert_eq!(error.fields(), ["lead.custom[\"MX_CITY\"]", "lead.custom[\"mx_dob\"]"]);
}

#[tokio::test]
async fn an_invalid_email_address_or_phone_number_is_not_looked_up() {
    let world = world().await;
    let address = |text: &str| Key::EmailAddress(text.to_owned());
    let phone = |text: &str| Key::Phone(text.to_owned());
    for (key, at, hint) in [
        (address("i@x.co;"), "email_address", "U+003B"),
        (address("a@x.co "), "email_address", "U+0020"),
        (address("a@x.co\u{200b}"), "email_address", "U+200B"),
        (address("nobody"), "email_address", "has no @"),
        (address(""), "email_address", "has no @"),
        (phone("abc"), "phone", "U+0061"),
        (phone("9.19845E+11"), "phone", "spreadsheet"),
        (phone("1"), "phone", "1 digits"),
        (phone("98450 98450 ext. 12"), "phone", "without an extension"),
        (phone("98450 98450, 98451 98451"), "phone", "several numbers"),
        (phone("98450\u{200b}98450"), "phone", "U+200B"),
    ] {
        let error = seen(world.get(key.clone()).await.unwrap_err());
        error.is(Code::InvalidArgument, "INVALID_FIELD");
        let [(field, description)] = violations(&error)[..] else {
            panic!("{error:?}");
        };
        assert!(
            field == at && description.contains(hint),
            "{key:?}: {field} {description}"
        );
    }
    let mut users = UserServiceClient::new(channel(world.address).await);
    let key = pb::get_user_request::Key::EmailAddress("sam@simulator.example;".into());
    let error = seen(users.get_user(pb::GetUserRequest { key: Some(key) }).await.unwrap_err());
    error.is(Code::InvalidArgument, "INVALID_FIELD");
    assert!(world.simulator.calls().is_empty());
}

#[tokio::test]
async fn a_stored_number_is_found_by_each_of_its_forms() {
    let international = [
        "+919845098450",
        "+91-9845098450",
        "+91-98450-98450",
        "+91 98450 98450",
        "0091 98450 98450",
        "(+91) 98450.98450",
        "+91 (0)98450 98450",
        "919845098450",
    ];
    let national = [
        "9845098450",
        "98450 98450",
        "09845098450",
        "(0)98450 98450",
        "0-98450-98450",
    ];
    let with_code = format!("[tenant_defaults]\ndefault_country_code = \"91\"\n{QUICK}");
    for phone_lookup in [PhoneLookup::Any, PhoneLookup::Compact, PhoneLookup::Hyphenated] {
        for (settings, code_is_known) in [(QUICK, false), (with_code.as_str(), true)] {
            let options = Options {
                phone_lookup,
                ..options()
            };
            let world = World::with(options, settings).await.warm().await;
            let id = world
                .simulator
                .insert_lead(&[("FirstName", "Asha"), ("Phone", "+91-9845098450")]);
            // Only in this account, a number requires its country code.
            let is_strict = phone_lookup == PhoneLookup::Hyphenated && !code_is_known;
            let forms = international.iter().chain(national.iter().filter(|_| !is_strict));
            for form in forms {
                world.simulator.forget_calls();
                let found = world.get(Key::Phone((*form).to_owned())).await;
                let found = found.map(|lead| lead.lead_id).map_err(|status| status.code());
                assert_eq!(found, Ok(id.clone()), "{phone_lookup:?} {form}");
                assert!(world.simulator.calls().len() <= 3);
            }
            for other in ["9845098451", "+1 984 509 8450", "09845098451", "8450984"] {
                world.simulator.forget_calls();
                let found = world.get(Key::Phone(other.to_owned())).await;
                seen(found.unwrap_err()).is(Code::NotFound, "LEAD_NOT_FOUND");
                assert!(world.simulator.calls().len() <= 3);
            }
        }
    }
}

#[tokio::test]
async fn a_number_is_found_in_its_written_form() {
    let world = world().await;
    let numbers = [
        "09845098450",
        "0091 98450 98451",
        "+91 (0)98450 98452",
        "+39 06 698 1234",
        "+1 (212) 555-0100",
        "312345",
    ];
    for (i, number) in numbers.into_iter().enumerate() {
        let fields = pb::LeadFields {
            phone: some(number),
            ..lead(&format!("Asha{i}"))
        };
        let id = world.create(fields).await.unwrap();
        assert_eq!(
            world.get(Key::Phone(number.to_owned())).await.unwrap().lead_id,
            id,
            "{number}"
        );
    }
}

#[tokio::test]
async fn half_an_emoji_is_replaced_and_the_rest_is_read() {
    let world = world().await;
    let answer = |body: &str| FaultKind::Respond {
        status: 200,
        body: body.to_owned(),
        content_type: None,
        commit: false,
    };
    let order = |endpoint: &str, body: &str| world.simulator.add_fault(Fault::new(endpoint, answer(body))).unwrap();
    let id = "0203f172-8642-11e7-9bed-069b743e848f";
    let expected = some("call \u{fffd}");

    let row = format!(r#"{{"ProspectID":"{id}","Notes":"call \ud83d","FirstName":"\"Anu\" 😀 \ud83d\ude00"}}"#);
    order("Leads.GetById", &format!("[{row}]"));
    order(
        "Leads/Retrieve/ByIds",
        &format!(r#"{{"RecordCount":1,"Leads":[{row}]}}"#),
    );
    let read = world.get(by_id(id)).await.unwrap().fields.unwrap();
    assert_eq!((read.notes, read.first_name), (expected.clone(), some("\"Anu\" 😀 😀")));

    let pairs =
        format!(r#"[{{"Attribute":"ProspectID","Value":"{id}"}},{{"Attribute":"Notes","Value":"call \ud83d"}}]"#);
    let body = format!(r#"{{"RecordCount":1,"Leads":[{{"LeadPropertyList":{pairs}}}]}}"#);
    order("Leads.RecentlyModified", &body);
    let request = pb::ListModifiedLeadsRequest {
        start_time: Some(Timestamp::default()),
        ..Default::default()
    };
    let leads = world
        .client
        .clone()
        .list_modified_leads(request)
        .await
        .unwrap()
        .into_inner()
        .leads;
    assert_eq!(leads[0].fields.as_ref().unwrap().notes, expected);

    let activity =
        r#"{"Id":"a1","EventCode":201,"EventName":"\udc00x","ActivityFields":{"ActivityEvent_Note":"call \ud83d"}}"#;
    order(
        "ProspectActivity.Retrieve",
        &format!(r#"{{"RecordCount":1,"ProspectActivities":[{activity}]}}"#),
    );
    let mut client = ActivityServiceClient::new(channel(world.address).await);
    let request = pb::ListLeadActivitiesRequest {
        lead_id: id.to_owned(),
        ..Default::default()
    };
    let found = client
        .list_lead_activities(request)
        .await
        .unwrap()
        .into_inner()
        .activities;
    assert_eq!(
        (found[0].note.as_str(), found[0].type_name.as_str()),
        ("call \u{fffd}", "\u{fffd}x")
    );

    order(
        "Users.Get",
        r#"[{"ID":"u1","FirstName":"S\ud83d","EmailAddress":"s@x.co","Role":"Sales_User","StatusCode":0}]"#,
    );
    let mut client = UserServiceClient::new(channel(world.address).await);
    let users = client
        .list_users(pb::ListUsersRequest::default())
        .await
        .unwrap()
        .into_inner()
        .users;
    assert_eq!(users[0].first_name, "S\u{fffd}");
}

#[tokio::test]
async fn an_unset_attribute_is_absent_in_every_form() {
    for unset in ["-", "", " - "] {
        let options = Options {
            unset_as: some(unset),
            ..options()
        };
        let world = World::with(options, QUICK).await.warm().await;
        let id = world.create(lead("Asha")).await.unwrap();
        let read = world.get(by_id(&id)).await.unwrap();
        let fields = read.fields.unwrap();
        for name in ["mx_Loan_Amount", "mx_Consent", "mx_DOB", "mx_Next_Call", "mx_KYC"] {
            assert!(!fields.custom.contains_key(name), "{unset:?} {name}");
        }
        assert!(!read.read_only_fields.contains_key("LastVisitDate"), "{unset:?}");
        // For a text it is not known whether it was written so.
        assert_eq!(fields.city.as_deref(), Some(unset));
    }
}

#[tokio::test]
async fn a_number_that_fits_no_type_is_read_as_text() {
    let world = world().await;
    for (stored, expected) in [
        ("12345678901234567890", text("12345678901234567890")),
        ("0.1000000000000000055", text("0.1000000000000000055")),
        ("9007199254740993", value(Value::Integer(9_007_199_254_740_993))),
        ("12.50", value(Value::Number(12.5))),
    ] {
        let id = world.create(pb::LeadFields {
            email_address: None,
            ..with(&[("mx_Loan_Amount", text(stored))])
        });
        let id = id.await.unwrap();
        let sent = world.simulator.leads().pop().unwrap();
        assert_eq!(sent["mx_Loan_Amount"].as_deref(), Some(stored));
        let read = world.get(by_id(&id)).await.unwrap().fields.unwrap();
        assert_eq!(read.custom["mx_Loan_Amount"], expected);
    }
}

#[tokio::test]
async fn zero_values_of_languages_are_rejected() {
    let world = world().await;
    let nil = "00000000-0000-0000-0000-000000000000";
    let create = pb::CreateLeadRequest {
        lead: Some(lead("Asha")),
        request_id: nil.to_owned(),
        ..Default::default()
    };
    let error = seen(world.client.clone().create_lead(create.clone()).await.unwrap_err());
    error.is(Code::InvalidArgument, "INVALID_FIELD");
    let found = violations(&error);
    assert!(
        found[0].0 == "request_id" && found[0].1.contains("nil UUID"),
        "{found:?}"
    );
    let batch = pb::BatchCreateLeadsRequest {
        requests: vec![create],
        request_id: nil.to_owned(),
    };
    let error = seen(world.client.clone().batch_create_leads(batch).await.unwrap_err());
    assert_eq!(error.fields(), ["request_id"]);

    let list = pb::ListModifiedLeadsRequest {
        start_time: Some(YEAR_1),
        ..Default::default()
    };
    let error = seen(world.client.clone().list_modified_leads(list).await.unwrap_err());
    let found = violations(&error);
    assert!(
        found[0].0 == "start_time" && found[0].1.contains("the year 1"),
        "{found:?}"
    );
    assert!(world.simulator.calls().is_empty());
}

#[tokio::test]
async fn texts_of_activities_are_checked_in_posts_and_shares() {
    let fixture = ShareFixture::new().await;
    fixture.world.simulator.forget_calls();
    let fields = custom(&[
        ("mx_Custom_1", text("a\0")),
        ("mx_Custom_2", value(Value::Number(f64::NAN))),
        ("mx_Custom_3", value(Value::Time(YEAR_1))),
        ("mx_Custom_4", text("a\tb\r\nc")),
        ("mx Custom 5", text("a")),
    ]);
    let mut client = ActivityServiceClient::new(channel(fixture.world.address).await);
    let post = pb::PostActivityRequest {
        lead_id: fixture.lead.clone(),
        activity_type: 201,
        note: "a\u{202e}b\nc".into(),
        fields: fields.clone(),
        ..Default::default()
    };
    let error = seen(client.post_activity(post).await.unwrap_err());
    error.is(Code::InvalidArgument, "INVALID_FIELD");
    let mut at = error.fields();
    at.sort_unstable();
    let wrong = [
        "fields[\"mx Custom 5\"]",
        "fields[\"mx_Custom_1\"]",
        "fields[\"mx_Custom_2\"]",
        "fields[\"mx_Custom_3\"]",
        "note",
    ];
    assert_eq!(at, wrong);

    let new = pb::NewActivity {
        activity_type: 201,
        note: "a\u{202e}b".into(),
        fields,
    };
    let share = pb::ShareLeadRequest {
        context: Some(pb::share_lead_request::Context::NewActivity(new)),
        ..fixture.request()
    };
    let error = seen(fixture.try_share(share).await.unwrap_err());
    error.is(Code::InvalidArgument, "INVALID_FIELD");
    let mut at = error.fields();
    at.sort_unstable();
    assert_eq!(at, wrong.map(|field| format!("new_activity.{field}")));
    assert!(fixture.world.simulator.calls().is_empty());
}

#[tokio::test]
async fn criteria_are_checked_like_values() {
    let world = world().await;
    let search = async |field: &str, given: pb::FieldValue| {
        let request = pb::SearchLeadsRequest {
            field: field.to_owned(),
            value: Some(given),
            ..Default::default()
        };
        seen(world.client.clone().search_leads(request).await.unwrap_err())
    };
    for (field, given) in [
        ("first_name", text("A\u{202e}")),
        ("email_address", text("a@x.co\0")),
        ("mx_DOB", text("tomorrow")),
        ("mx_Next_Call", text("31-12-25")),
        ("mx_Next_Call", value(Value::Time(YEAR_1))),
        ("mx_Loan_Amount", text("1e400")),
        ("mx_Loan_Amount", value(Value::Number(1e20))),
        ("mx_Consent", value(Value::Integer(3))),
    ] {
        let error = search(field, given.clone()).await;
        error.is(Code::InvalidArgument, "INVALID_FIELD");
        assert_eq!(error.fields(), ["value"], "{field} {given:?}");
    }
    let request = pb::QuickSearchLeadsRequest {
        query: "As\u{200b}ha".into(),
        ..Default::default()
    };
    let error = seen(world.client.clone().quick_search_leads(request).await.unwrap_err());
    assert_eq!(error.fields(), ["query"]);
    assert!(world.simulator.calls().is_empty());
}

/// Values of each kind of attribute, many of them invalid.
fn any_value() -> impl Strategy<Value = (&'static str, Value)> {
    let texts = || prop_oneof![any::<String>(), "\\PC{0,20}", "[ -~]{0,20}"];
    let number = prop_oneof!["-?[0-9]{1,25}(\\.[0-9]{1,25})?", "[-+0-9.,eE ]{1,12}"].prop_map(Value::Text);
    let date = prop_oneof![
        "[0-2][0-9]{3}-[01][0-9]-[0-3][0-9]( [0-2][0-9]:[0-5][0-9]:[0-5][0-9])?",
        "[0-9]{1,4}[-/][0-9]{1,2}[-/][0-9]{1,4}"
    ]
    .prop_map(Value::Text);
    let time = (-62_200_000_000_i64..253_000_000_000).prop_map(|seconds| Value::Time(Timestamp { seconds, nanos: 0 }));
    let flag = prop_oneof![Just("true"), Just("False"), Just("1"), Just("yes"), Just("2")];
    let phone = prop_oneof![
        "\\+?[0-9]{5,16}",
        "\\+91[ -]?[0-9]{5}[ -]?[0-9]{5}",
        "[0-9 ().+E-]{6,16}"
    ];
    prop_oneof![
        texts().prop_map(|text| ("mx_City", Value::Text(text))),
        texts().prop_map(|text| ("mx_Remarks", Value::Text(text))),
        number.prop_map(|number| ("mx_Loan_Amount", number)),
        any::<f64>().prop_map(|number| ("mx_Loan_Amount", Value::Number(number))),
        any::<i64>().prop_map(|number| ("mx_Loan_Amount", Value::Integer(number))),
        date.prop_map(|date| ("mx_Next_Call", date)),
        time.prop_map(|time| ("mx_DOB", time)),
        flag.prop_map(|flag| ("mx_Consent", Value::Text(flag.to_owned()))),
        (0_i64..4).prop_map(|number| ("mx_Consent", Value::Integer(number))),
        phone.prop_map(|phone| ("mx_Landline", Value::Text(phone))),
        "[a-z'+ ;]{1,5}@[a-z.]{1,6}".prop_map(|address| ("mx_Work_Mail", Value::Text(address))),
        prop_oneof![Just("Retail"), Just("SME"), Just("sme"), Just("")]
            .prop_map(|option| ("mx_Segment", Value::Text(option.to_owned()))),
    ]
}

fn digits(text: &str) -> String {
    text.chars().filter(char::is_ascii_digit).collect()
}

/// The value as the gateway knows it.
fn stored_form(given: &Value) -> Stored {
    let fields = pb::LeadFields {
        custom: BTreeMap::from([("x".to_owned(), value(given.clone()))]),
        ..Default::default()
    };
    let mut lead = pb::Lead {
        fields: Some(fields),
        ..Default::default()
    };
    leadgate::grpc::attributes(&mut lead).pop().unwrap().1
}

#[tokio::test]
async fn accepted_values_are_stored_as_sent() {
    // The simulator checks nothing here, so that its rejections do not hide errors of leadgate.
    let options = Options {
        formats_checked: false,
        max_length_enforced: false,
        unique: vec![],
        ..options()
    };
    let world = World::with(options, QUICK).await.warm().await;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let sent: Vec<_> = (0..2_000)
        .map(|_| any_value().new_tree(&mut runner).unwrap().current())
        .collect();
    let requests = sent.iter().enumerate().map(|(i, (name, given))| pb::CreateLeadRequest {
        lead: Some(pb::LeadFields {
            last_name: Some(i.to_string()),
            custom: custom(&[(*name, value(given.clone()))]),
            ..Default::default()
        }),
        ..Default::default()
    });
    let request = pb::BatchCreateLeadsRequest {
        requests: requests.collect(),
        ..Default::default()
    };
    let results = world
        .client
        .clone()
        .batch_create_leads(request)
        .await
        .unwrap()
        .into_inner()
        .results;
    let stored: BTreeMap<_, _> = world
        .simulator
        .leads()
        .into_iter()
        .map(|lead| (lead["LastName"].clone().unwrap(), lead))
        .collect();
    let mut accepted = 0;
    for (i, ((name, given), result)) in sent.iter().zip(results).enumerate() {
        use pb::batch_create_leads_result::Result as Told;
        match result.result.unwrap() {
            Told::Error(error) => {
                assert_eq!(
                    error.code,
                    i32::from(Code::InvalidArgument),
                    "{name} {given:?}: {error:?}"
                );
                assert!(!stored.contains_key(&i.to_string()), "{name} {given:?}");
            }
            Told::Response(_) => {
                accepted += 1;
                let read = stored[&i.to_string()][*name].clone().unwrap_or_default();
                let is_same = match (*name, given) {
                    // LeadSquared stores these in another form.
                    ("mx_Consent" | "mx_Next_Call" | "mx_DOB", _) => {
                        stored_form(given).reads_back_as(&read) == Some(true)
                    }
                    ("mx_Landline", _) => digits(&read).ends_with(&digits(&stored_form(given).to_text())),
                    (_, Value::Text(text)) => *text == read,
                    _ => stored_form(given).to_text() == read,
                };
                assert!(is_same, "{name} {given:?}: {read:?}");
            }
        }
    }
    assert!((500..1_900).contains(&accepted), "{accepted}");
}
