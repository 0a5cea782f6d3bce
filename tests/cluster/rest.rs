//! Clients of the REST listener.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use leadgate::identity::api_key::KeyHash;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::replicas::Cluster;

const ACCESS: &str = "lgr_legacy_0123456789abcdef";
const SECRET: &str = "a-secret-of-43-characters-012345678901234567";
/// The time within which all requests must end.
const END_TIMEOUT: Duration = Duration::from_secs(30);

/// The settings of a caller with a pair of keys, and of requests that wait longer than a takeover.
pub fn settings() -> String {
    let hash = KeyHash::of(SECRET);
    format!(
        "max_wait = \"15s\"\n[callers.legacy]\nallow = [\"REST:*\"]\ntenants = [\"acme\"]\n\
         rest_keys = [{{ access_key = \"{ACCESS}\", secret_key = \"{hash}\" }}]\n"
    )
}

/// A request that has ended.
pub struct Ended {
    /// The first name of the created lead. `None` for a read.
    name: Option<String>,
    pub status: u16,
}

/// Clients of some replicas. Half of them create leads, and the others read one.
pub struct RestLoad {
    cluster: Arc<Cluster>,
    clients: JoinSet<Vec<Ended>>,
    stop: CancellationToken,
}

impl RestLoad {
    pub fn start(cluster: &Arc<Cluster>, replicas: &[usize], clients: usize) -> Self {
        let id = cluster.simulator.insert_lead(&[("FirstName", "Asha")]);
        let stop = CancellationToken::new();
        let mut running = JoinSet::new();
        for number in 0..clients {
            let address = cluster.replicas[replicas[number / 2 % replicas.len()]].rest;
            let url = format!("http://{address}/v2/LeadManagement.svc");
            running.spawn(work(url, number.is_multiple_of(2), id.clone(), stop.clone()));
        }
        Self {
            cluster: cluster.clone(),
            clients: running,
            stop,
        }
    }

    /// Ends the load. No lead may exist twice, and each one of a response with HTTP 200 exists.
    pub async fn end(self) -> (Vec<Ended>, Vec<Ended>) {
        self.stop.cancel();
        let ended = tokio::time::timeout(END_TIMEOUT, self.clients.join_all()).await;
        let ended = ended.expect("requests do not end").into_iter().flatten();
        let mut leads: HashMap<String, usize> = HashMap::new();
        for mut lead in self.cluster.simulator.leads() {
            if let Some(name) = lead.remove("FirstName").flatten() {
                *leads.entry(name).or_default() += 1;
            }
        }
        let (writes, reads): (Vec<Ended>, Vec<Ended>) = ended.partition(|ended| ended.name.is_some());
        for write in &writes {
            let name = write.name.as_deref().unwrap_or_default();
            let count = leads.get(name).copied().unwrap_or_default();
            assert!(count <= 1, "{name}: executed {count} times, {}", write.status);
            assert!(write.status != 200 || count == 1, "{name}: not executed");
        }
        (reads, writes)
    }
}

async fn work(url: String, writes: bool, id: String, stop: CancellationToken) -> Vec<Ended> {
    let client = reqwest::Client::new();
    let keys = [("x-lsq-accesskey", ACCESS), ("x-lsq-secretkey", SECRET)];
    let mut ended = Vec::new();
    while !stop.is_cancelled() {
        let name = writes.then(|| format!("t{}", Uuid::new_v4().simple()));
        let request = match &name {
            Some(name) => {
                let body = format!(r#"[{{"Attribute":"FirstName","Value":"{name}"}}]"#);
                client.post(format!("{url}/Lead.Create")).body(body)
            }
            None => client.get(format!("{url}/Leads.GetById?id={id}")),
        };
        let request = keys
            .iter()
            .fold(request, |request, (name, key)| request.header(*name, *key));
        let response = request.send().await.unwrap();
        let status = response.status().as_u16();
        response.bytes().await.unwrap();
        ended.push(Ended { name, status });
    }
    ended
}
