//! Files that may change while the process runs: certificates, keys, key sets, settings.
//!
//! Contents are compared, not times or inodes. So every kind of change is noticed, also the second time: a file written in
//! place, another file renamed over it, the symbolic link to its folder replaced (as Kubernetes does), and a file system that
//! sends no events.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::telemetry::metrics::Metrics;

/// How often the contents are compared.
pub const INTERVAL: Duration = Duration::from_secs(2);

/// Changed contents are used if they are the same after this time: a file that is written in place may be incomplete.
const STABLE_FOR: Duration = Duration::from_millis(200);

/// Maximum time for a look at files. It is logged once if it takes longer, as on a file system that does not respond.
const MAX_LOOK: Duration = Duration::from_secs(10);

/// The contents of some files at one time: a digest of each, or `None` for a file that cannot be read.
pub type Contents = BTreeMap<PathBuf, Option<[u8; 32]>>;

/// Reads the contents of some files.
pub fn contents<P: AsRef<Path>>(paths: impl IntoIterator<Item = P>) -> Contents {
    let digest = |path: &Path| read_regular(path).ok().map(|bytes| Sha256::digest(bytes).into());
    let paths = paths.into_iter();
    paths
        .map(|path| (path.as_ref().to_owned(), digest(path.as_ref())))
        .collect()
}

/// Reads a file. Anything else, such as a named pipe, could block for ever.
fn read_regular(path: &Path) -> io::Result<Vec<u8>> {
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::other("not a file"));
    }
    std::fs::read(path)
}

/// What a reload has to know: the contents that are in use, and the contents of the last reload that failed.
#[derive(Debug)]
pub struct Watched {
    in_use: Contents,
    failed: Option<(Contents, String)>,
}

/// The result of one look at the files.
#[derive(Debug, PartialEq, Eq)]
pub enum Look {
    /// Nothing has changed, or the same change failed before.
    Unchanged,
    /// The contents are again those in use, after contents that could not be used.
    Restored,
    /// The new contents are in use.
    Reloaded,
    /// The new contents cannot be used; the old ones stay. Returned once for each error.
    Failed(String),
}

impl Watched {
    /// Watches files that have these contents in use.
    pub fn new(in_use: Contents) -> Self {
        Self { in_use, failed: None }
    }

    /// Compares the contents with those in use, and calls `reload` if they differ. Files that belong together, such as a
    /// certificate and its key, may be seen between two writes. So a failed reload is tried again at each look, and only a
    /// new error is reported. Contents that still change are not used yet. Blocks.
    #[expect(clippy::disallowed_methods, reason = "a look runs on a thread that may block")]
    pub fn look(&mut self, reload: impl FnOnce() -> Result<(), String>) -> Look {
        self.look_twice(|| std::thread::sleep(STABLE_FOR), reload)
    }

    fn look_twice(&mut self, pause: impl FnOnce(), reload: impl FnOnce() -> Result<(), String>) -> Look {
        let now = contents(self.in_use.keys());
        if now == self.in_use {
            return match self.failed.take() {
                Some(_) => Look::Restored,
                None => Look::Unchanged,
            };
        }
        pause();
        if contents(self.in_use.keys()) != now {
            return Look::Unchanged;
        }
        match reload() {
            Ok(()) => {
                // Contents that were written during the reload differ again at the next look.
                self.in_use = now;
                self.failed = None;
                Look::Reloaded
            }
            Err(error) => {
                let failed = Some((now, error.clone()));
                match std::mem::replace(&mut self.failed, failed.clone()) == failed {
                    true => Look::Unchanged,
                    false => Look::Failed(error),
                }
            }
        }
    }
}

/// Watches several groups of files, each with a reload of its own. Each reload is logged and counted. A group whose file system does
/// not respond does not delay the other groups.
pub struct Watcher {
    watches: Vec<Watch>,
    metrics: Arc<Metrics>,
    look_now: Arc<Notify>,
}

struct Watch {
    what: String,
    watched: Watched,
    reload: Box<dyn FnMut() -> Result<(), String> + Send>,
}

impl fmt::Debug for Watcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.watches.iter().map(|watch| &watch.what);
        f.debug_list().entries(names).finish()
    }
}

