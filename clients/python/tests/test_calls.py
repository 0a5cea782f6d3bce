"""Metadata, timeouts, request ids and retries, against a scripted server. Each test runs with both clients."""

import asyncio
import math
import re
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from fake import SERVICES, Failure, is_streaming, kind_of
from processes import eventually

import leadgate.aio
from leadgate.v1 import (
    CreateLeadRequest,
    CreateLeadResponse,
    GetLeadRequest,
    LeadFields,
    RetryShareRequest,
    RevokeSharesRequest,
    RevokeSharesResponse,
    WatchShareRequest,
    WatchShareResponse,
)

EXHAUSTED = grpc.StatusCode.RESOURCE_EXHAUSTED
UNAVAILABLE = grpc.StatusCode.UNAVAILABLE
ABORTED = grpc.StatusCode.ABORTED
CREATE = CreateLeadRequest(lead=LeadFields(email_address="a@example.com"))
CREATED = CreateLeadResponse(lead_id="1")
ALL = [(service, name, rpc) for service, each in SERVICES.items() for name, rpc in each.methods_by_name.items()]


def snake(name):
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


def create(client, fake, **options):
    return client.call(fake.address, "leads", "create_lead", CREATE, **options)


def failing(client, fake, service, method, request, **options):
    with pytest.raises(leadgate.Error) as caught:
        client.call(fake.address, service, method, request, **options)
    return caught.value


# Who and what


def test_tenant_caller_and_criticality_are_defaults_and_options_of_a_call(client, fake):
    settings = {"insecure": True, "tenant": "india", "caller": "shop", "criticality": "critical"}
    create(client, fake, options=settings)
    create(
        client, fake, options=settings, tenant="nepal", criticality="sheddable", metadata=[("x-request-id", "order-1")]
    )
    first, second = (attempt.metadata for attempt in fake.received)
    names = ("x-leadgate-tenant", "x-leadgate-caller", "x-leadgate-criticality")
    assert [first.get(name) for name in names] == ["india", "shop", "critical"]
    assert [second.get(name) for name in names] == ["nepal", "shop", "sheddable"]
    assert second["x-request-id"] == "order-1"
    assert first["user-agent"].startswith(f"leadgate-python/{leadgate.__version__} ")


def test_an_unknown_option_of_a_call_is_an_error(client, fake):
    with pytest.raises(TypeError, match="deadline"):
        create(client, fake, deadline=5)


# Deadlines


def expected_timeout(name):
    if name.startswith("Watch"):
        return None
    if name in {"ImportLeads", "ExportLeads"}:
        return 3600
    if (
        name.startswith("Batch")
        or name in {"RevokeShares", "RetryShare"}
        or re.match("(Share|Revoke|Extend)[A-Z]", name)
    ):
        return 120
    return 30


@pytest.mark.parametrize(("service", "name", "rpc"), ALL, ids=[name for _, name, _ in ALL])
def test_every_rpc_has_a_method_a_default_timeout_and_a_request_id_if_it_takes_one(client, fake, service, name, rpc):
    request = [] if is_streaming(rpc, "client") else kind_of(rpc.input_type)()
    client.call(fake.address, service, snake(name), request)
    (received,) = fake.received
    assert received.method == name
    if expected_timeout(name) is None:
        # Without a deadline, the server sees the largest time.
        assert received.timeout is None or received.timeout > 1e6
    else:
        # grpc sends timeouts with few digits, rounded up.
        assert expected_timeout(name) - 5 < received.timeout <= expected_timeout(name) * 1.05
    if "request_id" in rpc.input_type.fields_by_name:
        assert uuid.UUID(received.request.request_id).version == 7


def test_timeouts_of_the_client_and_of_a_call_replace_the_default(client, fake):
    settings = {"insecure": True, "timeouts": leadgate.Timeouts(unary=10)}
    create(client, fake, options=settings)
    create(client, fake, options=settings, timeout=3)
    first, second = (attempt.timeout for attempt in fake.received)
    assert 5 < first <= 10.5
    assert 1 < second <= 3.5


