#!/usr/bin/env python3
"""Bad input over raw sockets: the response, the end of the connection, and nothing that reaches LeadSquared.

tests/it/rest/listener.rs has the cases that need no raw socket or that one request shows.
"""

import json
import socket
import threading
import time
import unittest

from world import ACCESS_KEY, SECRET, SECRET_KEY, TIMEOUT, Listener, Scripted, StoppedSimulator, Upstream, access_key, eventually, raw

GET = "/v2/LeadManagement.svc/Leads.GetById"
POST = "/v2/LeadManagement.svc/Lead.Create"
LARGE = "/v2/LeadManagement.svc/Lists.Get"
PAIR = f"accessKey={access_key('legacy')}&secretKey={SECRET}"
OTHER = f"accessKey={access_key('other')}&secretKey={SECRET}"
# A request that must never be taken for one of its own, behind another one.
SECOND = f"GET {GET}?{PAIR}&id=smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
# Short, so that the tests are. The connection of a client that is slower than this is closed.
LIMIT = 1
TYPES = {
    400: "MXInvalidInputException",
    401: "MXInvalidAccessDetailsException",
    404: "MXInvalidInputException",
    405: "MXInvalidInputException",
    408: "MXInvalidInputException",
    413: "MXInvalidInputException",
}


def parsed(received):
    """Returns status, headers and body of the only response in the bytes."""
    head, body = received.split(b"\r\n\r\n", 1)
    line, *headers = head.decode("latin-1").split("\r\n")
    headers = dict(header.lower().split(": ", 1) for header in headers)
    return int(line.split(" ")[1]), headers, body


