//! Leads that are deleted or merged away, once. Neither can be undone, and doing either twice does no more harm than once.

use std::sync::Arc;

use super::lead::is_missing;
use super::reconcile::{Look, Loss};
use super::{Entry, Gateway, or_invalid};
use crate::clock;
use crate::context::RequestContext;
use crate::crm::lead::GetById;
use crate::crm::removal::{Delete, Merge};
use crate::domain::lead::{WriteResult, check_id, order_key};
use crate::error::{Error, ErrorKind, Repeat, Resource, Result, Violation};
use crate::store::Before;

/// How often it is sent at most when answers get lost.
const MAX_SENDS: u32 = 2;

/// Something after which a lead is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Removal {
    /// The lead is deleted.
    Delete {
        /// The lead.
        lead_id: String,
    },
    /// One lead is merged into another.
    Merge {
        /// The lead that stays.
        lead_id: String,
        /// The lead that goes.
        merged_lead_id: String,
    },
}

/// What a look says about a removal whose answer was lost.
enum Removed {
    Done,
    NotDone,
    Unknown,
}

impl Removal {
    /// The faults that are known before anything is sent.
    fn check(&self) -> Vec<Violation> {
        match self {
            Self::Delete { lead_id } => check_id("lead_id", lead_id).into_iter().collect(),
            Self::Merge {
                lead_id,
                merged_lead_id,
            } => {
                let ids = [("lead_id", lead_id), ("merged_lead_id", merged_lead_id)];
                let mut faults: Vec<_> = ids.iter().filter_map(|(field, id)| check_id(field, id)).collect();
                if faults.is_empty() && lead_id.eq_ignore_ascii_case(merged_lead_id) {
                    let text = "must be another lead than lead_id";
                    faults.push(Violation::new("merged_lead_id", text));
                }
                faults
            }
        }
    }

    /// What it changes, in the form of [`crate::domain::lead::WriteRequest::order_keys`].
    pub(super) fn order_keys(&self) -> Vec<String> {
        match self {
            Self::Delete { lead_id } => vec![order_key("lead", lead_id)],
            Self::Merge {
                lead_id,
                merged_lead_id,
            } => vec![order_key("lead", lead_id), order_key("lead", merged_lead_id)],
        }
    }

    /// The lead that is gone afterwards.
    fn gone(&self) -> &str {
        match self {
            Self::Delete { lead_id } => lead_id,
            Self::Merge { merged_lead_id, .. } => merged_lead_id,
        }
    }
}

impl Gateway {
    /// Deletes or merges at its place, once per request id. `faults` is what was found wrong when the message was read.
    pub async fn remove_lead(
        self: &Arc<Self>,
        context: &RequestContext,
        removal: Removal,
        entry: Entry,
        mut faults: Vec<Violation>,
    ) -> Result<()> {
        faults.extend(removal.check());
        or_invalid(faults)?;
        let (this, asked) = (self.clone(), entry.placed(context));
        let Entry { reservation, request } = entry;
        let has_id = request.is_some();
        let work = move |before| async move {
            let result = this.perform_removal(asked, &removal, before).await;
            // More than the lead that is gone may have changed.
            this.reads.invalidate(None);
            drop(reservation);
            result
        };
        let removed = self.requests.once(context, request, work).await;
        removed
            .map(drop)
            .map_err(|error| self.ended(context, error, has_id, Repeat::Lead))
    }

