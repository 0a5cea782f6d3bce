"""Helpers for tests: a gateway with a simulated LeadSquared, as a process on free ports.

The binary is the value of the environment variable LEADGATE_BIN, or `leadgate` on PATH. The plugin of pytest has the
fixtures `leadgate_demo`, `leadgate_secure_demo` and `leadgate_client`.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import threading
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from leadgate import Client

if TYPE_CHECKING:
    from collections.abc import Iterator

START_TIMEOUT = 60.0
STOP_TIMEOUT = 30.0


@dataclass(frozen=True)
class Demo:
    """A running `leadgate demo`. The credentials are empty without `secure`."""

    address: str
    admin: str
    simulator: str
    tenant: str
    access_key: str
    secret_key: str
    ca_file: str = ""
    token: str = ""
    api_key: str = ""
    cert_file: str = ""
    key_file: str = ""

    def options(self) -> dict[str, Any]:
        """Returns the arguments of `leadgate.Client` and `leadgate.aio.Client` after the address."""
        return {"ca": self.ca_file, "token": self.token} if self.ca_file else {"insecure": True}

    def client(self, **options: Any) -> Client:
        """Returns a client. The options replace those of `options()`."""
        return Client(self.address, **{**self.options(), **options})

    def control(self, method: str, path: str, body: Any = None) -> Any:
        """Sends a request to the simulator: `control("POST", "faults", {"on": "Lead.Create", "what": "html502"})`."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"http://{self.simulator}/_simulator/{path}", data, method=method)
        with urllib.request.urlopen(request, timeout=START_TIMEOUT) as response:  # noqa: S310
            text = response.read()
        return json.loads(text) if text else None


@contextmanager
def demo(*arguments: str, secure: bool = False) -> Iterator[Demo]:
    """Runs `leadgate demo`, and stops it at the end. `secure`: with TLS, a key, a token and a client certificate."""
    binary = shutil.which(os.environ.get("LEADGATE_BIN", "leadgate"))
    if binary is None:
        raise FileNotFoundError("the binary of leadgate is neither the value of LEADGATE_BIN nor on PATH")
    command = [binary, "demo", "--quiet", *(["--secure"] if secure else []), *arguments]
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log)  # noqa: S603
        timer = threading.Timer(START_TIMEOUT, process.kill)
        timer.start()
        try:
            assert process.stdout is not None  # noqa: S101
            line = process.stdout.readline()
            timer.cancel()
            if not line:
                code = process.wait()
                log.seek(0)
                raise RuntimeError(f"{' '.join(command)} ended with {code} before it was ready:\n{log.read()}")
            ready = json.loads(line)
            yield Demo(**{name: ready[name] for name in Demo.__dataclass_fields__ if name in ready})
        finally:
            timer.cancel()
            process.terminate()
            try:
                process.wait(STOP_TIMEOUT)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            if process.stdout is not None:
                process.stdout.close()
