//! Leads as lines of a file: the id, the number and the requested attributes.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufWriter, Seek, Write};

use jiff::Timestamp;
use leadgate::domain::value::Value;
use leadgate::grpc::{self, pb};
use serde_json::{Value as Json, json};

use crate::cli::transfer::{FileFormat, LEAD_ID, LEAD_NUMBER};

/// Writes leads to a file.
pub(super) struct LeadWriter {
    out: LeadOutput,
    columns: Vec<String>,
    escapes: bool,
}

enum LeadOutput {
    Csv(Box<csv::Writer<File>>),
    Jsonl(BufWriter<File>),
}

impl LeadWriter {
    /// Appends to a file. An empty CSV file gets a line of names first. With `escapes`, CSV has a ' before values that spreadsheet
    /// programs read as formulas.
    pub(super) fn new(format: FileFormat, mut file: File, columns: Vec<String>, escapes: bool) -> io::Result<Self> {
        let is_empty = file.stream_position()? == 0;
        let mut out = match format {
            FileFormat::Csv => LeadOutput::Csv(Box::new(csv::Writer::from_writer(file))),
            FileFormat::Jsonl => LeadOutput::Jsonl(BufWriter::new(file)),
        };
        if let (LeadOutput::Csv(sheet), true) = (&mut out, is_empty) {
            let names = columns.iter().map(String::as_str);
            sheet.write_record([LEAD_ID, LEAD_NUMBER].into_iter().chain(names))?;
        }
        Ok(Self { out, columns, escapes })
    }

    /// Writes a lead. Returns the number of values that spreadsheet programs read as formulas.
    pub(super) fn add(&mut self, lead: pb::Lead) -> io::Result<u64> {
        let (id, number) = (lead.lead_id.clone(), lead.lead_number.clone());
        let values = values(lead);
        let cells = self.columns.iter().map(|name| (name, values.get(name)));
        let (escapes, mut formulas) = (self.escapes, 0);
        match &mut self.out {
            LeadOutput::Csv(sheet) => {
                let cells = cells.map(|(_, value)| match value {
                    Some(value) if is_formula(value) => {
                        formulas += 1;
                        let quote = if escapes { "'" } else { "" };
                        format!("{quote}{}", text(value))
                    }
                    value => value.map_or(String::new(), text),
                });
                sheet.write_record([id, number].into_iter().chain(cells))?;
            }
            LeadOutput::Jsonl(sheet) => {
                let ours = [(LEAD_ID, json!(id)), (LEAD_NUMBER, json!(number))];
                let cells = cells.filter_map(|(name, value)| Some((name.as_str(), json(value?))));
                let mut line = serde_json::Serializer::new(&mut *sheet);
                serde::Serializer::collect_map(&mut line, ours.into_iter().chain(cells))?;
                sheet.write_all(b"\n")?;
            }
        }
        Ok(formulas)
    }

    /// Syncs the file to the disk. Returns its size.
    pub(super) fn flush(&mut self) -> io::Result<u64> {
        let mut file = match &mut self.out {
            LeadOutput::Csv(sheet) => {
                sheet.flush()?;
                sheet.get_ref()
            }
            LeadOutput::Jsonl(sheet) => {
                sheet.flush()?;
                sheet.get_ref()
            }
        };
        file.sync_data()?;
        file.stream_position()
    }
}

/// Returns the values of a lead by schema name.
fn values(mut lead: pb::Lead) -> HashMap<String, Value> {
    let attributes = grpc::attributes(&mut lead);
    let text = |text: String| Some(Value::Text(text)).filter(|value| *value != Value::Text(String::new()));
    let time = |at: Option<prost_types::Timestamp>| {
        let at = at.and_then(|at| Timestamp::new(at.seconds, at.nanos).ok());
        at.map(Value::Time)
    };
    let parts = [
        ("OwnerIdName", text(lead.owner_name)),
        ("OwnerIdEmailAddress", text(lead.owner_email_address)),
        ("Score", lead.score.map(Value::Number)),
        ("CreatedOn", time(lead.create_time)),
        ("ModifiedOn", time(lead.update_time)),
    ];
    let parts = parts
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), value?)));
    attributes.into_iter().chain(parts).collect()
}

/// Whether spreadsheet programs read a value as a formula. A negative number is not one.
fn is_formula(value: &Value) -> bool {
    let begins = |text: &str| text.starts_with(['=', '+', '-', '@', '\t', '\r', '\n']);
    match value {
        Value::Text(text) => begins(text),
        Value::FieldSet(set) => begins(&set.value),
        Value::Number(_) | Value::Integer(_) | Value::Flag(_) | Value::Time(_) => false,
    }
}

