//! Private PostgreSQL servers for tests, and PgBouncer before each of them. A server has a temporary folder and a free port. A
//! guard process stops it and deletes the folder when the test process ends in any way, or when the [`Server`] is dropped.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// The role that owns every server.
const ROLE: &str = "leadgate";

/// A PostgreSQL server with PgBouncer in transaction mode.
#[derive(Debug)]
pub(crate) struct Server {
    directory: PathBuf,
    /// The port of PostgreSQL.
    pub(crate) port: u16,
    bouncer_port: u16,
    guard: Child,
}

impl Server {
    /// The server that all tests of this process share. Each test uses a database of its own.
    pub(crate) fn shared() -> &'static Self {
        static SHARED: OnceLock<Server> = OnceLock::new();
        SHARED.get_or_init(|| Self::start("fsync = off"))
    }

    /// Starts a server with additional settings.
    pub(crate) fn start(settings: &str) -> Self {
        let server = Self::prepare();
        let data = server.data();
        let initdb = [
            "--no-sync",
            "--encoding=UTF8",
            "--locale=C",
            "--auth=trust",
            "--username",
            ROLE,
        ];
        run(as_user(&program("initdb")).args(initdb).arg("--pgdata").arg(&data));
        server.add_settings(&format!(
            "max_connections = 300\nshared_buffers = 32MB\nautovacuum = off\nlog_min_messages = warning\n{settings}"
        ));
        // The first line that matches is used.
        let rules = server.data().join("pg_hba.conf");
        let text = fs::read_to_string(&rules).unwrap();
        server.write(
            &rules,
            &format!(
                "host all with_password,rotated 127.0.0.1/32 scram-sha-256\n\
                 hostssl all with_certificate 127.0.0.1/32 trust clientcert=verify-ca\n{text}"
            ),
        );
        server.restart();
        server
    }

    /// Starts a standby of this server.
    pub(crate) fn standby(&self) -> Self {
        let standby = Self::prepare();
        let port = self.port.to_string();
        let source = [
            "--host=127.0.0.1",
            "--username",
            ROLE,
            "--checkpoint=fast",
            "--no-sync",
            "--write-recovery-conf",
        ];
        let mut backup = as_user(&program("pg_basebackup"));
        run(backup
            .args(source)
            .args(["--port", &port])
            .arg("--pgdata")
            .arg(standby.data()));
        standby.add_settings("");
        standby.restart();
        standby
    }

    /// Makes a standby a primary.
    pub(crate) fn promote(&self) {
        self.control(&["promote"]);
    }

    /// Stops the server if it runs, and starts it.
    pub(crate) fn restart(&self) {
        if self.data().join("postmaster.pid").exists() {
            self.stop();
        }
        self.start_again();
    }

    /// Starts the server after it was stopped or killed.
    pub(crate) fn start_again(&self) {
        let log = self.directory.join("log").display().to_string();
        self.control(&["start", "--log", &log]);
    }

    /// Kills all processes of the server at once, as a crash does.
    pub(crate) fn kill(&self) {
        let file = fs::read_to_string(self.data().join("postmaster.pid")).unwrap();
        let postmaster = file.lines().next().unwrap();
        let children = fs::read_to_string(format!("/proc/{postmaster}/task/{postmaster}/children")).unwrap();
        let mut kill = as_user(Path::new("kill"));
        // A child may have ended meanwhile.
        let killed = kill.args(["-9", postmaster]).args(children.split_whitespace()).output();
        killed.unwrap();
        let process = Path::new("/proc").join(postmaster);
        wait_until(|| !process.exists());
    }

    /// Restarts the server with TLS. `client_authority` is the authority of client certificates.
    pub(crate) fn use_tls(&self, certificate: &str, key: &str, client_authority: &str) {
        let files = [
            ("server.crt", certificate),
            ("server.key", key),
            ("clients.crt", client_authority),
        ];
        for (name, text) in files {
            let path = self.data().join(name);
            self.write(&path, text);
            run(as_user(Path::new("chmod")).arg("600").arg(&path));
        }
        self.add_settings("ssl = on\nssl_ca_file = 'clients.crt'");
        self.restart();
    }

    /// Stops the server, and closes its connections.
    pub(crate) fn stop(&self) {
        self.control(&["stop", "--mode=fast"]);
    }

    /// Creates a database, and returns its name.
    pub(crate) fn create_database(&self) -> String {
        static NUMBER: AtomicU32 = AtomicU32::new(1);
        let name = format!("test_{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        self.sql("postgres", &format!("CREATE DATABASE {name} TEMPLATE template0"));
        name
    }

    /// Executes statements, and returns the values of their rows.
    pub(crate) fn sql(&self, database: &str, statements: &str) -> String {
        let mut psql = Command::new(program("psql"));
        psql.args([
            "--no-psqlrc",
            "--quiet",
            "--tuples-only",
            "--no-align",
            "--set=ON_ERROR_STOP=1",
        ]);
        psql.args(["--host=127.0.0.1", "--username", ROLE, "--dbname", database]);
        psql.args(["--port", &self.port.to_string(), "--command", statements]);
        run(&mut psql)
    }

    /// The URL of a database.
    pub(crate) fn url(&self, database: &str) -> String {
        format!("postgres://{ROLE}@127.0.0.1:{}/{database}?sslmode=disable", self.port)
    }

    /// The URL of a database through PgBouncer.
    pub(crate) fn bouncer_url(&self, database: &str) -> String {
        format!(
            "postgres://{ROLE}@127.0.0.1:{}/{database}?sslmode=disable",
            self.bouncer_port
        )
    }

    /// Starts PgBouncer. The shared server starts it once.
    pub(crate) fn start_bouncer(&self) {
        let directory = self.directory.display();
        let (port, listen) = (self.port, self.bouncer_port);
        self.write(&self.directory.join("users"), &format!("\"{ROLE}\" \"\"\n"));
        let file = self.directory.join("pgbouncer.ini");
        let settings = format!(
            "[databases]\n* = host=127.0.0.1 port={port}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {listen}\n\
             unix_socket_dir =\nauth_type = trust\nauth_file = {directory}/users\npool_mode = transaction\n\
             default_pool_size = 5\nmax_client_conn = 1000\nserver_idle_timeout = 1\nserver_round_robin = 1\n\
             logfile = {directory}/pgbouncer.log\npidfile = {directory}/pgbouncer.pid\n"
        );
        self.write(&file, &settings);
        run(as_user(&program("pgbouncer")).args(["--daemon", "--quiet"]).arg(file));
        // The command may end before the port is open.
        wait_until(|| TcpStream::connect(("127.0.0.1", listen)).is_ok());
    }

    /// The shared server, with PgBouncer.
    pub(crate) fn shared_with_bouncer() -> &'static Self {
        static STARTED: OnceLock<()> = OnceLock::new();
        let server = Self::shared();
        STARTED.get_or_init(|| server.start_bouncer());
        server
    }

    /// Creates the folder, and starts the guard process.
    fn prepare() -> Self {
        let created = run(as_user(Path::new("mktemp")).args(["-d", "/tmp/leadgate-postgres-XXXXXX"]));
        let directory = PathBuf::from(created.trim());
        let script = r#"
            cat >/dev/null
            "$1" --pgdata "$2/data" --mode=immediate stop >/dev/null 2>&1
            [ ! -f "$2/pgbouncer.pid" ] || kill "$(cat "$2/pgbouncer.pid")"
            rm -rf "$2""#;
        let mut guard = as_user(Path::new("sh"));
        guard
            .args(["-c", script, "guard"])
            .arg(program("pg_ctl"))
            .arg(&directory);
        // Signals to the test, such as those of the terminal, are not for the guard.
        guard
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        Self {
            guard: guard.spawn().unwrap(),
            directory,
            port: free_port(),
            bouncer_port: free_port(),
        }
    }

    fn data(&self) -> PathBuf {
        self.directory.join("data")
    }

    fn control(&self, arguments: &[&str]) {
        let mut control = as_user(&program("pg_ctl"));
        run(control
            .arg("--pgdata")
            .arg(self.data())
            .args(["--wait", "--silent"])
            .args(arguments));
    }

    /// Adds settings to those of the server. Later ones have priority.
    fn add_settings(&self, settings: &str) {
        let file = self.data().join("postgresql.conf");
        let text = fs::read_to_string(&file).unwrap();
        let (port, directory) = (self.port, self.directory.display());
        let own = format!("listen_addresses = '127.0.0.1'\nport = {port}\nunix_socket_directories = '{directory}'\n");
        self.write(&file, &format!("{text}\n{settings}\n{own}"));
    }

    /// Writes a file, as the user of the server.
    fn write(&self, file: &Path, text: &str) {
        let mut tee = as_user(Path::new("tee"));
        let mut tee = tee
            .arg(file)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        std::io::Write::write_all(&mut tee.stdin.take().unwrap(), text.as_bytes()).unwrap();
        assert!(tee.wait().unwrap().success());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.guard.stdin.take());
        let _ = self.guard.wait();
    }
}

