//! The limit of open files of the process (RLIMIT_NOFILE). Each connection needs one.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Open files besides the connections of clients: the admin port, connections to LeadSquared, the store, the audit.
const OTHER_FILES: u64 = 256;

/// Raises the soft limit to the hard limit. Logs a warning if it is too low for this number of connections.
pub(crate) fn raise_limit(max_connections: u32) {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: maximum,
        maximum,
    };
    let limit = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => maximum,
        Err(_) => current,
    };
    let needed = u64::from(max_connections) + OTHER_FILES;
    if let Some(limit) = limit.filter(|limit| *limit < needed) {
        tracing::warn!(
            limit,
            needed,
            "limit of open files too low for server.max_connections; raise the limit (ulimit -n) or lower the setting"
        );
    }
}
