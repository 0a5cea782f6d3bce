//! The attributes of the account's leads, as people name them: by schema name, or by name in LeadFields. Knows no files.

use std::collections::HashMap;

use leadgate::domain::lead::{LEAD_ID, STANDARD, schema_name};
use leadgate::domain::mask::PARTS;
use leadgate::domain::value::Kind;
use leadgate::grpc::pb;
use pb::lead_service_client::LeadServiceClient;
use tonic::{Code, Status};

use crate::client::{Gateway, explain, note};

/// All that leads of the account have.
#[derive(Default)]
pub(super) struct Attributes {
    all: Vec<Attribute>,
    /// Every name as it is written, and then in lower case.
    names: HashMap<String, usize>,
    /// How many of them the account has told; `None` if it was not asked, and anything may be there.
    told: Option<usize>,
    /// Whether the account has others, whose names cannot be read.
    is_incomplete: bool,
}

/// One attribute of leads.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Attribute {
    /// The vendor's name of it.
    pub(super) schema_name: String,
    /// How its values are typed; `None` where nobody has told.
    pub(super) kind: Option<Kind>,
    /// Whether LeadSquared computes it, so that it cannot be written.
    pub(super) is_computed: bool,
}

impl Attributes {
    /// Asks the gateway. Where LeadSquared cannot be asked just now, all that is known is what every account has.
    pub(super) async fn ask(gateway: &Gateway) -> Result<Self, String> {
        let asked = gateway.request(pb::DescribeLeadFieldsRequest::default());
        let answer = LeadServiceClient::new(gateway.channel())
            .max_decoding_message_size(usize::MAX)
            .describe_lead_fields(asked)
            .await;
        match answer {
            Ok(answer) => Ok(Self::of_answer(answer.into_inner())),
            Err(status) if passes(&status) => {
                let why = explain(&status);
                note(&format!("What attributes the account has could not be asked ({why})."));
                Ok(Self::untold())
            }
            Err(status) => Err(explain(&status)),
        }
    }

    /// What the account says. An attribute whose description cannot be read is there all the same.
    fn of_answer(answer: pb::DescribeLeadFieldsResponse) -> Self {
        let mut fields = answer.fields;
        let (named, nameless): (Vec<_>, Vec<_>) = answer.unreadable.into_iter().partition(|one| !one.id.is_empty());
        fields.extend(named.into_iter().map(|one| pb::LeadField {
            schema_name: one.id,
            ..Default::default()
        }));
        Self {
            is_incomplete: !nameless.is_empty(),
            ..Self::told(fields)
        }
    }

    /// What the account says.
    pub(super) fn told(fields: Vec<pb::LeadField>) -> Self {
        let count = fields.len();
        let told = fields.into_iter().map(|field| Attribute {
            kind: kind(field.kind()),
            is_computed: field.read_only || is_part(&field.schema_name),
            schema_name: field.schema_name,
        });
        let mut attributes = Self::of(told);
        attributes.told = Some(count);
        attributes
    }

    /// What every account has.
    pub(super) fn untold() -> Self {
        Self::of(std::iter::empty())
    }

    fn of(told: impl Iterator<Item = Attribute>) -> Self {
        let mut attributes = Self::default();
        let standard = STANDARD.iter().map(|field| Attribute {
            schema_name: field.schema_name.to_owned(),
            kind: Some(field.kind),
            is_computed: false,
        });
        let parts = PARTS.iter().map(|(_, schema_name)| Attribute {
            schema_name: (*schema_name).to_owned(),
            kind: Some(Kind::Text),
            is_computed: true,
        });
        for attribute in told.chain(standard).chain(parts) {
            let at = attributes.all.len();
            let known = attributes.names.entry(attribute.schema_name.clone());
            if *known.or_insert(at) == at {
                attributes.all.push(attribute);
            }
        }
        let short = STANDARD.iter().map(|field| (field.name, field.schema_name));
        for (name, schema_name) in short.chain(PARTS) {
            let at = attributes.names[schema_name];
            attributes.names.entry(name.to_owned()).or_insert(at);
        }
        // In any case, as far as that is not another's name.
        let names: Vec<_> = attributes.names.iter().map(|(name, at)| (fold(name), *at)).collect();
        for (name, at) in names {
            attributes.names.entry(name).or_insert(at);
        }
        attributes
    }