class BadInput(unittest.TestCase):
    """A gateway with short timeouts before a server that counts requests."""

    @classmethod
    def setUpClass(cls):
        cls.upstream = Upstream()
        cls.addClassCleanup(cls.upstream.close)
        settings = f'header_timeout = "{LIMIT}s"\nbody_timeout = "{LIMIT}s"\ncors_origins = ["https://www.example.com"]'
        cls.gateway = Listener(cls.upstream, settings, {"legacy": "", "other": ""})
        cls.addClassCleanup(cls.gateway.close)

    def setUp(self):
        self.before = len(self.upstream.requests)

    def tearDown(self):
        # Every test leaves a gateway that serves.
        self.assertEqual(self.gateway.call("GET", GET).status, 200)

    def arrived(self):
        """Returns the requests that have arrived at the upstream since the last call of this function."""
        requests = self.upstream.requests[self.before :]
        self.before += len(requests)
        return requests

    def refused(self, request, status, shaped=True):
        """Checks that bytes get one response with this status and the end of the connection, and that nothing arrives."""
        request = request.encode("latin-1") if isinstance(request, str) else request
        received = raw(self.gateway.rest, request + SECOND.encode())
        self.assertEqual(received.count(b"HTTP/1."), 1, (request, received))
        seen, headers, body = parsed(received)
        self.assertEqual((seen, headers.get("connection")), (status, "close"), (request, received))
        if shaped:
            error = json.loads(body)
            expected = {"Status": "Error", "ExceptionType": TYPES[status], "ExceptionMessage": error["ExceptionMessage"]}
            # LeadSquared's own errors have the keys in this order.
            self.assertEqual(body.decode(), json.dumps(expected, separators=(",", ":")))
            self.assertEqual(headers["content-type"], "application/json; charset=utf-8")
            self.assertEqual(headers["cache-control"], "no-store")
            self.assertIn("x-request-id", headers)
            for secret in (SECRET, access_key("legacy"), "smuggled"):
                self.assertNotIn(secret, body.decode())
        else:
            self.assertEqual(body, b"")
        self.assertEqual(self.arrived(), [], request)

    def test_a_request_that_hyper_cannot_parse_is_400_without_a_body(self):
        line = f"POST {POST}?{PAIR} HTTP/1.1\r\n"
        for head in (
            # Lengths.
            "Host: a\r\nContent-Length: +3\r\n\r\nabc",
            "Host: a\r\nContent-Length: -1\r\n\r\nabc",
            "Host: a\r\nContent-Length: 0x3\r\n\r\nabc",
            "Host: a\r\nContent-Length: 3 3\r\n\r\nabc",
            "Host: a\r\nContent-Length: 3, 4\r\n\r\nabc",
            "Host: a\r\nContent-Length: \r\n\r\nabc",
            "Host: a\r\nContent-Length: 99999999999999999999999\r\n\r\nabc",
            "Host: a\r\nContent-Length: 3\r\nContent-Length: 5\r\n\r\nabc",
            # Transfer codings.
            "Host: a\r\nTransfer-Encoding: identity\r\n\r\n",
            "Host: a\r\nTransfer-Encoding: xchunked\r\n\r\n",
            "Host: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n",
            "Host: a\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
            "Host: a\r\nTransfer-Encoding\t: chunked\r\n\r\n0\r\n\r\n",
            # Header lines.
            "Host: a\r\nx-a: b\rc\r\n\r\n",
            "Host: a\r\nx-a: b\0c\r\n\r\n",
            "Host: a\r\nx-a: b\r\n folded\r\n\r\n",
            "Host: a\r\n x-a: b\r\n\r\n",
            "Host: a\r\nx(a): b\r\n\r\n",
            "Host: a\r\n: b\r\n\r\n",
            "Host: a\r\nx-a\r\n\r\n",
        ):
            self.refused(line + head, 400, shaped=False)
        for first in (
            f'POST {POST}?{PAIR}&q=" HTTP/1.1',
            f"POST {POST}?{PAIR}&q=<b> HTTP/1.1",
            f"POST {POST}?{PAIR}&q=\xe9 HTTP/1.1",
            f"POST {POST}?{PAIR}&q=\x7f HTTP/1.1",
            f"POST {POST}?{PAIR}&q=a b HTTP/1.1",
            f"POST {POST}?{PAIR}&q=a\tb HTTP/1.1",
            f"POST {POST}?{PAIR}&q=a\rb HTTP/1.1",
            f"POST {POST}?{PAIR}&q=\0 HTTP/1.1",
            f"POST  {POST}?{PAIR} HTTP/1.1",
            f"PO(ST {POST}?{PAIR} HTTP/1.1",
            f"POST {POST}?{PAIR} HTTP/2.0",
            f"POST {POST}?{PAIR} HTTP/1.2",
            f"POST {POST}?{PAIR} http/1.1",
            f"POST {POST}?{PAIR}",
            f"POST LeadManagement.svc/Lead.Create?{PAIR} HTTP/1.1",
            "PRI * HTTP/2.0",
        ):
            self.refused(f"{first}\r\nHost: a\r\n\r\n", 400, shaped=False)
        self.refused(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400, shaped=False)
        many = "".join(f"x-{number}: y\r\n" for number in range(120))
        self.refused(f"{line}Host: a\r\n{many}\r\n", 431, shaped=False)
        self.refused(f"GET {GET}?{PAIR}&q={'x' * 20_000} HTTP/1.1\r\nHost: a\r\n\r\n", 431, shaped=False)

    def test_a_body_that_is_not_valid_is_400(self):
        line = f"POST {POST}?{PAIR} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        for chunks in (
            "-1\r\nabc\r\n0\r\n\r\n",
            "0x3\r\nabc\r\n0\r\n\r\n",
            "3\r\nabcX\r\n0\r\n\r\n",
            "3\r\nabc0\r\n\r\n",
            "3\nabc\r\n0\r\n\r\n",
            "3\r\nabc\n0\r\n\r\n",
            "\r\nabc\r\n0\r\n\r\n",
            "fffffffffffffffff\r\nabc\r\n0\r\n\r\n",
            f"3;{'x' * 20_000}\r\nabc\r\n0\r\n\r\n",
            f"3\r\nabc\r\n0\r\nx-a: {'x' * 20_000}\r\n\r\n",
        ):
            self.refused(line + chunks, 400)

    def test_bytes_behind_a_chunked_request_are_never_a_request(self):
        body = "[]"
        for first, second in (
            ("Transfer-Encoding: chunked", f"Content-Length: {len(body)}"),
            (f"Content-Length: {len(body)}", "Transfer-Encoding: chunked"),
            ("Transfer-Encoding: chunked", "Content-Length: 0"),
            ("Transfer-Encoding: Chunked", "x-a: b"),
            ("Transfer-Encoding:\tchunked", "x-a: b"),
            ("Transfer-Encoding: gzip, chunked", "x-a: b"),
            ("Transfer-Encoding: chunked, chunked", "x-a: b"),
        ):
            head = f"POST {POST}?{PAIR} HTTP/1.1\r\nHost: a\r\n{first}\r\n{second}\r\n\r\n"
            received = raw(self.gateway.rest, f"{head}2\r\n[]\r\n0\r\n\r\n{SECOND}".encode())
            self.assertEqual(received.count(b"HTTP/1."), 1, (head, received))
            status, headers, _ = parsed(received)
            self.assertEqual(headers["connection"], "close", received)
            arrived = self.arrived()
            self.assertIn((status, [content for _, content in arrived]), [(200, [b"[]"]), (400, [])], (head, received))
            for request, _ in arrived:
                self.assertNotIn(b"smuggled", request)
                self.assertNotIn(b"transfer-encoding", request.lower())
        # HTTP/1.0 has no chunks.
        old = f"POST {POST}?{PAIR} HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n[]\r\n0\r\n\r\n{SECOND}"
        received = raw(self.gateway.rest, old.encode())
        self.assertEqual((received.count(b"HTTP/1."), parsed(received)[0]), (1, 400), received)
        self.assertEqual(self.arrived(), [])

    def test_lines_may_end_with_a_line_feed_only(self):
        # RFC 9112 allows it. The request that is sent on is a new one.
        request = f"POST {POST}?{PAIR} HTTP/1.1\nHost: a\nContent-Length: 2\nConnection: close\n\n[]{SECOND}"
        received = raw(self.gateway.rest, request.encode())
        self.assertEqual((received.count(b"HTTP/1."), parsed(received)[0]), (1, 200), received)
        ((head, body),) = self.arrived()
        self.assertEqual((body, head.count(b"\n"), head.count(b"\r\n")), (b"[]", head.count(b"\r\n"), head.count(b"\r\n")))

    def test_other_forms_of_a_target_and_other_methods(self):
        for target in (f"http://elsewhere.example:1{GET}?{PAIR}&id=1", f"https://user:password@elsewhere.example{GET}?{PAIR}&id=1"):
            received = raw(self.gateway.rest, f"GET {target} HTTP/1.1\r\nHost: b\r\nConnection: close\r\n\r\n".encode())
            self.assertEqual(parsed(received)[0], 200, received)
            ((head, _),) = self.arrived()
            self.assertTrue(head.startswith(f"GET {GET}?id=1 HTTP/1.1\r\n".encode()), head)
            self.assertNotIn(b"elsewhere", head)
        close = "Host: a\r\nConnection: close\r\n\r\n"
        for line, status in (
            ("CONNECT elsewhere.example:443 HTTP/1.1", 405),
            ("OPTIONS * HTTP/1.1", 405),
            (f"TRACE {GET}?{PAIR} HTTP/1.1", 405),
            (f"PATCH {POST}?{PAIR} HTTP/1.1", 405),
            (f"get {GET}?{PAIR} HTTP/1.1", 405),
        ):
            self.refused(f"{line}\r\n{close}", status)
        received = raw(self.gateway.rest, f"HEAD {GET}?{PAIR} HTTP/1.1\r\n{close}".encode())
        self.assertEqual((parsed(received)[0], parsed(received)[2]), (405, b""))
        # Nothing is switched to another protocol.
        for upgrade in ("h2c", "websocket"):
            head = f"GET {GET}?{PAIR} HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, close\r\nUpgrade: {upgrade}\r\n\r\n"
            self.assertEqual(parsed(raw(self.gateway.rest, head.encode()))[0], 200)

    def test_paths_outside_are_refused(self):
        close = "Host: a\r\nConnection: close\r\n\r\n"
        for path, status in (
            ("/v2/LeadManagement.svc/../Admin", 400),
            ("/v2/../v2/LeadManagement.svc/Lead.Create", 400),
            ("/v2/LeadManagement.svc/%2e%2e/Admin", 400),
            ("/v2/LeadManagement.svc/.%2E/Admin", 400),
            ("/v2/LeadManagement.svc%2fLead.Create", 400),
            ("/v2%2FLeadManagement.svc/Lead.Create", 400),
            ("/v2/LeadManagement.svc/a%5cb", 400),
            ("/v2/LeadManagement.svc/a\\b", 400),
            ("/v2/LeadManagement.svc/a%00", 400),
            ("/v2/LeadManagement.svc/a;b=c", 400),
            ("/v2/LeadManagement.svc/\xc3\xa9", 400),
            ("/v2/LeadManagement.svc/*", 400),
            ("/v2/LeadManagement.svc", 404),
            ("/v3/LeadManagement.svc/Lead.Create", 404),
            ("/admin", 404),
            ("/metrics", 404),
        ):
            self.refused(f"POST {path}?{PAIR} HTTP/1.1\r\n{close}", status)

    def test_keys_count_only_as_a_pair_in_one_place(self):
        access, secret = access_key("legacy"), SECRET
        for query, headers in (
            (f"accessKey={access}", f"x-LSQ-SecretKey: {secret}\r\n"),
            (f"secretKey={secret}", f"x-LSQ-AccessKey: {access}\r\n"),
            (f"accessKey={access}%00&secretKey={secret}", ""),
            (f"accessKey={access}&secretKey={secret}+", ""),
            (f"accessKey={access}&secretKey=%20{secret}", ""),
            (f"accessKey={access.upper()}&secretKey={secret}", ""),
            (f"accessKey={access}%2526secretKey={secret}", ""),
            (f"x={PAIR.replace('&', '%26')}", ""),
            (f"accessKey={access}&accessKey={access}&secretKey=wrong", ""),
            (f"accessKey={access};secretKey={secret}", ""),
            # Two valid pairs of different callers.
            (OTHER, f"x-LSQ-AccessKey: {access}\r\nx-LSQ-SecretKey: {secret}\r\n"),
            (f"{PAIR}&{OTHER}", ""),
            ("", f"x-LSQ-AccessKey: {access}, {access}\r\nx-LSQ-SecretKey: {secret}\r\n"),
            ("", f"Authorization: Bearer {access}\r\n"),
            ("", f"Cookie: accessKey={access}; secretKey={secret}\r\n"),
            (f"accessKey={ACCESS_KEY}&secretKey={SECRET_KEY}", ""),
        ):
            self.refused(f"GET {GET}?{query}&id=1 HTTP/1.1\r\nHost: a\r\n{headers}Connection: close\r\n\r\n", 401)
        log = self.gateway.output()
        for key in (secret, access, SECRET_KEY):
            self.assertNotIn(key, log)

    def test_a_body_over_the_limit_is_refused_before_it_is_read(self):
        hundred = 100 * 1024 * 1024
        head = f"POST {POST}?{PAIR} HTTP/1.1\r\nHost: a\r\n"
        self.refused(f"{head}Content-Length: {hundred}\r\n\r\n", 413)
        self.refused(f"{head}Content-Length: {hundred}\r\nExpect: 100-continue\r\n\r\n", 413)
        # In chunks, as long as the gateway reads.
        chunk = b"10000\r\n" + b"x" * 65536 + b"\r\n"
        host, port = self.gateway.rest.rsplit(":", 1)
        with socket.create_connection((host, int(port)), TIMEOUT) as connection:
            connection.sendall(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode())
            sent = 0
            try:
                while sent < hundred:
                    connection.sendall(chunk)
                    sent += len(chunk)
            except OSError:
                pass
        self.assertLess(sent, 32 * 1024 * 1024)
        self.assertEqual(self.arrived(), [])

    def test_100_continue_is_sent_only_if_the_body_is_read(self):
        host, port = self.gateway.rest.rsplit(":", 1)
        head = f"POST {POST}?%s HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n"
        with socket.create_connection((host, int(port)), TIMEOUT) as connection:
            connection.sendall((head % PAIR).encode())
            self.assertEqual(connection.recv(100), b"HTTP/1.1 100 Continue\r\n\r\n")
            self.assertEqual(self.arrived(), [])
            connection.sendall(b"[]")
            self.assertTrue(connection.recv(100).startswith(b"HTTP/1.1 200"))
        ((request, body),) = self.arrived()
        self.assertEqual((body, b"expect" in request.lower()), (b"[]", False))
        self.refused(head % "accessKey=a&secretKey=b", 401)

    def test_the_body_of_a_preflight_is_never_a_request(self):
        head = f"OPTIONS {POST} HTTP/1.1\r\nHost: a\r\nAccess-Control-Request-Method: POST\r\nContent-Length: {len(SECOND)}\r\n"
        for origin, status in (("https://www.example.com", 204), ("https://other.example", 403)):
            received = raw(self.gateway.rest, f"{head}Origin: {origin}\r\n\r\n".encode())
            self.assertEqual((received.count(b"HTTP/1."), parsed(received)[0]), (1, status), received)
            self.assertEqual(parsed(received)[1]["connection"], "close")
        self.assertEqual(self.arrived(), [])

    def test_slow_headers_end_the_connection(self):
        start = time.monotonic()
        head = f"GET {GET}?{PAIR} HTTP/1.1\r\nHost: a\r\n" + "x-slow: y\r\n" * 500
        self.assertEqual(self.dripped(head), b"")
        self.assertLess(time.monotonic() - start, 5 * LIMIT)
        self.assertEqual(self.arrived(), [])

    def test_a_slow_body_is_408(self):
        start = time.monotonic()
        head = f"POST {POST}?{PAIR} HTTP/1.1\r\nHost: a\r\nContent-Length: 5000\r\n\r\n"
        status, headers, _ = parsed(self.dripped(head + "x" * 5000, at_once=len(head)))
        self.assertEqual((status, headers["connection"]), (408, "close"))
        self.assertLess(time.monotonic() - start, 5 * LIMIT)
        self.assertEqual(self.arrived(), [])

    def dripped(self, text, at_once=0):
        """Sends a text in many small parts, each in less than a timeout, and returns what the server sends until it closes."""
        host, port = self.gateway.rest.rsplit(":", 1)
        received, closed = [], threading.Event()
        with socket.create_connection((host, int(port)), TIMEOUT) as connection:
            connection.sendall(text[:at_once].encode())

            def read():
                try:
                    while more := connection.recv(65536):
                        received.append(more)
                except ConnectionResetError:
                    pass
                except TimeoutError:
                    return
                closed.set()

            reader = threading.Thread(target=read)
            reader.start()
            for byte in text[at_once:].encode():
                try:
                    connection.sendall(bytes([byte]))
                except OSError:
                    break
                reader.join(0.01)
                if not reader.is_alive():
                    break
            reader.join()
            self.assertTrue(closed.is_set(), "the server has not closed the connection")
        return b"".join(received)

    def test_a_client_that_does_not_read_is_disconnected(self):
        body = b"x" * (16 * 1024 * 1024)
        answer = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n" % len(body)
        self.upstream.answers[LARGE] = Scripted(answer + body)
        self.addCleanup(self.upstream.answers.clear)
        host, port = self.gateway.rest.rsplit(":", 1)
        with socket.socket() as slow:
            slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            slow.settimeout(TIMEOUT)
            slow.connect((host, int(port)))
            slow.sendall(f"GET {LARGE}?{PAIR} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
            closed = 'leadgate_connections_closed_total{reason="rest_timeout"}'
            before = self.gateway.value(closed)
            # It reads nothing. A good client is served meanwhile.
            self.assertEqual(self.gateway.call("GET", LARGE).body, body)
            eventually("the connection is closed", lambda: self.gateway.value(closed) > before)
            received = 0
            try:
                while more := slow.recv(1 << 20):
                    received += len(more)
            except ConnectionResetError:
                pass
            self.assertLess(received, len(body))


class GoneClients(unittest.TestCase):
    """Clients that close their connections."""

    def setUp(self):
        self.simulator = StoppedSimulator()
        self.addCleanup(self.simulator.close)
        self.gateway = Listener(self.simulator)
        self.addCleanup(self.gateway.close)

    def test_a_call_that_was_sent_runs_to_its_end_without_its_client(self):
        host, port = self.gateway.rest.rsplit(":", 1)
        body = b'[{"Attribute":"FirstName","Value":"Ann"}]'
        self.simulator.inject(on="Lead.Create", what={"delay": {"by": "2s"}})
        in_progress = 'leadgate_upstream_requests_in_progress{tenant="test"}'
        with socket.create_connection((host, int(port)), TIMEOUT) as client:
            head = f"POST {POST}?{PAIR} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
            client.sendall(head.encode() + body)
            eventually("the call is sent", lambda: self.gateway.value(in_progress) == 1)
        eventually("the call has ended", lambda: self.gateway.value(in_progress) == 0)
        self.assertEqual(len(self.simulator.control("GET", "leads")), 1)
        # Its response was read: the connection to LeadSquared is used again, and nothing is sent a second time.
        self.assertEqual(self.gateway.call("GET", f"{GET}?id=x").status, 200)
        self.assertEqual(self.simulator.calls("Lead.Create"), 1)

    def test_a_client_that_sends_half_of_its_request_costs_nothing(self):
        host, port = self.gateway.rest.rsplit(":", 1)
        self.simulator.control("DELETE", "calls")
        head = f"POST {POST}?{PAIR} HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n"
        for part in (head[:50], head, head + "[{"):
            with socket.create_connection((host, int(port)), TIMEOUT) as client:
                client.sendall(part.encode())

        self.assertEqual(self.gateway.call("GET", f"{GET}?id=x").status, 200)
        self.assertEqual([call["endpoint"] for call in self.simulator.control("GET", "calls")], ["Leads.GetById"])


if __name__ == "__main__":
    unittest.main()
