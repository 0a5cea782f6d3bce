//! `leadgate top`: shows the state of the quota, live in a terminal, or as plain text for scripts, pipes and screen readers. It is a
//! client of the gateway and only calls WatchQuota.

mod history;
mod lines;
mod plain;
mod screen;
mod text;
mod verdict;
mod view;

use std::convert::Infallible;
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use clap::Args;
use history::History;
use leadgate::clock;
use leadgate::grpc::pb;
use pb::Quota;
use pb::quota_service_client::QuotaServiceClient;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::Instant;
use tonic::{Request, Status, Streaming};

use crate::cli::client::{GatewayClient, GatewayOptions, explain, note};
use crate::cli::process::{hangup_signal, parse_duration, shutdown_signals};
use crate::cli::reconnect::{ReconnectOptions, Reconnects, StreamError};

/// The range of `--interval`, which is that of WatchQuota.
const MIN_INTERVAL: Duration = Duration::from_millis(100);
const MAX_INTERVAL: Duration = Duration::from_secs(3600);
/// The age from which on a picture is old: this number of intervals, but not less than this time.
const OLD_INTERVALS: u32 = 3;
const MIN_OLD_AGE: Duration = Duration::from_secs(3);

#[derive(Args)]
pub(crate) struct TopOptions {
    #[command(flatten)]
    gateway: GatewayOptions,
    /// The time between two pictures: 100ms to 1h.
    #[arg(long, value_name = "DURATION", value_parser = parse_interval, default_value = "1s")]
    interval: Duration,
    /// Print one picture as plain text, and exit. An error is not retried.
    #[arg(long, conflicts_with = "reconnect_for")]
    once: bool,
    #[command(flatten)]
    reconnect: ReconnectOptions,
}

/// What is known of a quota: the last message, and the recent past.
#[derive(Clone)]
struct Picture {
    /// The tenant, if one is given, and the address.
    source: String,
    connection: ConnectionState,
    /// The last message, and when it was received.
    latest: Option<(Quota, Instant)>,
    history: History,
    /// The age from which on the message is old.
    old_age: Duration,
}

/// The state of the connection to the gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
enum ConnectionState {
    /// No message was received yet.
    Connecting,
    Connected,
    /// With a text for users.
    Lost(String),
}

/// What a stream reports.
enum Update {
    Quota(Box<Quota>),
    /// The connection was lost. With a text for users.
    Lost(String),
}

impl Picture {
    fn new(options: &TopOptions) -> Self {
        let address = &options.gateway.connection.addr;
        let source = match &options.gateway.tenant {
            Some(tenant) => format!("{tenant} at {address}"),
            None => address.clone(),
        };
        Self {
            source,
            connection: ConnectionState::Connecting,
            latest: None,
            history: History::new(options.interval),
            old_age: (options.interval * OLD_INTERVALS).max(MIN_OLD_AGE),
        }
    }

    /// The age of the last message.
    fn age(&self, now: Instant) -> Option<Duration> {
        let (_, at) = self.latest.as_ref()?;
        Some(now.saturating_duration_since(*at))
    }

    fn is_old(&self, now: Instant) -> bool {
        self.age(now).is_some_and(|age| age >= self.old_age)
    }

    fn apply(&mut self, update: Update, now: Instant) {
        match update {
            Update::Quota(quota) => {
                self.history.add(&quota, now);
                self.latest = Some((*quota, now));
                self.connection = ConnectionState::Connected;
            }
            Update::Lost(text) => self.connection = ConnectionState::Lost(text),
        }
    }
}

pub(crate) async fn run(options: TopOptions) -> Result<(), String> {
    // A dumb terminal has no escape codes.
    let is_dumb = std::env::var_os("TERM").is_some_and(|name| name == "dumb");
    let is_live = !options.once && !is_dumb && io::stdout().is_terminal();
    let stop = shutdown_signals(move || {
        if is_live {
            screen::restore();
        }
        false
    })?;
    let hangup = hangup_signal()?;
    let stop = async {
        tokio::select! {
            () = stop => {}
            () = hangup => {}
        }
    };
    tokio::select! {
        ended = show(&options, is_live) => ended,
        () = stop => match options.once {
            true => Err("interrupted by a signal".to_owned()),
            false => Ok(()),
        },
    }
}

