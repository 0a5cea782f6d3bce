"""Starts simulators and gateways as processes on free ports."""

import atexit
import json
import os
import pathlib
import re
import signal
import subprocess
import tempfile
import time
import unittest
import urllib.error
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[3]
BINARY = os.environ.get("LEADGATE_BIN", str(ROOT / "target" / "debug" / "leadgate"))
ACCESS_KEY = "u$rSimulatorAccessKey"
SECRET_KEY = "simulator-secret-key"
# The timeout of every wait, in seconds. It is reached only if a test fails.
TIMEOUT = 20


def eventually(what, look, within=TIMEOUT):
    """Calls `look` until it returns a true value, and returns the value."""
    until = time.monotonic() + within
    while time.monotonic() < until:
        found = look()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError(f"{what}: not within {within} s")


def environment(**settings):
    """Returns the environment of this process, with these settings of leadgate and no others."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("LEADGATE__")}
    return {**inherited, **settings}


def run(*arguments, **settings):
    """Runs a command of the binary and returns its result."""
    return subprocess.run(
        [BINARY, *arguments],
        env=environment(**settings),
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )


class Process:
    """A running command of the binary, with its output."""

    def __init__(self, *arguments, **settings):
        self._output = tempfile.TemporaryFile(mode="w+", encoding="utf-8")
        self._process = subprocess.Popen(
            [BINARY, *arguments],
            env=environment(**settings),
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=subprocess.STDOUT,
        )
        # Also after an error in a constructor.
        atexit.register(self.kill)

    def output(self):
        """Returns the output so far."""
        # pread does not move the position of the file, which is shared with the process.
        size = os.fstat(self._output.fileno()).st_size
        return os.pread(self._output.fileno(), size, 0).decode("utf-8", "replace")

    def find(self, pattern):
        """Waits for a match in the output, and returns it."""

        def look():
            ended = self._process.poll()
            found = re.search(pattern, self.output())
            if not found and ended is not None:
                raise AssertionError(f"the process ended with {ended}:\n{self.output()}")
            return found

        return eventually(f"output like {pattern}", look)

    def signal(self, number):
        """Sends a signal to the process."""
        self._process.send_signal(number)

    def terminate(self):
        """Asks the process to stop."""
        self.signal(signal.SIGTERM)

    def wait(self):
        """Waits until the process ends, and returns its exit code."""
        return self._process.wait(TIMEOUT)

    def kill(self):
        """Kills the process if it is running."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait(TIMEOUT)

    def close(self):
        """Kills the process if it is running, and deletes its output."""
        self.kill()
        self._output.close()


class Simulator(Process):
    """A LeadSquared simulator on a free port, with its control path."""

    def __init__(self, *arguments):
        super().__init__("simulate", "--listen", "127.0.0.1:0", *arguments)
        self.url = self.find(r"simulated LeadSquared is at (http://\S+)").group(1)

    def control(self, verb, path, body=None):
        """Sends a request to the control path, and returns the decoded response."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}/_simulator/{path}", data, method=verb)
        with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
            text = response.read()
        return json.loads(text) if text else None

    def inject(self, **fault):
        """Injects a fault: on="Lead.Create", what="commit-then-drop"."""
        self.control("POST", "faults", fault)

    def calls(self, endpoint):
        """Returns the number of calls of an endpoint that the simulator has accepted."""
        return self.control("GET", "stats")["endpoints"].get(endpoint, 0)


class Gateway(Process):
    """A gateway on free ports, with a simulator as upstream. The arguments are those of `leadgate serve`."""

    def __init__(self, simulator, *arguments, **settings):
        given = {
            "LEADGATE__SERVER__LISTEN": "127.0.0.1:0",
            "LEADGATE__ADMIN__LISTEN": "127.0.0.1:0",
            "LEADGATE__STORE__URL": "sqlite::memory:",
            "LEADGATE__TENANTS__TEST__BASE_URL": simulator.url,
            "LEADGATE__TENANTS__TEST__ACCESS_KEY": ACCESS_KEY,
            "LEADGATE__TENANTS__TEST__SECRET_KEY": SECRET_KEY,
        }
        super().__init__("serve", *arguments, **{**given, **settings})
        line = json.loads(self.find(r'(?m)^{.*"message":"serving".*}$').group(0))
        self.address = line["grpc"]
        self.admin = line["admin"]

    def lines(self):
        """Returns the complete log lines so far."""
        lines = self.output().split("\n")[:-1]
        return [json.loads(line) for line in lines if line.startswith("{")]

    def page(self, path):
        """Returns the status and the text of a page of the admin port."""
        try:
            with urllib.request.urlopen(f"http://{self.admin}{path}", timeout=TIMEOUT) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()


class Case(unittest.TestCase):
    """A test that stops its processes."""

    def start(self, kind, *arguments, **settings):
        """Starts a process, and stops it at the end of the test."""
        process = kind(*arguments, **settings)
        self.addCleanup(process.close)
        return process
