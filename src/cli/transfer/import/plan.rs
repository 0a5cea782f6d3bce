//! The plan of an import: the attribute of each column, the type of its values, and the request of each row. Pure.

use std::borrow::Cow;
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use clap::ValueEnum;
use leadgate::domain::lead::{LEAD_ID as SCHEMA_LEAD_ID, path};
use leadgate::domain::phone;
use leadgate::domain::value::{Value, ValueKind};
use leadgate::grpc::{self, pb};
use pb::import_leads_request::Operation;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::rejected::{OURS, ValueError};
use super::survey::ColumnName;
use super::values::{RawCell, ValueReader};
use crate::cli::transfer::LEAD_ID;
use crate::cli::transfer::attributes::{Attribute, AttributeCatalog, AttributeMatch, TextKind};
use crate::cli::transfer::rows::{FileRow, JsonObject};

/// The operation for a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum ImportMode {
    /// Create a lead.
    Create,
    /// Update the lead with the id in the column lead_id.
    Update,
    /// Update the matching lead, or create a lead.
    Upsert,
}

/// The options for all rows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ImportSettings {
    pub(super) mode: ImportMode,
    pub(super) match_by: Option<String>,
    pub(super) run_automations: bool,
}

/// The plan of an import.
#[derive(Debug)]
pub(super) struct ImportPlan {
    settings: ImportSettings,
    is_dry: bool,
    columns: Vec<PlanColumn>,
    /// The index of each name in `columns`.
    indexes: HashMap<String, usize>,
    /// Notes about the meaning of the names.
    pub(super) notes: Vec<String>,
}

/// A column of a CSV file, or a member of the JSON objects.
#[derive(Debug)]
struct PlanColumn {
    name: String,
    found: ColumnUse,
    reader: ValueReader,
    key: Option<RowKeyKind>,
}

/// The use of the values of a column.
#[derive(Clone, Debug, PartialEq)]
enum ColumnUse {
    Set(Attribute),
    LeadId,
    Nothing,
}

/// The kinds of keys that identify a lead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum RowKeyKind {
    Id,
    Email,
    Phone,
    /// A mobile number, which several leads may share.
    Mobile,
    /// The attribute of the column at this index.
    Value(usize),
}

/// The request of a row.
#[derive(Debug)]
pub(super) struct PreparedRow {
    pub(super) message: pb::ImportLeadsRequest,
    /// The keys of the lead. Rows with a common key have the same lead.
    pub(super) keys: Vec<RowKey>,
    /// Warnings about values that are sent.
    pub(super) warnings: Vec<ValueError>,
    /// Errors of values that the message does not have. Only a dry run may send the message then.
    pub(super) errors: Vec<ValueError>,
    /// Whether the gateway can look the lead up: by its id, an email address or a phone.
    pub(super) can_be_looked_up: bool,
}

/// A value that identifies a lead, normalized and hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RowKey {
    pub(super) hash: u64,
    /// The column, if its values should be unique.
    pub(super) unique_in: Option<usize>,
}

