//! Connections that are opened at the start of the command and stay idle, to find the time after which LeadSquared closes them.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::Instant;

use super::observed::IdleResult;
use super::request::metadata;
use super::session::{ProbeResult, Session};
use crate::crm::raw::RawClient;

/// The times after which the connections are used again, in units of the pace. The one with the longest time is opened first.
const IDLE_TIMES: [u32; 4] = [55, 25, 10, 4];

/// The idle connections.
pub(super) struct IdleConnections(Vec<IdleConnection>);

struct IdleConnection {
    client: RawClient,
    address: Option<SocketAddr>,
    idle_since: Instant,
    idle_for: Duration,
}

impl IdleConnections {
    /// Opens the connections, each with one read.
    pub(super) async fn open(session: &Session<'_>) -> ProbeResult<Self> {
        let mut connections = vec![];
        for times in IDLE_TIMES {
            let Ok(client) = session.client.separate(session.settings.upstream.http2) else {
                continue;
            };
            let (_, response) = session.read_with(&client, &metadata()).await?;
            connections.push(IdleConnection {
                client,
                address: response.and_then(|response| response.connection),
                idle_since: Instant::now(),
                idle_for: session.options.pace * times,
            });
        }
        Ok(Self(connections))
    }

    /// Uses each connection again when its time is over, at the same time as other probes. Returns the results and the evidence.
    pub(super) async fn check(self, session: &Session<'_>) -> (Vec<IdleResult>, Vec<String>) {
        let (mut results, mut evidence) = (vec![], vec![]);
        for connection in self.0.into_iter().rev() {
            let due = connection.idle_since + connection.idle_for;
            if session
                .sleep(due.saturating_duration_since(Instant::now()))
                .await
                .is_err()
            {
                break;
            }
            let idle_for = connection.idle_since.elapsed();
            let Ok(response) = session
                .read_at_once(&connection.client, &metadata(), &mut evidence)
                .await
            else {
                break;
            };
            let again = response.and_then(|response| response.connection);
            let is_open = connection.address.zip(again).map(|(before, after)| before == after);
            let text = match is_open {
                Some(true) => "open",
                Some(false) => "closed by the server",
                None => "unknown",
            };
            evidence.push(session.line(&format!("connection idle for {idle_for:.1?}: {text}")));
            results.push(IdleResult { idle_for, is_open });
        }
        (results, evidence)
    }
}
