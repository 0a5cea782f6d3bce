//! `leadgate demo`: a gateway and a simulated LeadSquared in one process, and a short tour of the features.

mod rest;
mod secure;

use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use leadgate::app::App;
use leadgate::config::Config;
use leadgate::grpc::pb;
use leadgate::telemetry::log;
use leadgate_simulator::{Options, Simulator};
use pb::lead_service_client::LeadServiceClient;
use pb::share_service_client::ShareServiceClient;
use rest::{RestClient, RestKeys};
use secure::{Credentials, SecureSetup};
use serde::Serialize;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::cli::client::ConnectionOptions;
use crate::cli::output::print_line;
use crate::cli::process::{bind, shutdown_signal};
use crate::cli::simulate::SeedOption;

/// The number of concurrent reads of the tour, as RPCs and as REST requests.
const BURST_RPCS: u64 = 30;
const BURST_REST: u64 = 30;
/// How long the gateway may take until it is serving, and the interval of the checks.
const READY_LIMIT: Duration = Duration::from_secs(30);
const READY_INTERVAL: Duration = Duration::from_millis(20);
/// The window of the simulated account.
const WINDOW: Duration = Duration::from_secs(5);
/// A sales user of the simulated account.
const SAM: &str = "sam@simulator.example";

type LeadClient = LeadServiceClient<Channel>;

#[derive(Args)]
pub(crate) struct DemoOptions {
    /// The address of the gateway. Port 0 uses a free port.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// The address of the REST listener. Port 0 uses a free port.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:0")]
    rest: SocketAddr,
    /// The address of the admin pages. Port 0 uses a free port.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:0")]
    admin: SocketAddr,
    /// The address of the simulated LeadSquared. Port 0 uses a free port.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:0")]
    simulator: SocketAddr,
    #[command(flatten)]
    seed: SeedOption,
    /// Use TLS and identify callers: by an API key, a token and a client certificate. Certificates and keys are made for this run,
    /// in a temporary folder that is deleted at the end.
    #[arg(long)]
    secure: bool,
    /// End after the tour.
    #[arg(long)]
    tour_only: bool,
    /// No tour, and no leads except those of --seed, for tests. Prints one line of JSON when the gateway is ready: its address, and
    /// what clients need.
    #[arg(long, conflicts_with = "tour_only")]
    quiet: bool,
}

/// Where a quiet demo is, and what its clients need. `address` is that of the gateway, `rest` that of its REST listener.
#[derive(Serialize)]
struct ReadyLine<'a> {
    address: SocketAddr,
    rest: SocketAddr,
    rest_access_key: &'a str,
    rest_secret_key: &'a str,
    admin: SocketAddr,
    simulator: SocketAddr,
    tenant: &'static str,
    access_key: &'a str,
    secret_key: &'a str,
    #[serde(flatten)]
    credentials: Option<Credentials>,
}

