"""What the scripts of this folder share: printed steps, steady traffic of three callers, and replicas with a PostgreSQL server.

Simulators and gateways are processes of the binary in LEADGATE_BIN, on free ports of the loopback interface.
"""

import atexit
import collections
import contextlib
import dataclasses
import json
import os
import pathlib
import pwd
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor

CLIENT = pathlib.Path(__file__).resolve().parents[2] / "clients" / "python"
# The scripts use the package and the processes of its tests, without an installation.
sys.path[:0] = [str(CLIENT / "src"), str(CLIENT / "tests")]

from processes import ACCESS_KEY, SECRET_KEY, Gateway, Simulator, eventually, run

# The library need not prepare for the start of processes.
os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"
import grpc
import leadgate.v1
from google.protobuf import json_format

# The plan of the account: 25 calls per second. Real plans have windows of 5 s; a short one shortens the scripts.
CALLS = 25
PLAN = f'calls = {CALLS}\nbulk = {CALLS}\nwindow = "1s"\n'
SIMULATE = ("--calls", str(CALLS), "--bulk", str(CALLS), "--per", "1s", "--latency", "5ms..10ms")

# What a command needs of the account.
ACCOUNT = {
    "LEADGATE__TENANTS__TEST__BASE_URL": "http://127.0.0.1:1",
    "LEADGATE__TENANTS__TEST__ACCESS_KEY": ACCESS_KEY,
    "LEADGATE__TENANTS__TEST__SECRET_KEY": SECRET_KEY,
}


def step(title, text):
    """Prints the title of a step, and what it shows."""
    print(f"\n== {title}\n   {text}", flush=True)


def show(text):
    """Prints lines of output."""
    for line in str(text).rstrip("\n").split("\n"):
        print(f"     {line}", flush=True)


def expect(promise, is_kept):
    """Prints a promise of docs/incidents.md, and ends the script if it is not kept."""
    if not is_kept:
        raise AssertionError(f"not true: {promise}")
    print(f"  ok {promise}", flush=True)


def show_ready(gateway):
    """Prints /ready of a gateway, and returns the HTTP status, the status and the codes of the reasons."""
    status, text = gateway.page("/ready")
    show(f"GET /ready: HTTP {status} {text}")
    ready = json.loads(text)
    return status, ready["status"], [reason["code"] for reason in ready["reasons"]]


def metrics(gateway):
    """Returns the metrics of a gateway, such as {'leadgate_quota_limit{tenant="test",window="calls"}': 25.0}."""
    lines = gateway.page("/metrics")[1].split("\n")
    values = (line.rpartition(" ") for line in lines if line and not line.startswith("#"))
    return {name: float(value) for name, _, value in values}


def metric(gateway, name, **labels):
    """Returns the sum of the values of a metric that have these labels, or None if there is no value."""
    wanted = {f'{label}="{value}"' for label, value in labels.items()}
    found = [
        value
        for key, value in metrics(gateway).items()
        if key.partition("{")[0] == name and wanted <= set(re.findall(r'\w+="[^"]*"', key))
    ]
    return sum(found) if found else None


def show_metrics(gateway, *names):
    """Prints metrics. A name may have the first labels: 'leadgate_quota_limit{tenant="test",window="calls"'."""
    for key, value in sorted(metrics(gateway).items()):
        if key.startswith(names):
            show(f"{key} {value:g}")


def log_lines(gateway, message):
    """Returns the log lines of a gateway whose message contains the text."""
    return [line for line in gateway.lines() if message in line["message"]]


def show_log(gateway, message):
    """Waits for a log line with this message, and prints the last one without its time."""
    line = eventually(f"log line {message}", lambda: log_lines(gateway, message))[-1]
    shown = {key: value for key, value in line.items() if key not in ("timestamp", "target")}
    show(json.dumps(shown, separators=(",", ":")))


@dataclasses.dataclass(frozen=True)
class Caller:
    name: str
    criticality: str
    method: str
    per_second: float


CALLERS = (
    Caller("checkout", "critical", "CreateLead", 4),
    Caller("portal", "sheddable-plus", "GetLead", 5),
    Caller("nightly", "sheddable", "UpsertLead", 3),
)


@dataclasses.dataclass(frozen=True)
class Outcome:
    """The result of one attempt of an RPC."""

    caller: Caller
    began: float
    took: float
    code: str
    reason: str
    text: str
    # What the call was waiting for at its deadline.
    place: str
    # From RetryInfo, in seconds.
    retry: float | None
    # The email address of a lead that was written.
    email: str | None
    is_last: bool

    @property
    def is_ok(self):
        return self.code == "OK"


