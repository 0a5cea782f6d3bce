//! Several replicas in one process, whose routes the test sets. The simulator behind them counts what is executed.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use leadgate::app::App;
use leadgate::config::Config;
use leadgate::gateway::Gateway;
use leadgate::grpc::{ClusterParts, HelloResponse, PeerEvents, PeerSettings, PeerTls, Peers, pb, rpc_paths};
use leadgate::identity::api_key::{self, KeyHash};
use leadgate::tenant::{Owner, Tenant, TenantRoute};
use leadgate_simulator::{Fault, FaultKind, Latency, Limits, Options, Simulator};
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use pb::lead_service_client::LeadServiceClient;
use pb::quota_service_client::QuotaServiceClient;
use tokio::io::{AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::certificates::TlsFiles;
use crate::harness::{Raw, Response, by_id, channel, concurrently, framed, grpc, lead, listen, seen, tenant, within};
use crate::traces::{Collector, attribute, named};
use crate::web;

const SECRET: &str = "0123456789abcdef";
/// The id of no lead.
const MISSING: &str = "3f1b8a52-7c1d-4c55-9d0e-0a4c6c1b2d3e";
const LIMIT: Duration = Duration::from_secs(30);

/// What other replicas reported to one replica.
#[derive(Default)]
pub struct Events {
    owners: Mutex<Vec<(String, i64, Option<String>)>>,
    epochs: Mutex<Vec<i64>>,
    pub is_store_unavailable: AtomicBool,
}

impl PeerEvents for Events {
    fn owner_changed(&self, tenant: &str, epoch: i64, address: Option<&str>) {
        let event = (tenant.to_owned(), epoch, address.map(str::to_owned));
        self.owners.lock().unwrap().push(event);
    }

    fn epoch_seen(&self, _: &str, epoch: i64) {
        self.epochs.lock().unwrap().push(epoch);
    }

    fn is_store_unavailable(&self) -> bool {
        self.is_store_unavailable.load(Ordering::Relaxed)
    }
}

/// One replica.
pub struct Replica {
    address: SocketAddr,
    admin: SocketAddr,
    /// The address of the REST listener, if there is one.
    pub rest: Option<SocketAddr>,
    /// The address for other replicas.
    pub peer_address: Arc<str>,
    pub tenant: Arc<Tenant>,
    /// The gateway with which the replica began.
    pub gateway: Arc<Gateway>,
    peers: Arc<Peers>,
    pub events: Arc<Events>,
    pub channel: Channel,
}

impl Replica {
    async fn start(
        settings: &str,
        plan: &Plan,
        secret: &str,
        stop: CancellationToken,
        running: &mut JoinSet<()>,
    ) -> Self {
        let patience = [("VISIBLE_AFTER", "0s"), ("SETTLE_TIMEOUT", "1500ms")];
        let patience = patience.map(|(name, value)| (format!("LEADGATE__TENANT_DEFAULTS__UPSTREAM__{name}"), value));
        let in_memory = ("LEADGATE__STORE__URL".to_owned(), "sqlite::memory:");
        let variables = patience.into_iter().chain([in_memory]);
        let variables = variables.map(|(name, value)| (name, value.to_owned()));
        let files = plan.tls.iter().flat_map(TlsFiles::variables);
        let config = Config::read("test", settings, variables.chain(files)).unwrap();
        let (listener, admin, for_replicas) = (listen().await, listen().await, listen().await);
        let address = listener.local_addr().unwrap();
        let admin_address = admin.local_addr().unwrap();
        let peer_address: Arc<str> = for_replicas.local_addr().unwrap().to_string().into();
        let mut app = App::new(config).await.unwrap();
        let rest = app.open_rest().await.unwrap();
        let secret = secret.to_owned().into();
        let tls = plan.tls.as_ref().map(|files| {
            files.write("replicas.crt", &files.server_authority.pem);
            PeerTls {
                ca_file: files.path("replicas.crt"),
                server_name: Some("localhost".to_owned()),
            }
        });
        let peers = Peers::new(PeerSettings { secret, tls }).unwrap();
        let events = Arc::new(Events::default());
        app.set_cluster(ClusterParts {
            listener: for_replicas,
            address: peer_address.clone(),
            peers: peers.clone(),
            events: events.clone(),
        });
        let tenant = app.tenants().named("acme").unwrap().clone();
        let gateway = tenant.gateway().unwrap();
        running.spawn(async move { app.serve(listener, admin, stop.cancelled_owned()).await.unwrap() });
        Self {
            address,
            admin: admin_address,
            rest,
            peer_address,
            tenant,
            gateway,
            peers,
            events,
            channel: match &plan.tls {
                None => channel(address).await,
                Some(files) => files.endpoint(address, None).connect().await.unwrap(),
            },
        }
    }

    fn leads(&self) -> LeadServiceClient<Channel> {
        LeadServiceClient::new(self.channel.clone())
    }

    pub fn set_owner(&self, address: &Arc<str>, epoch: i64) {
        let address = address.clone();
        self.tenant.set_route(TenantRoute::Replica(Owner { address, epoch }));
    }

    pub async fn metrics(&self) -> String {
        let page = reqwest::get(format!("http://{}/metrics", self.admin)).await.unwrap();
        page.text().await.unwrap()
    }
}

/// How the replicas of a test are started.
pub struct Plan {
    pub options: Options,
    /// Another server than the simulator.
    pub upstream: Option<SocketAddr>,
    /// The settings of each replica.
    pub settings: [String; 3],
    /// The secret of each replica.
    pub secrets: [&'static str; 3],
    pub tls: Option<TlsFiles>,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            options: Options::default(),
            upstream: None,
            settings: Default::default(),
            secrets: [SECRET; 3],
            tls: None,
        }
    }
}

