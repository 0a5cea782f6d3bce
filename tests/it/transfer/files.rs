//! The values of a file reach LeadSquared unchanged or are reported, for files of all programs.

use std::os::unix::fs::PermissionsExt;

use leadgate_simulator::Options;
use serde_json::{Value as Json, json};

use super::{Fixture, SETTINGS, ended, rows};
use crate::process::{Said, run};

/// The output of an import of a file.
async fn import(fixture: &Fixture, name: &str, text: impl AsRef<[u8]>) -> Said {
    fixture.write(name, text);
    fixture.command(&["import", name]).await
}

/// The output of a dry run.
async fn dry_run(fixture: &Fixture, name: &str, text: impl AsRef<[u8]>) -> Said {
    fixture.write(name, text);
    fixture.command(&["import", name, "--dry-run"]).await
}

/// A table without its padding.
fn narrow(text: &str) -> Vec<String> {
    let lines = text.lines();
    lines
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect()
}

#[tokio::test]
async fn a_csv_is_read_whichever_program_has_written_it() {
    for (text, said) in [
        ("EmailAddress,FirstName\na@x.co,Anu\nb@x.co,Ben\n", ""),
        (
            "EmailAddress;FirstName\r\na@x.co;Anu\r\nb@x.co;Ben\r\n",
            "separated by semicolons",
        ),
        ("EmailAddress\tFirstName\na@x.co\tAnu\nb@x.co\tBen", "separated by tabs"),
        (
            "sep=;\nEmailAddress;FirstName\na@x.co;Anu\nb@x.co;Ben",
            "separated by semicolons",
        ),
        ("EmailAddress,FirstName\ra@x.co,Anu\rb@x.co,Ben\r", ""),
        ("\u{feff}\u{feff}EmailAddress,FirstName\na@x.co,Anu\nb@x.co,Ben\n", ""),
        (
            "Email Address,First Name\na@x.co,Anu\nb@x.co,Ben\n",
            "read as labels: Email Address as EmailAddress, First Name as FirstName",
        ),
        ("Email,FIRST NAME\na@x.co,Anu\nb@x.co,Ben\n", ""),
        (
            "EmailAddress,FirstName,,\na@x.co,Anu,,\nb@x.co,Ben,,\n,,,\n",
            "which are skipped: 1, the first one in line 4",
        ),
        (
            " EmailAddress , FirstName \na@x.co ,\u{a0}Anu \n\"b@x.co\u{a0}\",Ben\n",
            "",
        ),
        ("\nEmailAddress,FirstName\n\na@x.co,Anu\n\n\nb@x.co,Ben\n\n", ""),
    ] {
        let fixture = Fixture::open(|_| {}).await;
        let name = if said.contains("tabs") {
            "leads.tsv"
        } else {
            "leads.csv"
        };
        fixture.write(name, text);
        let path = fixture.path(name).to_str().unwrap().to_owned();
        let output = fixture.command(&["import", &path]).await;
        assert_eq!(output.code, Some(0), "{text:?}: {output:?}");
        assert!(output.err.contains(said), "{text:?}: {output:?}");
        for (email, name) in [("a@x.co", "Anu"), ("b@x.co", "Ben")] {
            assert_eq!(fixture.lead_by(email)["FirstName"].as_deref(), Some(name), "{text:?}");
        }
        assert_eq!(fixture.leads().len(), 2, "{text:?}");
    }
}

#[tokio::test]
async fn a_dry_run_that_knows_no_attributes_is_no_check() {
    let fixture = Fixture::blind().await;
    let said = dry_run(&fixture, "leads.csv", "EmailAddress\na@x.co\n").await;
    assert!(
        said.code == Some(2) && said.err.contains("a dry run needs them"),
        "{said:?}"
    );
}