class Traffic:
    """Three callers with RPCs at a steady rate, through one or more replicas in turns. With several attempts, an RPC that fails
    with UNAVAILABLE is sent again with the same request id, through the next replica."""

    def __init__(self, *gateways, timeout=3, attempts=1, rate=1.0):
        self._clients = [leadgate.Client(gateway.address, insecure=True) for gateway in gateways]
        self._timeout, self._attempts, self._rate = timeout, attempts, rate
        self._outcomes, self._crashes = [], []
        self._emails = ["first@example.com"]
        self._is_stopped = threading.Event()
        self._pool = ThreadPoolExecutor(max_workers=200)
        # The first calls of a replica can fail, until it has acquired the account.
        eventually("the first lead", self._write_first_lead)
        self._thread = threading.Thread(target=self._send)
        self._thread.start()

    def close(self):
        self._is_stopped.set()
        self._thread.join()
        for client in self._clients:
            client.close()
        self._pool.shutdown(cancel_futures=True)
        if self._crashes:
            raise self._crashes[0]

    def call(self, method, request):
        """Calls an RPC that must succeed."""
        return self._attempt(0, method, request)

    def mark(self):
        """Returns a mark for `since`: only RPCs that begin afterwards count."""
        return time.monotonic()

    def since(self, mark, caller=None):
        """Returns the outcomes of attempts that began after the mark."""
        return [found for found in list(self._outcomes) if found.began >= mark and caller in (None, found.caller.name)]

    def wait_for(self, what, mark, condition, caller=None):
        """Waits for an outcome of an attempt that began after the mark, and returns it."""
        return eventually(what, lambda: next(filter(condition, self.since(mark, caller)), None))

    def wait_for_count(self, count, mark):
        """Waits until so many attempts that began after the mark have ended."""
        eventually(f"{count} RPCs", lambda: len(self.since(mark)) >= count)

    def wait_until_normal(self, within=20):
        """Waits until the last RPCs of all callers have succeeded, and returns a mark from before them."""

        def look():
            last = [found for found in list(self._outcomes) if found.is_last][-18:]
            names = {found.caller.name for found in last}
            return all(found.is_ok and found.began >= mark for found in last) and len(names) == len(CALLERS)

        mark = self.mark()
        eventually("normal state", look, within)
        return mark

    def report(self, mark):
        """Prints the outcomes of each caller since the mark."""
        for caller in CALLERS:
            found = collections.defaultdict(list)
            for outcome in self.since(mark, caller.name):
                found[outcome.code, outcome.reason, outcome.place].append(outcome)
            for (code, *reason), outcomes in sorted(found.items(), key=lambda item: item[0][0] != "OK"):
                took = max(outcome.took for outcome in outcomes)
                text = " ".join([f"{caller.name:<9}{caller.method:<11}{len(outcomes):4} x", *filter(None, [code, *reason])])
                text += f", slowest {took:.2f} s"
                retries = [outcome.retry for outcome in outcomes if outcome.retry is not None]
                if retries:
                    text += f", retry after {min(retries):.1f} to {max(retries):.1f} s"
                show(text)

    def _attempt(self, number, method, request, metadata=()):
        """Calls a stub: the scripts show each attempt, so the client must not retry."""
        message = json_format.ParseDict(request, getattr(leadgate.v1, f"{method}Request")())
        stub = self._clients[number % len(self._clients)].leads.stub
        return getattr(stub, method)(message, timeout=self._timeout, metadata=metadata)

    def _write_first_lead(self):
        self._call(CALLERS[2], 0, self._emails[0], attempts=1)
        return self._outcomes[-1].is_ok

    def _send(self):
        """Sends RPCs at the rate of each caller."""
        began = time.monotonic()
        due = [(began + number / 20, caller) for number, caller in enumerate(CALLERS)]
        number = 0
        while True:
            due.sort(key=lambda entry: entry[0])
            at, caller = due.pop(0)
            if self._is_stopped.wait(max(0, at - time.monotonic())):
                return
            number += 1
            email = random.choice(self._emails) if caller.method == "GetLead" else f"{uuid.uuid4().hex}@example.com"
            self._pool.submit(self._call_safely, caller, number, email)
            due.append((at + 1 / (caller.per_second * self._rate), caller))

    def _call_safely(self, *arguments):
        try:
            self._call(*arguments, attempts=self._attempts)
        # The channel was closed.
        except ValueError:
            pass
        except Exception as error:
            self._crashes.append(error)

    def _call(self, caller, number, email, attempts):
        is_read = caller.method == "GetLead"
        request = {"emailAddress": email} if is_read else {"lead": {"emailAddress": email}, "requestId": str(uuid.uuid4())}
        metadata = (("x-leadgate-caller", caller.name), ("x-leadgate-criticality", caller.criticality))
        for attempt in range(attempts):
            began, code, reason, text, place, retry = time.monotonic(), "OK", "", "", "", None
            try:
                self._attempt(number + attempt, caller.method, request, metadata)
                if not is_read:
                    self._emails.append(email)
            except grpc.RpcError as raised:
                error = leadgate.Error.from_rpc(raised)
                code, text, place, retry = error.code().name, error.details(), error.metadata.get("place", ""), error.retry_after
                # Without a reason, the timer of the client library was first, or the connection was lost.
                reason = error.reason_name or (code if code == "DEADLINE_EXCEEDED" else "")
            if self._is_stopped.is_set():
                return
            is_last = code != "UNAVAILABLE" or attempt + 1 == attempts
            written = None if is_read else email
            took = time.monotonic() - began
            self._outcomes.append(Outcome(caller, began, took, code, reason, text, place, retry, written, is_last))
            if is_last or self._is_stopped.wait(0.2):
                return