/// Replicas and the simulator behind them.
pub struct Cluster {
    pub simulator: Simulator,
    pub replicas: Vec<Replica>,
    stop: CancellationToken,
    simulator_stop: CancellationToken,
    running: JoinSet<()>,
    /// Keeps the files of TLS.
    _plan: Plan,
}

impl Cluster {
    async fn start(count: usize) -> Self {
        Self::with(count, Plan::default()).await
    }

    pub async fn with(count: usize, plan: Plan) -> Self {
        let upstream = listen().await;
        let address = plan.upstream.unwrap_or(upstream.local_addr().unwrap());
        let tenant = tenant("acme", address, &plan.options);
        let simulator = Simulator::new(plan.options.clone());
        let (stop, simulator_stop) = (CancellationToken::new(), CancellationToken::new());
        let mut running = JoinSet::new();
        let simulating = simulator
            .clone()
            .serve(upstream, simulator_stop.clone().cancelled_owned());
        running.spawn(async move { simulating.await.unwrap() });
        let mut replicas = Vec::new();
        for (settings, secret) in plan.settings.iter().zip(plan.secrets).take(count) {
            let settings = format!("{tenant}\n{settings}");
            replicas.push(Replica::start(&settings, &plan, secret, stop.clone(), &mut running).await);
        }
        let cluster = Self {
            simulator,
            replicas,
            stop,
            simulator_stop,
            running,
            _plan: plan,
        };
        // Each gateway has the metadata before calls are counted.
        for replica in &cluster.replicas {
            let request = pb::DescribeLeadFieldsRequest::default();
            // Callers without a credential get an error.
            let _ = replica.leads().describe_lead_fields(request).await;
        }
        cluster.simulator.forget_calls();
        cluster.own(count - 1, 1);
        cluster
    }

    /// Makes a replica the owner of the tenant. The gateway of the former owner stays as it is.
    pub fn own(&self, owner: usize, epoch: i64) {
        let address = &self.replicas[owner].peer_address;
        for (number, replica) in self.replicas.iter().enumerate() {
            match number == owner {
                true => replica.tenant.set_route(TenantRoute::Here(replica.gateway.clone())),
                false => replica.set_owner(address, epoch),
            }
        }
    }

    pub fn first(&self) -> &Replica {
        &self.replicas[0]
    }

    pub fn calls(&self, endpoint: &str) -> usize {
        let calls = self.simulator.calls();
        calls.iter().filter(|call| call.endpoint == endpoint).count()
    }

    pub async fn until(&self, what: &str, is_so: impl Fn(&Self) -> bool) {
        let waiting = async {
            while !is_so(self) {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(LIMIT, waiting)
            .await
            .unwrap_or_else(|_| panic!("{what}"));
    }

    pub async fn stop(mut self) {
        self.stop.cancel();
        tokio::time::sleep(Duration::from_millis(50)).await;
        self.simulator_stop.cancel();
        while let Some(ended) = self.running.join_next().await {
            ended.unwrap();
        }
    }
}

/// A TCP proxy whose connections the test can cut.
pub struct Proxy {
    pub address: Arc<str>,
    cut: watch::Sender<u32>,
}

impl Proxy {
    pub async fn start(target: &Arc<str>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string().into();
        let cut = watch::Sender::new(0);
        let (cuts, target) = (cut.subscribe(), target.to_string());
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let (mut cuts, target) = (cuts.clone(), target.clone());
                cuts.mark_unchanged();
                tokio::spawn(async move {
                    let mut server = TcpStream::connect(target).await.unwrap();
                    tokio::select! {
                        _ = copy_bidirectional(&mut client, &mut server) => {}
                        _ = cuts.changed() => {}
                    }
                });
            }
        });
        Self { address, cut }
    }

    /// Closes all connections.
    pub fn cut(&self) {
        self.cut.send_modify(|cuts| *cuts += 1);
    }
}

/// Headers or trailers, sorted.
type Pairs = Vec<(String, String)>;

/// A response without what differs between two equal RPCs.
fn comparable(mut response: Response, path: &str) -> (u16, Pairs, Pairs, String) {
    let sorted = |headers: http::HeaderMap| {
        let mut pairs: Vec<_> = headers
            .iter()
            .filter(|(name, _)| !["date", "grpc-status-details-bin"].contains(&name.as_str()))
            .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
            .collect();
        if let Some(status) = Status::from_header_map(&headers).filter(|status| !status.details().is_empty()) {
            // The entries of a map have any order.
            let details = format!("{:?}", status.get_error_details());
            let mut parts: Vec<&str> = details.split(['{', '}', ',']).map(str::trim).collect();
            parts.sort_unstable();
            pairs.push(("details".to_owned(), parts.join(",")));
        }
        pairs.sort();
        pairs
    };
    // The state of the quota is another one for each call.
    if path.contains("QuotaService") {
        response.body.clear();
    }
    // The error of a row has a map, whose entries have any order.
    if path.ends_with("/ImportLeads") {
        let mut letters: Vec<char> = response.body.chars().collect();
        letters.sort_unstable();
        response.body = letters.into_iter().collect();
    }
    let status = response.status.as_u16();
    (
        status,
        sorted(response.headers),
        sorted(response.trailers),
        response.body,
    )
}

async fn ask(replica: &Replica, path: &str, body: Vec<u8>) -> Response {
    let request = grpc(path).header("x-request-id", "same").header("grpc-timeout", "1S");
    Raw::connect(replica.address).await.ask(request, body).await
}