/// Returns the path of a program of PostgreSQL or PgBouncer. The environment variable `LEADGATE_POSTGRES_BIN` names a folder that has
/// priority. Debian has some of the programs in a folder of their version.
fn program(name: &str) -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut folders: Vec<PathBuf> = versions.map(|version| version.path().join("bin")).collect();
    folders.sort();
    folders.extend(std::env::var_os("LEADGATE_POSTGRES_BIN").map(PathBuf::from));
    folders.reverse();
    let path = std::env::var_os("PATH").unwrap_or_default();
    folders.extend(std::env::split_paths(&path));
    folders.push("/usr/sbin".into());
    let found = folders
        .into_iter()
        .map(|folder| folder.join(name))
        .find(|path| path.exists());
    found.unwrap_or_else(|| panic!("the program {name} is missing: run tools/install-postgres.sh"))
}

/// Returns a command of a user that may run PostgreSQL: it does not run as root.
fn as_user(program: &Path) -> Command {
    let is_root = fs::metadata("/proc/self").unwrap().uid() == 0;
    if !is_root {
        return Command::new(program);
    }
    let users = fs::read_to_string("/etc/passwd").unwrap();
    let has_user = users.lines().any(|line| line.starts_with("postgres:"));
    let mut command = Command::new("runuser");
    command
        .args(["-u", if has_user { "postgres" } else { "nobody" }, "--"])
        .arg(program);
    // The current folder may be closed to the user.
    command.current_dir("/");
    command
}

/// Runs a command, and returns its output.
fn run(command: &mut Command) -> String {
    // A server that stays must not hold the output of the tests.
    let is_start = command
        .get_args()
        .any(|argument| argument == "start" || argument == "--daemon");
    if is_start {
        let status = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .unwrap();
        assert!(status.success(), "{command:?} failed");
        return String::new();
    }
    let output = command.stdin(Stdio::null()).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?} failed: {error}");
    String::from_utf8(output.stdout).unwrap()
}

/// Waits until a condition holds, 30 s at most.
#[expect(clippy::disallowed_methods, reason = "tests start a server before they use it")]
fn wait_until(condition: impl Fn() -> bool) {
    for _ in 0..3_000 {
        if condition() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("the server did not start or stop within 30 s");
}

/// A free port below those that the system gives to outgoing connections: one of them could have the port while its server restarts.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    const PORTS: std::ops::Range<u32> = 12_000..32_000;
    loop {
        // Test processes that run at the same time begin at different ports.
        let number = std::process::id()
            .wrapping_mul(97)
            .wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = PORTS.start + number % (PORTS.end - PORTS.start);
        let port = u16::try_from(port).unwrap();
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