#[tokio::test]
async fn a_csv_with_cr_line_ends_may_be_long() {
    let fixture = Fixture::open(|_| {}).await;
    let filler = "x".repeat(1_000);
    let lines = (0..1_500).map(|n| format!("l{n}@x.co,{filler}\r"));
    let text: String = std::iter::once("EmailAddress,Notes\r".to_owned())
        .chain(lines)
        .collect();
    let said = dry_run(&fixture, "leads.csv", text).await;
    assert!(
        said.code == Some(0) && said.out.starts_with("1500 rows checked: 1500 valid"),
        "{said:?}"
    );
}

#[tokio::test]
async fn a_csv_that_cannot_be_read_as_it_is_meant_is_refused_with_its_lines() {
    let fixture = Fixture::open(|_| {}).await;
    let utf16: Vec<u8> = "EmailAddress\r\na@x.co\r\n"
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    let cases: [(&[u8], &[&str]); 14] = [
        (
            b"EmailAddress,FirstName\n\"a@x.co\", \"Anu\"\n",
            &["line 2, column 2: a space before a quote"],
        ),
        (&[b"\xff\xfe", &utf16[..]].concat(), &["is UTF-16; save it as UTF-8"]),
        (&utf16, &["is probably UTF-16"]),
        (b"PK\x03\x04xlsx", &["workbook"]),
        (
            b"EmailAddress,FirstName\r\na@x.co,Anu\r\nb@x.co,Ren\xe9\r\n",
            &["line 3, column 2: is not UTF-8 (byte 0xE9, "],
        ),
        (
            b"EmailAddress,FirstName\ra@x.co\rb@x.co,Ben\rc@x.co,\"Carl\"x\r",
            &["2 lines", "line 2: has 1 cells", "line 4, column 2: text"],
        ),
        (
            b"EmailAddress,Notes\na@x.co,\"one\ntwo\"\nb@x.co,x,y\n",
            &["line 4: has 3 cells, but the first line has 2"],
        ),
        (
            b"EmailAddress,FirstName,,\na@x.co,Anu,,\nb@x.co,Ben,x,\n",
            &["line 3, column 3: has content"],
        ),
        (
            b"EmailAddress,FirstName,FirstName\na@x.co,A,B\n",
            &["FirstName: is the same attribute as FirstName"],
        ),
        (
            b"EmailAddress,First Name,FirstName\na@x.co,A,B\n",
            &["FirstName: is the same attribute as First Name"],
        ),
        (b"EmailAddress,FirstName\n", &["has no rows"]),
        (b"\xef\xbb\xbf\n\n", &["has no rows"]),
        (
            "EmailAddress,\u{200b}City\na@x.co,Pune\n".as_bytes(),
            &["<U+200B>City: the account has no such attribute"],
        ),
        (
            b"\"EmailAddress,FirstName\"\n\"a@x.co,Anu\"\n",
            &["the first line may be quoted as a whole"],
        ),
    ];
    for (text, expected_texts) in cases {
        for arguments in [&["import", "leads.csv"][..], &["import", "leads.csv", "--dry-run"]] {
            fixture.write("leads.csv", text);
            let said = fixture.command(arguments).await;
            let shown = String::from_utf8_lossy(text);
            assert_eq!(said.code, Some(2), "{shown:?}: {said:?}");
            for expected in expected_texts {
                assert!(said.err.contains(expected), "{shown:?}: {expected} in {said:?}");
            }
        }
    }
    assert!(fixture.leads().is_empty() && fixture.world.simulator.calls().is_empty());
    assert_eq!(fixture.files(), ["leads.csv".to_owned()].into());
}

#[tokio::test]
async fn a_label_of_several_attributes_is_refused_with_their_names() {
    let fixture = Fixture::open(|options| {
        for name in ["mx_Plan", "mx_Old_Plan"] {
            let mut field = options.fields[0].clone();
            field.schema_name = name.to_owned();
            field.display_name = "Plan".to_owned();
            options.fields.push(field);
        }
    })
    .await;
    let said = import(&fixture, "leads.csv", "Email,Plan\na@x.co,Gold\n").await;
    assert!(
        said.code == Some(2) && said.err.contains("Plan: is the label of mx_Plan or mx_Old_Plan"),
        "{said:?}"
    );
    let said = import(&fixture, "leads.csv", "Email,mx_Plan\na@x.co,Gold\n").await;
    assert_eq!(
        (said.code, fixture.lead_by("a@x.co")["mx_Plan"].as_deref()),
        (Some(0), Some("Gold")),
        "{said:?}"
    );
}