class Database:
    """A PostgreSQL server in a temporary folder. It does not run as root."""

    def __init__(self):
        self._directory = tempfile.TemporaryDirectory(prefix="leadgate-incident-")
        self._folder = self._directory.name
        self._port, self._process, self._user = free_port(), None, {}
        if os.getuid() == 0:
            names = {entry.pw_name for entry in pwd.getpwall()}
            user = pwd.getpwnam("postgres" if "postgres" in names else "nobody")
            self._user = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
            os.chown(self._folder, user.pw_uid, user.pw_gid)
        arguments = ["--no-sync", "--encoding=UTF8", "--locale=C", "--auth=trust", "--username=leadgate", "--pgdata=data"]
        subprocess.run([program("initdb"), *arguments], check=True, stdout=subprocess.DEVNULL, **self._place())
        self.url = f"postgres://leadgate@127.0.0.1:{self._port}/postgres?sslmode=disable"

    def _place(self):
        return {"cwd": self._folder, "stdin": subprocess.DEVNULL, **self._user}

    def start(self):
        """Starts the server, and waits until it accepts connections."""
        settings = {"listen_addresses": "127.0.0.1", "unix_socket_directories": "", "fsync": "off"}
        arguments = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        with open(os.path.join(self._folder, "log"), "a", encoding="utf-8") as log:
            command = [program("postgres"), "-D", "data", "-p", str(self._port), *arguments]
            self._process = subprocess.Popen(command, stdout=log, stderr=log, **self._place())
        # Also after an error of this method.
        atexit.register(self._end, signal.SIGQUIT)
        ready = [program("pg_isready"), "--quiet", "--host=127.0.0.1", f"--port={self._port}"]
        eventually("PostgreSQL", lambda: subprocess.run(ready, check=False).returncode == 0)

    def stop(self):
        """Stops the server, and closes its connections."""
        self._end(signal.SIGINT)

    def close(self):
        self._end(signal.SIGQUIT)
        self._directory.cleanup()

    def _end(self, how):
        if self._process and self._process.poll() is None:
            self._process.send_signal(how)
            self._process.wait(20)


def program(name):
    """Returns the path of a program of PostgreSQL. Debian has some of them in a folder of their version."""
    folders = sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    folders = [os.environ.get("LEADGATE_POSTGRES_BIN", ""), *map(str, folders), os.environ.get("PATH", "")]
    found = shutil.which(name, path=os.pathsep.join(filter(None, folders)))
    return found or sys.exit(f"the program {name} is missing: run tools/install-postgres.sh")


def free_port():
    """Returns a free port below those that the system gives to outgoing connections."""
    while True:
        port = random.randrange(12_000, 32_000)
        with contextlib.closing(socket.socket()) as probe:
            if probe.connect_ex(("127.0.0.1", port)) != 0:
                return port


class Incident(contextlib.ExitStack):
    """Starts what a script needs, and ends all of it at the end of the script, also after an error."""

    def __enter__(self):
        # A script that is stopped ends its processes.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
        self._folder = pathlib.Path(self.enter_context(tempfile.TemporaryDirectory()))
        return super().__enter__()

    def start(self, kind, *arguments, **settings):
        started = kind(*arguments, **settings)
        self.callback(started.close)
        return started

    def simulator(self, *arguments):
        """Starts a simulated LeadSquared."""
        return self.start(Simulator, *SIMULATE, *arguments)

    def settings(self, limits=PLAN, more=""):
        """Writes a settings file of a gateway, and returns its path."""
        path = self._folder / "leadgate.toml"
        path.write_text(f"[tenants.test.limits]\n{limits}{more}", encoding="utf-8")
        return path

    def gateway(self, simulator, settings, **more):
        """Starts a gateway with one account."""
        return self.start(Gateway, simulator, "--config", str(settings), **more)

    def replica(self, simulator, settings, database, ports):
        """Starts a replica on these three ports."""
        grpc_port, admin_port, cluster_port = ports
        return self.gateway(simulator, settings, **replica_settings(database, grpc_port, admin_port, cluster_port))

    def cluster_status(self, database):
        """Runs `leadgate cluster status`, and returns its result."""
        return run("cluster", "status", **ACCOUNT, **replica_settings(database, 0, 0, free_port()))


def replica_settings(database, grpc_port, admin_port, cluster_port):
    """Returns the settings of a replica, as environment variables. The lease has the minimum, 3 s."""
    return {
        "LEADGATE__SERVER__LISTEN": f"127.0.0.1:{grpc_port}",
        "LEADGATE__ADMIN__LISTEN": f"127.0.0.1:{admin_port}",
        "LEADGATE__STORE__URL": database.url,
        "LEADGATE__STORE__CONNECT_TIMEOUT": "1s",
        "LEADGATE__CLUSTER__LISTEN": f"127.0.0.1:{cluster_port}",
        "LEADGATE__CLUSTER__SECRET": "0123456789abcdef",
        "LEADGATE__CLUSTER__LEASE": "3s",
    }