    /// What the account has told, if it was asked.
    pub(super) fn all(&self) -> Option<&[Attribute]> {
        self.told.and_then(|count| self.all.get(..count))
    }

    /// The attribute of that name; where nobody has told what there is, any.
    pub(super) fn find(&self, name: &str) -> Option<Attribute> {
        let at = self.names.get(name).or_else(|| self.names.get(&fold(name)));
        match at {
            Some(at) => self.all.get(*at).cloned(),
            None if self.told.is_some() && !self.is_incomplete => None,
            None => Some(Attribute {
                schema_name: schema_name(name).to_owned(),
                kind: None,
                is_computed: false,
            }),
        }
    }
}

impl Attribute {
    /// Whether it is the lead's own id.
    pub(super) fn is_lead_id(&self) -> bool {
        self.schema_name == LEAD_ID
    }
}

/// Whether it may be otherwise in a while, and nothing is wrong with what was asked.
fn passes(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::Unavailable | Code::DeadlineExceeded | Code::ResourceExhausted | Code::Internal
    )
}

fn is_part(schema_name: &str) -> bool {
    PARTS.iter().any(|(_, part)| *part == schema_name)
}

fn kind(kind: pb::FieldKind) -> Option<Kind> {
    match kind {
        pb::FieldKind::Unspecified => None,
        pb::FieldKind::Text => Some(Kind::Text),
        pb::FieldKind::Number => Some(Kind::Number),
        pb::FieldKind::Flag => Some(Kind::Flag),
        pb::FieldKind::Time => Some(Kind::Time),
        pb::FieldKind::FieldSet => Some(Kind::FieldSet),
    }
}

fn fold(name: &str) -> String {
    name.to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(schema_name: &str, kind: pb::FieldKind, read_only: bool) -> pb::LeadField {
        pb::LeadField {
            schema_name: schema_name.to_owned(),
            kind: kind.into(),
            read_only,
            ..Default::default()
        }
    }

    #[test]
    fn an_attribute_is_found_by_either_name_in_any_case() {
        let attributes = Attributes::told(vec![field("mx_Amount", pb::FieldKind::Number, false)]);
        let found = |name| attributes.find(name).map(|found| found.schema_name);
        for name in ["city", "mx_City", "MX_CITY"] {
            assert_eq!(found(name).as_deref(), Some("mx_City"), "{name}");
        }
        assert_eq!(found("mx_amount").as_deref(), Some("mx_Amount"));
        assert_eq!(
            attributes.find("mx_Amount").and_then(|found| found.kind),
            Some(Kind::Number)
        );
        for name in ["lead_id", "ProspectID", "prospectid"] {
            assert!(attributes.find(name).is_some_and(|found| found.is_lead_id()), "{name}");
        }
        assert_eq!(found("mx_Other"), None);
    }

    #[test]
    fn what_is_computed_is_known_by_what_was_told_and_without() {
        let attributes = Attributes::told(vec![
            field("TotalVisits", pb::FieldKind::Number, true),
            field("Score", pb::FieldKind::Number, false),
        ]);
        for name in ["TotalVisits", "score", "lead_number", "CreatedOn"] {
            assert!(attributes.find(name).is_some_and(|found| found.is_computed), "{name}");
        }
        assert!(attributes.find("notes").is_some_and(|found| !found.is_computed));
    }

    #[test]
    fn where_nobody_told_any_name_may_be_one() {
        let attributes = Attributes::untold();
        let other = attributes.find("mx_Other").unwrap();
        assert_eq!((other.schema_name.as_str(), other.kind), ("mx_Other", None));
        assert_eq!(attributes.find("do_not_call").unwrap().kind, Some(Kind::Flag));
    }
}
