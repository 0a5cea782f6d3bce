"""A gateway that is killed, an exhausted quota, and an idle connection."""

import asyncio
import re
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from google.protobuf.duration_pb2 import Duration
from processes import Gateway, Simulator, eventually

import leadgate.aio
from leadgate._core import Settings
from leadgate.v1 import (
    CreateLeadRequest,
    DescribeLeadFieldsRequest,
    GetLeadRequest,
    ImportLeadsRequest,
    LeadFields,
    WatchQuotaRequest,
)


@pytest.fixture
def started():
    """Starts processes, and ends them with the test."""
    running = []

    def start(kind, *arguments, **settings):
        running.append(kind(*arguments, **settings))
        return running[-1]

    yield start
    for process in reversed(running):
        process.close()


class Killed:
    """A gateway with a store in a file, which is killed and started again on the same port."""

    def __init__(self, started, folder):
        self.simulator = started(Simulator, "--latency", "100ms", "--calls", "1000", "--bulk", "1000")
        self.settings = {
            "LEADGATE__STORE__URL": f"sqlite://{folder}/leadgate.db",
            "LEADGATE__TENANTS__TEST__LIMITS__CALLS": "1000",
            "LEADGATE__TENANTS__TEST__LIMITS__BULK": "1000",
        }
        self._started = started
        self.gateway = started(Gateway, self.simulator, **self.settings)
        self.address = self.gateway.address

    def kill_in_the_middle(self, leads):
        """Kills the gateway when LeadSquared has this number of leads."""
        eventually("some leads", lambda: len(self.simulator.control("GET", "leads")) >= leads)
        before = len(self.simulator.control("GET", "leads"))
        self.gateway.kill()
        self._started(Gateway, self.simulator, **{**self.settings, "LEADGATE__SERVER__LISTEN": self.address})
        return before

    def emails(self):
        return sorted(lead["EmailAddress"] for lead in self.simulator.control("GET", "leads"))


def creates(count):
    return [CreateLeadRequest(lead=LeadFields(email_address=f"{n:03}@killed.example")) for n in range(count)]


def expected(count):
    return [request.lead.email_address for request in creates(count)]


@pytest.fixture
def killed(started, tmp_path):
    return Killed(started, tmp_path)


def test_creates_leave_one_lead_each(killed):
    with leadgate.Client(killed.address, insecure=True) as client, ThreadPoolExecutor(4) as pool:
        futures = [pool.submit(client.leads.create_lead, request, timeout=60) for request in creates(20)]
        assert 4 <= killed.kill_in_the_middle(4) < 20
        ids = {future.result().lead_id for future in futures}
    assert len(ids) == 20
    assert killed.emails() == expected(20)


def test_creates_leave_one_lead_each_with_asyncio(killed):
    async def run():
        async with leadgate.aio.Client(killed.address, insecure=True) as client:
            slots = asyncio.Semaphore(4)

            async def create(request):
                async with slots:
                    return (await client.leads.create_lead(request, timeout=60)).lead_id

            tasks = [asyncio.create_task(create(request)) for request in creates(20)]
            assert 4 <= await asyncio.to_thread(killed.kill_in_the_middle, 4) < 20
            return set(await asyncio.gather(*tasks))

    assert len(asyncio.run(run())) == 20
    assert killed.emails() == expected(20)


def test_an_import_leaves_one_lead_per_row(killed):
    def rows():
        for number, create in enumerate(creates(200)):
            # The rows are not all sent before the gateway is killed.
            time.sleep(0.005)
            yield ImportLeadsRequest(sequence=number, create=create)

    with leadgate.Client(killed.address, insecure=True) as client, ThreadPoolExecutor(1) as pool:
        future = pool.submit(lambda: list(client.leads.import_leads(rows(), timeout=60)))
        assert 20 <= killed.kill_in_the_middle(20) < 200
        results = future.result()
    assert [result.error for result in results if result.error] == []
    assert sorted(result.request.sequence for result in results) == list(range(200))
    assert killed.emails() == expected(200)


