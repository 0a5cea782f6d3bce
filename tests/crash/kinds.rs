//! The kinds of mutations: sends each kind, and counts its executions in LeadSquared.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use leadgate::grpc::pb;
use leadgate_simulator::Simulator;
use pb::activity_service_client::ActivityServiceClient;
use pb::lead_service_client::LeadServiceClient;
use pb::share_service_client::ShareServiceClient;
use tokio::process::Command;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_types::StatusExt;
use uuid::Uuid;

use crate::account::{Account, Process};
use crate::random;
use crate::tally::{Effect, KnownOutcome, Mutation};

/// A user with whom leads can be shared.
const SAM: &str = "a0000000-0000-4000-8000-000000000002";
/// Number of calls with an unknown outcome after which a mutation is not repeated any more.
const MAX_UNKNOWN: usize = 3;
/// Number of leads in a batch.
const BATCH: usize = 4;
/// Number of rows in an imported file.
const ROWS: usize = 40;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Create,
    CreateByName,
    Update,
    Upsert,
    Capture,
    BatchCreate,
    Delete,
    Merge,
    Post,
    UpdateActivity,
    Share,
}

pub const KINDS: [Kind; 11] = [
    Kind::Create,
    Kind::CreateByName,
    Kind::Update,
    Kind::Upsert,
    Kind::Capture,
    Kind::BatchCreate,
    Kind::Delete,
    Kind::Merge,
    Kind::Post,
    Kind::UpdateActivity,
    Kind::Share,
];

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Self::Create => "CreateLead",
            Self::CreateByName => "CreateLead by name",
            Self::Update => "UpdateLead",
            Self::Upsert => "UpsertLead",
            Self::Capture => "CaptureLead",
            Self::BatchCreate => "BatchCreateLeads",
            Self::Delete => "DeleteLead",
            Self::Merge => "MergeLeads",
            Self::Post => "PostActivity",
            Self::UpdateActivity => "UpdateActivity",
            Self::Share => "ShareLead",
        }
    }
}

/// Sends a mutation with one request id until its outcome is known. A batch and a share are several mutations.
pub async fn execute(kind: Kind, simulator: &Simulator, process: &Process) -> Vec<Mutation> {
    let id = Uuid::new_v4();
    let (tag, request_id) = (format!("t{}", id.simple()), id.to_string());
    let email = format!("{tag}@example.com");
    let fields = |has_email: bool| pb::LeadFields {
        first_name: Some(tag.clone()),
        email_address: has_email.then(|| email.clone()),
        ..Default::default()
    };
    let (outcome, effect) = match kind {
        Kind::Create | Kind::CreateByName => {
            let request = pb::CreateLeadRequest {
                lead: Some(fields(kind == Kind::Create)),
                request_id,
                ..Default::default()
            };
            let outcome = lead_call(process, request, async |mut client, request| {
                client.create_lead(request).await
            });
            (outcome.await, Effect::Lead)
        }
        Kind::Upsert => {
            let request = pb::UpsertLeadRequest {
                lead: Some(fields(true)),
                request_id,
                ..Default::default()
            };
            let outcome = lead_call(process, request, async |mut client, request| {
                client.upsert_lead(request).await
            });
            (outcome.await, Effect::Lead)
        }
        Kind::Capture => {
            let request = pb::CaptureLeadRequest {
                lead: Some(fields(true)),
                request_id,
                ..Default::default()
            };
            let outcome = lead_call(process, request, async |mut client, request| {
                client.capture_lead(request).await
            });
            (outcome.await, Effect::Lead)
        }
        Kind::Update => {
            let lead_id = simulator.insert_lead(&[("FirstName", "Before")]);
            let request = pb::UpdateLeadRequest {
                lead_id: lead_id.clone(),
                lead: Some(fields(false)),
                request_id,
                ..Default::default()
            };
            let outcome = lead_call(process, request, async |mut client, request| {
                client.update_lead(request).await
            });
            // A second execution has the same effect.
            (outcome.await, Effect::Lead)
        }
        Kind::BatchCreate => return batch(process, &tag, request_id).await,
        Kind::Delete => {
            let lead_id = simulator.insert_lead(&[("FirstName", &tag)]);
            let request = pb::DeleteLeadRequest { lead_id, request_id };
            let outcome = lead_call(process, request, async |mut client, request| {
                client.delete_lead(request).await
            });
            (outcome.await, Effect::NoLead)
        }
        Kind::Merge => {
            let lead_id = simulator.insert_lead(&[("FirstName", "Stays")]);
            let merged_lead_id = simulator.insert_lead(&[("FirstName", &tag)]);
            let request = pb::MergeLeadsRequest {
                lead_id,
                merged_lead_id,
                request_id,
            };
            let outcome = lead_call(process, request, async |mut client, request| {
                client.merge_leads(request).await
            });
            (outcome.await, Effect::NoLead)
        }
        Kind::Post => {
            let request = pb::PostActivityRequest {
                lead_id: simulator.insert_lead(&[("FirstName", "Busy")]),
                activity_type: 201,
                note: tag.clone(),
                request_id,
                ..Default::default()
            };
            let outcome = activity_call(process, request, async |mut client, request| {
                client.post_activity(request).await
            });
            (outcome.await, Effect::Note)
        }
        Kind::UpdateActivity => {
            let lead_id = simulator.insert_lead(&[("FirstName", "Busy")]);
            let request = pb::UpdateActivityRequest {
                activity_id: simulator.insert_activity(&lead_id, 201, &[]),
                activity_type: 201,
                note: Some(tag.clone()),
                request_id,
                ..Default::default()
            };
            let outcome = activity_call(process, request, async |mut client, request| {
                client.update_activity(request).await
            });
            (outcome.await, Effect::Note)
        }
        Kind::Share => return share(simulator, process, tag, request_id).await,
    };
    let kind = kind.name();
    vec![Mutation {
        kind,
        tag,
        outcome,
        effect,
    }]
}