impl Watcher {
    /// A watcher of no files. Notify `look_now` to compare all contents now instead of after [`INTERVAL`].
    pub fn new(metrics: Arc<Metrics>, look_now: Arc<Notify>) -> Self {
        Self {
            watches: Vec::new(),
            metrics,
            look_now,
        }
    }

    /// Watches files. `what` names them in logs and metrics. `in_use` has their contents from before they were read. `reload` reads
    /// them again; its error must not have their contents.
    pub fn add(
        &mut self,
        what: impl Into<String>,
        in_use: Contents,
        reload: impl FnMut() -> Result<(), String> + Send + 'static,
    ) {
        self.watches.push(Watch {
            what: what.into(),
            watched: Watched::new(in_use),
            reload: Box::new(reload),
        });
    }

    /// Compares the contents every [`INTERVAL`] until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut looks: JoinSet<(Watch, Look)> = JoinSet::new();
        // The looks that have not ended: when each one began. `None`: it was logged.
        let mut pending: BTreeMap<String, Option<Instant>> = BTreeMap::new();
        let mut interval = tokio::time::interval_at(Instant::now() + INTERVAL, INTERVAL);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.look_now.notified() => {}
                _ = interval.tick() => {}
                Some(looked) = looks.join_next() => {
                    match looked {
                        Ok((watch, look)) => {
                            pending.remove(&watch.what);
                            self.report(&watch.what, look);
                            self.watches.push(watch);
                        }
                        Err(error) => tracing::error!(%error, "watching files failed"),
                    }
                    continue;
                }
            }
            for mut watch in self.watches.drain(..) {
                pending.insert(watch.what.clone(), Some(Instant::now()));
                // A file system may block.
                looks.spawn_blocking(move || {
                    let look = watch.watched.look(&mut watch.reload);
                    (watch, look)
                });
            }
            for (what, since) in &mut pending {
                if since.take_if(|since| since.elapsed() > MAX_LOOK).is_some() {
                    self.metrics.reloaded(what, false);
                    tracing::error!(%what, "reading files does not end; their former contents stay in use");
                }
            }
        }
    }

    fn report(&self, what: &str, look: Look) {
        match look {
            Look::Unchanged => {}
            Look::Restored => {
                self.metrics.reload_restored(what);
                tracing::info!(%what, "files restored: their contents are in use");
            }
            Look::Reloaded => {
                self.metrics.reloaded(what, true);
                tracing::info!(%what, "files reloaded");
            }
            Look::Failed(reason) => {
                self.metrics.reloaded(what, false);
                tracing::warn!(%what, reason, "reloading files failed; the former contents stay in use");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn reload() -> Result<(), String> {
        Ok(())
    }

    #[test]
    fn each_kind_of_change_is_noticed_also_the_second_time() {
        let folder = tempfile::tempdir().unwrap();
        let data = |number: u32| {
            let path = folder.path().join(format!("data{number}"));
            fs::create_dir(&path).unwrap();
            fs::write(path.join("tls.crt"), number.to_string()).unwrap();
            path
        };
        let (link, file) = (folder.path().join("link"), folder.path().join("link/tls.crt"));
        symlink(data(0), &link).unwrap();
        let mut watched = Watched::new(contents([&file]));
        assert_eq!(watched.look(reload), Look::Unchanged);
        for round in 1..3 {
            // The link to the folder is replaced.
            let next = folder.path().join("next");
            symlink(data(round), &next).unwrap();
            fs::rename(&next, &link).unwrap();
            assert_eq!(watched.look(reload), Look::Reloaded);
            // Another file is renamed over it.
            let other = folder.path().join("other");
            fs::write(&other, format!("renamed {round}")).unwrap();
            fs::rename(&other, &file).unwrap();
            assert_eq!(watched.look(reload), Look::Reloaded);
            // It is written in place, with the same length.
            fs::write(&file, format!("inplace {round}")).unwrap();
            assert_eq!(watched.look(reload), Look::Reloaded);
            assert_eq!(watched.look(reload), Look::Unchanged);
        }
    }

    #[test]
    fn a_failed_reload_is_tried_again_and_reported_once() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("tls.key");
        fs::write(&file, "old").unwrap();
        let mut watched = Watched::new(contents([&file]));
        fs::write(&file, "broken").unwrap();
        let tries = Cell::new(0);
        let fail = |text: &'static str| {
            let tries = &tries;
            move || {
                tries.set(tries.get() + 1);
                Err(text.to_owned())
            }
        };
        assert_eq!(watched.look(fail("bad")), Look::Failed("bad".to_owned()));
        assert_eq!(watched.look(fail("bad")), Look::Unchanged);
        assert_eq!(watched.look(fail("worse")), Look::Failed("worse".to_owned()));
        assert_eq!(tries.get(), 3);
        // The old contents are back: nothing to do, and the next error is new.
        fs::write(&file, "old").unwrap();
        assert_eq!(watched.look(fail("bad")), Look::Restored);
        assert_eq!(watched.look(fail("bad")), Look::Unchanged);
        assert_eq!(tries.get(), 3);
        fs::write(&file, "broken").unwrap();
        assert_eq!(watched.look(fail("worse")), Look::Failed("worse".to_owned()));
        assert_eq!(watched.look(reload), Look::Reloaded);
    }

    #[tokio::test(start_paused = true)]
    async fn the_watcher_reloads_what_has_changed_and_counts_it() {
        let folder = tempfile::tempdir().unwrap();
        let (good, bad) = (folder.path().join("good"), folder.path().join("bad"));
        let metrics = Arc::new(Metrics::default());
        let look_now = Arc::new(Notify::new());
        let mut watcher = Watcher::new(metrics.clone(), look_now.clone());
        let (reloaded, mut reloads) = tokio::sync::mpsc::unbounded_channel();
        for (path, result) in [(&good, Ok(())), (&bad, Err("no key".to_owned()))] {
            fs::write(path, "old").unwrap();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            let reloaded = reloaded.clone();
            watcher.add(name.clone(), contents([path]), move || {
                reloaded.send(name.clone()).unwrap();
                result.clone()
            });
        }
        let restored = bad.clone();
        let stop = CancellationToken::new();
        let running = tokio_util::task::TaskTracker::new().spawn(watcher.run(stop.clone()));
        fs::write(&good, "new").unwrap();
        assert_eq!(reloads.recv().await.unwrap(), "good");
        let before = tokio::time::Instant::now();
        fs::write(&bad, "new").unwrap();
        look_now.notify_one();
        assert_eq!(reloads.recv().await.unwrap(), "bad");
        assert!(before.elapsed() < INTERVAL);
        // The same error again is not counted.
        assert_eq!(reloads.recv().await.unwrap(), "bad");
        assert_eq!(reloads.recv().await.unwrap(), "bad");
        let failing = |value: u32| format!("leadgate_reload_failing{{what=\"bad\"}} {value}");
        let has = |line: &str| metrics.text(std::iter::empty()).lines().any(|seen| seen == line);
        assert!(has(&failing(1)));
        fs::write(&restored, "old").unwrap();
        while !has(&failing(0)) {
            tokio::time::sleep(INTERVAL).await;
        }
        stop.cancel();
        running.await.unwrap();
        let text = metrics.text(std::iter::empty());
        for line in [
            "leadgate_reload_failing{what=\"good\"} 0",
            "leadgate_reloads_total{what=\"good\",result=\"ok\"} 1",
            "leadgate_reloads_total{what=\"bad\",result=\"failed\"} 1",
        ] {
            assert!(text.lines().any(|seen| seen == line), "{line} in {text}");
        }
    }

    #[test]
    fn contents_that_still_change_are_not_used() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("leadgate.toml");
        fs::write(&file, "old").unwrap();
        let mut watched = Watched::new(contents([&file]));
        fs::write(&file, "half").unwrap();
        let write_rest = || fs::write(&file, "half and the rest").unwrap();
        let used = || -> Result<(), String> { unreachable!("the file was incomplete") };
        assert_eq!(watched.look_twice(write_rest, used), Look::Unchanged);
        assert_eq!(watched.look_twice(|| {}, reload), Look::Reloaded);
    }

    #[test]
    fn a_named_pipe_has_no_contents_and_does_not_block() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
        assert!(made.success());
        assert_eq!(contents([&pipe]), Contents::from([(pipe, None)]));
    }

    #[test]
    fn a_deleted_file_is_a_change() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("jwks.json");
        fs::write(&file, "{}").unwrap();
        let mut watched = Watched::new(contents([&file]));
        fs::remove_file(&file).unwrap();
        assert_eq!(watched.look(|| Err("gone".to_owned())), Look::Failed("gone".to_owned()));
    }
}