pub(crate) async fn run(options: DemoOptions) -> Result<(), String> {
    let text = |error: std::io::Error| error.to_string();
    let chosen = Options::default();
    let simulator = options.seed.simulator(chosen.clone())?;
    let upstream = bind(options.simulator).await?;
    let listener = bind(options.listen).await?;
    let admin = bind(options.admin).await?;
    let upstream_address = upstream.local_addr().map_err(text)?;
    let address = listener.local_addr().map_err(text)?;
    let admin_address = admin.local_addr().map_err(text)?;

    let setup = options.secure.then(|| SecureSetup::create(options.quiet)).transpose()?;
    let (server, callers) = setup.as_ref().map(SecureSetup::settings).unwrap_or_default();
    let rest_keys = RestKeys::generate();
    let settings = format!(
        "[server]\nlisten = \"{address}\"\n{server}[rest]\nlisten = \"{}\"\ncors_origins = [\"*\"]\n{callers}{}[log]\nformat = \"pretty\"\nfilter = \"warn\"\n\
         [store]\nurl = \"sqlite::memory:\"\n[tenants.demo]\nbase_url = \"http://{upstream_address}\"\naccess_key = \"{}\"\nsecret_key = \"{}\"\n\
         [tenants.demo.sharing]\ndefault_activity_type = 201\npoll_every = \"500ms\"\npoll_at_most = \"2s\"\n",
        options.rest,
        rest_keys.settings(),
        chosen.access_key,
        chosen.secret_key
    );
    let config =
        Config::read("the settings of the demo", &settings, std::iter::empty()).map_err(|errors| errors.to_string())?;
    log::start(&config.log).map_err(|error| format!("starting the thread of the log failed: {error}"))?;

    let stop = CancellationToken::new();
    let simulating = simulator.clone().serve(upstream, stop.clone().cancelled_owned());
    let mut app = App::new(config).await?;
    let rest = app.open_rest().await?.ok_or("the settings have no REST listener")?;
    let serving = app.serve(listener, admin, stop.clone().cancelled_owned());
    let mut signal = pin!(shutdown_signal()?);
    let ready = ReadyLine {
        address,
        rest,
        rest_access_key: &rest_keys.access,
        rest_secret_key: &rest_keys.secret,
        admin: admin_address,
        simulator: upstream_address,
        tenant: "demo",
        access_key: &chosen.access_key,
        secret_key: &chosen.secret_key,
        credentials: None,
    };
    let keys = &rest_keys;
    let touring = async move {
        let touring = async {
            match &setup {
                _ if options.quiet => print_ready(ready, setup.as_ref()).await.map(|()| String::new()),
                None => {
                    let toured = tour(address, keys.client(rest, None)?, &simulator).await?;
                    if !options.tour_only {
                        // The first calls of the user have the whole window.
                        tokio::time::sleep(WINDOW).await;
                    }
                    Ok(toured)
                }
                Some(setup) => setup.tour(address, rest, keys).await,
            }
        };
        let toured = tokio::select! {
            toured = touring => Some(toured),
            () = &mut signal => None,
        };
        if let Some(Ok(lead_id)) = &toured
            && !options.tour_only
        {
            match &setup {
                _ if options.quiet => {}
                None => print_next_steps(
                    address,
                    &keys.curl(rest, None, lead_id),
                    admin_address,
                    upstream_address,
                ),
                Some(setup) => setup.print_next_steps(address, &setup.curl(rest, keys, lead_id), admin_address),
            }
            signal.await;
            if !options.quiet {
                print_line!("\nStopping.");
            }
        }
        stop.cancel();
        // Now, because a second signal ends the process at once.
        drop(setup);
        toured.map_or(Ok(()), |toured| toured.map(|_| ()))
    };
    let (simulated, served, toured) = tokio::join!(simulating, serving, touring);
    simulated.map_err(text)?;
    served?;
    toured
}

/// Prints a line of JSON as soon as the gateway is serving.
async fn print_ready(mut ready: ReadyLine<'_>, setup: Option<&SecureSetup>) -> Result<(), String> {
    let connection = match setup {
        Some(setup) => setup.connection(ready.address),
        None => ConnectionOptions::plaintext(ready.address),
    };
    let started = Instant::now();
    while let Err(error) = connection.health().await {
        if started.elapsed() > READY_LIMIT {
            return Err(error);
        }
        tokio::time::sleep(READY_INTERVAL).await;
    }
    ready.credentials = setup.map(SecureSetup::credentials).transpose()?;
    let line = serde_json::to_string(&ready).map_err(|error| error.to_string())?;
    print_line!("{line}");
    Ok(())
}

/// Shows the features, and returns the id of a lead.
async fn tour(address: SocketAddr, rest: RestClient, simulator: &Simulator) -> Result<String, String> {
    print_line!(
        "leadgate {}: a gateway and a simulated LeadSquared in one process\n",
        env!("CARGO_PKG_VERSION")
    );
    let mut client = LeadServiceClient::connect(format!("http://{address}"))
        .await
        .map_err(|error| format!("connecting to the gateway failed: {error}"))?;

    print_line!("1. CreateLead");
    let asha = pb::LeadFields {
        first_name: Some("Asha".into()),
        last_name: Some("Rao".into()),
        email_address: Some("asha@example.com".into()),
        phone: Some("+91-9845098450".into()),
        ..Default::default()
    };
    let created = create(&mut client, asha.clone()).await.map_err(unexpected)?;
    print_line!("   lead {created}\n");

    print_line!("2. CreateLead with invalid values: all errors are found before a call is made");
    let faulty = pb::LeadFields {
        email_address: Some("nobody".into()),
        custom: [("mx_Shoe_Size".to_owned(), number(42.0))].into(),
        ..Default::default()
    };
    print_error(create(&mut client, faulty).await)?;

    print_line!("3. CreateLead again: the error names the existing lead");
    print_error(create(&mut client, asha.clone()).await)?;

    print_line!("4. UpsertLead: the same lead, now in Pune");
    let moved = pb::LeadFields {
        city: Some("Pune".into()),
        ..asha
    };
    let request = pb::UpsertLeadRequest {
        lead: Some(moved),
        ..Default::default()
    };
    let upserted = client.upsert_lead(request).await.map_err(unexpected)?.into_inner();
    print_line!("   lead {}\n", upserted.lead_id);

    print_line!("5. GetLead by email");
    let lead = get(
        &mut client,
        pb::get_lead_request::Key::EmailAddress("asha@example.com".into()),
    )
    .await
    .map_err(unexpected)?;
    let fields = lead.fields.unwrap_or_default();
    let text = Option::unwrap_or_default;
    print_line!(
        "   number {}, {} {}, {}, {}\n",
        lead.lead_number,
        text(fields.first_name),
        text(fields.last_name),
        text(fields.phone),
        text(fields.city)
    );
    burst(&client, &rest, &created, simulator).await?;
    share(address, &created, simulator).await?;
    Ok(created)
}

