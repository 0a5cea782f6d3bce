"""Imports and exports, with both clients."""

import asyncio
import threading
import time
import uuid

import grpc
import pytest
from fake import Failure
from processes import eventually

import leadgate.aio
from leadgate.v1 import (
    CreateLeadRequest,
    ExportLeadsRequest,
    ExportLeadsResponse,
    ImportLeadsRequest,
    ImportLeadsResponse,
    Lead,
    LeadFields,
    UpsertLeadRequest,
)

LOST = Failure(grpc.StatusCode.UNAVAILABLE)


def rows_of(name, count):
    for number in range(count):
        lead = LeadFields(email_address=f"{number}@{name}.example")
        yield ImportLeadsRequest(sequence=number, upsert=UpsertLeadRequest(lead=lead))


def import_rows(client, fake, rows, **call):
    return client.call(fake.address, "leads", "import_leads", rows, **call)


def done(row):
    return ImportLeadsResponse(sequence=row.sequence, response={"lead_id": id_of(row)})


def id_of(row):
    return row.upsert.lead.email_address


# Imports


def test_an_interrupted_import_continues_with_the_rows_without_a_result(client, fake):
    received = []

    def respond(requests, _):
        received.append([])
        for number, row in enumerate(requests):
            received[-1].append(row)
            if number % 2 == 0:
                yield done(row)
            if number == 6 and len(received) == 1:
                yield LOST
        # The rows that were held back.
        for row in received[-1][1::2]:
            yield done(row)

    fake.script = [respond, respond]
    results = import_rows(client, fake, rows_of("again", 20))
    assert sorted(result.request.sequence for result in results) == list(range(20))
    assert all(result.lead_id == id_of(result.request) and result.error is None for result in results)
    ids = {}
    for stream in received:
        for row in stream:
            ids.setdefault(id_of(row), set()).add(row.upsert.request_id)
    assert len(ids) == 20
    # A row that was sent again has the same request_id.
    assert all(len(found) == 1 and uuid.UUID(next(iter(found))).version == 7 for found in ids.values())
    again = {id_of(row) for row in received[0]} & {id_of(row) for row in received[1]}
    assert again == {f"{number}@again.example" for number in (1, 3, 5)} | {id_of(row) for row in received[0][7:]}


def test_results_have_the_sequence_of_the_caller_which_may_be_used_twice(client, fake):
    fake.script = [lambda requests, _: map(done, requests)]
    own = str(uuid.uuid4())
    rows = [ImportLeadsRequest(sequence=7, create=CreateLeadRequest(request_id=own)) for _ in range(3)]
    results = import_rows(client, fake, rows)
    assert [result.response.sequence for result in results] == [7, 7, 7]
    assert {result.request.create.request_id for result in results} == {own}


def test_a_row_that_failed_has_its_error_and_its_request_id(client, fake):
    status = Failure(grpc.StatusCode.ALREADY_EXISTS, "LEAD_DUPLICATE").status
    fake.script = [lambda requests, _: (ImportLeadsResponse(sequence=row.sequence, error=status) for row in requests)]
    (result,) = import_rows(client, fake, rows_of("failed", 1))
    assert (result.lead_id, result.error.reason) == ("", leadgate.ErrorReason.LEAD_DUPLICATE)
    assert result.error.request_id == result.request.upsert.request_id != ""


def test_an_error_of_the_rows_reaches_the_caller(client, fake):
    def rows():
        yield from rows_of("broken", 2)
        raise KeyError("line 3")

    fake.script = [lambda requests, _: map(done, requests)]
    with pytest.raises(KeyError, match="line 3"):
        import_rows(client, fake, rows())


def test_an_import_whose_stream_ends_early_continues(client, fake):
    fake.script = [lambda requests, _: [done(next(requests))], lambda requests, _: map(done, requests)]
    results = import_rows(client, fake, rows_of("early", 5))
    assert sorted(result.request.sequence for result in results) == list(range(5))
    assert len(fake.received) == 2


