"""A gateway with its REST listener, simulators and other upstreams, and raw HTTP over sockets."""

import hashlib
import http.client
import json
import pathlib
import re
import socket
import sys
import tempfile
import threading
from dataclasses import dataclass, field

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "clients" / "python" / "tests"))

from processes import ACCESS_KEY, SECRET_KEY, TIMEOUT, Gateway, Simulator, eventually  # noqa: E402


# The time at which the clocks of all simulators stand.
NOON = "2026-01-31T09:30:00Z"
SECRET = "a-secret-of-43-characters-012345678901234567"


def access_key(caller):
    """Returns the virtual access key of a caller."""
    return f"lgr_{caller}_0123456789abcdef"


def keys(access, secret=SECRET):
    """Returns the headers of a pair of keys."""
    return [("x-LSQ-AccessKey", access), ("x-LSQ-SecretKey", secret)]


@dataclass
class Response:
    """A response: all that a client sees of it."""

    status: int
    headers: list
    body: bytes

    def header(self, name):
        """Returns the only value of a header, or None."""
        values = [value for known, value in self.headers if known.lower() == name]
        assert len(values) <= 1, f"{name} is there {len(values)} times"
        return values[0] if values else None

    def same(self):
        """Returns what must be the same without leadgate."""
        return self.status, self.header("content-type"), self.header("content-disposition"), self.header("allow"), self.body


def raw(address, *parts, timeout=TIMEOUT):
    """Sends bytes on a new connection, and returns all bytes until the server closes it."""
    host, port = address.rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout) as connection:
        for part in parts:
            connection.sendall(part)
        received = b""
        while True:
            try:
                more = connection.recv(65536)
            except ConnectionResetError:
                return received
            if not more:
                return received
            received += more


def request_bytes(method, target, headers, body=None):
    """Returns the bytes of a request. The target may have any bytes."""
    target = target.encode() if isinstance(target, str) else target
    lines = [b"%s %s HTTP/1.1" % (method.encode(), target)]
    headers = [*headers, *([] if body is None else [("Content-Length", str(len(body)))])]
    lines += [f"{name}: {value}".encode("latin-1") for name, value in headers]
    return b"\r\n".join([*lines, b"", b""]) + (body or b"")


def send(address, method, target, headers=(), body=None, host=None):
    """Sends one request on a new connection, and reads its response."""
    name, port = address.rsplit(":", 1)
    headers = [("Host", host or address), ("Connection", "close"), *headers]
    with socket.create_connection((name, int(port)), TIMEOUT) as connection:
        connection.sendall(request_bytes(method, target, headers, body))
        response = http.client.HTTPResponse(connection, method=method)
        response.begin()
        content = response.read()
        return Response(response.status, response.getheaders(), content)


class StoppedSimulator(Simulator):
    """A simulator with a clock that stands still."""

    def __init__(self, *arguments):
        super().__init__("--calls", "0", "--bulk", "0", *arguments)
        self.address = self.url.removeprefix("http://")
        self.control("POST", "clock", {"stop_at": NOON})

    def reset(self):
        """Restores the state of the start."""
        self.control("POST", "reset")
        self.control("POST", "clock", {"stop_at": NOON})

    def endpoints(self):
        """Returns the names of all endpoints, from the error for an unknown one."""
        answer = send(self.address, "POST", "/_simulator/faults", body=b'{"on": "?", "what": "empty500"}')
        names = re.search(r"Known names: \*, (.*)$", json.loads(answer.body)["error"]).group(1)
        return set(names.rstrip(".").split(", "))


@dataclass
class Scripted:
    """A response of an upstream, as bytes."""

    bytes: bytes
    closes: bool = False


