#!/usr/bin/env python3
"""What arrives at LeadSquared, byte for byte, and what a client gets of responses that the simulator does not make."""

import gzip
import unittest

from world import ACCESS_KEY, SECRET, SECRET_KEY, Listener, Scripted, Upstream, access_key, raw, send

GET = "/v2/LeadManagement.svc/Leads.GetById"
POST = "/v2/LeadManagement.svc/Lead.Create"
PAIR = f"accessKey={access_key('legacy')}&secretKey={SECRET}"
# All headers that leadgate sends, in lower case.
SENT = {"accept", "accept-encoding", "content-length", "content-type", "host", "user-agent", "x-lsq-accesskey", "x-lsq-secretkey"}
# All headers that a client gets.
RETURNED = {"content-type", "content-length", "content-disposition", "allow", "date", "connection", "x-request-id", "cache-control"}


class Bytes(unittest.TestCase):
    """A server that shows the bytes of requests, behind a gateway."""

    @classmethod
    def setUpClass(cls):
        cls.upstream = Upstream()
        cls.addClassCleanup(cls.upstream.close)
        cls.gateway = Listener(cls.upstream)
        cls.addClassCleanup(cls.gateway.close)

    def setUp(self):
        self.upstream.answers.clear()

    def sent(self, target, path=GET):
        """Sends a request with this target, and returns the target of the request that arrives."""
        response = send(self.gateway.rest, "GET", target)
        self.assertEqual(response.status, 200, (target, response))
        line, _, _ = self.upstream.last(path)
        method, arrived, version = line.split(b" ")
        self.assertEqual((method, version), (b"GET", b"HTTP/1.1"))
        return arrived

    def test_a_query_arrives_with_the_same_bytes_without_the_keys(self):
        every = bytes(byte for byte in range(0x21, 0x7F) if byte not in b"\"#&'<>")
        for query in (
            b"id=1",
            b"b=2&a=1&a=1&c",
            b"q=a+b%20c%2B%2b%27%22&r=%e0%A4%AA%zz%",
            b"&&id=1&&",
            b"=&=x&y=&?=?&/=//",
            b"x=u$r&y={a}[b]|c^d`e\\f~!*()",
            b"q=" + every,
            b"myaccessKey=a&secretKeys=b&access=Key",
            b"q=" + b"x" * 8000,
            b"q=%00%0d%0a%7f",
        ):
            self.assertEqual(self.sent(GET.encode() + b"?" + PAIR.encode() + b"&" + query), GET.encode() + b"?" + query)
            self.assertEqual(self.sent(GET.encode() + b"?" + query + b"&" + PAIR.encode()), GET.encode() + b"?" + query)
        # Without another parameter, there is no query.
        self.assertEqual(self.sent(f"{GET}?{PAIR}"), GET.encode())

    def test_the_characters_that_no_url_has_arrive_encoded(self):
        # The only difference: the HTTP client of leadgate encodes them, as browsers do. They decode to the same. The listener rejects other
        # bytes that no URL has: see test_sockets.py.
        for spelled, encoded in ((b"'", b"%27"), ("é".encode(), b"%C3%A9"), ("पुणे".encode(), b"%E0%A4%AA%E0%A5%81%E0%A4%A3%E0%A5%87")):
            target = GET.encode() + b"?q=" + spelled + b"&" + PAIR.encode()
            self.assertEqual(self.sent(target), GET.encode() + b"?q=" + encoded)

    def test_a_path_arrives_as_it_is_spelled(self):
        for target, path in (
            ("/LeadManagement.svc/Leads.GetById", GET),
            ("//v2///LeadManagement.svc//Leads.GetById", GET),
            ("/V2/LEADMANAGEMENT.SVC/leads.getbyid/", "/V2/LEADMANAGEMENT.SVC/leads.getbyid/"),
            ("/leadmanagement.SVC/Lead/Bulk/Create//", "/v2/leadmanagement.SVC/Lead/Bulk/Create/"),
            ("/v2/Leads/Not_Contacted-7/..a", "/v2/Leads/Not_Contacted-7/..a"),
            ("http://elsewhere.example:1/v2/A.svc/B", "/v2/A.svc/B"),
        ):
            self.assertEqual(self.sent(f"{target}?{PAIR}", path), path.encode())

    def test_a_body_arrives_with_the_same_bytes_and_no_other_header(self):
        for method in ("POST", "PUT", "DELETE"):
            for body in (b"", b"[]", b"\x00\xff\xfe\r\n", b"\xef\xbb\xbf[]", "é\u2028".encode(), b"x" * 300_000):
                for kind in ("text/plain; charset=latin-1", "application/x-www-form-urlencoded", None):
                    headers = [("Cookie", "a=b"), ("Referer", "x"), ("x-api-key", "k"), ("X-Forwarded-For", "1.2.3.4")]
                    headers += [("Authorization", "Bearer x"), ("TE", "trailers"), ("x-leadgate-max-wait", "2s"), ("Origin-x", "y")]
                    headers += [("Content-Type", kind)] if kind else []
                    response = self.gateway.call(method, POST, body, headers)
                    self.assertEqual(response.status, 200)
                    line, arrived, content = self.upstream.last(POST)
                    self.assertEqual((line, content), (f"{method} {POST} HTTP/1.1".encode(), body))
                    self.assertEqual(set(arrived) - SENT, set())
                    expected = kind or ("application/json" if body else None)
                    self.assertEqual(arrived.get("content-type"), expected)
                    length = arrived.get("content-length")
                    self.assertEqual(length, str(len(body)) if body or method != "DELETE" else None, (line, arrived))
                    self.assertEqual((arrived["x-lsq-accesskey"], arrived["x-lsq-secretkey"]), (ACCESS_KEY, SECRET_KEY))
                    self.assertEqual(arrived["host"], self.upstream.address)
        # A GET has no body.
        for body in (b"", b"abc"):
            self.gateway.call("GET", GET, body, [("Content-Type", "application/json"), ("Accept", "text/plain")])
            _, arrived, content = self.upstream.last(GET)
            self.assertEqual((content, "content-length" in arrived, "transfer-encoding" in arrived), (b"", False, False))
            self.assertEqual((arrived["content-type"], arrived["accept"]), ("application/json", "text/plain"))

    def test_a_chunked_body_arrives_with_its_length(self):
        head = f"POST {POST}?{PAIR} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: x-a\r\n\r\n"
        chunks = "3;name=value\r\nabc\r\n2\r\nde\r\n0\r\nx-a: b\r\n\r\n"
        self.assertIn(b" 200 OK", raw(self.gateway.rest, (head + chunks).encode()))
        _, arrived, content = self.upstream.last(POST)
        self.assertEqual((content, arrived["content-length"], "transfer-encoding" in arrived), (b"abcde", "5", False))

    def test_a_response_arrives_decompressed_and_without_other_headers(self):
        plain = '\ufeff[{"FirstName": "José"}]'.encode()
        packed = gzip.compress(plain)
        further = (
            b"Set-Cookie: a=b\r\nSet-Cookie: c=d\r\nLocation: http://elsewhere.example/\r\nServer: x\r\nX-Powered-By: y\r\n"
            b'Content-Disposition: attachment; filename="a.csv"\r\nETag: "1"\r\nRetry-After: 7\r\nAccess-Control-Allow-Origin: *\r\n'
            b"Cache-Control: public\r\nx-leadgate-reason: OTHER\r\nx-request-id: 1\r\nConnection: keep-alive\r\n"
        )
        json = b"Content-Type: application/json; charset=utf-8\r\n"
        half = len(plain) // 2
        chunks = b"%x\r\n%s\r\n%x\r\n%s\r\n0\r\n\r\n" % (half, plain[:half], len(plain) - half, plain[half:])
        length = b"Content-Length: %d\r\n"
        for answer in (
            Scripted(b"HTTP/1.1 200 OK\r\n" + json + further + length % len(plain) + b"\r\n" + plain),
            Scripted(b"HTTP/1.1 200 OK\r\n" + json + further + b"Content-Encoding: gzip\r\n" + length % len(packed) + b"\r\n" + packed),
            Scripted(b"HTTP/1.1 200 OK\r\n" + json + further + b"Transfer-Encoding: chunked\r\n\r\n" + chunks),
            Scripted(b"HTTP/1.1 200 OK\r\n" + json + further + b"Connection: close\r\n\r\n" + plain, closes=True),
            Scripted(b"HTTP/1.0 200 OK\r\n" + json + further + b"\r\n" + plain, closes=True),
        ):
            self.upstream.answers[GET] = answer
            direct = send(self.upstream.address, "GET", GET)
            for accepted in ((), [("Accept-Encoding", "deflate, gzip, br, zstd")]):
                through = self.gateway.call("GET", GET, None, accepted)
                body = gzip.decompress(direct.body) if direct.header("content-encoding") else direct.body
                self.assertEqual((through.status, through.body), (200, body))
                self.assertEqual(through.header("content-type"), direct.header("content-type"))
                self.assertEqual(through.header("content-disposition"), 'attachment; filename="a.csv"')
                self.assertEqual(through.header("content-length"), str(len(plain)))
                self.assertEqual(through.header("cache-control"), "no-store")
                self.assertNotEqual(through.header("x-request-id"), "1")
                self.assertEqual({name.lower() for name, _ in through.headers} - RETURNED, set())

    def test_content_types_and_statuses_are_those_of_leadsquared(self):
        for status in (200, 201, 202, 204, 206, 400, 404, 405, 409, 418, 500, 503, 599):
            for kind in (b"", b"Content-Type: text/html; charset=\xe9\r\n", b"Content-Type: \r\n", b"Allow: GET, X\r\n"):
                body = b"" if status == 204 else b"<html>"
                length = b"" if status == 204 else b"Content-Length: %d\r\n" % len(body)
                self.upstream.answers[GET] = Scripted(b"HTTP/1.1 %d Some\r\n" % status + kind + length + b"\r\n" + body)
                direct = send(self.upstream.address, "GET", GET)
                through = self.gateway.call("GET", GET)
                self.assertEqual(direct.same(), through.same(), (status, kind))

    def test_redirects_and_broken_responses_are_not_passed_on(self):
        redirects = [
            b"HTTP/1.1 %d Found\r\nLocation: http://elsewhere.example/\r\nContent-Length: 0\r\n\r\n" % n for n in (301, 302, 307, 308)
        ]
        cut = [b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n[]", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab"]
        gz = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nnone"
        for answer in [*map(Scripted, redirects), *(Scripted(answer, closes=True) for answer in [*cut, gz])]:
            path = "/v2/Custom.svc/Write"
            self.upstream.answers[path] = answer
            before = self.upstream.count(path)
            response = self.gateway.call("POST", path, b"{}")
            self.assertEqual((response.status, response.header("x-leadgate-reason")), (502, "UPSTREAM_UNREADABLE"), answer)
            self.assertIsNone(response.header("location"))
            self.assertEqual(self.upstream.count(path) - before, 1)


if __name__ == "__main__":
    unittest.main()