def test_rows_that_a_gateway_at_its_end_has_not_sent_are_sent_again(client, fake):
    status = Failure(grpc.StatusCode.UNAVAILABLE, "SHUTTING_DOWN", retry=0.1).status

    def end(requests, _):
        yield done(next(requests))
        yield ImportLeadsResponse(sequence=next(requests).sequence, error=status)

    fake.script = [end, lambda requests, _: map(done, requests)]
    results = import_rows(client, fake, rows_of("ending", 5))
    assert sorted(result.request.sequence for result in results) == list(range(5))
    assert all(result.error is None for result in results)


def test_an_import_that_makes_no_progress_ends_at_its_deadline(client, fake):
    fake.script = [LOST] * 100
    started = time.monotonic()
    with pytest.raises(leadgate.Error) as caught:
        import_rows(client, fake, rows_of("late", 3), timeout=1.5)
    assert caught.value.code() in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED}
    assert 0.3 < time.monotonic() - started < 3


def test_an_error_that_is_not_for_retry_ends_an_import(client, fake):
    def respond(requests, _):
        yield done(next(requests))
        next(requests)
        yield Failure(grpc.StatusCode.PERMISSION_DENIED, "CALLER_NOT_ALLOWED")

    fake.script = [respond, *[Failure(grpc.StatusCode.PERMISSION_DENIED, "CALLER_NOT_ALLOWED")] * 50]
    with pytest.raises(leadgate.Error) as caught:
        import_rows(client, fake, rows_of("denied", 3), timeout=20)
    assert caught.value.reason == leadgate.ErrorReason.CALLER_NOT_ALLOWED
    # The caller can continue with the rows without a result.
    unfinished = caught.value.unfinished_rows
    assert {row.sequence for row in unfinished} in ({1}, {1, 2})
    assert all(row.upsert.request_id for row in unfinished)
    # grpc.aio may hide the status of a stream if a write fails, and then the client tries again.
    assert len(fake.received) == 1 or client.name == "aio"


def test_rows_are_read_only_as_fast_as_results(leadgate_demo):
    """The reader of the results stops: the gateway reads no more, and so the rows stop, too."""
    taken = []

    def rows():
        for row in rows_of("slow", 1_000_000):
            row.upsert.lead.notes = "x" * 1000
            row.upsert.validate_only = True
            taken.append(row)
            yield row

    with leadgate_demo.client() as client:
        results = client.leads.import_leads(rows())
        next(results)

        def is_still():
            before = len(taken)
            time.sleep(0.5)
            return len(taken) == before

        eventually("the rows stop", is_still)
        stopped = len(taken)
        assert stopped <= 2001
        for _ in range(5000):
            next(results)
        assert len(taken) > stopped
        results.close()


def test_rows_are_read_only_as_fast_as_results_with_asyncio(leadgate_demo):
    async def run():
        taken = 0

        async def rows():
            nonlocal taken
            for row in rows_of("slowaio", 1_000_000):
                row.upsert.lead.notes = "x" * 1000
                row.upsert.validate_only = True
                taken += 1
                yield row

        async with leadgate.aio.Client(leadgate_demo.address, insecure=True) as client:
            results = client.leads.import_leads(rows())
            await anext(results)
            before = -1
            while taken != before:
                before = taken
                await asyncio.sleep(0.5)
            assert taken <= 2001
            for _ in range(5000):
                await anext(results)
            assert taken > before
            await results.aclose()

    asyncio.run(asyncio.wait_for(run(), 60))


def test_a_row_that_arrives_while_the_stream_is_lost_is_not_lost(fake):
    """The old stream's thread waits for a row of the caller, while the new stream is open already."""
    arrives = threading.Event()

    def rows():
        yield from rows_of("first", 1)
        arrives.wait(10)
        yield from rows_of("second", 1)

    def lose(requests, _):
        next(requests)
        yield LOST

    def respond(requests, _):
        yield done(next(requests))
        arrives.set()
        yield from map(done, requests)

    fake.script = [lose, respond]
    with leadgate.Client(fake.address, insecure=True) as client:
        results = [result.lead_id for result in client.leads.import_leads(rows(), timeout=10)]
    assert results == ["0@first.example", "0@second.example"]