#[tokio::test]
async fn a_value_that_cannot_be_meant_is_rejected_with_line_and_column() {
    let fixture = Fixture::open(|_| {}).await;
    let values = [
        ("Phone", "9.19845E+11", "a spreadsheet program shortened the number"),
        ("Phone", "919845098450.0", "write the digits only"),
        ("mx_Loan_Amount", "1e3", "scientific notation"),
        ("mx_Loan_Amount", "1.234,50", "must be a number"),
        (
            "mx_Next_Call",
            "31-12-25",
            "must be a date or a time such as 2026-07-31",
        ),
        ("mx_Next_Call", "31-12-2025", "must be a date or a time"),
        ("mx_Next_Call", "12/31/25", "must be a date or a time"),
        ("mx_Next_Call", "45291", "which spreadsheet programs use for dates"),
        ("mx_Consent", "maybe", "must be true or false"),
        ("FirstName", "A\0nu", "U+0000 (NUL)"),
        ("FirstName", "A\u{7}nu", "U+0007 (bell)"),
        ("FirstName", "A\u{202e}nu", "U+202E"),
        ("LastName", "Anu\u{200b}", "U+200B"),
    ];
    let names = [
        "EmailAddress",
        "Phone",
        "mx_Loan_Amount",
        "mx_Next_Call",
        "mx_Consent",
        "FirstName",
        "LastName",
    ];
    let mut text = names.join(",") + "\r\n";
    for (n, (column, value, _)) in values.iter().enumerate() {
        let cell = |name: &&str| match *name {
            "EmailAddress" => format!("l{n}@x.co"),
            name if name == *column => format!("\"{value}\""),
            _ => String::new(),
        };
        text += &(names.iter().map(cell).collect::<Vec<_>>().join(",") + "\r\n");
    }
    text += "good@x.co,+91-9845098450,12345678901234567890,2026-07-31,yes,Anu,Rao\r\n";
    let said = import(&fixture, "leads.csv", &text).await;
    assert_eq!(said.code, Some(1), "{said:?}");
    let rejected = rows(&fixture.read("leads.csv.rejected.csv"));
    assert_eq!(rejected.len(), values.len(), "{rejected:?}");
    for (n, (column, _, expected)) in values.iter().enumerate() {
        let message = &rejected[n]["error_message"];
        let place = names.iter().position(|name| name == column).unwrap() + 1;
        let begin = format!("line {}: {column} (column {place}) ", n + 2);
        assert!(message.starts_with(&begin) && message.contains(expected), "{message}");
    }
    assert_eq!(fixture.leads().len(), 1);
    let sent = format!("{:?}", fixture.world.simulator.calls());
    assert!(sent.contains("12345678901234567890"), "{sent}");
}

