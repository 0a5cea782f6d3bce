//! Connections that are opened at the start of the command and stay idle, to find the time after which LeadSquared closes them.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::Instant;

use super::observed::IdleResult;
use super::request::metadata;
use super::session::{ProbeResult, Session};
use crate::crm::raw::RawClient;

/// The times after which the connections are used again, in units of the pace.
const IDLE_TIMES: [u32; 3] = [10, 25, 55];

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

    /// Uses each connection again when its time is over.
    pub(super) async fn check(self, session: &Session<'_>) -> ProbeResult<Vec<IdleResult>> {
        session.show("waiting for the idle connections", 0.0);
        let mut results = vec![];
        for connection in self.0 {
            let due = connection.idle_since + connection.idle_for;
            session.sleep(due.saturating_duration_since(Instant::now())).await?;
            let idle_for = connection.idle_since.elapsed();
            let (_, response) = session.read_with(&connection.client, &metadata()).await?;
            let again = response.and_then(|response| response.connection);
            let is_open = connection.address.zip(again).map(|(before, after)| before == after);
            session.note_evidence(&format!(
                "connection idle for {idle_for:.1?}: {}",
                match is_open {
                    Some(true) => "open",
                    Some(false) => "closed by the server",
                    None => "unknown",
                }
            ));
            results.push(IdleResult { idle_for, is_open });
        }
        Ok(results)
    }
}