impl ImportPlan {
    /// Finds the attribute of each name. Fails with all errors of names and options.
    pub(super) fn new(
        settings: ImportSettings,
        is_dry: bool,
        names: Vec<ColumnName>,
        attributes: &AttributeCatalog,
    ) -> Result<Self, Vec<String>> {
        let mut errors = vec![];
        let matched = settings.match_by.as_deref().and_then(|name| {
            let found = attribute_of(name, attributes);
            found.map_err(|text| errors.push(format!("--match-by: {text}"))).ok()
        });
        if settings.match_by.is_some() && settings.mode != ImportMode::Upsert {
            errors.push("--match-by: only for --mode upsert".to_owned());
        }
        if settings.run_automations && settings.mode == ImportMode::Create {
            errors.push("--run-automations: only for --mode update and upsert".to_owned());
        }
        let uses = uses(&names, attributes, settings.mode, matched.as_ref(), &mut errors);
        let is_set = |wanted: &Attribute| {
            uses.iter()
                .any(|found| matches!(found, ColumnUse::Set(set) if set == wanted))
        };
        match (settings.mode, &matched) {
            (ImportMode::Update, _) if !uses.contains(&ColumnUse::LeadId) => {
                errors.push(format!("a column {LEAD_ID} is required"))
            }
            (ImportMode::Upsert, Some(matched)) if matched.is_lead_id() && !uses.contains(&ColumnUse::LeadId) => {
                errors.push(format!("--match-by {LEAD_ID}: a column {LEAD_ID} is required"));
            }
            (ImportMode::Upsert, Some(matched)) if !matched.is_lead_id() && !is_set(matched) => {
                errors.push(format!("--match-by: the file has no column {}", matched.schema_name));
            }
            _ if !uses.iter().any(|found| matches!(found, ColumnUse::Set(_))) => {
                errors.push("the file has no column that can be written".to_owned());
            }
            _ => {}
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        let notes = notes(&names, &uses, attributes);
        let indexes = names.iter().map(|name| name.text.clone()).zip(0..).collect();
        let columns = names.into_iter().zip(uses).enumerate();
        let columns = columns.map(|(at, (name, found))| PlanColumn::new(at, name.text, found, matched.as_ref()));
        Ok(Self {
            columns: columns.collect(),
            settings: ImportSettings {
                // The schema name, or the name of the id in the gateway.
                match_by: matched.map(|found| match found.is_lead_id() {
                    true => LEAD_ID.to_owned(),
                    false => found.schema_name,
                }),
                ..settings
            },
            is_dry,
            indexes,
            notes,
        })
    }

    /// Returns the setting that allows single calls for such rows, if there is one.
    pub(super) fn lane(&self) -> Option<&'static str> {
        match self.settings.mode {
            ImportMode::Create => Some("batching.creates"),
            ImportMode::Upsert => Some("batching.upserts"),
            ImportMode::Update => None,
        }
    }

    /// Returns the name of a column.
    pub(super) fn name(&self, column: usize) -> &str {
        self.columns.get(column).map_or("", |column| &column.name)
    }

    /// Returns the name in the file of a field in an error of the gateway, or the name of the field if the file has none.
    pub(super) fn name_of<'a>(&'a self, field: &'a str) -> &'a str {
        let is_field = |column: &&PlanColumn| match &column.found {
            ColumnUse::Set(attribute) => path(&attribute.schema_name) == field,
            ColumnUse::LeadId => field == LEAD_ID || path(SCHEMA_LEAD_ID) == field,
            ColumnUse::Nothing => false,
        };
        self.columns.iter().find(is_field).map_or(field, |column| &column.name)
    }

    /// Returns the request of a row, with the errors of its values.
    pub(super) fn request(&self, run: Uuid, number: u64, row: &FileRow) -> PreparedRow {
        let (mut attributes, mut lead_id) = (Vec::new(), String::new());
        let (mut keys, mut warnings, mut errors) = (vec![], vec![], vec![]);
        let mut can_be_looked_up = false;
        for (at, given) in self.cells(row) {
            let column = &self.columns[at];
            let error = |text: String| ValueError {
                column: column.name.clone(),
                place: matches!(row, FileRow::Csv(_)).then_some(at + 1),
                text,
            };
            if column.found == ColumnUse::Nothing {
                continue;
            }
            let value = match given.and_then(|given| column.reader.value(given)) {
                Ok(Some(value)) => value,
                Ok(None) => continue,
                Err(text) => {
                    errors.push(error(text));
                    continue;
                }
            };
            let of_value = column.keys(at, &value);
            can_be_looked_up |= !of_value.is_empty() && self.is_looked_up_by(column);
            keys.extend(of_value);
            if self.is_dry {
                warnings.extend(column.reader.warning(&value).map(|text| error(text.to_owned())));
            }
            match &column.found {
                ColumnUse::LeadId => lead_id = value.to_text(),
                ColumnUse::Set(attribute) => attributes.push((attribute.schema_name.clone(), value)),
                ColumnUse::Nothing => {}
            }
        }
        let is_other = |error: &ValueError| error.column != self.id_name();
        if self.needs_id() && lead_id.is_empty() && errors.iter().all(is_other) {
            errors.push(ValueError {
                column: self.id_name().to_owned(),
                place: None,
                text: "is empty".to_owned(),
            });
        }
        let request_id = match self.is_dry {
            true => String::new(),
            false => grpc::part(run, usize::try_from(number).unwrap_or(usize::MAX)).to_string(),
        };
        PreparedRow {
            message: pb::ImportLeadsRequest {
                sequence: i64::try_from(number).unwrap_or(i64::MAX),
                operation: Some(self.operation(attributes, lead_id, request_id)),
            },
            keys,
            warnings,
            errors,
            can_be_looked_up,
        }
    }