def quota(started, calls, window):
    simulator = started(Simulator, "--calls", str(calls), "--per", window)
    limits = {
        "LEADGATE__TENANTS__TEST__LIMITS__CALLS": str(calls),
        "LEADGATE__TENANTS__TEST__LIMITS__WINDOW": window,
    }
    gateway = started(Gateway, simulator, **limits)
    client = leadgate.Client(gateway.address, insecure=True)
    client.leads.describe_lead_fields(DescribeLeadFieldsRequest())
    return client, simulator


def results_of(client, requests, timeout):
    """Calls at once. Returns the reason of each error, or OK, and the longest time."""

    def call(request):
        started = time.monotonic()
        try:
            client.leads.create_lead(request, timeout=timeout)
        except leadgate.Error as error:
            return error.reason_name, time.monotonic() - started
        return "OK", time.monotonic() - started

    with ThreadPoolExecutor(len(requests)) as pool:
        found = list(pool.map(call, requests))
    return [name for name, _ in found], max(seconds for _, seconds in found)


def test_calls_on_an_exhausted_quota_end_well_within_their_deadline(started):
    client, simulator = quota(started, 3, "120s")
    with client:
        names, longest = results_of(client, creates(50), 60)
    # One call is for the metadata.
    assert names.count("OK") == 2
    assert names.count("DEADLINE_INFEASIBLE") == 48
    assert longest < 10
    assert simulator.control("GET", "stats")["refused"] == 0


def test_calls_above_the_quota_are_served_in_turn(started):
    client, simulator = quota(started, 20, "2s")
    with client:
        names, longest = results_of(client, creates(50), 60)
    assert names == ["OK"] * 50
    assert longest < 30
    assert simulator.control("GET", "stats")["refused"] == 0


def connections(gateway):
    """Returns the number of open connections, and how many the gateway has closed, by reason."""
    _, text = gateway.page("/metrics")
    opened = re.search(r'leadgate_connections\{state="open"\} (\d+)', text)
    closed = dict(re.findall(r'leadgate_connections_closed_total\{reason="([^"]+)"\} (\d+)', text))
    return int(opened.group(1)), {reason: int(count) for reason, count in closed.items() if count != "0"}


# The defaults of both sides in compressed time: leadgate allows one PING per 10 s, here one per 1.5 s. grpc sends one
# per second at most.
COMPRESSED = 0.15


def idle(started, ping):
    interval = {"LEADGATE__SERVER__KEEPALIVE_MIN_INTERVAL": f"{10_000 * COMPRESSED:.0f}ms"}
    gateway = started(Gateway, started(Simulator), **interval)
    return gateway, leadgate.Client(gateway.address, insecure=True, options=[("grpc.keepalive_time_ms", int(ping))])


def test_an_idle_connection_stays_open(started):
    ping = dict(Settings("127.0.0.1:1", insecure=True).channel_options())["grpc.keepalive_time_ms"] * COMPRESSED
    gateway, client = idle(started, ping)
    with client:
        client.leads.describe_lead_fields(DescribeLeadFieldsRequest())
        assert connections(gateway) == (1, {})
        # Three PINGs.
        time.sleep(3 * ping / 1000 + 1)
        client.leads.describe_lead_fields(DescribeLeadFieldsRequest())
        assert connections(gateway) == (1, {})


def test_the_gateway_closes_connections_with_too_many_pings(started):
    """The test above could fail."""
    gateway, client = idle(started, 300)
    with client:
        # Older versions of grpc read the responses to PINGs only while a call is in progress.
        watch = client.quota.watch_quota(WatchQuotaRequest(interval=Duration(seconds=3600)))
        next(watch)
        eventually("the gateway closes the connection", lambda: connections(gateway)[1])


def test_the_deadline_of_a_call_includes_its_retries(started):
    simulator = started(Simulator)
    gateway = started(Gateway, simulator)
    simulator.inject(on="Leads.GetById", what="empty503", times=1000)
    begun = time.monotonic()
    with leadgate.Client(gateway.address, insecure=True) as client, pytest.raises(leadgate.Error) as caught:
        client.leads.get_lead(GetLeadRequest(lead_id="a0000000-0000-4000-8000-000000000009"), timeout=3)
    assert caught.value.reason_name in {"UPSTREAM_UNAVAILABLE", "DEADLINE_EXCEEDED", "DEADLINE_INFEASIBLE"}
    assert time.monotonic() - begun < 4
