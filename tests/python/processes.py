"""Starts the binary as a user would: simulators and gateways as processes on free ports."""

import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import time
import unittest
import urllib.error
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
BINARY = os.environ.get("LEADGATE_BIN", str(ROOT / "target" / "debug" / "leadgate"))
CLIENT = ROOT / "examples" / "python" / "client.py"
# The tests use the example's client.
sys.path.insert(0, str(CLIENT.parent))

ACCESS_KEY = "u$rSimulatorAccessKey"
SECRET_KEY = "simulator-secret-key"
# The longest time that anything may take here. Nothing waits for it unless something is wrong.
PATIENCE = 20


def eventually(what, look, within=PATIENCE):
    """Looks until there is something to see, and returns it."""
    until = time.monotonic() + within
    while time.monotonic() < until:
        seen = look()
        if seen:
            return seen
        time.sleep(0.02)
    raise AssertionError(f"{what}: not within {within} s")


def environment(**settings):
    """The environment of this process without leadgate's settings, and with these."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("LEADGATE__")}
    return {**inherited, **settings}


def run(*arguments, **settings):
    """Runs a command of the binary to its end."""
    return subprocess.run(
        [BINARY, *arguments],
        env=environment(**settings),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


class Process:
    """A command of the binary that stays up, with all it has written so far."""

    def __init__(self, *arguments, **settings):
        self._output = tempfile.TemporaryFile(mode="w+", encoding="utf-8")
        self._process = subprocess.Popen(
            [BINARY, *arguments],
            env=environment(**settings),
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=subprocess.STDOUT,
        )

    def output(self):
        """What it has written."""
        # Read at a place of our own: the file's position is shared with the process, which writes there.
        size = os.fstat(self._output.fileno()).st_size
        return os.pread(self._output.fileno(), size, 0).decode("utf-8", "replace")

    def find(self, pattern):
        """The first match in what it writes, waited for as long as it runs."""

        def look():
            ended = self._process.poll()
            found = re.search(pattern, self.output())
            if not found and ended is not None:
                raise AssertionError(f"it ended with {ended}:\n{self.output()}")
            return found

        return eventually(f"output like {pattern}", look)

    def terminate(self):
        """Tells it to stop."""
        self._process.send_signal(signal.SIGTERM)

    def wait(self):
        """Waits for its end and returns its exit code."""
        return self._process.wait(PATIENCE)

    def close(self):
        """Ends it, however it fares."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait(PATIENCE)
        self._output.close()


class Simulator(Process):
    """A LeadSquared on a free port, steered over its control path."""

    def __init__(self, *arguments):
        super().__init__("simulate", "--listen", "127.0.0.1:0", *arguments)
        self.url = self.find(r"simulated at (http://\S+)").group(1)

    def control(self, verb, path, body=None):
        """Asks the control path, and returns what its answer holds."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}/_simulator/{path}", data, method=verb)
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            text = answer.read()
        return json.loads(text) if text else None

    def order(self, **fault):
        """Orders a fault: on="Lead.Create", what="commit-then-drop"."""
        self.control("POST", "faults", fault)

    def calls(self, endpoint):
        """How many calls of that endpoint it has let through."""
        return self.control("GET", "stats")["endpoints"].get(endpoint, 0)


class Gateway(Process):
    """A gateway on free ports, in front of a simulator."""

    def __init__(self, simulator, **settings):
        given = {
            "LEADGATE__SERVER__LISTEN": "127.0.0.1:0",
            "LEADGATE__ADMIN__LISTEN": "127.0.0.1:0",
            "LEADGATE__STORE__URL": "sqlite::memory:",
            "LEADGATE__TENANTS__TEST__BASE_URL": simulator.url,
            "LEADGATE__TENANTS__TEST__ACCESS_KEY": ACCESS_KEY,
            "LEADGATE__TENANTS__TEST__SECRET_KEY": SECRET_KEY,
        }
        super().__init__("serve", **{**given, **settings})
        line = json.loads(self.find(r'(?m)^{.*"message":"serving".*}$').group(0))
        self.address = line["grpc"]
        self.admin = line["admin"]

    def lines(self):
        """Its log so far, without a line that is being written."""
        lines = self.output().split("\n")[:-1]
        return [json.loads(line) for line in lines if line.startswith("{")]

    def page(self, path):
        """A page of the admin port: its status and text."""
        try:
            with urllib.request.urlopen(f"http://{self.admin}{path}", timeout=PATIENCE) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()


class Case(unittest.TestCase):
    """A test that ends what it has started."""

    def start(self, kind, *arguments, **settings):
        """Starts a process that ends with the test."""
        process = kind(*arguments, **settings)
        self.addCleanup(process.close)
        return process