    fn operation(&self, mut attributes: Vec<(String, Value)>, lead_id: String, request_id: String) -> Operation {
        let (run_automations, validate_only) = (self.settings.run_automations, self.is_dry);
        if self.settings.mode == ImportMode::Upsert && self.needs_id() {
            attributes.push((SCHEMA_LEAD_ID.to_owned(), Value::Text(lead_id.clone())));
        }
        let lead = Some(grpc::lead_fields(attributes));
        match self.settings.mode {
            ImportMode::Create => Operation::Create(pb::CreateLeadRequest {
                lead,
                request_id,
                validate_only,
            }),
            ImportMode::Update => Operation::Update(pb::UpdateLeadRequest {
                lead_id,
                lead,
                clear_fields: vec![],
                run_automations,
                request_id,
                validate_only,
            }),
            ImportMode::Upsert => Operation::Upsert(pb::UpsertLeadRequest {
                lead,
                match_by: self.settings.match_by.clone().unwrap_or_default(),
                run_automations,
                request_id,
                validate_only,
            }),
        }
    }

    /// Whether the gateway looks leads up by the values of a column.
    fn is_looked_up_by(&self, column: &PlanColumn) -> bool {
        match column.key {
            Some(RowKeyKind::Id | RowKeyKind::Email | RowKeyKind::Phone) => true,
            // By the mobile number only with --match-by Mobile.
            Some(RowKeyKind::Value(_)) => {
                matches!(&column.found, ColumnUse::Set(attribute) if attribute.schema_name == "Mobile"
                && self.settings.match_by.as_deref() == Some("Mobile"))
            }
            Some(RowKeyKind::Mobile) | None => false,
        }
    }

    fn needs_id(&self) -> bool {
        let is_matched = self.settings.match_by.as_deref() == Some(LEAD_ID);
        self.settings.mode == ImportMode::Update || (self.settings.mode == ImportMode::Upsert && is_matched)
    }

    /// Returns the name of the column of the lead's id.
    fn id_name(&self) -> &str {
        let column = self.columns.iter().find(|column| column.found == ColumnUse::LeadId);
        column.map_or(LEAD_ID, |column| &column.name)
    }

    /// Returns the cells of a row, each with the index of its column.
    fn cells<'a>(&'a self, row: &'a FileRow) -> Box<dyn Iterator<Item = (usize, Result<RawCell<'a>, String>)> + 'a> {
        match row {
            FileRow::Csv(record) => {
                let given = record.iter().map(|text| Ok(RawCell::Text(Cow::Borrowed(text))));
                Box::new(given.enumerate())
            }
            FileRow::Jsonl { object, .. } => {
                let JsonObject(members) = object;
                let given = members.iter();
                Box::new(given.filter_map(|(name, value)| Some((*self.indexes.get(name)?, RawCell::json(value)))))
            }
        }
    }
}