    /// Sends it; if its answer gets lost, looks whether it was executed before it is sent again.
    async fn perform_removal(
        &self,
        mut context: RequestContext,
        removal: &Removal,
        before: Before,
    ) -> Result<WriteResult> {
        let done = || WriteResult {
            lead_id: removal.gone().to_owned(),
            ..WriteResult::default()
        };
        let mut lost = match before {
            Before::Nothing => None,
            Before::Uncertain { since } => Some(self.loss_before(since)),
        };
        let mut unknown = Error::from(ErrorKind::OutcomeUnknown);
        let deadline = context.deadline;
        for sends in 0.. {
            if let Some(loss) = lost {
                match self.look_until(&context, removal, loss).await? {
                    Removed::Done => return Ok(done()),
                    Removed::NotDone if sends < MAX_SENDS => {}
                    Removed::NotDone | Removed::Unknown => break,
                }
            }
            let started = clock::now();
            // Nothing is sent again after the caller was told that the outcome is unknown.
            let sending = RequestContext {
                deadline,
                ..context.clone()
            };
            match self.send_removal(&sending, removal).await {
                Ok(()) => return Ok(done()),
                Err(error) if error.kind == ErrorKind::OutcomeUnknown => {
                    let loss = self.loss(started, &error).again(lost);
                    context = self.doubted(&context, loss);
                    lost = Some(loss);
                    unknown.facts = error.facts;
                }
                // After a lost answer, the lead that is missing may be the one that is gone.
                Err(error) if lost.is_some() && is_missing(&error) => {
                    return match self.look(&context, removal).await? {
                        Removed::Done => Ok(done()),
                        Removed::NotDone => Err(error),
                        Removed::Unknown => break,
                    };
                }
                // Whatever keeps it from being sent again says nothing about the first time.
                Err(error) if lost.is_some() && !error.is_final() => {
                    unknown.facts = error.facts;
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        // A later look tells whether the lead is gone, and it is sent again if it is not.
        unknown.facts.repeat = lost.map(Loss::repeat);
        Err(unknown)
    }

    async fn send_removal(&self, context: &RequestContext, removal: &Removal) -> Result<()> {
        match removal {
            Removal::Delete { lead_id } => self.crm.call(context, &Delete(lead_id)).await,
            Removal::Merge {
                lead_id,
                merged_lead_id,
            } => {
                let operation = Merge {
                    master: lead_id,
                    child: merged_lead_id,
                };
                self.crm.call(context, &operation).await
            }
        }
    }

    async fn look_until(&self, context: &RequestContext, removal: &Removal, loss: Loss) -> Result<Removed> {
        let mut looks = loss.looks();
        loop {
            let removed = self.look(context, removal).await?;
            match removed {
                Removed::Done => return Ok(removed),
                Removed::NotDone | Removed::Unknown => match looks.next(context).await {
                    Look::Again => {}
                    Look::Counts => return Ok(removed),
                    Look::Over => return Ok(Removed::Unknown),
                },
            }
        }
    }

    /// Looks whether the lead is gone. Of a merge the other one has to be there, or it cannot have been made.
    async fn look(&self, context: &RequestContext, removal: &Removal) -> Result<Removed> {
        let is_there = async |id: &str| match self.crm.call(context, &GetById::new(id)).await {
            Ok(_) => Some(true),
            Err(error) if is_missing(&error) => Some(false),
            Err(error) => {
                tracing::warn!(
                    request_id = %context.id,
                    mutation_id = context.mutation.map(tracing::field::display),
                    error = error.name(),
                    "looking up a deletion or merge of unknown outcome failed"
                );
                None
            }
        };
        let gone = is_there(removal.gone()).await;
        Ok(match (gone, removal) {
            (None, _) => Removed::Unknown,
            (Some(true), _) => Removed::NotDone,
            (Some(false), Removal::Delete { .. }) => Removed::Done,
            (Some(false), Removal::Merge { lead_id, .. }) => match is_there(lead_id).await {
                None => Removed::Unknown,
                Some(true) => Removed::Done,
                Some(false) => return Err(ErrorKind::NotFound(Resource::Lead).into()),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn violations(removal: &Removal) -> Vec<String> {
        removal.check().into_iter().map(|fault| fault.field).collect()
    }

    fn merge(lead_id: &str, merged_lead_id: &str) -> Removal {
        Removal::Merge {
            lead_id: lead_id.to_owned(),
            merged_lead_id: merged_lead_id.to_owned(),
        }
    }

    #[test]
    fn all_faults_are_told_at_once() {
        let lead_id = String::new();
        assert_eq!(violations(&Removal::Delete { lead_id }), ["lead_id"]);
        assert_eq!(violations(&merge("", "not an id")), ["lead_id", "merged_lead_id"]);
        assert_eq!(violations(&merge("a-1", "A-1")), ["merged_lead_id"]);
        assert!(violations(&merge("a-1", "a-2")).is_empty());
    }
}