def test_a_row_that_arrives_while_the_stream_is_lost_is_not_lost_with_asyncio(fake):
    async def run():
        arrives = asyncio.Event()
        loop = asyncio.get_running_loop()

        async def rows():
            for row in rows_of("first", 1):
                yield row
            await arrives.wait()
            for row in rows_of("second", 1):
                yield row

        def lose(requests, _):
            next(requests)
            yield LOST

        def respond(requests, _):
            yield done(next(requests))
            loop.call_soon_threadsafe(arrives.set)
            yield from map(done, requests)

        fake.script = [lose, respond]
        async with leadgate.aio.Client(fake.address, insecure=True) as client:
            return [result.lead_id async for result in client.leads.import_leads(rows(), timeout=10)]

    assert asyncio.run(run()) == ["0@first.example", "0@second.example"]


def test_an_import_and_an_export_with_the_gateway(client, leadgate_secure_demo):
    demo = leadgate_secure_demo
    name = f"{client.name}{uuid.uuid4().hex[:8]}"
    rows = [*rows_of(name, 20), ImportLeadsRequest(upsert={"lead": {"email_address": "nobody"}})]
    results = client.call(demo.address, "leads", "import_leads", rows, options=demo.options())
    failed = [result for result in results if result.error]
    assert [result.error.reason for result in failed] == [leadgate.ErrorReason.INVALID_FIELD]
    assert [violation.field for violation in failed[0].error.violations] == ["lead.email_address"]
    export = ExportLeadsRequest()
    export.start_time.FromSeconds(int(time.time()) - 3600)
    parts = client.call(demo.address, "leads", "export_leads", export, options=demo.options())
    emails = [lead.fields.email_address for part in parts for lead in part.leads]
    expected = {id_of(row) for row in rows_of(name, 20)}
    assert sorted(set(emails) & expected) == sorted(expected)
    assert len(emails) == len(set(emails))


def test_a_status_that_grpc_hides_is_a_lost_stream(fake):
    """If a write fails because the stream has ended, grpc.aio may raise this error instead of the status."""
    attempts = []

    class Broken:
        def __aiter__(self):
            return self

        async def __anext__(self):
            none = grpc.aio.Metadata()
            raise grpc.aio.AioRpcError(grpc.StatusCode.INTERNAL, none, none, "Internal error from Core")

        def cancel(self):
            attempts.append("cancelled")

    async def run():
        async with leadgate.aio.Client(fake.address, insecure=True) as client:
            real = client.leads.stub.ImportLeads
            client.leads.stub.ImportLeads = lambda rows, **call: Broken() if not attempts else real(rows, **call)
            return [result.lead_id async for result in client.leads.import_leads(rows_of("hidden", 2), timeout=10)]

    fake.script = [lambda requests, _: map(done, requests)]
    assert sorted(asyncio.run(run())) == ["0@hidden.example", "1@hidden.example"]
    assert attempts == ["cancelled"]
    assert len(fake.received) == 1


# Exports


def test_an_interrupted_export_continues_with_the_last_resume_token(client, fake):
    def part(number):
        return ExportLeadsResponse(leads=[Lead(lead_id=str(number))], resume_token=f"after {number}")

    no_token = ExportLeadsResponse(leads=[Lead(lead_id="2")])
    fake.script = [[part(1), ExportLeadsResponse(resume_token="after 2"), no_token, LOST], [LOST], [part(3)]]
    request = ExportLeadsRequest()
    parts = client.call(fake.address, "leads", "export_leads", request)
    assert [lead.lead_id for part in parts for lead in part.leads] == ["1", "2", "3"]
    assert [attempt.request.resume_token for attempt in fake.received] == ["", "after 2", "after 2"]
    assert request.resume_token == ""


def test_a_stream_that_is_not_read_to_the_end_is_cancelled(fake):
    ended = threading.Event()

    def respond(_, context):
        context.add_callback(ended.set)
        while True:
            yield ExportLeadsResponse(resume_token="x")

    fake.script = [respond]
    with leadgate.Client(fake.address, insecure=True) as client:
        for _ in client.leads.export_leads(ExportLeadsRequest()):
            break
        assert ended.wait(10)