fn json(value: &Value) -> Json {
    match value {
        // A whole number is written without a fraction, also if its type has one.
        Value::Number(number) if number.fract() == 0.0 && number.abs() < 1e15 => json!(*number as i64),
        Value::Number(number) => json!(number),
        Value::Integer(number) => json!(number),
        Value::Flag(flag) => json!(flag),
        Value::Time(at) => json!(at.to_string()),
        Value::FieldSet(set) if set.value.is_empty() => json!(set.fields),
        Value::Text(_) | Value::FieldSet(_) => json!(value.to_text()),
    }
}

fn text(value: &Value) -> String {
    match json(value) {
        Json::String(text) => text,
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn written(format: FileFormat, columns: &[&str]) -> String {
        let lead = pb::Lead {
            lead_id: "id".to_owned(),
            lead_number: "7".to_owned(),
            score: Some(5.0),
            create_time: Some(prost_types::Timestamp {
                seconds: 1_785_476_030,
                nanos: 0,
            }),
            fields: Some(grpc::lead_fields([
                ("mx_City".to_owned(), Value::Text("Pune, \"old\"".to_owned())),
                ("DoNotCall".to_owned(), Value::Flag(true)),
                ("mx_Amount".to_owned(), Value::Number(2.5)),
                ("mx_KYC".to_owned(), {
                    let fields = [("Status".to_owned(), "Done".to_owned())].into();
                    Value::FieldSet(leadgate::domain::value::FieldSet {
                        value: String::new(),
                        fields,
                    })
                }),
            ])),
            read_only_fields: grpc::lead_fields([("CreatedByName".to_owned(), Value::Text("Ada".to_owned()))]).custom,
            ..Default::default()
        };
        let mut file = tempfile::tempfile().unwrap();
        let columns = columns.iter().map(|name| (*name).to_owned()).collect();
        let mut sheet = LeadWriter::new(format, file.try_clone().unwrap(), columns, false).unwrap();
        sheet.add(lead).unwrap();
        let bytes = sheet.flush().unwrap();
        let mut text = String::new();
        file.rewind().unwrap();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(bytes, text.len() as u64);
        text
    }

    #[test]
    fn formulas_are_counted_and_escaped_on_request() {
        let names = ["a", "b", "c", "d", "e", "f", "g", "h"].map(str::to_owned);
        let texts = ["=1+1", "+91-9845098450", "-x", "@SUM(A1)", "\t=1", "\r=1", "a=1"].map(str::to_owned);
        let values = texts.map(Value::Text).into_iter().chain([Value::Integer(-5)]);
        let write = |escapes| {
            let fields = names.iter().cloned().zip(values.clone());
            let lead = pb::Lead {
                lead_id: "id".to_owned(),
                fields: Some(grpc::lead_fields(fields)),
                ..Default::default()
            };
            let mut file = tempfile::tempfile().unwrap();
            let mut sheet =
                LeadWriter::new(FileFormat::Csv, file.try_clone().unwrap(), names.to_vec(), escapes).unwrap();
            assert_eq!(sheet.add(lead).unwrap(), 6);
            sheet.flush().unwrap();
            let mut text = String::new();
            file.rewind().unwrap();
            file.read_to_string(&mut text).unwrap();
            text.split_once('\n').unwrap().1.to_owned()
        };
        assert_eq!(
            write(false),
            "id,,=1+1,+91-9845098450,-x,@SUM(A1),\t=1,\"\r=1\",a=1,-5\n"
        );
        assert_eq!(
            write(true),
            "id,,'=1+1,'+91-9845098450,'-x,'@SUM(A1),'\t=1,\"'\r=1\",a=1,-5\n"
        );
    }

    const COLUMNS: [&str; 8] = [
        "CreatedByName",
        "CreatedOn",
        "DoNotCall",
        "Phone",
        "Score",
        "mx_Amount",
        "mx_City",
        "mx_KYC",
    ];

    #[test]
    fn a_line_of_csv_has_every_column_in_order() {
        let text = written(FileFormat::Csv, &COLUMNS);
        let (names, line) = text.split_once('\n').unwrap();
        assert_eq!(names, format!("lead_id,lead_number,{}", COLUMNS.join(",")));
        assert_eq!(
            line,
            "id,7,Ada,2026-07-31T05:33:50Z,true,,5,2.5,\"Pune, \"\"old\"\"\",\"{\"\"Status\"\":\"\"Done\"\"}\"\n"
        );
    }

    #[test]
    fn a_line_of_jsonl_has_types_and_no_absent_values() {
        assert_eq!(
            written(FileFormat::Jsonl, &COLUMNS),
            "{\"lead_id\":\"id\",\"lead_number\":\"7\",\"CreatedByName\":\"Ada\",\"CreatedOn\":\"2026-07-31T05:33:50Z\",\"DoNotCall\":true,\
             \"Score\":5,\"mx_Amount\":2.5,\"mx_City\":\"Pune, \\\"old\\\"\",\"mx_KYC\":{\"Status\":\"Done\"}}\n"
        );
    }
}
