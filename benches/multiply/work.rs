//! The operations, their callers, and the maximum number of operations in a window.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use leadgate::grpc::pb;
use leadgate_simulator::{Options, Simulator};
use pb::lead_service_client::LeadServiceClient;
use serde_json::json;
use tonic::transport::Channel;

use crate::bed::Plan;

/// Maximum number of reads in one call here. LeadSquared allows 10,000, which would need more CPU than two cores have.
pub(crate) const READS: u32 = 100;
const UPDATES: u32 = 25;
const CREATES: u32 = 50;

/// What the callers do.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Kind {
    Reads,
    Updates,
    Upserts,
    Creates,
    /// Each caller sends an update, an upsert and a create in turn, so that there are as many of each.
    Mix,
}

/// One operation of a caller.
#[derive(Clone, Copy)]
enum Deed {
    Read,
    Update,
    Upsert,
    Create,
}

/// A caller with a lead of its own.
pub(crate) struct Caller {
    kind: Kind,
    lead_id: String,
    email: String,
    turn: usize,
    created: Arc<AtomicU64>,
}

impl Kind {
    pub(crate) const ALL: [Self; 5] = [Self::Reads, Self::Updates, Self::Upserts, Self::Creates, Self::Mix];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Reads => "reads",
            Self::Updates => "updates",
            Self::Upserts => "upserts",
            Self::Creates => "creates",
            Self::Mix => "mix",
        }
    }

    /// Maximum number of operations in a window: all bulk calls full, and one operation in each of the other calls.
    pub(crate) fn optimum(self, plan: Plan) -> f64 {
        let (calls, bulk) = (f64::from(plan.calls), f64::from(plan.bulk));
        let full = |members: u32| bulk * f64::from(members) + calls - bulk;
        match self {
            Self::Reads => calls * f64::from(READS),
            Self::Updates | Self::Upserts => full(UPDATES),
            Self::Creates => full(CREATES),
            // Of T operations a third are creates. All of these are sent in bulk calls, T/150 of them. Then T = 50
            // T/150 + 25 (M - T/150) + N - M.
            Self::Mix => full(UPDATES) * 1.2,
        }
    }

    fn deed(self, turn: usize) -> Deed {
        match self {
            Self::Reads => Deed::Read,
            Self::Updates => Deed::Update,
            Self::Upserts => Deed::Upsert,
            Self::Creates => Deed::Create,
            Self::Mix => [Deed::Update, Deed::Upsert, Deed::Create][turn % 3],
        }
    }
}

impl Caller {
    /// This number of callers. Their leads are added to the account.
    pub(crate) fn many(count: usize, kind: Kind, simulator: &Simulator) -> Vec<Self> {
        let created = Arc::new(AtomicU64::new(0));
        let one = |number| {
            let email = format!("lead-{number}@example.com");
            Self {
                kind,
                lead_id: simulator.insert_lead(&[("FirstName", "Asha"), ("EmailAddress", &email)]),
                email,
                turn: number,
                created: created.clone(),
            }
        };
        (0..count).map(one).collect()
    }

    /// Sends the next operation to leadgate.
    pub(crate) async fn ask(&mut self, client: &mut LeadServiceClient<Channel>) -> Result<(), tonic::Status> {
        let lead = |email: Option<String>| {
            Some(pb::LeadFields {
                first_name: Some("Ravi".to_owned()),
                email_address: email,
                ..Default::default()
            })
        };
        self.turn += 1;
        match self.kind.deed(self.turn) {
            Deed::Read => {
                let key = Some(pb::get_lead_request::Key::LeadId(self.lead_id.clone()));
                let request = pb::GetLeadRequest {
                    key,
                    ..Default::default()
                };
                client.get_lead(request).await.map(drop)
            }
            Deed::Update => {
                let request = pb::UpdateLeadRequest {
                    lead_id: self.lead_id.clone(),
                    lead: lead(None),
                    ..Default::default()
                };
                client.update_lead(request).await.map(drop)
            }
            Deed::Upsert => {
                let request = pb::UpsertLeadRequest {
                    lead: lead(Some(self.email.clone())),
                    match_by: "EmailAddress".to_owned(),
                    ..Default::default()
                };
                client.upsert_lead(request).await.map(drop)
            }
            Deed::Create => {
                let request = pb::CreateLeadRequest {
                    lead: lead(Some(self.new_email())),
                    ..Default::default()
                };
                client.create_lead(request).await.map(drop)
            }
        }
    }

    /// The next operation as a request of the REST API, by its own endpoint.
    pub(crate) fn request(&mut self, client: &reqwest::Client, base: &str) -> reqwest::RequestBuilder {
        let pair = |name: &str, value: &str| json!({"Attribute": name, "Value": value});
        let name = pair("FirstName", "Ravi");
        let post = |path: String, pairs: serde_json::Value| {
            client
                .post(format!("{base}/v2/LeadManagement.svc/{path}"))
                .header("content-type", "application/json")
                .body(pairs.to_string())
        };
        self.turn += 1;
        let request = match self.kind.deed(self.turn) {
            Deed::Read => client.get(format!(
                "{base}/v2/LeadManagement.svc/Leads.GetById?id={}",
                self.lead_id
            )),
            Deed::Update => post(format!("Lead.Update?leadId={}", self.lead_id), json!([name])),
            Deed::Upsert => {
                let email = pair("EmailAddress", &self.email);
                let by = pair("SearchBy", "EmailAddress");
                post("Lead.CreateOrUpdate".to_owned(), json!([name, email, by]))
            }
            Deed::Create => {
                let email = pair("EmailAddress", &self.new_email());
                post("Lead.Create".to_owned(), json!([name, email]))
            }
        };
        let keys = Options::default();
        request
            .header("x-LSQ-AccessKey", keys.access_key)
            .header("x-LSQ-SecretKey", keys.secret_key)
    }

    fn new_email(&self) -> String {
        format!("new-{}@example.com", self.created.fetch_add(1, Ordering::Relaxed))
    }
}