@pytest.mark.parametrize("timeout", [0, -1, math.nan])
def test_a_call_without_time_is_not_sent(client, fake, timeout):
    error = failing(client, fake, "leads", "create_lead", CREATE, timeout=timeout)
    assert (error.code(), fake.received) == (grpc.StatusCode.DEADLINE_EXCEEDED, [])


def test_a_timeout_that_grpc_cannot_represent_is_none(client, fake):
    for timeout in (math.inf, 1e15):
        create(client, fake, timeout=timeout)
        received = fake.received.pop()
        assert received.timeout is None or received.timeout > 1e6


# Request ids


def test_the_message_of_the_caller_is_not_changed_and_its_own_id_is_kept(client, fake):
    create(client, fake)
    assert CREATE.request_id == ""
    own = str(uuid.uuid4())
    client.call(fake.address, "leads", "create_lead", CreateLeadRequest(request_id=own))
    assert fake.received[1].request.request_id == own


def test_ids_are_ordered_by_time():
    from leadgate._core import uuid7  # noqa: PLC0415

    before = time.time_ns() // 1_000_000
    ids = []
    for _ in range(3):
        ids.append(uuid7())
        time.sleep(0.002)
    assert ids == sorted(ids)
    assert len(set(ids)) == 3
    value = uuid.UUID(ids[0])
    assert (value.version, value.variant) == (7, uuid.RFC_4122)
    assert before <= value.int >> 80 <= before + 1000


# Retries


def test_a_retry_waits_as_told_and_repeats_the_request_id(client, fake):
    fake.script = [
        Failure(EXHAUSTED, "QUEUE_FULL", retry=0.3),
        Failure(ABORTED, "OUTCOME_UNKNOWN", retry=0.2, retry_same_request_id="true"),
        Failure(UNAVAILABLE, "SHUTTING_DOWN", retry=0),
        CREATED,
    ]
    assert create(client, fake).lead_id == "1"
    times = [attempt.at for attempt in fake.received]
    assert 0.3 <= times[1] - times[0] < 1.3
    assert 0.2 <= times[2] - times[1] < 1.2
    assert times[3] - times[2] < 1.2
    assert len({attempt.request.request_id for attempt in fake.received}) == 1
    # All attempts have the same deadline.
    ends = [attempt.at + attempt.timeout for attempt in fake.received]
    assert max(ends) - min(ends) < 1


