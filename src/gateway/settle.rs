//! Writes of leads whose answers were lost: what a look at the lead proves. What it does not prove stays unknown.

use jiff::Timestamp;

use super::Gateway;
use super::lead::{id_of, is_missing};
use crate::caller::Call;
use crate::domain::lead::{Action, Key, Row, Write, Written};
use crate::domain::mask::Mask;
use crate::domain::time;
use crate::error::{Kind, Resource, Result};

/// What a look at the lead says about a write whose answer was lost.
pub(super) enum Settled {
    /// It was executed, and did this.
    Done(Written),
    /// It was not executed, or may be executed again.
    NotDone,
    /// The lead does not have its values, but may have been changed since.
    Unseen,
    /// Nothing is proved.
    Unknown,
}

impl Gateway {
    /// Looks whether a write whose answer was lost was executed.
    pub(super) async fn settle(&self, call: &Call, write: &Write, since: Timestamp) -> Result<Settled> {
        let keys = write.lookup_keys();
        // With it, those whose answers were lost together are looked up together.
        let catalog = self.metadata.at_hand(call).await;
        for key in &keys {
            match self.find(call, key, &Mask::default(), catalog.as_deref()).await {
                Ok(row) => return self.judge(write, key, &row, since),
                Err(error) if is_missing(&error) => {}
                Err(error) => {
                    tracing::warn!(request_id = %call.id, error = error.name(), "a write could not be settled");
                    return Ok(Settled::Unknown);
                }
            }
        }
        // It may be executed still: then LeadSquared has to refuse the second, or the second has to change nothing.
        let is_unique = self
            .settings
            .unique
            .iter()
            .any(|name| write.attributes.text(name).is_some());
        match write.action {
            Action::Update { .. } => Err(Kind::NotFound(Resource::Lead).into()),
            Action::Create if is_unique && !keys.is_empty() => Ok(Settled::NotDone),
            // A second one updates what the first has made.
            Action::Upsert { run_automations, .. } if is_unique && !run_automations => Ok(Settled::NotDone),
            // A capture leaves an activity behind each time.
            Action::Create | Action::Upsert { .. } | Action::Capture { .. } => Ok(Settled::Unknown),
        }
    }

    /// What the lead that a write is about, found by that key, says of it.
    fn judge(&self, write: &Write, key: &Key, row: &Row, since: Timestamp) -> Result<Settled> {
        let lead_id = id_of(row).unwrap_or_default().to_owned();
        let seen = write.is_seen_in(row);
        // Whether what the column dates may be the doing of this write.
        let may_be_ours = |column: &str| {
            let at = row.get(column).and_then(Option::as_deref).and_then(time::read);
            at.and_then(|at| self.crm.clock().is_since(at, since))
        };
        let done = |created| {
            Settled::Done(Written {
                lead_id: lead_id.clone(),
                affected_rows: 1,
                created,
            })
        };
        Ok(match write.action {
            Action::Create => match (may_be_ours("CreatedOn"), seen) {
                // Without a date that can be compared, a lead that has all that was asked for is as good as ours.
                (Some(true) | None, Some(true)) => done(Some(true)),
                // It was there before: the create was refused, and would be again.
                (Some(false), _) => {
                    return Err(Kind::Duplicate {
                        attribute: key.attribute().map(str::to_owned),
                        lead_id: Some(lead_id),
                    }
                    .into());
                }
                _ => Settled::Unknown,
            },
            Action::Capture { .. } => match (may_be_ours("CreatedOn"), seen) {
                (Some(true), Some(true)) => done(Some(true)),
                _ => Settled::Unknown,
            },
            Action::Update { .. } | Action::Upsert { .. } => {
                let created = matches!(write.action, Action::Update { .. }).then_some(false);
                match (seen, may_be_ours("ModifiedOn"), write.runs_automations()) {
                    (Some(true), _, false) | (Some(true), Some(true), true) => done(created),
                    // Nobody has changed it since, so it is ours to change; what runs automations may still be on its way.
                    (Some(false), Some(false), false) => Settled::NotDone,
                    (Some(false), Some(true) | None, false) => Settled::Unseen,
                    _ => Settled::Unknown,
                }
            }
        })
    }
}
