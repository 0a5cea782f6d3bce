//! Clients that call through all replicas, the outcomes that they know, and what must be true of them at the end.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use leadgate::grpc::pb;
use pb::lead_service_client::LeadServiceClient;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};
use uuid::Uuid;

use crate::replicas::{Balancer, CALLS, Cluster, WINDOW};

/// The deadline of a call.
const DEADLINE: Duration = Duration::from_secs(50);
/// The time within which all calls must end after the load.
const END_TIMEOUT: Duration = Duration::from_secs(40);
/// The pause before a failed call is repeated.
const PAUSE: Duration = Duration::from_millis(100);

/// The outcome of an operation, with all its repetitions.
#[derive(Debug)]
pub struct Outcome {
    /// The first name of the created lead. Empty for a read.
    tag: String,
    ended: Instant,
    /// The failed calls before the last one.
    pub failures: Vec<(Instant, Status)>,
    is_ok: bool,
}

/// What the clients do.
#[derive(Clone, Debug)]
pub struct LoadPlan {
    /// Number of operations in progress at one time.
    pub clients: usize,
    /// Whether a mutation has some KB.
    pub is_large: bool,
    /// Whether half of the clients read. All others create leads.
    pub has_readers: bool,
}

impl Default for LoadPlan {
    fn default() -> Self {
        Self {
            clients: 45,
            is_large: false,
            has_readers: true,
        }
    }
}

/// The clients of a test.
pub struct Load {
    cluster: Arc<Cluster>,
    clients: JoinSet<Vec<Outcome>>,
    stop: CancellationToken,
    began: Instant,
    accepted: u64,
}

/// The figures of a test.
#[derive(Debug)]
pub struct Figures {
    pub worst_window: usize,
    pub utilization: f64,
    /// The longest time without a successful operation after the end of the fault.
    pub longest_gap: Duration,
    pub operations: usize,
    pub failures: Vec<String>,
}

/// Whether the same request may succeed later, or at another replica.
fn is_retryable(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::Unavailable | Code::Aborted | Code::Unknown | Code::Cancelled | Code::Internal
    )
}

/// Executes an operation until its outcome is known.
async fn execute<F>(tag: String, mut call: impl FnMut() -> F) -> Outcome
where
    F: Future<Output = Result<(), Status>>,
{
    let mut failures = Vec::new();
    let began = Instant::now();
    loop {
        let result = call().await;
        let is_ok = result.is_ok();
        let is_final = result
            .as_ref()
            .err()
            .is_none_or(|status| !is_retryable(status) || began.elapsed() > DEADLINE);
        failures.extend(result.err().map(|status| (Instant::now(), status)));
        if is_final {
            return Outcome {
                tag,
                ended: Instant::now(),
                failures,
                is_ok,
            };
        }
        tokio::time::sleep(PAUSE).await;
    }
}

pub fn request<M>(message: M) -> Request<M> {
    let mut request = Request::new(message);
    request.set_timeout(DEADLINE);
    request
}

/// Reads one lead with a call of its own.
pub async fn read(channel: Channel, id: String) -> Result<(), Status> {
    let message = pb::BatchGetLeadsRequest {
        lead_ids: vec![id],
        ..Default::default()
    };
    LeadServiceClient::new(channel)
        .batch_get_leads(request(message))
        .await
        .map(drop)
}

/// The message that creates a lead with that first name.
pub fn create(tag: &str, request_id: String, is_large: bool) -> pb::CreateLeadRequest {
    pb::CreateLeadRequest {
        lead: Some(pb::LeadFields {
            first_name: Some(tag.to_owned()),
            email_address: Some(format!("{tag}@example.com")),
            custom: long_texts(is_large),
            ..Default::default()
        }),
        request_id,
        ..Default::default()
    }
}

/// Attributes with long texts.
fn long_texts(is_large: bool) -> BTreeMap<String, pb::FieldValue> {
    let text = |length| pb::FieldValue {
        value: Some(pb::field_value::Value::Text("x".repeat(length))),
    };
    let streets = ["mx_Street1", "mx_Street2", "mx_City", "mx_State", "mx_Country"];
    let fields = streets.map(|name| (name.to_owned(), text(256)));
    let notes = ("Notes".to_owned(), text(2_000));
    fields.into_iter().chain([notes]).filter(|_| is_large).collect()
}

/// Sends operations until `stop`: each client one after the other.
async fn work(
    balancer: Arc<Balancer>,
    number: usize,
    id: String,
    plan: LoadPlan,
    stop: CancellationToken,
) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    let reads = plan.has_readers && number.is_multiple_of(2);
    while !stop.is_cancelled() {
        let outcome = if reads {
            execute(String::new(), || read(balancer.channel(), id.clone())).await
        } else {
            let tag = format!("t{}", Uuid::new_v4().simple());
            // The ids of the client packages.
            let message = create(&tag, Uuid::now_v7().to_string(), plan.is_large);
            let call = || {
                let (mut client, message) = (LeadServiceClient::new(balancer.channel()), request(message.clone()));
                async move { client.create_lead(message).await.map(drop) }
            };
            execute(tag, call).await
        };
        outcomes.push(outcome);
    }
    outcomes
}

impl Load {
    /// Starts clients, and waits until each of them has a response.
    pub async fn start(cluster: &Arc<Cluster>, plan: LoadPlan) -> Self {
        let balancer = Balancer::new(cluster);
        let id = cluster.simulator.insert_lead(&[("FirstName", "Asha")]);
        let warm = execute(String::new(), || read(balancer.channel(), id.clone())).await;
        assert!(warm.is_ok, "{warm:?}");
        let (stop, mut clients) = (CancellationToken::new(), JoinSet::new());
        for number in 0..plan.clients {
            clients.spawn(work(balancer.clone(), number, id.clone(), plan.clone(), stop.clone()));
        }
        let load = Self {
            cluster: cluster.clone(),
            clients,
            stop,
            began: Instant::now(),
            accepted: cluster.simulator.stats().accepted,
        };
        load.runs_for(WINDOW * 3).await;
        load
    }