async fn show(options: &TopOptions, is_live: bool) -> Result<(), String> {
    let gateway = options.gateway.connect().await?;
    let mut picture = Picture::new(options);
    if options.once {
        picture.apply(once(&gateway).await?, Instant::now());
        return print(&picture).map(|_| ());
    }
    let reconnects = Reconnects::new(&options.reconnect);
    let (sender, updates) = unbounded_channel();
    let mut watching = std::pin::pin!(watch(&gateway, options.interval, reconnects, sender));
    let showing = async {
        match is_live {
            true => screen::run(picture, updates).await,
            false => print_each(picture, updates).await,
        }
    };
    tokio::select! {
        ended = showing => ended,
        failed = &mut watching => match failed {
            Err(error) => Err(error),
            Ok(never) => match never {},
        },
    }
}

/// Reads one message.
async fn once(gateway: &GatewayClient) -> Result<Update, String> {
    let request = gateway.request(pb::WatchQuotaRequest::default());
    let first = async { connect(gateway, request).await?.message().await };
    match first.await {
        Ok(Some(response)) => Ok(update(response)),
        Ok(None) => Err("the gateway sent no state of the quota".to_owned()),
        Err(status) => Err(explain(&status)),
    }
}

/// Reads messages until an error that a new stream would not resolve. Reconnects after a lost connection.
async fn watch(
    gateway: &GatewayClient,
    interval: Duration,
    mut reconnects: Reconnects,
    updates: UnboundedSender<Update>,
) -> Result<Infallible, String> {
    loop {
        let mut has_progressed = false;
        let error = match stream(gateway, interval, &mut reconnects, &updates, &mut has_progressed).await {
            Ok(never) => match never {},
            Err(error) => error,
        };
        let lost = |text: &str| drop(updates.send(Update::Lost(text.to_owned())));
        reconnects.wait(error, has_progressed, lost).await?;
    }
}

async fn stream(
    gateway: &GatewayClient,
    interval: Duration,
    reconnects: &mut Reconnects,
    updates: &UnboundedSender<Update>,
    has_progressed: &mut bool,
) -> Result<Infallible, StreamError> {
    let request = gateway.plain(pb::WatchQuotaRequest {
        interval: prost_types::Duration::try_from(interval).ok(),
    });
    let mut responses = connect(gateway, request).await?;
    loop {
        let response = responses.message().await.map_err(StreamError::of_accepted)?;
        // A stream ends after a day.
        let response = response.ok_or_else(|| Status::unavailable("the stream ended"))?;
        // The next message or error says so.
        reconnects.connected(|_| {});
        *has_progressed = true;
        drop(updates.send(update(response)));
    }
}

async fn connect(
    gateway: &GatewayClient,
    request: Request<pb::WatchQuotaRequest>,
) -> Result<Streaming<pb::WatchQuotaResponse>, Status> {
    let mut client = QuotaServiceClient::new(gateway.channel()).max_decoding_message_size(usize::MAX);
    Ok(client.watch_quota(request).await?.into_inner())
}

fn update(response: pb::WatchQuotaResponse) -> Update {
    Update::Quota(Box::new(response.quota.unwrap_or_default()))
}

/// Prints a picture per message, until the output is closed.
async fn print_each(mut picture: Picture, mut updates: UnboundedReceiver<Update>) -> Result<(), String> {
    while let Some(update) = updates.recv().await {
        if let Update::Lost(text) = &update {
            note(&text::printable(text, usize::MAX));
        }
        let is_quota = matches!(update, Update::Quota(_));
        picture.apply(update, Instant::now());
        if is_quota && !print(&picture)? {
            break;
        }
    }
    Ok(())
}

/// Prints a picture. Returns `false` if the reader of the output closed it, as `head` does.
fn print(picture: &Picture) -> Result<bool, String> {
    let text = plain::text(picture, clock::now());
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(format!("writing the state of the quota failed: {error}")),
    }
}

fn parse_interval(text: &str) -> Result<Duration, String> {
    let interval = parse_duration(text)?;
    match (MIN_INTERVAL..=MAX_INTERVAL).contains(&interval) {
        true => Ok(interval),
        false => Err("must be 100ms to 1h".to_owned()),
    }
}
