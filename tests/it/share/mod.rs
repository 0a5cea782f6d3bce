//! ShareService as its callers see it, by subject.

mod create;
mod extend;
mod limits;
mod list;
mod opportunity;
mod polls;
mod retry;
mod revoke;
mod watch;

use std::time::Duration;

use leadgate::grpc::pb;
use leadgate_simulator::{FaultKind, Options, SharedAccess};
use pb::share_lead_request::{Lead, User};
use pb::share_service_client::ShareServiceClient;
use pb::{Access, ShareState, WaitFor};
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::harness::{Seen, World, channel, seen};

/// Users of the simulator: an administrator, two active sales users, and an inactive user.
const ASHA: &str = "a0000000-0000-4000-8000-000000000001";
pub const SAM: &str = "a0000000-0000-4000-8000-000000000002";
const LATA: &str = "a0000000-0000-4000-8000-000000000003";
pub const SITA: &str = "a0000000-0000-4000-8000-000000000004";

/// High rate limits and short pauses.
const QUICK: &str = "[tenants.acme.limits]\ncalls = 10000\nbulk = 10000\n[tenants.acme.sharing]\n\
    default_activity_type = 201\npoll_every = \"20ms\"\npoll_at_most = \"40ms\"\nsettle_after = \"50ms\"\n";

/// A number of polls after which no test waits for a request to be processed.
const NEVER: u32 = 1_000_000;

/// A gateway with a client of ShareService, and one lead.
pub struct ShareFixture {
    pub world: World,
    pub client: ShareServiceClient<Channel>,
    pub lead: String,
}

impl ShareFixture {
    pub async fn new() -> Self {
        Self::with(|_| {}, "").await
    }

    /// A fixture with changed options of the simulator and additional settings of `[tenants.acme.sharing]`.
    pub async fn with(change: impl FnOnce(&mut Options), settings: &str) -> Self {
        let mut options = Options::default();
        options.limits.calls = 0;
        options.limits.bulk = 0;
        change(&mut options);
        let world = World::with(options, &format!("{QUICK}{settings}")).await.warm().await;
        let client = ShareServiceClient::new(channel(world.address).await);
        let lead = world.simulator.insert_lead(&[("FirstName", "Ann")]);
        Self { world, client, lead }
    }

    pub fn insert_lead(&self, name: &str) -> String {
        self.world.simulator.insert_lead(&[("FirstName", name)])
    }

    /// A request for write access of Sam for 30 minutes. It waits until the share is active.
    pub fn request(&self) -> pb::ShareLeadRequest {
        pb::ShareLeadRequest {
            lead: Some(Lead::LeadId(self.lead.clone())),
            user: Some(User::UserId(SAM.into())),
            access: Access::Write.into(),
            duration: Some(minutes(30)),
            wait_for: WaitFor::Active.into(),
            ..Default::default()
        }
    }

    /// The same request for an additional share.
    fn additional_request(&self) -> pb::ShareLeadRequest {
        pb::ShareLeadRequest {
            allow_additional: true,
            ..self.request()
        }
    }

    /// The request for a share of another lead.
    fn request_of_lead(&self, lead_id: String) -> pb::ShareLeadRequest {
        pb::ShareLeadRequest {
            lead: Some(Lead::LeadId(lead_id)),
            ..self.request()
        }
    }

    /// Inserts an activity of the lead.
    fn insert_activity(&self, activity_type: u32, owner: &str) -> String {
        let simulator = &self.world.simulator;
        simulator.insert_activity(&self.lead, activity_type, &[("Owner", owner)])
    }

    pub async fn try_share(&self, request: pb::ShareLeadRequest) -> Result<pb::Share, Status> {
        let response = self.client.clone().share_lead(request).await?;
        Ok(response.into_inner().share.unwrap())
    }

    pub async fn share(&self) -> pb::Share {
        self.try_share(self.request()).await.unwrap()
    }

    /// Requests a share whose share request gets a fault, and returns its id. Its outcome is unknown.
    async fn share_with_unknown_outcome(&self, fault: FaultKind) -> String {
        self.world.fail_next("EntityAccess.Share", fault);
        let error = seen(self.try_share(self.request()).await.unwrap_err());
        error.is(Code::Aborted, "OUTCOME_UNKNOWN");
        share_id(&error)
    }

    pub async fn get(&self, id: &str) -> pb::GetShareResponse {
        let request = pb::GetShareRequest { share_id: id.into() };
        self.client.clone().get_share(request).await.unwrap().into_inner()
    }

