//! `leadgate demo`: gateway and simulator in one process, and a short tour of what they do.

use std::net::SocketAddr;
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
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::{bind, told_to_stop};

/// How many leads the tour reads at once.
const BURST: u64 = 60;
/// A sales user of the simulated account.
const SAM: &str = "sam@simulator.example";

type Client = LeadServiceClient<Channel>;

#[derive(Args)]
pub(crate) struct Demo {
    /// Where the gateway serves gRPC; port 0 takes a free one.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Where it serves /metrics; port 0 takes a free one.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:0")]
    admin: SocketAddr,
    /// Where the simulator serves; port 0 takes a free one.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:0")]
    simulator: SocketAddr,
    /// Ends after the tour.
    #[arg(long)]
    tour_only: bool,
}

pub(crate) async fn run(options: Demo) -> Result<(), String> {
    let text = |error: std::io::Error| error.to_string();
    let upstream = bind(options.simulator).await?;
    let listener = bind(options.listen).await?;
    let admin = bind(options.admin).await?;
    let upstream_address = upstream.local_addr().map_err(text)?;
    let address = listener.local_addr().map_err(text)?;
    let admin_address = admin.local_addr().map_err(text)?;

    let chosen = Options::default();
    let settings = format!(
        "[server]\nlisten = \"{address}\"\n[log]\nformat = \"pretty\"\nfilter = \"warn\"\n\
         [store]\nurl = \"sqlite::memory:\"\n[tenants.demo]\nbase_url = \"http://{upstream_address}\"\naccess_key = \"{}\"\nsecret_key = \"{}\"\n\
         [tenants.demo.sharing]\ndefault_activity_type = 201\npoll_every = \"500ms\"\npoll_at_most = \"2s\"\n",
        chosen.access_key, chosen.secret_key
    );
    let config =
        Config::read("the demo's settings", &settings, std::iter::empty()).map_err(|errors| errors.to_string())?;
    log::start(&config.log);

    let stop = CancellationToken::new();
    let simulator = Simulator::new(chosen);
    let simulating = simulator.clone().serve(upstream, stop.clone().cancelled_owned());
    let serving = App::new(config)
        .await?
        .serve(listener, admin, stop.clone().cancelled_owned());
    let touring = async {
        let tour = tokio::select! {
            tour = tour(address, &simulator) => tour,
            () = told_to_stop()? => Ok(()),
        };
        if tour.is_ok() && !options.tour_only {
            how_to_go_on(address, admin_address, upstream_address);
            told_to_stop()?.await;
            println!("\nStopping.");
        }
        stop.cancel();
        tour
    };
    let (simulated, served, toured) = tokio::join!(simulating, serving, touring);
    simulated.map_err(text)?;
    served?;
    toured
}

async fn tour(address: SocketAddr, simulator: &Simulator) -> Result<(), String> {
    println!(
        "leadgate {}: gateway and simulated LeadSquared in one process\n",
        env!("CARGO_PKG_VERSION")
    );
    let mut client = LeadServiceClient::connect(format!("http://{address}"))
        .await
        .map_err(|error| format!("the gateway does not answer: {error}"))?;

    println!("1. CreateLead");
    let asha = pb::LeadFields {
        first_name: Some("Asha".into()),
        last_name: Some("Rao".into()),
        email_address: Some("asha@example.com".into()),
        phone: Some("+91-9845098450".into()),
        ..Default::default()
    };
    let created = create(&mut client, asha.clone()).await.map_err(unexpected)?;
    println!("   lead {created}\n");

    println!("2. CreateLead with faults: all are found before a call is spent");
    let faulty = pb::LeadFields {
        email_address: Some("nobody".into()),
        custom: [("mx_Shoe_Size".to_owned(), number(42.0))].into(),
        ..Default::default()
    };
    refused(create(&mut client, faulty).await)?;

    println!("3. CreateLead again: whose fault, and which field");
    refused(create(&mut client, asha.clone()).await)?;

    println!("4. UpsertLead: the same person, now in Pune");
    let moved = pb::LeadFields {
        city: Some("Pune".into()),
        ..asha
    };
    let request = pb::UpsertLeadRequest {
        lead: Some(moved),
        ..Default::default()
    };
    let upserted = client.upsert_lead(request).await.map_err(unexpected)?.into_inner();
    println!("   lead {}\n", upserted.lead_id);

    println!("5. GetLead by email");
    let lead = get(
        &mut client,
        pb::get_lead_request::Key::EmailAddress("asha@example.com".into()),
    )
    .await
    .map_err(unexpected)?;
    let fields = lead.fields.unwrap_or_default();
    let text = Option::unwrap_or_default;
    println!(
        "   number {}, {} {}, {}, {}\n",
        lead.lead_number,
        text(fields.first_name),
        text(fields.last_name),
        text(fields.phone),
        text(fields.city)
    );
    burst(&client, &created, simulator).await?;
    share(address, &created, simulator).await
}