fn update(id: &str, city: &str) -> pb::UpdateLeadRequest {
    pb::UpdateLeadRequest {
        lead_id: id.to_owned(),
        lead: Some(pb::LeadFields {
            city: Some(city.to_owned()),
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn get(id: &str) -> pb::GetLeadRequest {
    pb::GetLeadRequest {
        key: Some(by_id(id)),
        ..Default::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_rpc_has_the_same_response_whether_it_is_forwarded_or_not() {
    let cluster = Cluster::start(2).await;
    let (first, owner) = (&cluster.replicas[0], &cluster.replicas[1]);
    let id = cluster
        .simulator
        .insert_lead(&[("EmailAddress", "a@example.com"), ("FirstName", "Asha")]);
    let duplicate = pb::CreateLeadRequest {
        lead: Some(lead("a")),
        ..Default::default()
    };
    let valid = [
        ("/leadgate.v1.LeadService/GetLead", framed(&get(&id))),
        ("/leadgate.v1.LeadService/GetLead", framed(&get(MISSING))),
        ("/leadgate.v1.LeadService/UpdateLead", framed(&update(&id, "Pune"))),
        ("/leadgate.v1.LeadService/CreateLead", framed(&duplicate)),
        // Not a message, and not a frame.
        ("/leadgate.v1.LeadService/GetLead", vec![0, 0, 0, 0, 2, 0xff, 0xff]),
        ("/leadgate.v1.LeadService/GetLead", vec![7; 5]),
        ("/leadgate.v1.LeadService/GetLead", vec![]),
        ("/leadgate.v1.LeadService/ImportLeads", vec![0, 0, 0, 0, 2, 0xff, 0xff]),
        ("/leadgate.v1.LeadService/Unknown", framed(&get(&id))),
    ];
    let empty = rpc_paths().into_iter().map(|path| (path, vec![0; 5]));
    let valid = valid.into_iter().map(|(path, body)| (path.to_owned(), body));
    let mut compared = 0;
    for (path, body) in empty.chain(valid) {
        let direct = comparable(ask(owner, &path, body.clone()).await, &path);
        let forwarded = comparable(ask(first, &path, body).await, &path);
        assert_eq!(forwarded, direct, "{path}");
        compared += 1;
    }
    assert!(compared > 40, "{compared}");
    let text = first.metrics().await;
    assert!(
        text.contains("leadgate_forwarded_rpcs_total{tenant=\"acme\",code=\"OK\"}"),
        "{text}"
    );
    assert!(
        text.contains("leadgate_forwarded_rpcs_total{tenant=\"acme\",code=\"NOT_FOUND\"}"),
        "{text}"
    );
    assert!(
        text.contains("leadgate_forwarding_duration_seconds_count{tenant=\"acme\"}"),
        "{text}"
    );
    let text = owner.metrics().await;
    assert!(!text.contains("leadgate_forwarded_rpcs_total{"), "{text}");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn compressed_requests_and_streams_in_both_directions_are_forwarded() {
    let cluster = Cluster::start(2).await;
    let mut client = cluster
        .first()
        .leads()
        .send_compressed(tonic::codec::CompressionEncoding::Gzip);
    let row = |number: i64| pb::ImportLeadsRequest {
        sequence: number,
        operation: Some(pb::import_leads_request::Operation::Create(pb::CreateLeadRequest {
            lead: Some(lead(&format!("lead-{number}"))),
            ..Default::default()
        })),
    };
    let rows: Vec<_> = (0..60).map(row).collect();
    let response = client
        .import_leads(within(LIMIT, tokio_stream::iter(rows)))
        .await
        .unwrap();
    let mut responses = response.into_inner();
    let mut sequences = Vec::new();
    while let Some(response) = responses.message().await.unwrap() {
        assert!(matches!(
            response.result,
            Some(pb::import_leads_response::Result::Response(_))
        ));
        sequences.push(response.sequence);
    }
    sequences.sort_unstable();
    assert_eq!(sequences, (0..60).collect::<Vec<_>>());
    let trailers = responses.trailers().await.unwrap().unwrap();
    assert_eq!(trailers.get("x-leadgate-import-succeeded").unwrap(), "60");
    let export = pb::ExportLeadsRequest {
        start_time: Some(prost_types::Timestamp {
            seconds: 1_000_000_000,
            nanos: 0,
        }),
        ..Default::default()
    };
    let mut exported = client.export_leads(within(LIMIT, export)).await.unwrap().into_inner();
    let mut count = 0;
    while let Some(response) = exported.message().await.unwrap() {
        count += response.leads.len();
    }
    assert_eq!(count, 60);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rpcs_of_grpc_web_are_forwarded() {
    let settings = format!("[server]\ncors_origins = [\"{}\"]", web::ORIGIN);
    let plan = Plan {
        settings: [(); 3].map(|()| settings.clone()),
        ..Plan::default()
    };
    let cluster = Cluster::with(2, plan).await;
    let mut connection = web::connect(cluster.first().address).await;
    for (name, kind) in [("Asha", web::BINARY), ("Ben", web::TEXT)] {
        let request = web::web(web::CREATE, kind).header("origin", web::ORIGIN);
        let created = web::ask(&mut connection, request, web::body(kind, web::create(name))).await;
        assert!(!created.message::<pb::CreateLeadResponse>().lead_id.is_empty());
        let request = web::body(kind, web::get(MISSING));
        let missing = web::ask(&mut connection, web::web(web::GET, kind), request).await;
        missing.error().is(Code::NotFound, "LEAD_NOT_FOUND");
        let request = web::body(kind, web::export());
        let exported = web::ask(&mut connection, web::web(web::EXPORT, kind), request).await;
        assert_eq!(exported.parts().1["grpc-status"], "0");
        let request = web::web(web::CREATE, kind).header("origin", "https://other.example.com");
        let mut other = web::connect(cluster.first().address).await;
        let refused = web::ask(&mut other, request, web::body(kind, web::create(name))).await;
        refused.error().is(Code::InvalidArgument, "INVALID_FIELD");
    }
    assert_eq!(cluster.calls("Lead.Create"), 2);
    let metrics = cluster.first().metrics().await;
    for (code, count) in [("OK", 4), ("NOT_FOUND", 2)] {
        let line = format!("leadgate_forwarded_rpcs_total{{tenant=\"acme\",code=\"{code}\"}} {count}");
        assert!(metrics.lines().any(|seen| seen == line), "{line} in {metrics}");
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_deadline_holds_at_the_owner() {
    let cluster = Cluster::start(2).await;
    let id = cluster.simulator.insert_lead(&[("EmailAddress", "a@example.com")]);
    let mut places = Vec::new();
    for replica in &cluster.replicas {
        let lasting = Duration::from_secs(5);
        let hangs = Fault::new("Leads.GetById", FaultKind::HangBefore { lasting });
        cluster.simulator.add_fault(hangs).unwrap();
        let began = Instant::now();
        let status = replica
            .leads()
            .get_lead(within(Duration::from_millis(600), get(&id)))
            .await;
        let error = seen(status.unwrap_err());
        error.is(Code::DeadlineExceeded, "DEADLINE_EXCEEDED");
        assert!(began.elapsed() < Duration::from_millis(640));
        places.push(error.metadata["place"].clone());
    }
    assert_eq!(places[0], places[1]);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cancellation_reaches_the_owner() {
    let limited = "[server]\nmax_in_flight = 1\nmax_streams = 1\n".to_owned();
    let plan = Plan {
        settings: [String::new(), limited, String::new()],
        ..Plan::default()
    };
    let cluster = Cluster::with(2, plan).await;
    let by = Duration::from_secs(60);
    let delay = Fault::new("Leads.GetById", FaultKind::Delay { by });
    cluster.simulator.add_fault(delay).unwrap();
    let mut client = cluster.first().leads();
    let call = tokio::spawn(async move { client.get_lead(within(LIMIT, get(MISSING))).await });
    cluster
        .until("the call reaches the simulator", |cluster| {
            cluster.calls("Leads.GetById") > 0
        })
        .await;
    let mut quota = QuotaServiceClient::new(cluster.first().channel.clone());
    let watch = quota.watch_quota(pb::WatchQuotaRequest::default()).await.unwrap();
    // The only permits of the owner are in use.
    let full = quota.get_quota(pb::GetQuotaRequest::default()).await.unwrap_err();
    seen(full).is(Code::ResourceExhausted, "QUEUE_FULL");
    let full = quota.watch_quota(pb::WatchQuotaRequest::default()).await.unwrap_err();
    seen(full).is(Code::ResourceExhausted, "QUEUE_FULL");
    call.abort();
    drop(watch);
    let released = async {
        while quota.get_quota(pb::GetQuotaRequest::default()).await.is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        while quota.watch_quota(pb::WatchQuotaRequest::default()).await.is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), released).await.unwrap();
    cluster.simulator.clear_faults();
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_that_name_each_other_end_the_rpc() {
    let cluster = Cluster::start(2).await;
    let (one, two) = (&cluster.replicas[0], &cluster.replicas[1]);
    one.set_owner(&two.peer_address, 7);
    two.set_owner(&one.peer_address, 7);
    let began = Instant::now();
    let error = seen(one.leads().get_lead(within(LIMIT, get(MISSING))).await.unwrap_err());
    error.is(Code::Unavailable, "OWNER_MOVED");
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert!(error.retry_after().is_some());
    assert_eq!(cluster.calls("Leads.GetById"), 0);
    // The epoch went along.
    assert!(two.events.epochs.lock().unwrap().iter().all(|epoch| *epoch == 7));
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_rpc_waits_for_an_owner_and_fails_at_its_deadline() {
    let cluster = Cluster::start(2).await;
    let id = cluster.simulator.insert_lead(&[("EmailAddress", "a@example.com")]);
    let first = cluster.first();
    first.tenant.set_route(TenantRoute::Unknown);
    let short = Duration::from_millis(300);
    let error = seen(first.leads().get_lead(within(short, get(&id))).await.unwrap_err());
    error.is(Code::Unavailable, "OWNER_MOVED");
    first.events.is_store_unavailable.store(true, Ordering::Relaxed);
    let error = seen(first.leads().get_lead(within(short, get(&id))).await.unwrap_err());
    error.is(Code::Unavailable, "STORE_UNAVAILABLE");

    let mut client = first.leads();
    let request = within(LIMIT, get(&id));
    let call = tokio::spawn(async move { client.get_lead(request).await });
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!call.is_finished());
    cluster.own(1, 2);
    call.await.unwrap().unwrap();
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rpcs_go_on_at_the_next_owner() {
    let cluster = Cluster::start(3).await;
    let (first, former, next) = (&cluster.replicas[0], &cluster.replicas[1], &cluster.replicas[2]);
    let id = cluster.simulator.insert_lead(&[("EmailAddress", "a@example.com")]);
    // The former owner knows the next one, and the first replica does not.
    cluster.own(1, 1);
    former.set_owner(&next.peer_address, 2);
    next.tenant.set_route(TenantRoute::Here(next.gateway.clone()));
    first
        .leads()
        .update_lead(within(LIMIT, update(&id, "Pune")))
        .await
        .unwrap();
    let expected = ("acme".to_owned(), 2, Some(next.peer_address.to_string()));
    assert!(first.events.owners.lock().unwrap().contains(&expected));

    // The tenant moves while calls wait for the quota of the former owner.
    cluster.own(1, 3);
    cluster.simulator.set_options(|options| {
        options.latency = Latency {
            min: Duration::from_millis(300),
            max: Duration::from_millis(300),
        };
    });
    let calls: Vec<_> = (0..40)
        .map(|number| {
            let mut client = first.leads();
            let request = within(LIMIT, update(&id, &number.to_string()));
            async move { client.update_lead(request).await }
        })
        .collect();
    let calls = tokio::spawn(concurrently(calls));
    tokio::time::sleep(Duration::from_millis(100)).await;
    former.gateway.stopped().cancel();
    former.tenant.set_route(TenantRoute::Unknown);
    tokio::time::sleep(Duration::from_millis(100)).await;
    cluster.own(2, 4);
    for result in calls.await.unwrap() {
        result.unwrap();
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mutation_whose_owner_does_not_respond_has_one_effect() {
    let cluster = Cluster::start(2).await;
    let owner = &cluster.replicas[1];
    let proxy = Proxy::start(&owner.peer_address).await;
    cluster.first().set_owner(&proxy.address, 1);
    let by = Duration::from_millis(400);
    cluster
        .simulator
        .add_fault(Fault::new("Lead.Create", FaultKind::Delay { by }))
        .unwrap();
    let create = pb::CreateLeadRequest {
        lead: Some(lead("Asha")),
        ..Default::default()
    };
    let mut client = cluster.first().leads();
    let call = tokio::spawn(async move { client.create_lead(within(LIMIT, create)).await });
    cluster
        .until("the call reaches the simulator", |cluster| {
            cluster.calls("Lead.Create") == 1
        })
        .await;
    proxy.cut();
    let created = call.await.unwrap().unwrap().into_inner();
    assert_eq!(cluster.calls("Lead.Create"), 1);
    let leads = cluster.simulator.leads();
    assert_eq!(leads.len(), 1);
    assert_eq!(leads[0]["ProspectID"].as_deref(), Some(created.lead_id.as_str()));
    // A later mutation with the same message is another one.
    let again = pb::CreateLeadRequest {
        lead: Some(lead("Asha")),
        ..Default::default()
    };
    let error = seen(
        cluster
            .first()
            .leads()
            .create_lead(within(LIMIT, again))
            .await
            .unwrap_err(),
    );
    error.is(Code::AlreadyExists, "LEAD_DUPLICATE");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_internal_request_id_is_not_in_errors() {
    let cluster = Cluster::start(2).await;
    let id = cluster.simulator.insert_lead(&[("EmailAddress", "a@example.com")]);
    for (replica, request_id, expected) in [
        (0, "", false),
        (1, "", false),
        (0, "0194b7a4-7f6d-7e6c-9d9a-4f4f4f4f4f4f", true),
    ] {
        let request = pb::UpdateLeadRequest {
            request_id: request_id.to_owned(),
            ..update(&id, "Pune")
        };
        for _ in 0..20 {
            cluster.simulator.add_fault(Fault::new("*", FaultKind::Refuse)).unwrap();
        }
        let limit = Duration::from_millis(900);
        let error = seen(
            cluster.replicas[replica]
                .leads()
                .update_lead(within(limit, request))
                .await
                .unwrap_err(),
        );
        assert!(
            matches!(error.code, Code::ResourceExhausted | Code::DeadlineExceeded),
            "{error:?}"
        );
        assert_eq!(error.retry_same_request_id() == Some("true"), expected, "{error:?}");
        cluster.simulator.clear_faults();
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn writes_of_one_connection_keep_their_order_over_a_move() {
    const WRITES: usize = 200;
    let options = Options {
        limits: Limits {
            calls: 50,
            bulk: 10,
            per: Duration::from_millis(200),
            ..Limits::default()
        },
        latency: Latency {
            min: Duration::from_millis(1),
            max: Duration::from_millis(8),
        },
        ..Options::default()
    };
    let settings = "[tenant_defaults.limits]\ncalls = 20\nbulk = 3\nwindow = \"200ms\"\n\
                    [tenant_defaults.batching]\nupdates = false\n";
    let plan = Plan {
        options,
        settings: [settings, settings, settings].map(str::to_owned),
        ..Plan::default()
    };
    let cluster = Cluster::with(3, plan).await;
    let (first, former) = (&cluster.replicas[0], &cluster.replicas[1]);
    cluster.own(1, 1);
    let id = cluster.simulator.insert_lead(&[("EmailAddress", "a@example.com")]);
    let client = first.leads();
    // All requests are sent from one task, in order.
    let (id, moved) = (id.as_str(), async {
        cluster
            .until("writes are sent", |cluster| cluster.calls("Lead.Update") >= 40)
            .await;
        former.gateway.stopped().cancel();
        former.tenant.set_route(TenantRoute::Unknown);
        tokio::time::sleep(Duration::from_millis(50)).await;
        cluster.own(2, 2);
    });
    let writes = async {
        let mut writes: Vec<_> = (0..WRITES)
            .map(|number| {
                let (mut client, request) = (client.clone(), within(LIMIT, update(id, &number.to_string())));
                Box::pin(async move { drop(client.update_lead(request).await.unwrap()) })
            })
            .map(Some)
            .collect();
        std::future::poll_fn(|context| {
            for write in &mut writes {
                if write
                    .as_mut()
                    .is_some_and(|write| write.as_mut().poll(context).is_ready())
                {
                    *write = None;
                }
            }
            match writes.iter().all(Option::is_none) {
                true => std::task::Poll::Ready(()),
                false => std::task::Poll::Pending,
            }
        })
        .await;
    };
    tokio::join!(writes, moved);
    let calls = cluster.simulator.calls();
    let cities: Vec<usize> = calls
        .iter()
        .filter(|call| call.endpoint == "Lead.Update")
        .map(|call| {
            let body: serde_json::Value = serde_json::from_str(&call.body).unwrap();
            let pairs = body.as_array().unwrap();
            let city = pairs.iter().find(|pair| pair["Attribute"] == "mx_City").unwrap();
            city["Value"].as_str().unwrap().parse().unwrap()
        })
        .collect();
    assert_eq!(cities, (0..WRITES).collect::<Vec<_>>());
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn metadata_of_replicas_has_no_effect_on_the_public_port() {
    let cluster = Cluster::start(2).await;
    let id = cluster.simulator.insert_lead(&[("EmailAddress", "a@example.com")]);
    let internal = uuid::Uuid::now_v7().to_string();
    for replica in &cluster.replicas {
        for city in ["Pune", "Goa"] {
            let request = grpc("/leadgate.v1.LeadService/UpdateLead")
                .header("x-leadgate-peer-caller", "somebody")
                .header("x-leadgate-peer-age", "86400000000")
                .header("x-leadgate-peer-epoch", "99")
                .header("x-leadgate-peer-request-id", &internal)
                .header("x-leadgate-peer-connection", "1");
            let raw = Raw::connect(replica.address).await;
            let response = raw.ask(request, framed(&update(&id, city))).await;
            assert_eq!(response.trailers["grpc-status"], "0", "{response:?}");
        }
    }
    // With the same request id, the second message would be an error, and with that age, the deadline would have passed.
    assert_eq!(cluster.calls("Lead.Update"), 4);
    assert!(
        cluster.replicas[1]
            .events
            .epochs
            .lock()
            .unwrap()
            .iter()
            .all(|epoch| *epoch == 1)
    );
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_with_another_secret_forwards_nothing() {
    let plan = Plan {
        secrets: [SECRET, "another secret 123", SECRET],
        ..Plan::default()
    };
    let cluster = Cluster::with(2, plan).await;
    let limit = Duration::from_millis(500);
    let error = seen(
        cluster
            .first()
            .leads()
            .get_lead(within(limit, get(MISSING)))
            .await
            .unwrap_err(),
    );
    error.is(Code::Unavailable, "OWNER_MOVED");
    let metrics = cluster.replicas[1].metrics().await;
    assert!(
        metrics.contains("leadgate_auth_failures_total{reason=\"cluster_secret\"}"),
        "{metrics}"
    );
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_knows_what_responds_at_an_address() {
    let plan = Plan {
        secrets: [SECRET, SECRET, "another secret 123"],
        ..Plan::default()
    };
    let cluster = Cluster::with(3, plan).await;
    let [first, second, stranger] = &cluster.replicas[..] else {
        panic!("there are three replicas");
    };
    for (address, expected) in [
        (&first.peer_address, HelloResponse::ThisReplica),
        (&second.peer_address, HelloResponse::OtherReplica),
        (&stranger.peer_address, HelloResponse::Refused),
    ] {
        assert_eq!(first.peers.hello(address).await, expected);
    }
    let closed = crate::harness::closed_address().to_string().into();
    let HelloResponse::None(reason) = first.peers.hello(&closed).await else {
        panic!("something listens at {closed}");
    };
    assert!(reason.contains("refused"), "{reason}");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_get_nothing_on_the_port_for_replicas() {
    let cluster = Cluster::start(2).await;
    let address: SocketAddr = cluster.replicas[1].peer_address.parse().unwrap();
    for path in [
        "/leadgate.v1.LeadService/GetLead",
        "/leadgate.internal.Cluster/OwnerChanged",
        "/grpc.health.v1.Health/Check",
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    ] {
        for authorization in [None, Some("Bearer wrong"), Some(SECRET)] {
            let mut request = grpc(path).header("x-leadgate-peer-caller", "somebody");
            if let Some(authorization) = authorization {
                request = request.header("authorization", authorization);
            }
            let response = Raw::connect(address).await.ask(request, vec![0; 5]).await;
            assert_eq!(response.trailers["grpc-status"], "16", "{path} {authorization:?}");
        }
    }
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream
        .write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .unwrap();
    let mut text = String::new();
    tokio::io::AsyncReadExt::read_to_string(&mut stream, &mut text)
        .await
        .unwrap();
    assert!(!text.contains("leadgate_"), "{text}");
    assert!(cluster.replicas[1].events.owners.lock().unwrap().is_empty());
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn announced_owners_are_reported() {
    let cluster = Cluster::start(3).await;
    let addresses = cluster.replicas[1..].iter().map(|replica| replica.peer_address.clone());
    let nowhere: Arc<str> = "127.0.0.1:1".into();
    let peers = &cluster.first().peers;
    peers
        .announce(addresses.chain([nowhere]), "acme", 8, Some("10.0.0.5:50052"))
        .await;
    peers
        .announce([cluster.replicas[1].peer_address.clone()], "acme", 9, None)
        .await;
    let owner = ("acme".to_owned(), 8, Some("10.0.0.5:50052".to_owned()));
    let free = ("acme".to_owned(), 9, None);
    assert_eq!(
        *cluster.replicas[1].events.owners.lock().unwrap(),
        [owner.clone(), free]
    );
    assert_eq!(*cluster.replicas[2].events.owners.lock().unwrap(), [owner]);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_calls_and_streams_share_one_connection() {
    let cluster = Cluster::start(2).await;
    let quota = || QuotaServiceClient::new(cluster.first().channel.clone());
    let mut watches = Vec::new();
    for _ in 0..10 {
        let request = pb::WatchQuotaRequest::default();
        watches.push(quota().watch_quota(request).await.unwrap().into_inner());
    }
    for _ in 0..3 {
        let calls = (0..1_000).map(|_| {
            let mut client = quota();
            async move { client.get_quota(within(LIMIT, pb::GetQuotaRequest::default())).await }
        });
        for result in concurrently(calls).await {
            result.unwrap();
        }
    }
    for watch in &mut watches {
        watch.message().await.unwrap().unwrap();
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_ends_when_its_owner_is_lost() {
    let cluster = Cluster::start(2).await;
    let proxy = Proxy::start(&cluster.replicas[1].peer_address).await;
    cluster.first().set_owner(&proxy.address, 1);
    let mut client = QuotaServiceClient::new(cluster.first().channel.clone());
    let mut watch = client
        .watch_quota(pb::WatchQuotaRequest::default())
        .await
        .unwrap()
        .into_inner();
    watch.message().await.unwrap().unwrap();
    proxy.cut();
    let status = loop {
        match watch.message().await {
            Ok(message) => assert!(message.is_some(), "the stream ended without an error"),
            Err(status) => break status,
        }
    };
    seen(status).is(Code::Unavailable, "SHUTTING_DOWN");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_owner_checks_the_permissions_of_the_caller() {
    let (known, unknown) = (api_key::generate("known"), api_key::generate("unknown"));
    let auth = "[auth]\nmode = \"callers\"\n".to_owned();
    let caller = |name: &str, key: &str, allow: &str| {
        let hash = KeyHash::of(key);
        format!("[callers.{name}]\napi_keys = [\"{hash}\"]\ntenants = [\"*\"]\nallow = [\"{allow}\"]\n")
    };
    let first = format!(
        "{auth}{}{}",
        caller("known", &known, "*"),
        caller("unknown", &unknown, "*")
    );
    let owner = format!("{auth}{}", caller("known", &known, "LeadService/Get*"));
    let plan = Plan {
        settings: [first, owner.clone(), owner],
        ..Plan::default()
    };
    let cluster = Cluster::with(2, plan).await;
    let id = cluster.simulator.insert_lead(&[("EmailAddress", "a@example.com")]);
    let call = async |key: &str| {
        let mut request = within(LIMIT, get(&id));
        let bearer = format!("Bearer {key}").parse().unwrap();
        request.metadata_mut().insert("authorization", bearer);
        cluster.first().leads().get_lead(request).await.map(drop)
    };
    call(&known).await.unwrap();
    seen(call(&unknown).await.unwrap_err()).is(Code::Unauthenticated, "CALLER_UNKNOWN");
    let mut request = within(LIMIT, update(&id, "Pune"));
    let bearer = format!("Bearer {known}").parse().unwrap();
    request.metadata_mut().insert("authorization", bearer);
    let error = seen(cluster.first().leads().update_lead(request).await.unwrap_err());
    error.is(Code::PermissionDenied, "CALLER_NOT_ALLOWED");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_use_tls_and_check_the_certificate() {
    let plan = Plan {
        tls: Some(TlsFiles::new()),
        ..Plan::default()
    };
    let cluster = Cluster::with(2, plan).await;
    let id = cluster.simulator.insert_lead(&[("EmailAddress", "a@example.com")]);
    cluster.first().leads().get_lead(within(LIMIT, get(&id))).await.unwrap();
    let mut stream = TcpStream::connect(&*cluster.replicas[1].peer_address).await.unwrap();
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    let mut bytes = Vec::new();
    let _ = tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut bytes).await;
    // An alert of TLS, and no SETTINGS of HTTP/2.
    assert!(bytes.is_empty() || bytes[0] == 21, "{bytes:?}");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_without_the_secret_do_not_prevent_forwarding() {
    let limits = "[server]\nmax_connections = 20\nhandshake_timeout = \"2s\"\n".to_owned();
    let plan = Plan {
        settings: [limits.clone(), limits.clone(), limits],
        ..Plan::default()
    };
    let cluster = Cluster::with(2, plan).await;
    let id = cluster.simulator.insert_lead(&[("EmailAddress", "a@example.com")]);
    let owner = &cluster.replicas[1];
    let address: SocketAddr = owner.peer_address.parse().unwrap();
    let mut silent = Vec::new();
    for _ in 0..60 {
        silent.push(TcpStream::connect(address).await.unwrap());
    }
    let mut strangers = Vec::new();
    for _ in 0..18 {
        let request = grpc("/leadgate.v1.LeadService/GetLead").header("authorization", "Bearer wrong");
        let stranger = Raw::connect(address).await;
        assert_eq!(stranger.ask(request, vec![0; 5]).await.trailers["grpc-status"], "16");
        strangers.push(stranger);
    }
    for _ in 0..2 {
        cluster.first().leads().get_lead(within(LIMIT, get(&id))).await.unwrap();
        // All connections without the secret end. The one of the other replica stays.
        for mut stream in silent.drain(..) {
            let mut bytes = Vec::new();
            let _ = tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut bytes).await;
        }
    }
    let metrics = owner.metrics().await;
    assert!(
        metrics.contains("leadgate_connections_closed_total{reason=\"no_secret\"}"),
        "{metrics}"
    );
    let mut refused = metrics
        .lines()
        .filter(|line| line.starts_with("leadgate_connections_refused_total{"));
    assert!(refused.all(|line| line.ends_with(" 0")), "{metrics}");
    drop(strangers);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mutation_was_not_sent_if_the_owner_closes_the_connection_without_a_response() {
    let cluster = Cluster::start(2).await;
    let id = cluster.simulator.insert_lead(&[("EmailAddress", "a@example.com")]);
    let listener = listen().await;
    let closing: Arc<str> = listener.local_addr().unwrap().to_string().into();
    let mut accepting = JoinSet::new();
    accepting.spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            // Not before a request can have arrived.
            let mut bytes = Vec::new();
            let reading = tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut bytes);
            let _ = tokio::time::timeout(Duration::from_millis(50), reading).await;
        }
    });
    cluster.first().set_owner(&closing, 1);
    let limit = Duration::from_millis(700);
    let request = pb::UpdateLeadRequest {
        request_id: MISSING.to_owned(),
        ..update(&id, "Pune")
    };
    let error = cluster.first().leads().update_lead(within(limit, request)).await;
    let error = seen(error.unwrap_err());
    error.is(Code::Unavailable, "OWNER_MOVED");
    // It was certainly not executed.
    assert_eq!(error.retry_same_request_id(), Some("true"), "{:?}", error.status);
    cluster.stop().await;
}

/// A request with about 150 kB, to which the owner responds with an error.
fn large() -> pb::GetLeadRequest {
    get(&"x".repeat(150_000))
}

/// The limit of the messages that are kept: six of these requests.
const KEPT: &str = "[server]\nmax_request_bytes = 200000\nmax_unfinished_bytes = 1000000\n";

#[tokio::test(flavor = "multi_thread")]
async fn the_messages_that_wait_for_an_owner_are_bounded() {
    let plan = Plan {
        settings: [KEPT.to_owned(), String::new(), String::new()],
        ..Plan::default()
    };
    let cluster = Cluster::with(2, plan).await;
    let first = cluster.first();
    first.tenant.set_route(TenantRoute::Unknown);
    let ended = Arc::new(Mutex::new(Vec::new()));
    let mut calls = JoinSet::new();
    for _ in 0..20 {
        let (mut leads, ended) = (first.leads(), ended.clone());
        calls.spawn(async move {
            let error = seen(leads.get_lead(within(LIMIT, large())).await.unwrap_err());
            ended.lock().unwrap().push(error);
        });
    }
    cluster
        .until("14 calls do not fail", |_| ended.lock().unwrap().len() == 14)
        .await;
    // A small one has room.
    let mut leads = first.leads();
    calls.spawn(async move {
        let error = leads.get_lead(within(LIMIT, get(MISSING))).await.unwrap_err();
        seen(error).is(Code::NotFound, "LEAD_NOT_FOUND");
    });
    for error in ended.lock().unwrap().drain(..) {
        error.is(Code::ResourceExhausted, "QUEUE_FULL");
        assert!(error.retry_after().is_some(), "{:?}", error.status);
    }
    first.set_owner(&cluster.replicas[1].peer_address, 2);
    calls.join_all().await;
    let served: Vec<_> = ended.lock().unwrap().drain(..).collect();
    assert_eq!(served.len(), 6);
    for error in served {
        error.is(Code::InvalidArgument, "INVALID_FIELD");
    }
    // Their bytes are released.
    first.tenant.set_route(TenantRoute::Unknown);
    let waiting = first
        .leads()
        .get_lead(within(Duration::from_millis(300), large()))
        .await;
    seen(waiting.unwrap_err()).is(Code::Unavailable, "OWNER_MOVED");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn above_the_limit_of_kept_messages_an_rpc_is_sent_once() {
    let limits = "[server]\nmax_request_bytes = 400000\nmax_unfinished_bytes = 400000\n".to_owned();
    let plan = Plan {
        settings: [limits, String::new(), String::new()],
        ..Plan::default()
    };
    let cluster = Cluster::with(3, plan).await;
    let id = cluster.simulator.insert_lead(&[("EmailAddress", "a@example.com")]);
    // About 230 kB.
    let request = || pb::BatchGetLeadsRequest {
        lead_ids: vec![id.clone(); 6_000],
        ..Default::default()
    };
    let by = Duration::from_secs(3);
    let delay = Fault::new("*", FaultKind::Delay { by });
    cluster.simulator.add_fault(delay).unwrap();
    let owner = &cluster.replicas[2];
    let mut calls = JoinSet::new();
    // The owner is known: each is sent, although only one is kept.
    for count in 1..=3 {
        let (mut leads, request) = (cluster.first().leads(), within(LIMIT, request()));
        calls.spawn(async move { leads.batch_get_leads(request).await.map(drop) });
        cluster
            .until("the call reaches the owner", |_| {
                owner.events.epochs.lock().unwrap().len() == count
            })
            .await;
    }
    // A call that is not kept does not wait for the next owner.
    let other = &cluster.replicas[1];
    other.tenant.set_route(TenantRoute::Unknown);
    cluster.first().set_owner(&other.peer_address, 2);
    let moved = cluster.first().leads().batch_get_leads(within(LIMIT, request())).await;
    let moved = seen(moved.unwrap_err());
    moved.is(Code::Unavailable, "OWNER_MOVED");
    assert!(moved.retry_after().is_some(), "{:?}", moved.status);
    // Without an owner, it is not accepted.
    cluster.first().tenant.set_route(TenantRoute::Unknown);
    let refused = cluster.first().leads().batch_get_leads(within(LIMIT, request())).await;
    seen(refused.unwrap_err()).is(Code::ResourceExhausted, "QUEUE_FULL");
    for result in calls.join_all().await {
        result.unwrap();
    }
    cluster.stop().await;
}

/// The spans of an RPC that the second replica executes, and the trace of its client.
#[tokio::test]
async fn a_forwarded_rpc_is_one_trace_over_both_replicas() {
    let collector = Collector::http().await;
    let settings = collector.settings();
    let plan = Plan {
        settings: [settings.clone(), settings.clone(), settings],
        ..Plan::default()
    };
    let cluster = Cluster::with(2, plan).await;
    let peer: SocketAddr = cluster.replicas[1].peer_address.parse().unwrap();
    let created = pb::CreateLeadRequest {
        lead: Some(lead("Forwarded")),
        ..Default::default()
    };
    cluster.first().leads().create_lead(created).await.unwrap();
    cluster.stop().await;
    const CREATE: &str = "leadgate.v1.LeadService/CreateLead";
    let spans = named(&collector.spans(), CREATE);
    let [received, forward, executed] = &spans[..] else {
        panic!("{spans:?}")
    };
    assert_eq!(
        [received.kind(), forward.kind(), executed.kind()],
        [SpanKind::Server, SpanKind::Client, SpanKind::Server]
    );
    assert_eq!(
        (&forward.trace_id, &executed.trace_id),
        (&received.trace_id, &received.trace_id)
    );
    assert!(received.parent_span_id.is_empty());
    assert_eq!(
        (&forward.parent_span_id, &executed.parent_span_id),
        (&received.span_id, &forward.span_id)
    );
    for (name, value) in [
        ("server.address", peer.ip().to_string()),
        ("server.port", peer.port().to_string()),
        ("rpc.method", CREATE.to_owned()),
        ("rpc.response.status_code", "OK".to_owned()),
    ] {
        assert_eq!(attribute(forward, name), value, "{name}");
    }
    assert_eq!(attribute(executed, "leadgate.forwarded"), "true");
    assert_eq!(attribute(received, "leadgate.forwarded"), "");
    // The call to LeadSquared belongs to the replica that executes the RPC.
    let attempt = named(&collector.spans(), "POST /v2/LeadManagement.svc/Lead.Create");
    assert_eq!(attempt[0].parent_span_id, executed.span_id);
}