/// Sends more concurrent reads than LeadSquared allows calls.
async fn burst(client: &LeadClient, rest: &RestClient, lead_id: &str, simulator: &Simulator) -> Result<(), String> {
    print_line!(
        "6. {BURST_RPCS} RPCs and {BURST_REST} REST requests at once read a lead, while LeadSquared allows 25 calls in 5 seconds"
    );
    let started = Instant::now();
    let before = simulator.stats();
    let mut reads = JoinSet::new();
    for _ in 0..BURST_RPCS {
        let (mut client, key) = (client.clone(), pb::get_lead_request::Key::LeadId(lead_id.to_owned()));
        reads.spawn(async move { get(&mut client, key).await.is_ok() });
    }
    for _ in 0..BURST_REST {
        let (rest, lead_id) = (rest.clone(), lead_id.to_owned());
        reads.spawn(async move { rest.get(&lead_id).await.is_ok() });
    }
    let all = BURST_RPCS + BURST_REST;
    let bar = ProgressBar::new(all);
    if let Ok(style) = ProgressStyle::with_template("   {bar:40} {pos}/{len} after {elapsed}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(200));
    let mut failed = 0;
    while let Some(read) = reads.join_next().await {
        bar.inc(1);
        failed += u64::from(!matches!(read, Ok(true)));
    }
    bar.finish_and_clear();
    let after = simulator.stats();
    print_line!(
        "   {} succeeded, {failed} failed, in {:.1} s",
        all - failed,
        started.elapsed().as_secs_f64()
    );
    print_line!(
        "   LeadSquared accepted {} calls and rejected {}; at most {} of 25 calls in 5 seconds",
        after.accepted - before.accepted,
        after.refused - before.refused,
        simulator.worst_window()
    );
    print_line!(
        "   RPCs shared a batch, each REST request was one call. Both wait for the same window; no caller needs to know it.\n"
    );
    if failed > 0 {
        return Err(format!("{failed} of {all} reads failed"));
    }
    Ok(())
}

/// Shares the lead with a sales user for a minute, and revokes it before.
async fn share(address: SocketAddr, lead_id: &str, simulator: &Simulator) -> Result<(), String> {
    let mut client = ShareServiceClient::connect(format!("http://{address}"))
        .await
        .map_err(|error| format!("connecting to the gateway failed: {error}"))?;

    print_line!("7. ShareLead: the user Sam may read and write the lead for a minute");
    let request = pb::ShareLeadRequest {
        lead: Some(pb::share_lead_request::Lead::LeadId(lead_id.to_owned())),
        user: Some(pb::share_lead_request::User::UserEmailAddress(SAM.to_owned())),
        access: pb::Access::Write.into(),
        duration: Some(prost_types::Duration { seconds: 60, nanos: 0 }),
        // Without waiting, so that the changes can be watched.
        wait_for: pb::WaitFor::None.into(),
        ..Default::default()
    };
    let shared = client.share_lead(request).await.map_err(unexpected)?.into_inner();
    let share_id = shared.share.unwrap_or_default().share_id;
    print_line!("   share {share_id}\n");

    print_line!("8. WatchShare: the states of the share until it is active");
    let request = pb::WatchShareRequest {
        share_id: share_id.clone(),
    };
    let mut changes = client.watch_share(request).await.map_err(unexpected)?.into_inner();
    let mut before = pb::ShareState::Unspecified;
    while let Some(change) = changes.message().await.map_err(unexpected)? {
        let share = change.share.unwrap_or_default();
        if share.state() != before {
            before = share.state();
            print_line!("   {}", state(&share));
        }
        if share.state() == pb::ShareState::Active {
            break;
        }
        if let Some(failure) = share.failure {
            return Err(format!("the tour failed: {}", failure.message));
        }
    }
    print_upstream_shares(simulator);

    print_line!("9. ListShares: LeadSquared has no such list; leadgate keeps one");
    let request = pb::ListSharesRequest::default();
    let listed = client.list_shares(request).await.map_err(unexpected)?.into_inner();
    for share in &listed.shares {
        print_line!(
            "   lead {} for user {}: {}",
            share.lead_number,
            share.user_id,
            state(share)
        );
    }
    print_line!();

    print_line!("10. RevokeShare: access ends early");
    let request = pb::RevokeShareRequest {
        share: Some(pb::revoke_share_request::Share::ShareId(share_id)),
        wait_for: pb::WaitFor::Active.into(),
        ..Default::default()
    };
    let revoked = client.revoke_share(request).await.map_err(unexpected)?.into_inner();
    print_line!("   {}", state(&revoked.share.unwrap_or_default()));
    print_upstream_shares(simulator);
    Ok(())
}

/// Prints the shares that the simulated LeadSquared has.
fn print_upstream_shares(simulator: &Simulator) {
    let shares = simulator.shares();
    for share in &shares {
        let access = if share.access == 2 { "write" } else { "read" };
        print_line!(
            "   In LeadSquared: user {} may {access} lead {} until {:.0}",
            share.user_id,
            share.entity_id,
            share.expires
        );
    }
    if shares.is_empty() {
        print_line!("   In LeadSquared: no share");
    }
    print_line!();
}

fn state(share: &pb::Share) -> String {
    let name = share.state().as_str_name();
    name.trim_start_matches("SHARE_STATE_").to_ascii_lowercase()
}

fn unexpected(status: Status) -> String {
    format!("the tour failed: {} {}", status.code(), status.message())
}

async fn create(client: &mut LeadClient, lead: pb::LeadFields) -> Result<String, Status> {
    let request = pb::CreateLeadRequest {
        lead: Some(lead),
        ..Default::default()
    };
    Ok(client.create_lead(request).await?.into_inner().lead_id)
}

async fn get(client: &mut LeadClient, key: pb::get_lead_request::Key) -> Result<pb::Lead, Status> {
    let request = pb::GetLeadRequest {
        key: Some(key),
        ..Default::default()
    };
    Ok(client.get_lead(request).await?.into_inner().lead.unwrap_or_default())
}

fn number(number: f64) -> pb::FieldValue {
    let value = Some(pb::field_value::Value::Number(number));
    pb::FieldValue { value }
}

/// Prints an expected error with its details.
fn print_error(result: Result<String, Status>) -> Result<(), String> {
    let Err(status) = result else {
        return Err("the tour failed: an error was expected".to_owned());
    };
    let details = status.get_error_details();
    let reason = details.error_info().map_or("", |info| &info.reason);
    print_line!("   {} {reason}", code_name(status.code()));
    for violation in details.bad_request().iter().flat_map(|bad| &bad.field_violations) {
        print_line!("     {}: {}", violation.field, violation.description);
    }
    if let Some(resource) = details.resource_info() {
        print_line!("     {}: {}", resource.description, status.message());
    }
    print_line!();
    Ok(())
}

fn code_name(code: Code) -> String {
    format!("{code:?}")
}

fn print_next_steps(address: SocketAddr, curl: &str, admin: SocketAddr, upstream: SocketAddr) {
    print_line!(
        r#"The gateway and the simulated LeadSquared keep running until Ctrl-C. Try:

  grpcurl -plaintext {address} list
  grpcurl -plaintext -d '{{"lead":{{"first_name":"Ben","email_address":"ben@example.com"}}}}' \
      {address} leadgate.v1.LeadService/CreateLead

  leadgate shares --addr {address} list

  A request of LeadSquared's own REST API, with keys of the gateway:
  {curl}

  An example in Python, of this repository:
      pip install ./clients/python && python3 examples/python/client.py {address} --insecure

  State of the quota:          http://{admin}/
  Metrics of the gateway:      http://{admin}/metrics
  Calls that were received:    http://{upstream}/_simulator/stats
"#
    );
}
