//! Processes of the bench: their start, their lines, their CPU time and their memory.

use std::fmt::Display;
use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

/// A process that ends with this value.
pub(crate) struct Process {
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Process {
    /// Starts a role of this bench.
    pub(crate) fn role(role: &str, arguments: &[(&str, &dyn Display)]) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.arg("--role").arg(role);
        for (name, value) in arguments {
            command.arg(name).arg(value.to_string());
        }
        Self::start(command)
    }

    /// Starts a command. Its standard error is that of the command.
    pub(crate) fn start(mut command: Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("starting {command:?} failed: {error}"));
        Self {
            output: BufReader::new(child.stdout.take().unwrap()),
            child,
        }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// The next line of its standard output.
    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        assert!(!line.is_empty(), "process {} ended without a result", self.id());
        line.trim_end().to_owned()
    }

    /// Whether the process has ended.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // An error means that the process has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The CPU time of a process, user and system.
pub(crate) fn cpu_time(id: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap();
    // The name of the process, in parentheses, may have spaces.
    let fields = stat.rsplit_once(") ").unwrap().1;
    let ticks = fields
        .split(' ')
        .skip(11)
        .take(2)
        .map(|ticks| ticks.parse::<u64>().unwrap());
    // Linux has 100 ticks in a second.
    Duration::from_millis(ticks.sum::<u64>() * 10)
}

/// The resident memory of a process in MiB.
pub(crate) fn memory(id: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    let kib: f64 = line.trim().trim_end_matches(" kB").parse().unwrap();
    kib / 1024.0
}