@pytest.mark.parametrize(
    "failure",
    [
        Failure(ABORTED, "OUTCOME_UNKNOWN", retry_same_request_id="false"),
        Failure(ABORTED, "OUTCOME_UNKNOWN"),
        # Whether it was executed is only in the message.
        Failure(UNAVAILABLE, "OWNER_MOVED", retry=0.01),
        Failure(UNAVAILABLE, "SOMETHING_NEW", retry=0.01),
        Failure(UNAVAILABLE, "STORE_UNAVAILABLE", retry=0.01, retry_same_request_id="false"),
        Failure(EXHAUSTED, "RESPONSE_TOO_LARGE"),
        # A proxy, or a message that is too large for the client.
        Failure(EXHAUSTED),
        Failure(grpc.StatusCode.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED", retry_same_request_id="true"),
        Failure(grpc.StatusCode.UNKNOWN, "UPSTREAM_EXCEPTION", retry=0.01),
        Failure(grpc.StatusCode.INTERNAL, "INTERNAL"),
    ],
    ids=lambda failure: str(failure.status).replace("\n", " ")[:60],
)
def test_a_mutation_is_not_repeated_unless_the_error_says_so(client, fake, failure):
    fake.script = [failure]
    error = failing(client, fake, "leads", "create_lead", CREATE)
    assert len(fake.received) == 1
    assert error.code() is failure.code
    assert error.request_id == fake.received[0].request.request_id


@pytest.mark.parametrize("reason", ["DAILY_BUDGET_EXHAUSTED", "TENANT_PAUSED", "UPSTREAM_UNAVAILABLE"])
def test_a_mutation_is_repeated_if_nothing_was_executed(client, fake, reason):
    code = EXHAUSTED if reason == "DAILY_BUDGET_EXHAUSTED" else UNAVAILABLE
    fake.script = [Failure(code, reason, retry=0.01), CREATED]
    assert create(client, fake).lead_id == "1"


def test_a_time_after_the_deadline_is_not_waited_for(client, fake):
    fake.script = [Failure(EXHAUSTED, "QUEUE_FULL", retry=5)]
    started = time.monotonic()
    error = failing(client, fake, "leads", "create_lead", CREATE, timeout=5)
    assert time.monotonic() - started < 1
    assert error.retry_after == 5
    assert len(fake.received) == 1


@pytest.mark.parametrize("reason", ["DEADLINE_INFEASIBLE", "CALLER_LIMIT"])
def test_a_timeout_that_was_too_short_is_not_tried_with_less(client, fake, reason):
    fake.script = [Failure(EXHAUSTED, reason, retry=0.01)]
    error = failing(client, fake, "leads", "create_lead", CREATE, timeout=20)
    assert (error.reason_name, len(fake.received)) == (reason, 1)


@pytest.mark.parametrize("reason", ["DEADLINE_INFEASIBLE", "CALLER_LIMIT"])
def test_a_timeout_above_the_maximum_of_the_gateway_leaves_time_for_a_retry(client, fake, reason):
    fake.script = [Failure(EXHAUSTED, reason, retry=0.01), CREATED]
    assert create(client, fake, timeout=90).lead_id == "1"


def test_a_lost_connection_is_retried_with_the_same_request_id(client, fake):
    fake.script = [Failure(UNAVAILABLE), Failure(UNAVAILABLE), CREATED]
    assert create(client, fake).lead_id == "1"
    assert len({attempt.request.request_id for attempt in fake.received}) == 1


def test_a_stream_that_was_reset_is_retried(client, fake):
    reset = Failure(grpc.StatusCode.INTERNAL, details="Received RST_STREAM with error code 2")
    fake.script = [reset, CREATED]
    assert create(client, fake).lead_id == "1"
    fake.script = [reset]
    failing(client, fake, "shares", "retry_share", RetryShareRequest(share_id="1"))


def test_a_lost_connection_is_retried_until_the_deadline(client):
    with pytest.raises(leadgate.Error) as caught:
        # Nobody listens on port 1.
        client.call("127.0.0.1:1", "leads", "get_lead", GetLeadRequest(), timeout=1.5)
    assert caught.value.code() in {UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED}
    assert (caught.value.reason_name, caught.value.domain) == ("", "")


def test_a_read_is_retried_as_told(client, fake):
    fake.script = [Failure(UNAVAILABLE, "OWNER_MOVED", retry=0.1), Failure(UNAVAILABLE)]
    client.call(fake.address, "leads", "get_lead", GetLeadRequest())
    assert len(fake.received) == 3


def test_a_mutation_without_request_id_is_repeated_only_if_nothing_was_sent(client, fake):
    retry = RetryShareRequest(share_id="1")
    fake.script = [Failure(UNAVAILABLE, "SHUTTING_DOWN", retry=0)]
    client.call(fake.address, "shares", "retry_share", retry)
    assert len(fake.received) == 2
    fake.script = [Failure(UNAVAILABLE)]
    failing(client, fake, "shares", "retry_share", retry)
    assert len(fake.received) == 3


def test_a_stream_of_mutations_is_not_repeated_after_a_result(client, fake):
    down = Failure(UNAVAILABLE, "SHUTTING_DOWN", retry=0)
    fake.script = [[down], [RevokeSharesResponse(), down]]
    failing(client, fake, "shares", "revoke_shares", RevokeSharesRequest(user_id="1"))
    assert len(fake.received) == 2


def test_a_watch_continues_after_a_restart(client, fake):
    down = Failure(UNAVAILABLE, "SHUTTING_DOWN", retry=0)
    fake.script = [[WatchShareResponse(), down], [WatchShareResponse(), Failure(UNAVAILABLE)], [WatchShareResponse()]]
    changes = client.call(fake.address, "shares", "watch_share", WatchShareRequest(share_id="1"))
    assert len(changes) == 3


def test_a_stream_whose_token_has_expired_continues_with_the_current_one(client, fake):
    tokens = iter(["old", "old", "new", "new", "removed"])
    options = {"insecure": True, "token": lambda: next(tokens)}
    expired = Failure(grpc.StatusCode.UNAUTHENTICATED, "CALLER_UNKNOWN")
    fake.script = [[WatchShareResponse(), expired], [WatchShareResponse()]]
    request = WatchShareRequest(share_id="1")
    assert len(client.call(fake.address, "shares", "watch_share", request, options)) == 2
    assert [attempt.metadata["authorization"] for attempt in fake.received] == ["Bearer old", "Bearer new"]
    fake.script = [[WatchShareResponse(), expired], [expired]]
    error = failing(client, fake, "shares", "watch_share", request)
    assert (error.reason_name, len(fake.received)) == ("CALLER_UNKNOWN", 4)


def test_an_error_that_tells_the_same_short_time_is_followed_with_growing_pauses(client, fake):
    fake.script = [Failure(UNAVAILABLE, "SHUTTING_DOWN", retry=0) for _ in range(1000)]
    failing(client, fake, "leads", "create_lead", CREATE, timeout=2)
    assert 3 <= len(fake.received) <= 10


def test_a_negative_retry_time_is_none(client, fake):
    fake.script = [Failure(UNAVAILABLE, "SHUTTING_DOWN", retry=-5), CREATED]
    assert create(client, fake).lead_id == "1"


# Closing


def closed(client, address, wait):
    """Closes the client in a call, after `wait`. Returns the error of the call, and how long it took to end."""
    if client.name == "sync":
        with leadgate.Client(address, insecure=True) as open_client, ThreadPoolExecutor(1) as pool:
            call = pool.submit(open_client.leads.create_lead, CREATE)
            wait()
            closed_at = time.monotonic()
            open_client.close()
            error = call.exception()
            lasted = time.monotonic() - closed_at
            with pytest.raises(leadgate.Error, match="the client is closed"):
                open_client.leads.create_lead(CREATE)
        return error, lasted

    async def run():
        open_client = leadgate.aio.Client(address, insecure=True)
        call = asyncio.create_task(open_client.leads.create_lead(CREATE))
        await asyncio.to_thread(wait)
        closed_at = time.monotonic()
        await open_client.close()
        (error,) = await asyncio.gather(call, return_exceptions=True)
        lasted = time.monotonic() - closed_at
        with pytest.raises(leadgate.Error, match="the client is closed"):
            await open_client.leads.create_lead(CREATE)
        return error, lasted

    return asyncio.run(run())


@pytest.mark.parametrize("during", ["call", "pause"])
def test_closing_a_client_ends_its_calls(client, fake, during):
    end = threading.Event()
    fake.script = [Failure(UNAVAILABLE, "SHUTTING_DOWN", retry=20) if during == "pause" else lambda *_: end.wait(10)]

    def wait():
        eventually("the attempt", lambda: fake.received)
        time.sleep(0.3)  # Until the error has arrived.

    error, lasted = closed(client, fake.address, wait)
    end.set()
    assert isinstance(error, leadgate.Error)
    assert (error.code(), error.details()) == (grpc.StatusCode.CANCELLED, "the client is closed")
    assert error.request_id == fake.received[0].request.request_id
    assert lasted < 5


@pytest.mark.parametrize("retry", [None, 20])
def test_a_cancelled_task_ends_its_call(fake, retry):
    end = threading.Event()
    fake.script = [Failure(UNAVAILABLE, "SHUTTING_DOWN", retry=retry) if retry else lambda *_: end.wait(10)]

    async def run():
        async with leadgate.aio.Client(fake.address, insecure=True) as open_client:
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(open_client.leads.create_lead(CREATE), 0.5)

    asyncio.run(run())
    end.set()