    async fn state(&self, id: &str) -> ShareState {
        self.get(id).await.share.unwrap().state()
    }

    async fn list(&self, request: pb::ListSharesRequest) -> Result<pb::ListSharesResponse, Status> {
        Ok(self.client.clone().list_shares(request).await?.into_inner())
    }

    /// Revokes a share, and waits until it is revoked.
    async fn revoke(&self, id: &str) -> Result<pb::Share, Status> {
        self.start_revoke(id, WaitFor::Active).await
    }

    async fn start_revoke(&self, id: &str, wait: WaitFor) -> Result<pb::Share, Status> {
        let request = pb::RevokeShareRequest {
            share: Some(pb::revoke_share_request::Share::ShareId(id.into())),
            wait_for: wait.into(),
            ..Default::default()
        };
        let response = self.client.clone().revoke_share(request).await?;
        Ok(response.into_inner().share.unwrap())
    }

    /// Extends a share by its own duration.
    async fn extend(&self, id: &str, wait: WaitFor) -> Result<pb::Share, Status> {
        let request = pb::ExtendShareRequest {
            share_id: id.into(),
            wait_for: wait.into(),
            ..Default::default()
        };
        self.try_extend(request).await
    }

    async fn try_extend(&self, request: pb::ExtendShareRequest) -> Result<pb::Share, Status> {
        let response = self.client.clone().extend_share(request).await?;
        Ok(response.into_inner().share.unwrap())
    }

    /// Retries a share, and waits until it is active.
    async fn retry(&self, id: &str) -> Result<pb::Share, Status> {
        self.start_retry(id, WaitFor::Active).await
    }

    async fn start_retry(&self, id: &str, wait: WaitFor) -> Result<pb::Share, Status> {
        let request = pb::RetryShareRequest {
            share_id: id.into(),
            wait_for: wait.into(),
        };
        let response = self.client.clone().retry_share(request).await?;
        Ok(response.into_inner().share.unwrap())
    }

    async fn request_status(&self, upstream_request_id: &str) -> Result<pb::GetShareRequestStatusResponse, Status> {
        let request = pb::GetShareRequestStatusRequest {
            upstream_request_id: upstream_request_id.into(),
        };
        let response = self.client.clone().get_share_request_status(request).await?;
        Ok(response.into_inner())
    }

    async fn watch(&self, id: &str) -> tonic::Streaming<pb::WatchShareResponse> {
        let request = pb::WatchShareRequest { share_id: id.into() };
        self.client.clone().watch_share(request).await.unwrap().into_inner()
    }

    /// Waits until a share has a state.
    async fn wait_until(&self, id: &str, state: ShareState) -> pb::Share {
        let mut watch = self.watch(id).await;
        let limit = Duration::from_secs(10);
        loop {
            let next = tokio::time::timeout(limit, watch.message()).await;
            let share = next.unwrap().unwrap().unwrap().share.unwrap();
            if share.state() == state {
                return share;
            }
        }
    }

    /// Sets after how many status polls LeadSquared has processed a request.
    fn process_after_polls(&self, polls: u32) {
        self.world.set_options(|options| options.share_polls = polls);
    }

    /// The shares that LeadSquared has granted.
    fn granted(&self) -> Vec<SharedAccess> {
        self.world.simulator.shares()
    }

    /// The endpoints of all upstream calls in order, without status polls.
    fn calls(&self) -> Vec<String> {
        let calls = self.world.simulator.calls().into_iter();
        let calls = calls.map(|call| call.endpoint);
        calls.filter(|name| name != "EntityAccess.Status").collect()
    }

    /// The share and revoke calls in order.
    fn share_and_revoke_calls(&self) -> Vec<String> {
        let calls = self.calls().into_iter();
        calls
            .filter(|name| ["EntityAccess.Share", "EntityAccess.Revoke"].contains(&name.as_str()))
            .collect()
    }
}

fn minutes(count: i64) -> prost_types::Duration {
    prost_types::Duration {
        seconds: count * 60,
        nanos: 0,
    }
}

fn reason(result: Result<pb::Share, Status>) -> (Code, String) {
    let seen = seen(result.unwrap_err());
    (seen.code, seen.reason)
}

/// The id of the share that an error is about.
fn share_id(error: &Seen) -> String {
    error.metadata["share_id"].clone()
}