async fn lead_call<M: Clone, R>(
    process: &Process,
    request: M,
    call: impl AsyncFn(LeadServiceClient<Channel>, M) -> Result<R, Status>,
) -> KnownOutcome {
    let call = async |channel| call(LeadServiceClient::new(channel), request.clone()).await;
    retry_until_known(process, call)
        .await
        .map_or(KnownOutcome::Unknown, |_| KnownOutcome::Acknowledged)
}

async fn activity_call<M: Clone, R>(
    process: &Process,
    request: M,
    call: impl AsyncFn(ActivityServiceClient<Channel>, M) -> Result<R, Status>,
) -> KnownOutcome {
    let call = async |channel| call(ActivityServiceClient::new(channel), request.clone()).await;
    retry_until_known(process, call)
        .await
        .map_or(KnownOutcome::Unknown, |_| KnownOutcome::Acknowledged)
}

/// Repeats a call with the same request id until its outcome is known, as a correct client does. `None`: the outcome stays
/// unknown.
async fn retry_until_known<R>(process: &Process, call: impl AsyncFn(Channel) -> Result<R, Status>) -> Option<R> {
    let mut unknown = 0;
    loop {
        let status = match call(process.channel().await).await {
            Ok(response) => return Some(response),
            Err(status) => status,
        };
        match status.code() {
            Code::Aborted => {
                unknown += 1;
                if unknown == MAX_UNKNOWN {
                    return None;
                }
            }
            // The gateway was killed or is starting, or LeadSquared is unreachable.
            Code::Unavailable | Code::Cancelled | Code::Internal | Code::DeadlineExceeded | Code::ResourceExhausted => {
            }
            Code::Unknown if status.get_details_error_info().is_none() => {}
            _ => panic!("{status:?}"),
        }
        let pause = status.get_details_retry_info().and_then(|retry| retry.retry_delay);
        tokio::time::sleep(pause.unwrap_or(Duration::from_millis(10))).await;
    }
}

async fn batch(process: &Process, tag: &str, request_id: String) -> Vec<Mutation> {
    let create = |number| pb::CreateLeadRequest {
        lead: Some(pb::LeadFields {
            first_name: Some(format!("{tag}-{number}")),
            email_address: Some(format!("{tag}-{number}@example.com")),
            ..Default::default()
        }),
        ..Default::default()
    };
    let request = pb::BatchCreateLeadsRequest {
        requests: (0..BATCH).map(create).collect(),
        request_id,
    };
    let mut unknown = 0;
    let results = loop {
        let response = retry_until_known(process, async |channel| {
            LeadServiceClient::new(channel)
                .batch_create_leads(request.clone())
                .await
        });
        let results = response.await.unwrap().into_inner().results;
        let codes = results.iter().map(|result| match &result.result {
            Some(pb::batch_create_leads_result::Result::Error(error)) => Code::from(error.code),
            _ => Code::Ok,
        });
        let codes: Vec<Code> = codes.collect();
        unknown += usize::from(codes.contains(&Code::Aborted));
        let is_known = |code: &Code| *code == Code::Ok || *code == Code::Aborted && unknown >= MAX_UNKNOWN;
        if codes.iter().all(is_known) {
            break codes;
        }
    };
    let mutation = |(number, code)| Mutation {
        kind: Kind::BatchCreate.name(),
        tag: format!("{tag}-{number}"),
        outcome: match code {
            Code::Ok => KnownOutcome::Acknowledged,
            _ => KnownOutcome::Unknown,
        },
        effect: Effect::Lead,
    };
    results.into_iter().enumerate().map(mutation).collect()
}