    /// Lets the clients call for this time.
    pub async fn runs_for(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }

    /// Ends the load, waits until all operations have ended, and checks what must be true in each test.
    pub async fn end(self, test: &str, fault_end: Option<Instant>) -> Figures {
        let accepted = self.cluster.simulator.stats().accepted - self.accepted;
        let ended = Instant::now();
        let elapsed = ended - self.began;
        self.stop.cancel();
        let outcomes = tokio::time::timeout(END_TIMEOUT, self.clients.join_all()).await;
        self.cluster.keep_logs(test);
        let outcomes: Vec<Outcome> = outcomes
            .expect("operations do not end after the load")
            .into_iter()
            .flatten()
            .collect();
        let windows = elapsed.as_secs_f64() / WINDOW.as_secs_f64();
        let figures = Figures {
            worst_window: self.cluster.worst_window(),
            utilization: accepted as f64 / (CALLS as f64 * windows),
            longest_gap: longest_gap(&outcomes, fault_end.unwrap_or(self.began), ended),
            operations: outcomes.len(),
            failures: failures(&outcomes, self.began),
        };
        println!(
            "{test}: worst window {} of {CALLS}, utilization {:.1} %, longest gap {:.2} s, {} operations, {} failed calls in {:.0} s",
            figures.worst_window,
            figures.utilization * 100.0,
            figures.longest_gap.as_secs_f64(),
            figures.operations,
            figures.failures.len(),
            elapsed.as_secs_f64(),
        );
        for failure in figures.failures.iter().take(3) {
            println!("{test}: failed call: {failure}");
        }
        if figures.worst_window > CALLS {
            print_worst_window(&self.cluster);
        }
        check(&self.cluster, &outcomes);
        assert!(
            figures.worst_window <= CALLS,
            "{test}: a window above the limit: {figures:?}"
        );
        figures
    }
}

impl Figures {
    /// No call has failed.
    pub fn no_failures(&self) -> &Self {
        let (count, first) = (self.failures.len(), self.failures.first());
        assert!(count == 0, "{count} failed calls; the first one: {first:?}");
        self
    }

    pub fn failures_are_at_most(&self, count: usize) -> &Self {
        assert!(
            self.failures.len() <= count,
            "{} failed calls, more than {count}",
            self.failures.len()
        );
        self
    }

    pub fn gap_is_at_most(&self, limit: Duration) -> &Self {
        assert!(
            self.longest_gap <= limit,
            "no progress for {:?}, more than {limit:?}",
            self.longest_gap
        );
        self
    }

    pub fn utilization_is_at_least(&self, limit: f64) -> &Self {
        assert!(
            self.utilization >= limit,
            "utilization {} below {limit}",
            self.utilization
        );
        self
    }
}

/// The longest time without a successful operation that ends after `from`.
fn longest_gap(outcomes: &[Outcome], from: Instant, to: Instant) -> Duration {
    let ends = outcomes
        .iter()
        .filter(|outcome| outcome.is_ok)
        .map(|outcome| outcome.ended);
    let mut ends: Vec<Instant> = ends.filter(|end| *end > from && *end < to).chain([from, to]).collect();
    ends.sort_unstable();
    ends.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
}

/// Prints the calls of the window with the most calls.
fn print_worst_window(cluster: &Cluster) {
    let calls = cluster.simulator.calls();
    let count = |from: usize| {
        calls[from..]
            .iter()
            .take_while(|call| call.stamp - calls[from].stamp < WINDOW)
            .count()
    };
    let Some(worst) = (0..calls.len()).max_by_key(|from| count(*from)) else {
        return;
    };
    let now = std::time::SystemTime::now();
    for call in &calls[worst.saturating_sub(2)..(worst + count(worst) + 2).min(calls.len())] {
        let at = (now - call.stamp.elapsed())
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap();
        let after = call.stamp.saturating_duration_since(calls[worst].stamp);
        println!(
            "{:.3} {after:?} {} {} {}",
            at.as_secs_f64(),
            call.endpoint,
            call.status,
            call.body
        );
    }
}

fn failures(outcomes: &[Outcome], began: Instant) -> Vec<String> {
    let failures = outcomes.iter().flat_map(|outcome| {
        let what = if outcome.tag.is_empty() { "read" } else { "create" };
        let text = move |(at, status): &(Instant, Status)| {
            let after = at.saturating_duration_since(began).as_secs_f64();
            format!("{after:.2} s: {what}: {:?}: {}", status.code(), status.message())
        };
        outcome.failures.iter().map(text)
    });
    let mut failures: Vec<String> = failures.collect();
    failures.sort();
    failures
}

/// Checks that each acknowledged mutation was executed once, and each other one at most once.
fn check(cluster: &Cluster, outcomes: &[Outcome]) {
    let mut executions: HashMap<String, usize> = HashMap::new();
    for mut lead in cluster.simulator.leads() {
        if let Some(name) = lead.remove("FirstName").flatten() {
            *executions.entry(name).or_default() += 1;
        }
    }
    for outcome in outcomes {
        let count = match outcome.tag.as_str() {
            "" => usize::from(outcome.is_ok),
            tag => executions.get(tag).copied().unwrap_or_default(),
        };
        assert!(count <= 1, "executed {count} times: {outcome:?}");
        assert!(
            !outcome.is_ok || count == 1,
            "acknowledged and not executed: {outcome:?}"
        );
        assert!(outcome.is_ok, "never succeeded: {outcome:?}");
    }
}