#[tokio::test]
async fn a_line_of_jsonl_is_written_whole_or_not_at_all() {
    let fixture = Fixture::open(|_| {}).await;
    let lines = [
        r#"{"email_address":"s1\ud83d@x.co","first_name":"Anu"}"#,
        r#"{"email_address":"s2@x.co","mx_Loan_Amount":1e400}"#,
        r#"{"email_address":"s3@x.co","mx_KYC":{"Status":"a","Status":"b"}}"#,
        r#"{"email_address":"s4@x.co","first_name":["Anu"]}"#,
        r#"{"email_address":"s5@x.co","first_name":{"a":1}}"#,
        r#"{"email_address":"s6@x.co","phone":9.19845e11}"#,
        r#"{"email_address":"s7@x.co","mx_KYC":{"Status":"\udc00"}}"#,
        r#"{"email_address":" good@x.co\u00a0","mx_Loan_Amount":12345678901234567890,"phone":919845098450,"mx_Zip":"0123"}"#,
    ];
    let said = import(&fixture, "leads.jsonl", lines.join("\n")).await;
    assert_eq!(said.code, Some(1), "{said:?}");
    let rejected = fixture.read("leads.jsonl.rejected.jsonl");
    let rejected: Vec<Json> = rejected
        .lines()
        .map(|line| serde_json::from_str(&line.replace("\\u", "u")).unwrap_or_default())
        .collect();
    assert_eq!(rejected.len(), 7, "{said:?}");
    let fields = [
        "email_address",
        "mx_Loan_Amount",
        "mx_KYC",
        "first_name",
        "first_name",
        "phone",
        "mx_KYC",
    ];
    for (n, field) in fields.iter().enumerate().filter(|(n, _)| *n != 1) {
        let message = rejected[n]["_error"]["message"].as_str().unwrap_or_default();
        assert!(
            message.starts_with(&format!("line {}: {field} ", n + 1)),
            "{n}: {:?}",
            rejected[n]
        );
    }
    assert_eq!(fixture.leads().len(), 1, "{:?}", fixture.leads());
    let good = fixture.lead_by("good@x.co");
    assert_eq!(good["mx_Zip"].as_deref(), Some("0123"));
    let sent = format!("{:?}", fixture.world.simulator.calls());
    assert!(sent.contains("12345678901234567890"), "{sent}");

    for (text, expected) in [
        (
            &b"{\"first_name\":\"Anu\",\"First_Name\":\"Ben\"}\n"[..],
            "line 1: First_Name: is the same attribute as first_name (line 1)",
        ),
        (
            b"{\"first_name\":\"Anu\"}\n{\"email_address\":\"a@x.co\",\"Email\":\"b@x.co\"}\n",
            "line 2: Email: is the same attribute as email_address (line 2)",
        ),
        (
            b"{\"first_name\":\"Anu\",\"first_name\":\"Ben\"}\n",
            "line 1: is not a JSON object: first_name occurs twice",
        ),
        (b"{\"first_name\":\"Ren\xe9\"}\n", "line 1: is not UTF-8"),
        (b"{\"mx_Loan_Amount\":NaN}\n", "line 1: is not a JSON object"),
        (
            b"{\"first_name\":\"a\"}\r{\"first_name\":\r{\"first_name\"}\r",
            "2 lines",
        ),
    ] {
        let said = import(&fixture, "other.jsonl", text).await;
        assert!(
            said.code == Some(2) && said.err.contains(expected),
            "{expected}: {said:?}"
        );
    }
    assert_eq!(fixture.leads().len(), 1);
}

