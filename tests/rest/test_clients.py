#!/usr/bin/env python3
"""HTTP clients that nobody here has written, before an account and before leadgate: they get the same.

Each program in `clients` makes the same requests: create, read, update, list with a body, a duplicate, a POST without a body, wrong keys, and a
read above the limit. It gets a base URL and a pair of keys, and prints a line for each response. CLIENTS_BUILD is the folder with the compiled
programs: see test.sh.
"""

import base64
import os
import pathlib
import subprocess
import sys
import unittest

from world import ACCESS_KEY, SECRET, SECRET_KEY, Listener, StoppedSimulator, access_key

HERE = pathlib.Path(__file__).parent / "clients"
BUILD = pathlib.Path(os.environ["CLIENTS_BUILD"])
JAVA = ["java", "-Xshare:auto", "-XX:TieredStopAtLevel=1", "-Dfile.encoding=UTF-8", "-cp", str(BUILD / "java"), "Clients"]
CURL = [str(HERE / "curl.sh")]
# No client uses a proxy of the machine.
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
# The statuses of the requests, in their order.
STATUSES = {
    "create": 200,
    "read": 200,
    "update": 200,
    "list": 200,
    "duplicate": 500,
    "empty": 200,
    "wrong keys": 401,
    "refused": 429,
}
# The number of calls before the refused one: those with wrong keys do not count.
CALLS = 6
# The name of a client; its command; what follows the base URL and the keys; the end of its base URL; a header that it must have sent.
CLIENTS = {
    "curl": (CURL, [], "/v2", None),
    "curl10": (CURL, ["--http1.0"], "", None),
    "curlexpect": (CURL, ["--header", "Expect: 100-continue"], "/v2/", ("expect", "100-continue")),
    "requests": ([sys.executable, str(HERE / "requests_headers.py")], [], "/v2", ("user-agent", "python-requests")),
    "axios": (["node", str(HERE / "axios.mjs")], [], "/v2/", ("user-agent", "axios")),
    "fetch": (["node", str(HERE / "fetch.mjs")], [], "/", ("sec-fetch-mode", "cors")),
    "go": ([str(BUILD / "go-client")], [], "/v2", ("transfer-encoding", "chunked")),
    "javaclient": (JAVA, ["HttpClient"], "", ("upgrade", "h2c")),
    "javaconnection": (JAVA, ["HttpURLConnection"], "/v2", ("user-agent", "Java")),
    "php": (["php", str(HERE / "curl.php")], [], "/v2", ("expect", "100-continue")),
    "faraday": (["ruby", str(HERE / "faraday.rb")], [], "/v2", ("user-agent", "Faraday")),
    "httparty": (["ruby", str(HERE / "httparty.rb")], [], "", ("accept-encoding", "gzip")),
    "mono": (["mono", str(BUILD / "HttpWebRequestClient.exe")], [], "/v2", ("expect", "100-continue")),
}
RETRIES = {
    "urllib3": ([sys.executable, str(HERE / "urllib3_retry.py")], "/v2"),
    "axiosretry": (["node", str(HERE / "axios_retry.mjs")], "/v2/"),
}
# The window of the clients that retry, in seconds: they make one call in each.
SHORT = 1


class Clients(unittest.TestCase):
    """An account, and the same one behind a gateway on which each client is a caller."""

    maxDiff = None

    @classmethod
    def setUpClass(cls):
        cls.direct = StoppedSimulator()
        cls.addClassCleanup(cls.direct.close)
        cls.behind = StoppedSimulator()
        cls.addClassCleanup(cls.behind.close)
        callers = {name: f"calls_per_window = {CALLS}\n" for name in CLIENTS}
        callers |= {name: 'tenants = ["short"]\ncalls_per_window = 1\nrest_max_wait = "0s"\n' for name in RETRIES}
        more = (
            '[tenants.test.limits]\nwindow = "60s"\n'
            f'[tenants.short]\nbase_url = "{cls.behind.url}"\naccess_key = "{ACCESS_KEY}"\nsecret_key = "{SECRET_KEY}"\n'
            f'[tenants.short.limits]\nwindow = "{SHORT}s"\n'
        )
        cls.gateway = Listener(cls.behind, callers={"legacy": "", **callers}, more=more)
        cls.addClassCleanup(cls.gateway.close)

    def run_client(self, command, base, access, secret, options=()):
        """Runs a client, and returns what it prints: step, status, content type, whether there is a Retry-After, and body."""
        result = subprocess.run(
            [*command, base, access, secret, *options],
            env=ENVIRONMENT,
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=120,
            check=False,
        )
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
        rows = []
        for line in result.stdout.splitlines():
            step, status, kind, after, body = line.split("\t")
            if after:
                self.assertIn(int(after), range(1, 61))
            rows.append((step, int(status), kind, bool(after), base64.b64decode(body).decode()))
        return rows

    def test_each_client_gets_the_same_as_without_leadgate(self):
        for name, (command, options, path, header) in CLIENTS.items():
            with self.subTest(name):
                for simulator in (self.direct, self.behind):
                    simulator.reset()
                limits = {"calls": CALLS, "per": "60s", "retry_after": True}
                self.direct.control("PATCH", "options", {"limits": limits})
                direct = self.run_client(command, f"{self.direct.url}/v2", ACCESS_KEY, SECRET_KEY, options)
                self.assertEqual({row[0]: row[1] for row in direct}, STATUSES)
                self.assertEqual([row[0] for row in direct if row[3]], ["refused"])
                through = self.run_client(command, f"http://{self.gateway.rest}{path}", access_key(name), SECRET, options)
                self.assertEqual(direct, through)
                for state in ("leads", "activities"):
                    self.assertEqual(self.direct.control("GET", state), self.behind.control("GET", state))
                # The client has sent what makes it special.
                if header:
                    sent = [pair for call in self.direct.control("GET", "calls") for pair in call["headers"]]
                    is_sent = [value for known, value in sent if known == header[0] and value.lower().startswith(header[1].lower())]
                    self.assertTrue(is_sent, sent)

    def test_clients_that_wait_for_retry_after_succeed(self):
        for name, (command, path) in RETRIES.items():
            with self.subTest(name):
                self.direct.reset()
                self.direct.control("PATCH", "options", {"limits": {"calls": 1, "per": f"{SHORT}s", "retry_after": True}})
                direct = self.run_client(command, f"{self.direct.url}/v2", ACCESS_KEY, SECRET_KEY)
                through = self.run_client(command, f"http://{self.gateway.rest}{path}", access_key(name), SECRET)
                self.assertEqual([row[1] for row in direct], [200, 200, 200])
                self.assertEqual(direct, through)
                # Without these, it shows nothing.
                refused = f'leadgate_rest_requests_total{{tenant="short",caller="{name}",endpoint="LeadManagement.svc/Leads.GetByQuickSearch",status="429"}}'
                self.assertGreater(self.direct.control("GET", "stats")["refused"], 0)
                self.assertGreater(self.gateway.value(refused), 0)
                # A client that does not wait makes many more.
                self.assertLessEqual(self.gateway.value(refused), 6)


if __name__ == "__main__":
    unittest.main()
