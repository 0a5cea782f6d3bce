//! `values`: what is stored for a number, a boolean, null, an empty text and a long text.

use serde_json::{Value as Json, json};

use super::finding::Finding;
use super::lead::{MAX_LEAD_CALLS, by_id, probe_lead};
use super::observed::Observed;
use super::request::{attributes, post};
use super::session::{ProbeResult, Session};
use super::settings::clear_with;
use super::{Probe, ProbeNeeds, ProbeRun};
use crate::crm::lead::ClearWith;

/// The attributes of the tests. Each test has its own, so that one read shows all results.
const NUMBER: &str = "SourceMedium";
const BOOLEAN: &str = "DoNotSMS";
const NULL: &str = "Company";
const EMPTY: &str = "JobTitle";
const LONG: &str = "SourceCampaign";
/// The value before the test.
const BEFORE: &str = "leadgate";
/// The number of the test.
const NUMBER_VALUE: i64 = 7;
/// Length of the long text in characters.
const LONG_LENGTH: usize = 300;

pub(super) const PROBE: Probe = Probe {
    id: "values",
    question: "What clears an attribute, and what is stored for other values?",
    // Without the create of the lead.
    calls: 7,
    max_calls: 7 + MAX_LEAD_CALLS,
    needs: ProbeNeeds::WRITE,
    run: ProbeRun::Own(|session| Box::pin(run(session))),
};

/// The result of one write.
#[derive(Clone, Debug, PartialEq)]
struct ValueResult {
    response: Observed,
    /// The value that a later read has. `None`: the read failed.
    stored: Option<Json>,
}

/// The results of all writes.
#[derive(Clone, Debug, PartialEq)]
struct ValueResults {
    /// Whether the attributes had a value before the writes.
    is_prepared: bool,
    number: ValueResult,
    boolean: ValueResult,
    null: ValueResult,
    empty: ValueResult,
    long: ValueResult,
}

async fn run(session: &Session<'_>) -> ProbeResult<Finding> {
    let lead = probe_lead(session).await?;
    let update = async |pairs: &[(&str, Json)]| {
        let request = post(
            "LeadManagement.svc/Lead.Update",
            &[("leadId", &lead.id)],
            &attributes(pairs),
        );
        session.write(request).await
    };
    let before = update(&[(NULL, BEFORE.into()), (EMPTY, BEFORE.into())]).await?;
    let number = update(&[(NUMBER, NUMBER_VALUE.into())]).await?;
    let boolean = update(&[(BOOLEAN, true.into())]).await?;
    let null = update(&[(NULL, Json::Null)]).await?;
    let empty = update(&[(EMPTY, "".into())]).await?;
    let long = update(&[(LONG, "x".repeat(LONG_LENGTH).into())]).await?;
    let row = session.read(by_id(&lead.id)).await?;
    let row = row.body[0].clone();
    let result = |response, name: &str| ValueResult {
        response,
        stored: row.is_object().then(|| row[name].clone()),
    };
    Ok(decide(&ValueResults {
        is_prepared: before.is_success(),
        number: result(number, NUMBER),
        boolean: result(boolean, BOOLEAN),
        null: result(null, NULL),
        empty: result(empty, EMPTY),
        long: result(long, LONG),
    }))
}

/// What a value that should clear an attribute does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Clearing {
    Clears,
    /// The attribute keeps its value.
    Ignored,
    /// The write fails.
    Refused,
    /// Another value is stored.
    Stored,
    Unknown,
}

impl Clearing {
    fn of(result: &ValueResult) -> Self {
        if result.response.is_rejected() {
            return Self::Refused;
        }
        let stored = result.stored.as_ref().filter(|_| result.response.is_success());
        match stored {
            None => Self::Unknown,
            Some(Json::Null) => Self::Clears,
            // All three forms of an unset attribute were observed.
            Some(Json::String(text)) if text.is_empty() || text == "-" => Self::Clears,
            Some(Json::String(text)) if text == BEFORE => Self::Ignored,
            Some(_) => Self::Stored,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Clears => "clears",
            Self::Ignored => "ignored",
            Self::Refused => "refused",
            Self::Stored => "stored",
            Self::Unknown => "unknown",
        }
    }
}

/// What is stored for a value: the text, or why there is none. All values are the command's own.
fn stored(result: &ValueResult) -> Json {
    match (&result.response, &result.stored) {
        (response, _) if response.is_rejected() => json!({"refused": response.status}),
        (response, Some(value)) if response.is_success() => match value {
            Json::String(text) => json!(text.chars().take(20).collect::<String>()),
            value => value.clone(),
        },
        _ => json!("unknown"),
    }
}

/// What happens to a long text.
fn long_text(result: &ValueResult) -> Json {
    match (&result.response, result.stored.as_ref().and_then(Json::as_str)) {
        (response, _) if response.is_rejected() => json!({"refused": response.status}),
        (response, Some(text)) if response.is_success() => json!({"stored_characters": text.chars().count()}),
        _ => json!("unknown"),
    }
}

/// What is stored, in words.
fn words(stored: &Json) -> String {
    match (stored, &stored["refused"], &stored["stored_characters"]) {
        (_, Json::Number(status), _) => format!("refused with HTTP {status}"),
        (_, _, Json::Number(count)) => format!("{count} characters are stored"),
        (Json::String(text), ..) if text == "unknown" => text.clone(),
        (Json::String(text), ..) => format!("the text {text} is stored"),
        (Json::Null, ..) => "nothing is stored".to_owned(),
        (value, ..) => format!("{value} is stored"),
    }
}