@dataclass
class Upstream:
    """An HTTP server that keeps the bytes of each request, and sends the bytes that it is given."""

    answers: dict = field(default_factory=dict)

    def __post_init__(self):
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.address = "127.0.0.1:%d" % self._socket.getsockname()[1]
        self.url = f"http://{self.address}"
        self.requests = []
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self):
        """Stops listening."""
        self._socket.close()

    def _accept(self):
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        received = b""
        with connection:
            while True:
                try:
                    while b"\r\n\r\n" not in received:
                        more = connection.recv(65536)
                        if not more:
                            return
                        received += more
                    head, received = received.split(b"\r\n\r\n", 1)
                    length = re.search(rb"(?i)\r\ncontent-length: (\d+)", head)
                    length = int(length.group(1)) if length else 0
                    while len(received) < length:
                        received += connection.recv(65536)
                    body, received = received[:length], received[length:]
                    self.requests.append((head, body))
                    path = head.split(b" ")[1].split(b"?")[0].decode("latin-1")
                    answer = self.answers.get(
                        path, Scripted(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n[]")
                    )
                    connection.sendall(answer.bytes)
                    if answer.closes:
                        return
                except OSError:
                    return

    def last(self, path):
        """Returns the request line, the headers and the body of the last request of a path."""
        for head, body in reversed(self.requests):
            line, *headers = head.split(b"\r\n")
            if line.split(b" ")[1].split(b"?")[0].decode("latin-1") == path:
                pairs = [header.decode("latin-1").split(": ", 1) for header in headers]
                return line, {name.lower(): value for name, value in pairs}, body
        raise AssertionError(f"no request of {path}: {self.requests}")

    def count(self, path):
        """Returns the number of requests of a path."""
        return sum(head.split(b" ")[1].split(b"?")[0] == path.encode("latin-1") for head, _ in self.requests)


class Listener(Gateway):
    """A gateway with a REST listener. `callers` are the settings of callers of the tenant `test`."""

    def __init__(self, upstream, rest="", callers=None, more=""):
        digest = hashlib.sha256(SECRET.encode()).hexdigest()
        tables = []
        for caller, settings in (callers or {"legacy": ""}).items():
            pair = f'{{ access_key = "{access_key(caller)}", secret_key = "sha256:{digest}" }}'
            tenants = "" if "tenants =" in settings else 'tenants = ["test"]\n'
            tables.append(f'[callers.{caller}]\n{tenants}allow = ["REST:*"]\nrest_keys = [{pair}]\n{settings}\n')
        self._settings = tempfile.NamedTemporaryFile("w", suffix=".toml")
        self._settings.write(
            f'[rest]\nlisten = "127.0.0.1:0"\n{rest}\n'
            '[tenant_defaults.limits]\ncalls = 10000\nbulk = 10000\nwindow = "1s"\n'
            "[tenant_defaults.upstream]\nbreaker_failures = 0\n"
            f"{more}\n{''.join(tables)}"
        )
        self._settings.flush()
        super().__init__(upstream, "--config", self._settings.name)
        serving = next(line for line in self.lines() if line["message"] == "serving")
        self.rest = serving["rest"]
        # Its own calls of the start have ended, so that later calls are those of clients.
        self._tenants = 1 + more.count("base_url")
        eventually("the metadata of all accounts", self.has_read_metadata)
        assert self.call("GET", "/v2/LeadManagement.svc/LeadsMetaData.Get").status == 200

    def has_read_metadata(self):
        """Whether the metadata of all accounts were read."""
        read = {line["tenant"] for line in self.lines() if line.get("endpoint") == "LeadsMetaData.Get"}
        return len(read) == self._tenants

    def call(self, method, target, body=None, headers=(), caller="legacy"):
        """Sends a request with the virtual keys of a caller in headers."""
        return send(self.rest, method, target, [*keys(access_key(caller)), *headers], body)

    def value(self, metric):
        """Returns the value of a metric with its labels, or 0."""
        _, page = self.page("/metrics")
        found = re.search(rf"(?m)^{re.escape(metric)} (\S+)$", page)
        return float(found.group(1)) if found else 0.0