/// Shares a lead, and revokes the share.
async fn share(simulator: &Simulator, process: &Process, tag: String, request_id: String) -> Vec<Mutation> {
    let lead_id = simulator.insert_lead(&[("FirstName", "Shared")]);
    let leads = simulator.leads();
    let lead = leads
        .iter()
        .find(|lead| lead["ProspectID"].as_deref() == Some(&lead_id));
    let number = lead.unwrap()["ProspectAutoId"].clone().unwrap();
    let grants = || {
        simulator
            .shares()
            .iter()
            .filter(|share| share.entity_id == number)
            .count()
    };
    let mutation = |kind, outcome, executions| Mutation {
        kind,
        tag: tag.clone(),
        outcome,
        effect: Effect::Counted(executions),
    };
    let request = pb::ShareLeadRequest {
        lead: Some(pb::share_lead_request::Lead::LeadId(lead_id)),
        user: Some(pb::share_lead_request::User::UserId(SAM.into())),
        access: pb::Access::Write.into(),
        wait_for: pb::WaitFor::Active.into(),
        request_id,
        ..Default::default()
    };
    let shared = retry_until_known(process, async |channel| {
        ShareServiceClient::new(channel).share_lead(request.clone()).await
    });
    let share = shared.await.map(|response| response.into_inner().share.unwrap());
    let Some(share) = share.filter(|share| share.state() == pb::ShareState::Active) else {
        return vec![mutation(Kind::Share.name(), KnownOutcome::Unknown, grants())];
    };
    let shared = mutation(Kind::Share.name(), KnownOutcome::Acknowledged, grants());
    let request = pb::RevokeShareRequest {
        share: Some(pb::revoke_share_request::Share::ShareId(share.share_id)),
        wait_for: pb::WaitFor::Active.into(),
        request_id: Uuid::new_v4().to_string(),
    };
    let revoked = retry_until_known(process, async |channel| {
        ShareServiceClient::new(channel).revoke_share(request.clone()).await
    });
    let share = revoked.await.map(|response| response.into_inner().share.unwrap());
    let outcome = match share.is_some_and(|share| share.state() == pb::ShareState::Revoked) {
        true => KnownOutcome::Acknowledged,
        false => KnownOutcome::Unknown,
    };
    vec![shared, mutation("RevokeShare", outcome, usize::from(grants() == 0))]
}

/// Imports files. The command is killed and run again until the outcome of every row is known, or unknown after all retries.
pub async fn import(
    account: Arc<Account>,
    process: Arc<Process>,
    stop: CancellationToken,
    kills: Arc<AtomicUsize>,
) -> Vec<Mutation> {
    let mut mutations = Vec::new();
    for number in 0.. {
        if stop.is_cancelled() {
            break;
        }
        let file = account.folder.path().join(format!("leads-{number}.csv"));
        mutations.extend(import_file(&account, &process, &file, &kills).await);
    }
    mutations
}

/// Imports one file. Each row has its tag as first name.
async fn import_file(account: &Account, process: &Process, file: &PathBuf, kills: &AtomicUsize) -> Vec<Mutation> {
    let tags: Vec<String> = (0..ROWS).map(|_| format!("t{}", Uuid::new_v4().simple())).collect();
    let rows: String = tags.iter().map(|tag| format!("{tag},{tag}@example.com\n")).collect();
    std::fs::write(file, format!("FirstName,EmailAddress\n{rows}")).unwrap();
    let address = process.address.to_string();
    let [state, rejected, unknown_list] =
        ["import-state", "rejected.csv", "unknown.csv"].map(|kind| file.with_extension(format!("csv.{kind}")));
    let [summary, log] = ["import.out", "import.log"].map(|name| account.folder.path().join(name));
    let (mut unknown, mut retries) = (0, 0);
    // The file of the rows whose outcome stays unknown.
    let unknown_rows = loop {
        let mut command = Command::new(env!("CARGO_BIN_EXE_leadgate"))
            .args(["import", file.to_str().unwrap(), "--mode", "create", "--addr", &address])
            .stdout(std::fs::File::create(&summary).unwrap())
            .stderr(std::fs::File::create(&log).unwrap())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let pause = Duration::from_millis(random(&(20..400)));
        // Only half of the runs are killed, so that the import ends.
        let is_killed = random(&(0..2)) == 0;
        let ended = match is_killed {
            true => tokio::time::timeout(pause, command.wait()).await.ok(),
            false => Some(command.wait().await),
        };
        let Some(status) = ended else {
            command.kill().await.unwrap();
            kills.fetch_add(1, Ordering::Relaxed);
            // Killed after its last step: the same command would be another import.
            if !state.exists() && std::fs::metadata(&summary).unwrap().len() > 0 {
                assert!(!rejected.exists());
                break String::new();
            }
            continue;
        };
        match status.unwrap().code() {
            Some(0) => break String::new(),
            // No row may be rejected.
            Some(1) => panic!("{}", std::fs::read_to_string(&rejected).unwrap()),
            Some(3) => {
                unknown += 1;
                if unknown == MAX_UNKNOWN {
                    break std::fs::read_to_string(&unknown_list).unwrap();
                }
            }
            // The connection to the gateway ended.
            _ => {
                retries += 1;
                let log = std::fs::read_to_string(&log).unwrap();
                assert!(retries < 1000, "{log}");
                assert!(!log.contains("rejected:"), "{log}");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    };
    let mutation = |tag: String| Mutation {
        kind: "import command",
        outcome: match unknown_rows.contains(&tag) {
            true => KnownOutcome::Unknown,
            false => KnownOutcome::Acknowledged,
        },
        tag,
        effect: Effect::Lead,
    };
    tags.into_iter().map(mutation).collect()
}