fn decide(results: &ValueResults) -> Finding {
    let (null, empty) = (Clearing::of(&results.null), Clearing::of(&results.empty));
    let clears = match (empty, null) {
        (Clearing::Unknown, _) | (_, Clearing::Unknown) => None,
        (Clearing::Clears, Clearing::Clears) => Some("both"),
        (Clearing::Clears, _) => Some(clear_with(ClearWith::EmptyText)),
        (_, Clearing::Clears) => Some(clear_with(ClearWith::Null)),
        _ => None,
    };
    let clears = clears.filter(|_| results.is_prepared);
    let value = json!({
        "clear_with": clears,
        "empty_text": empty.name(),
        "null": Clearing::name(null),
        "number": stored(&results.number),
        "boolean": stored(&results.boolean),
        "long_text": long_text(&results.long),
    });
    let observation = format!(
        "empty text: {}; null: {}; number: {}; boolean: {}; {LONG_LENGTH} characters: {}",
        results.empty.response.summary(),
        results.null.response.summary(),
        words(&value["number"]),
        words(&value["boolean"]),
        words(&value["long_text"]),
    );
    let Some(clears) = clears else {
        let is_known = results.is_prepared && empty != Clearing::Unknown && null != Clearing::Unknown;
        let reason = match is_known {
            true => format!(
                "neither clears: an empty text is {}, null is {}",
                empty.name(),
                null.name()
            ),
            false => "the values before or after the writes are unknown".to_owned(),
        };
        return Finding::undecided(observation, reason, value);
    };
    let finding = |answer: &str| Finding::decided(observation.clone(), answer, value.clone(), 0.95);
    match clears {
        "both" => finding("an empty text and null clear an attribute"),
        "null" => finding("only null clears an attribute").with_setting("writes.clear_with", "null"),
        _ => finding("only an empty text clears an attribute").with_setting("writes.clear_with", "empty-text"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::ProbeState;
    use super::*;

    fn written(stored: impl Into<Json>) -> ValueResult {
        ValueResult {
            response: Observed::of(200, json!({"Status": "Success", "Message": {"AffectedRows": 1}})),
            stored: Some(stored.into()),
        }
    }

    fn refused() -> ValueResult {
        ValueResult {
            response: Observed::exception_of(400, "MXInvalidInputException", "Unexpected character"),
            stored: Some(BEFORE.into()),
        }
    }

    fn results(empty: ValueResult, null: ValueResult) -> ValueResults {
        ValueResults {
            is_prepared: true,
            number: written("7"),
            boolean: written("1"),
            null,
            empty,
            long: written("x".repeat(256)),
        }
    }

    #[test]
    fn the_value_that_clears_decides_the_setting() {
        let unset = || written(Json::Null);
        for (empty, null, clear_with, setting) in [
            (unset(), unset(), "both", None),
            (written(""), written("-"), "both", None),
            (unset(), refused(), "empty-text", Some("empty-text")),
            (unset(), written(BEFORE), "empty-text", Some("empty-text")),
            (written(BEFORE), unset(), "null", Some("null")),
            (refused(), unset(), "null", Some("null")),
            (unset(), written("null"), "empty-text", Some("empty-text")),
        ] {
            let finding = decide(&results(empty, null));
            assert_eq!(finding.state, ProbeState::Decided);
            assert_eq!(finding.value["clear_with"], clear_with);
            let found = finding.settings.first().and_then(|setting| setting.value.as_str());
            assert_eq!(found, setting);
        }
    }

    #[test]
    fn the_stored_values_are_reported() {
        let mut results = results(written(""), written(""));
        let value = decide(&results).value;
        assert_eq!((&value["number"], &value["boolean"]), (&json!("7"), &json!("1")));
        let texts = [
            json!("7"),
            json!({"refused": 400}),
            json!({"stored_characters": 256}),
            Json::Null,
        ];
        let texts = texts.map(|value| words(&value));
        assert!(!texts.iter().any(|text| text.contains(['{', '"'])), "{texts:?}");
        assert_eq!(value["long_text"], json!({"stored_characters": 256}));
        results.number = refused();
        results.long = refused();
        let value = decide(&results).value;
        assert_eq!(value["number"], json!({"refused": 400}));
        assert_eq!(value["long_text"], json!({"refused": 400}));
    }

    #[test]
    fn nonsense_has_no_answer() {
        let unset = || written(Json::Null);
        for response in Observed::nonsense().into_iter().take(3) {
            let lost = ValueResult { response, stored: None };
            let finding = decide(&results(lost.clone(), lost));
            assert_eq!((finding.state, finding.settings), (ProbeState::Undecided, vec![]));
        }
        // The response to one of the two writes was lost.
        for stored in [Some(Json::Null), Some(json!(BEFORE)), None] {
            let lost = || ValueResult {
                response: Observed::nothing(),
                stored: stored.clone(),
            };
            for (empty, null) in [(unset(), lost()), (lost(), unset())] {
                let finding = decide(&results(empty, null));
                assert_eq!((finding.state, finding.settings), (ProbeState::Undecided, vec![]));
            }
        }
        let both_refused = decide(&results(refused(), refused()));
        assert_eq!(both_refused.state, ProbeState::Undecided);
        assert!(
            both_refused.answer.contains("neither clears"),
            "{}",
            both_refused.answer
        );
        let unprepared = ValueResults {
            is_prepared: false,
            ..results(unset(), unset())
        };
        assert_eq!(decide(&unprepared).state, ProbeState::Undecided);
    }
}