impl PlanColumn {
    fn new(at: usize, name: String, found: ColumnUse, matched: Option<&Attribute>) -> Self {
        let (kind, text) = match &found {
            ColumnUse::Set(attribute) => (attribute.kind, attribute.text),
            ColumnUse::LeadId | ColumnUse::Nothing => (Some(ValueKind::Text), TextKind::Line),
        };
        let key = match &found {
            ColumnUse::Nothing => None,
            ColumnUse::LeadId => Some(RowKeyKind::Id),
            ColumnUse::Set(attribute) => match attribute.schema_name.as_str() {
                "EmailAddress" => Some(RowKeyKind::Email),
                "Phone" => Some(RowKeyKind::Phone),
                _ if attribute.is_unique || Some(attribute) == matched => Some(RowKeyKind::Value(at)),
                "Mobile" => Some(RowKeyKind::Mobile),
                _ => None,
            },
        };
        Self {
            reader: ValueReader {
                kind,
                text,
                is_key: key.is_some(),
            },
            name,
            found,
            key,
        }
    }

    /// Returns the keys of the lead that the value is. A phone number may have two.
    fn keys(&self, at: usize, value: &Value) -> Vec<RowKey> {
        let Some(by) = self.key else {
            return vec![];
        };
        let text = value.to_text();
        let mut texts = match self.reader.text {
            TextKind::Phone => phone::keys(&text),
            _ => vec![text.trim().to_lowercase()],
        };
        texts.retain(|text| !text.is_empty());
        let domain = match by {
            // The phone of one row and the mobile of another may be the same number.
            RowKeyKind::Mobile => RowKeyKind::Phone,
            by => by,
        };
        let key = |(index, text): (usize, String)| {
            let mut hasher = DefaultHasher::new();
            (domain, text).hash(&mut hasher);
            RowKey {
                hash: hasher.finish(),
                // The first key is enough to find the same value in another row.
                unique_in: (by != RowKeyKind::Mobile && index == 0).then_some(at),
            }
        };
        texts.into_iter().enumerate().map(key).collect()
    }
}

/// Returns the attribute of a name.
fn attribute_of(name: &str, attributes: &AttributeCatalog) -> Result<Attribute, String> {
    match attributes.find(name) {
        AttributeMatch::One(attribute) => Ok(attribute),
        AttributeMatch::None => Err(format!("the account has no attribute {name}")),
        AttributeMatch::Several(several) => Err(format!(
            "{name} is the label of {}: give one of these names",
            several.join(" or ")
        )),
    }
}

/// Returns the use of each name. Adds the errors of names to `errors`.
fn uses(
    names: &[ColumnName],
    attributes: &AttributeCatalog,
    mode: ImportMode,
    matched: Option<&Attribute>,
    errors: &mut Vec<String>,
) -> Vec<ColumnUse> {
    let is_id_used = mode == ImportMode::Update || matched.is_some_and(Attribute::is_lead_id);
    let mut known: HashMap<String, &ColumnName> = HashMap::new();
    let mut uses = Vec::new();
    for name in names {
        let (text, shown) = (name.text.trim(), name.shown());
        let is_no_column = text.is_empty() && name.line.is_none();
        if OURS.contains(&text) || is_no_column {
            uses.push(ColumnUse::Nothing);
            continue;
        }
        let attribute = match attributes.find(text) {
            _ if text.is_empty() => {
                errors.push(format!("{shown}a value has no name"));
                uses.push(ColumnUse::Nothing);
                continue;
            }
            AttributeMatch::One(attribute) => attribute,
            AttributeMatch::None => {
                let hint = match text.contains([',', ';', '\t']) {
                    true => "; the first line may be quoted as a whole, or have several separators",
                    false => "",
                };
                errors.push(format!("{shown}: the account has no such attribute{hint}"));
                uses.push(ColumnUse::Nothing);
                continue;
            }
            AttributeMatch::Several(several) => {
                let several = several.join(" or ");
                errors.push(format!("{shown}: is the label of {several}: use one of these names"));
                uses.push(ColumnUse::Nothing);
                continue;
            }
        };
        if let Some(other) = known.insert(attribute.schema_name.clone(), name) {
            let line = other.line.map(|line| format!(" (line {line})")).unwrap_or_default();
            errors.push(format!("{shown}: is the same attribute as {}{line}", other.text.trim()));
        }
        uses.push(match attribute {
            attribute if attribute.is_lead_id() && is_id_used => ColumnUse::LeadId,
            attribute if attribute.is_computed => ColumnUse::Nothing,
            attribute => ColumnUse::Set(attribute),
        });
    }
    uses
}