#[tokio::test]
async fn a_dry_run_reports_errors_by_kind_and_writes_nothing() {
    let settings = format!("{SETTINGS}\n[tenants.acme.writes]\nunique = [\"EmailAddress\", \"Phone\", \"mx_Zip\"]\n");
    let mut options = Options::default();
    (options.limits.calls, options.limits.bulk) = (0, 0);
    let fixture = Fixture::with(options, &settings).await;
    let text = "EmailAddress,Phone,FirstName,mx_Loan_Amount,Zip,Notes\n\
                a@x.co,+91-9845098450,Anu,1,Z1,\n\
                what,,Ben,much,,\n\
                c@x.co,,Carl,more,,\n\
                A@x.co ,,Dan,,z1,\n\
                e@x.co,98450 98450,Eve,,,9.19845E+11\n";
    fixture.write("leads.csv.rejected.csv", "from another run");
    let said = dry_run(&fixture, "leads.csv", text).await;
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.out.starts_with("5 rows checked: 3 valid, 2 rejected"), "{said:?}");
    // A row is checked as a whole, also by the gateway.
    let table: Vec<_> = narrow(&said.out)
        .into_iter()
        .map(
            |line| match line.strip_prefix("1 EmailAddress must be an email address") {
                Some(_) if line.ends_with(" 3") => "1 EmailAddress EMAIL 3".to_owned(),
                _ => line,
            },
        )
        .collect();
    assert_eq!(
        table[1..],
        [
            "Rejected rows by kind:",
            "ROWS COLUMN WHAT LINES",
            "2 mx_Loan_Amount must be a number in plain digits 3, 4",
            "1 EmailAddress EMAIL 3",
            "Warnings (these rows are not rejected):",
            "ROWS COLUMN WHAT LINES",
            "1 EmailAddress has the same value as an earlier row 5 (as 2)",
            "1 Notes looks like a number that a spreadsheet program shortened 6",
            "1 Phone has the same value as an earlier row 6 (as 2)",
            "1 Zip has the same value as an earlier row 5 (as 2)",
        ]
    );
    // Errors of the gateway are reported with the names of the file.
    let said = dry_run(&fixture, "other.csv", "Email,First Name\nwhat,Ben\nmore,Ben\n").await;
    let table = narrow(&said.out);
    assert!(
        table
            .iter()
            .any(|line| line.starts_with("2 Email ") && line.ends_with(" 2, 3")),
        "{said:?}"
    );

    // Warnings alone do not change the exit code.
    let said = dry_run(&fixture, "same.csv", "EmailAddress\na@x.co\nA@X.co\n").await;
    assert!(said.code == Some(0) && said.out.contains("3 (as 2)"), "{said:?}");
    let id = fixture.world.simulator.insert_lead(&[("FirstName", "Ann")]);
    fixture.write(
        "ids.csv",
        format!("lead_id,city\n{id},Pune\n{},Agra\n", id.to_uppercase()),
    );
    let said = fixture
        .command(&["import", "ids.csv", "--mode", "update", "--dry-run"])
        .await;
    assert!(said.code == Some(0) && said.out.contains("lead_id"), "{said:?}");

    assert_eq!((fixture.leads().len(), fixture.world.simulator.calls().len()), (1, 0));
    assert_eq!(fixture.read("leads.csv.rejected.csv"), "from another run");
    let files = [
        "ids.csv",
        "leads.csv",
        "leads.csv.rejected.csv",
        "other.csv",
        "same.csv",
    ];
    assert_eq!(fixture.files(), files.map(str::to_owned).into());
}

#[tokio::test]
async fn a_dry_run_does_not_stand_in_the_way_of_an_import() {
    let fixture = Fixture::open(|_| {}).await;
    let text = "EmailAddress\nwhat\na@x.co\n";
    assert_eq!(dry_run(&fixture, "leads.csv", text).await.code, Some(1));
    let said = import(&fixture, "leads.csv", text).await;
    assert!(
        said.code == Some(1) && said.out.starts_with("2 rows: 1 created"),
        "{said:?}"
    );
    // A file of rejected rows does not prevent a dry run.
    assert_eq!(dry_run(&fixture, "leads.csv", text).await.code, Some(1));
    // A check that cannot finish has exit code 2 and writes nothing.
    let nowhere = crate::harness::closed_address();
    let said = ended(fixture.spawn(nowhere, &["import", "leads.csv", "--dry-run"])).await;
    assert_eq!(said.code, Some(2), "{said:?}");
    assert_eq!(fixture.files().len(), 2);
}