/// Sixty callers at once, where LeadSquared allows 25 calls in 5 seconds.
async fn burst(client: &Client, lead_id: &str, simulator: &Simulator) -> Result<(), String> {
    println!("6. {BURST} reads at once, where LeadSquared allows 25 calls in 5 seconds");
    let started = Instant::now();
    let before = simulator.stats();
    let mut reads = JoinSet::new();
    for _ in 0..BURST {
        let (mut client, key) = (client.clone(), pb::get_lead_request::Key::LeadId(lead_id.to_owned()));
        reads.spawn(async move { get(&mut client, key).await });
    }
    let bar = ProgressBar::new(BURST);
    if let Ok(style) = ProgressStyle::with_template("   {bar:40} {pos}/{len} after {elapsed}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(200));
    let mut failed = 0;
    while let Some(read) = reads.join_next().await {
        bar.inc(1);
        failed += u64::from(!matches!(read, Ok(Ok(_))));
    }
    bar.finish_and_clear();
    let after = simulator.stats();
    println!(
        "   {} answered, {failed} failed, in {:.1} s",
        BURST - failed,
        started.elapsed().as_secs_f64()
    );
    println!(
        "   LeadSquared saw {} calls and refused {}; the fullest 5 seconds held {} of 25",
        after.accepted - before.accepted,
        after.refused - before.refused,
        simulator.worst_window()
    );
    println!("   Most reads shared a call; no caller had to know the limit.\n");
    if failed > 0 {
        return Err(format!("{failed} of {BURST} reads failed"));
    }
    Ok(())
}

/// Access to the lead for a sales user, for a minute that is cut short.
async fn share(address: SocketAddr, lead_id: &str, simulator: &Simulator) -> Result<(), String> {
    let mut client = ShareServiceClient::connect(format!("http://{address}"))
        .await
        .map_err(|error| format!("the gateway does not answer: {error}"))?;

    println!("7. ShareLead: the lead for Sam of sales, to read and write, for a minute");
    let request = pb::ShareLeadRequest {
        lead: Some(pb::share_lead_request::Lead::LeadId(lead_id.to_owned())),
        user: Some(pb::share_lead_request::User::UserEmailAddress(SAM.to_owned())),
        access: pb::Access::Write.into(),
        duration: Some(prost_types::Duration { seconds: 60, nanos: 0 }),
        // Not waited for, so that there is something to watch.
        wait_for: pb::WaitFor::None.into(),
        ..Default::default()
    };
    let shared = client.share_lead(request).await.map_err(unexpected)?.into_inner();
    let share_id = shared.share.unwrap_or_default().share_id;
    println!("   share {share_id}\n");

    println!("8. WatchShare: user and lead are known, an activity is posted, LeadSquared is asked and works on it");
    let request = pb::WatchShareRequest {
        share_id: share_id.clone(),
    };
    let mut changes = client.watch_share(request).await.map_err(unexpected)?.into_inner();
    let mut before = pb::ShareState::Unspecified;
    while let Some(change) = changes.message().await.map_err(unexpected)? {
        let share = change.share.unwrap_or_default();
        if share.state() != before {
            before = share.state();
            println!("   {}", state(&share));
        }
        if share.state() == pb::ShareState::Active {
            break;
        }
        if let Some(failure) = share.failure {
            return Err(format!("the tour ended early: {}", failure.message));
        }
    }
    seen_by_leadsquared(simulator);

    println!("9. ListShares: LeadSquared has no such list, leadgate remembers");
    let request = pb::ListSharesRequest::default();
    let listed = client.list_shares(request).await.map_err(unexpected)?.into_inner();
    for share in &listed.shares {
        println!(
            "   lead {} for user {}: {}",
            share.lead_number,
            share.user_id,
            state(share)
        );
    }
    println!();

    println!("10. RevokeShare: access is taken back before its time");
    let request = pb::RevokeShareRequest {
        share: Some(pb::revoke_share_request::Share::ShareId(share_id)),
        wait_for: pb::WaitFor::Active.into(),
        ..Default::default()
    };
    let revoked = client.revoke_share(request).await.map_err(unexpected)?.into_inner();
    println!("   {}", state(&revoked.share.unwrap_or_default()));
    seen_by_leadsquared(simulator);
    Ok(())
}

/// Who has access to what, as LeadSquared itself has it.
fn seen_by_leadsquared(simulator: &Simulator) {
    let shares = simulator.shares();
    for share in &shares {
        let access = if share.access == 2 { "write" } else { "read" };
        println!(
            "   LeadSquared has it: user {} may {access} lead {} until {:.0}",
            share.user_id, share.entity_id, share.expires
        );
    }
    if shares.is_empty() {
        println!("   LeadSquared has no share any more");
    }
    println!();
}

fn state(share: &pb::Share) -> String {
    let name = share.state().as_str_name();
    name.trim_start_matches("SHARE_STATE_").to_ascii_lowercase()
}

fn unexpected(status: Status) -> String {
    format!("the tour ended early: {} {}", status.code(), status.message())
}

async fn create(client: &mut Client, lead: pb::LeadFields) -> Result<String, Status> {
    let request = pb::CreateLeadRequest {
        lead: Some(lead),
        ..Default::default()
    };
    Ok(client.create_lead(request).await?.into_inner().lead_id)
}

async fn get(client: &mut Client, key: pb::get_lead_request::Key) -> Result<pb::Lead, Status> {
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

/// Shows a refusal with its details.
fn refused(result: Result<String, Status>) -> Result<(), String> {
    let Err(status) = result else {
        return Err("the tour ended early: a refusal was expected".to_owned());
    };
    let details = status.get_error_details();
    let reason = details.error_info().map_or("", |info| &info.reason);
    println!("   {} {reason}", code_name(status.code()));
    for violation in details.bad_request().iter().flat_map(|bad| &bad.field_violations) {
        println!("     {}: {}", violation.field, violation.description);
    }
    if let Some(resource) = details.resource_info() {
        println!("     {}: {}", resource.description, status.message());
    }
    println!();
    Ok(())
}

fn code_name(code: Code) -> String {
    format!("{code:?}")
}

fn how_to_go_on(address: SocketAddr, admin: SocketAddr, upstream: SocketAddr) {
    println!(
        r#"Now you. Both stay up until Ctrl-C.

  grpcurl -plaintext {address} list
  grpcurl -plaintext -d '{{"lead":{{"first_name":"Ben","email_address":"ben@example.com"}}}}' \
      {address} leadgate.v1.LeadService/CreateLead

  leadgate shares --addr {address} list

  In Python, with examples/python of this repository:
      python3 examples/python/client.py {address}

  How its quota is doing:      http://{admin}/
  What the gateway counts:     http://{admin}/metrics
  What LeadSquared has seen:   http://{upstream}/_simulator/stats
"#
    );
}