/// Returns notes about the meaning of the names.
fn notes(names: &[ColumnName], uses: &[ColumnUse], attributes: &AttributeCatalog) -> Vec<String> {
    let joined = |names: Vec<&str>| Some(names.join(", ")).filter(|names| !names.is_empty());
    let unused = names
        .iter()
        .zip(uses)
        .filter(|(_, found)| **found == ColumnUse::Nothing);
    let unused = unused.map(|(name, _)| name.text.trim()).filter(|name| !name.is_empty());
    let (ours, computed): (Vec<_>, Vec<_>) = unused.partition(|name| OURS.contains(name));
    let labels = names.iter().filter_map(|name| {
        let other = attributes.label_of_another(name.text.trim())?;
        let (name, other) = (name.text.trim(), &other.schema_name);
        Some(format!(
            "{name} is read as the attribute with that name, not as {other}, which has that label."
        ))
    });
    let read = names.iter().zip(uses).filter_map(|(name, found)| {
        let schema_name = match found {
            ColumnUse::Set(attribute) => attribute.schema_name.as_str(),
            ColumnUse::LeadId => SCHEMA_LEAD_ID,
            ColumnUse::Nothing => return None,
        };
        let name = name.text.trim();
        (!attributes.is_name(name)).then(|| format!("{name} as {schema_name}"))
    });
    let read: Vec<_> = read.collect();
    let read = (attributes.all().is_some() && !read.is_empty())
        .then(|| format!("Names that are read as labels: {}.", read.join(", ")));
    let computed = joined(computed).map(|names| format!("Not sent, because LeadSquared computes it: {names}."));
    let ours = joined(ours).map(|names| format!("Not sent, because an import added it to rejected rows: {names}."));
    read.into_iter().chain(computed).chain(ours).chain(labels).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::transfer::csv::CsvRecord;
    use crate::cli::transfer::import::rejected::RejectionReason;

    fn attributes() -> AttributeCatalog {
        use pb::FieldKind as ValueKind;
        let fields = [
            ("EmailAddress", ValueKind::Text),
            ("mx_Amount", ValueKind::Number),
            ("mx_Paid", ValueKind::Flag),
            ("mx_When", ValueKind::Time),
            ("mx_KYC", ValueKind::FieldSet),
        ];
        let field = |(name, kind): (&str, ValueKind)| pb::LeadField {
            schema_name: name.to_owned(),
            kind: kind.into(),
            ..Default::default()
        };
        AttributeCatalog::of_account(fields.map(field).into())
    }

    fn settings(mode: ImportMode, match_by: Option<&str>) -> ImportSettings {
        ImportSettings {
            mode,
            match_by: match_by.map(str::to_owned),
            run_automations: false,
        }
    }

    fn plan(settings: ImportSettings, names: &[&str]) -> Result<ImportPlan, Vec<String>> {
        let names = names.iter().map(|name| (*name).into()).collect();
        ImportPlan::new(settings, false, names, &attributes())
    }

    fn upsert(row: FileRow, names: &[&str]) -> Result<pb::UpsertLeadRequest, RejectionReason> {
        let plan = plan(settings(ImportMode::Upsert, None), names).unwrap();
        let prepared = plan.request(Uuid::from_u128(1), 7, &row);
        if !prepared.errors.is_empty() {
            return Err(RejectionReason::local(prepared.errors));
        }
        match prepared.message.operation {
            Some(Operation::Upsert(request)) => Ok(request),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_row_of_csv_becomes_typed_values_and_empty_cells_are_absent() {
        let names = [
            "email_address",
            "mx_City",
            "mx_Amount",
            "mx_Paid",
            "mx_When",
            "Company",
            "do_not_call",
        ];
        let cells = ["a@example.com", "", "2.5", "Yes", "2026-07-31 05:33:50", " ", "0"];
        let request = upsert(FileRow::Csv(CsvRecord::new(2, cells)), &names).unwrap();
        let lead = request.lead.unwrap();
        assert_eq!(
            (lead.email_address.as_deref(), lead.city, lead.company),
            (Some("a@example.com"), None, None)
        );
        assert_eq!(lead.do_not_call, Some(false));
        use pb::field_value::Value;
        let value = |name: &str| lead.custom[name].value.clone().unwrap();
        assert_eq!(value("mx_Amount"), Value::Number(2.5));
        assert_eq!(value("mx_Paid"), Value::Flag(true));
        assert!(matches!(value("mx_When"), Value::Time(at) if at.seconds == 1_785_476_030));
        // A row has the same id in every run, and no two rows have the same one.
        assert_eq!(request.request_id, grpc::part(Uuid::from_u128(1), 7).to_string());
    }

    #[test]
    fn a_row_of_json_keeps_its_types() {
        let text = r#"{"mx_Amount": 7, "mx_KYC": {"Status": "Done", "Level": 2}, "city": 5, "mx_Paid": null}"#;
        let object = serde_json::from_str(text).unwrap();
        let row = FileRow::Jsonl { line: 1, object };
        let lead = upsert(row, &["mx_Amount", "mx_KYC", "city", "mx_Paid"])
            .unwrap()
            .lead
            .unwrap();
        use pb::field_value::Value;
        assert_eq!(lead.custom["mx_Amount"].value, Some(Value::Integer(7)));
        let Some(Value::FieldSet(set)) = &lead.custom["mx_KYC"].value else {
            panic!("{lead:?}");
        };
        assert_eq!(
            (set.fields["Status"].as_str(), set.fields["Level"].as_str()),
            ("Done", "2")
        );
        assert_eq!((lead.city.as_deref(), lead.custom.len()), (Some("5"), 2));
    }

    #[test]
    fn all_errors_of_values_are_reported_at_once() {
        let names = ["mx_Amount", "mx_Paid", "mx_When", "mx_KYC"];
        let row = FileRow::Csv(CsvRecord::new(2, ["much", "perhaps", "soon", "{"]));
        let RejectionReason { code, message, .. } = upsert(row, &names).unwrap_err();
        assert_eq!(code, "INVALID_ARGUMENT");
        for text in [
            "mx_Amount (column 1) must be a number",
            "mx_Paid (column 2) must be true",
            "mx_When (column 3) must be a date or a time",
            "mx_KYC (column 4) must be a JSON object",
        ] {
            assert!(message.contains(text), "{message}");
        }
    }

    #[test]
    fn all_errors_of_names_are_reported_at_once() {
        let errors = plan(
            settings(ImportMode::Update, None),
            &["city", "mx_City", "mx_Nothing", "", "\u{200b}Shoe", "a;b"],
        )
        .unwrap_err();
        assert_eq!(
            errors,
            [
                "mx_City: is the same attribute as city",
                "mx_Nothing: the account has no such attribute",
                "<U+200B>Shoe: the account has no such attribute",
                "a;b: the account has no such attribute; the first line may be quoted as a whole, or have several separators",
                "a column lead_id is required",
            ]
        );
        assert!(
            plan(settings(ImportMode::Create, Some("city")), &["city"]).unwrap_err()[0]
                .contains("only for --mode upsert")
        );
        assert!(
            plan(settings(ImportMode::Upsert, Some("phone")), &["city"]).unwrap_err()[0].contains("no column Phone")
        );
        assert!(
            plan(settings(ImportMode::Upsert, None), &["lead_id"]).unwrap_err()[0]
                .contains("no column that can be written")
        );
    }

    #[test]
    fn computed_attributes_and_columns_of_an_import_are_not_sent() {
        let names = ["row_number", "lead_id", "CreatedOn", "city", "error_reason"];
        let plan = plan(settings(ImportMode::Upsert, None), &names).unwrap();
        assert_eq!(
            plan.notes,
            [
                "Not sent, because LeadSquared computes it: lead_id, CreatedOn.",
                "Not sent, because an import added it to rejected rows: row_number, error_reason.",
            ]
        );
    }

    #[test]
    fn a_lead_is_matched_by_its_id() {
        let plan = plan(settings(ImportMode::Upsert, Some("ProspectID")), &["lead_id", "city"]).unwrap();
        let row = |id| FileRow::Csv(CsvRecord::new(2, [id, "Pune"]));
        let prepared = plan.request(Uuid::nil(), 1, &row("x"));
        let Some(Operation::Upsert(request)) = prepared.message.operation else {
            panic!();
        };
        assert_eq!(request.match_by, "lead_id");
        assert!(request.lead.unwrap().custom.contains_key("ProspectID"));
        let errors = plan.request(Uuid::nil(), 1, &row("")).errors;
        assert_eq!(RejectionReason::local(errors).message, "lead_id is empty");
    }

    #[test]
    fn names_of_jsonl_are_reported_with_their_first_line() {
        let name = |text: &str, line| ColumnName {
            text: text.to_owned(),
            line: Some(line),
        };
        let names = vec![name("city", 1), name("City", 3), name("Shoe", 4), name("", 5)];
        let errors = ImportPlan::new(settings(ImportMode::Upsert, None), false, names, &attributes()).unwrap_err();
        assert_eq!(
            errors,
            [
                "line 3: City: is the same attribute as city (line 1)",
                "line 4: Shoe: the account has no such attribute",
                "line 5: a value has no name",
            ]
        );
    }

    #[test]
    fn rows_of_one_lead_have_a_key_in_common() {
        let names = ["lead_id", "email_address", "phone", "mobile", "city"];
        let plan = plan(settings(ImportMode::Update, None), &names).unwrap();
        let keys = |cells: [&str; 5]| {
            let row = FileRow::Csv(CsvRecord::new(2, cells));
            plan.request(Uuid::nil(), 1, &row).keys
        };
        let share = |a, b| {
            let (a, b) = (keys(a), keys(b));
            a.iter().any(|a| b.iter().any(|b| a.hash == b.hash))
        };
        assert!(share(["x", "a@x.co", "", "", ""], ["y", "A@x.co ", "", "", ""]));
        assert!(share(
            ["x", "", "+91-9845098450", "", ""],
            ["y", "", "", "98450 98450", ""]
        ));
        assert!(share(["x", "", "+65-81234567", "", ""], ["y", "", "81234567", "", ""]));
        assert!(share(["AB-1", "", "", "", ""], ["ab-1", "", "", "", ""]));
        assert!(!share(["x", "a@x.co", "", "", "Pune"], ["y", "b@x.co", "", "", "Pune"]));
        // Several leads may share a mobile number.
        let unique = keys(["x", "a@x.co", "9845098450", "9845098451", ""]);
        let columns: Vec<_> = unique.iter().map(|key| key.unique_in).collect();
        assert_eq!(columns, [Some(0), Some(1), Some(2), None]);
        let of_short = keys(["x", "", "+65-81234567", "", ""]);
        let columns: Vec<_> = of_short.iter().map(|key| key.unique_in).collect();
        assert_eq!(columns, [Some(0), Some(2), None]);
    }
}