#[tokio::test]
async fn files_with_personal_data_are_for_their_owner_alone() {
    let fixture = Fixture::open(|_| {}).await;
    let mode = |name: &str| std::fs::metadata(fixture.path(name)).unwrap().permissions().mode() & 0o777;
    let said = import(
        &fixture,
        "leads.csv",
        "EmailAddress,FirstName\nwhat,Ben\na@x.co,=1+1\nb@x.co,-x\n",
    )
    .await;
    assert_eq!(
        (said.code, mode("leads.csv.rejected.csv")),
        (Some(1), 0o600),
        "{said:?}"
    );

    let export = [
        "export",
        "--from",
        "1h",
        "--fields",
        "email_address,first_name",
        "--out",
    ];
    let said = fixture.command(&[&export[..], &["plain.csv"]].concat()).await;
    assert!(
        said.code == Some(0) && said.err.contains("2 values start with ="),
        "{said:?}"
    );
    assert_eq!(mode("plain.csv"), 0o600);
    let names = |name: &str| {
        rows(&fixture.read(name))
            .iter()
            .map(|row| row["FirstName"].clone())
            .collect::<Vec<_>>()
    };
    let mut plain = names("plain.csv");
    plain.sort();
    assert_eq!(plain, ["-x", "=1+1"]);
    let said = fixture
        .command(&[&export[..], &["escaped.csv", "--escape-formulas"]].concat())
        .await;
    assert!(said.code == Some(0) && !said.err.contains("values start"), "{said:?}");
    let mut escaped = names("escaped.csv");
    escaped.sort();
    assert_eq!(escaped, ["'-x", "'=1+1"]);
    let said = fixture
        .command(&[&export[..], &["leads.jsonl", "--escape-formulas"]].concat())
        .await;
    assert!(
        said.code == Some(1) && said.err.contains("only a .csv file"),
        "{said:?}"
    );
    let shares = fixture.path("shares.csv");
    let address = fixture.world.address.to_string();
    let arguments = [
        "shares",
        "export",
        "--addr",
        &address,
        "--out",
        shares.to_str().unwrap(),
    ];
    let said: Said = run(&arguments).await.into();
    assert_eq!((said.code, mode("shares.csv")), (Some(0), 0o600), "{said:?}");
    // An escaped file is imported unchanged, with a warning in the dry run.
    let said = fixture.command(&["import", "escaped.csv", "--dry-run"]).await;
    assert!(said.out.contains("--escape-formulas"), "{said:?}");
}

#[tokio::test]
async fn an_import_that_waits_for_the_bulk_quota_says_so_and_what_to_do() {
    let mut options = Options::default();
    options.limits.bulk = 1;
    options.limits.per = std::time::Duration::from_secs(2);
    let settings = "[tenants.acme.limits]\nbulk = 1\nwindow = \"2s\"\n";
    let fixture = Fixture::with(options, settings).await;
    let lines: String = (0..140).map(|n| format!("l{n}@x.co\n")).collect();
    let said = import(&fixture, "leads.csv", format!("EmailAddress\n{lines}")).await;
    assert_eq!(said.code, Some(0), "{said:?}");
    for text in [
        "This import is limited by the bulk quota: 1 call per 2s",
        "limits.bulk",
        "batching.upserts",
    ] {
        assert_eq!(said.err.matches(text).count(), 1, "{said:?}");
    }
}

#[tokio::test]
async fn the_help_has_exit_codes_and_the_forms_of_revoke() {
    let said: Said = run(&["import", "--help"]).await.into();
    for code in [
        "0  all rows were written",
        "1  some rows",
        "2  nothing was written",
        "3  the import was interrupted",
    ] {
        assert!(said.out.contains(code), "{said:?}");
    }
    let said: Said = run(&["shares", "revoke"]).await.into();
    assert!(
        said.err.contains("--lead <ID>") && said.err.contains("--user <ID_OR_EMAIL>"),
        "{said:?}"
    );
    // The settings name the unique attributes.
    let fixture = Fixture::open(|_| {}).await;
    let request = leadgate::grpc::pb::DescribeLeadFieldsRequest::default();
    let fields = fixture
        .world
        .client
        .clone()
        .describe_lead_fields(request)
        .await
        .unwrap()
        .into_inner()
        .fields;
    let unique: Vec<_> = fields
        .iter()
        .filter(|field| field.unique)
        .map(|field| field.schema_name.as_str())
        .collect();
    assert_eq!(json!(unique), json!(["EmailAddress", "Phone"]));
}
