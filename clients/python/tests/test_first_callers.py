"""What the first callers of leadgate met: each of these was wrong once, at the gateway or at its clients."""

import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from processes import Gateway, Simulator

import leadgate
from leadgate.v1 import (
    BatchUpsertLeadsRequest,
    CreateLeadRequest,
    DescribeLeadFieldsRequest,
    GetLeadRequest,
    GetQuotaRequest,
    ImportLeadsRequest,
    LeadFields,
    UpdateLeadRequest,
    UpsertLeadRequest,
)

REASON = leadgate.ErrorReason


@pytest.fixture
def calls(leadgate_client):
    return leadgate_client.leads


def failing(call, request, **options):
    with pytest.raises(leadgate.Error) as caught:
        call(request, **options)
    return caught.value


def create(calls, **fields):
    return calls.create_lead(CreateLeadRequest(lead=LeadFields(**fields))).lead_id


def unique(name):
    return f"{name}.{uuid.uuid4().hex[:8]}@callers.example"


def test_many_small_rows_do_not_end_the_connection(leadgate_client):
    rows = 20_000
    lead = UpsertLeadRequest(lead=LeadFields(email_address="a@b.example"), validate_only=True)

    def others():
        for _ in range(50):
            leadgate_client.quota.get_quota(GetQuotaRequest())
        return True

    with ThreadPoolExecutor(1) as pool:
        beside = pool.submit(others)
        results = leadgate_client.leads.import_leads(ImportLeadsRequest(sequence=n, upsert=lead) for n in range(rows))
        assert sum(result.error is None for result in results) == rows
        assert beside.result()


@pytest.fixture
def limited():
    """A gateway with 20 calls per 4 seconds, of which the metadata uses one."""
    simulator = Simulator("--calls", "20", "--per", "4s")
    limits = {"LEADGATE__TENANTS__TEST__LIMITS__CALLS": "20", "LEADGATE__TENANTS__TEST__LIMITS__WINDOW": "4s"}
    gateway = Gateway(simulator, **limits)
    with leadgate.Client(gateway.address, insecure=True) as client:
        client.leads.describe_lead_fields(DescribeLeadFieldsRequest())
        yield client
    gateway.close()
    simulator.close()


def test_a_call_that_waits_as_told_is_served_at_the_second_try(limited):
    def call(number):
        request = CreateLeadRequest(lead=LeadFields(email_address=f"{number}@callers.example"))
        attempts = 1
        while True:
            try:
                limited.leads.create_lead(request, timeout=2)
            except leadgate.Error as error:
                refusals.append((error.reason, dict(error.trailing_metadata())["grpc-retry-pushback-ms"]))
                time.sleep(error.retry_after)
                attempts += 1
            else:
                return attempts

    refusals = []
    with ThreadPoolExecutor(50) as pool:
        attempts = list(pool.map(call, range(50)))
    assert set(refusals) == {(REASON.DEADLINE_INFEASIBLE, "-1")}
    assert attempts.count(1) >= 10
    # A busy machine can make some calls slower than leadgate expects.
    assert sum(attempt <= 2 for attempt in attempts) >= 40
    assert max(attempts) <= 4


def test_an_error_with_many_long_violations_is_complete(calls):
    lead = LeadFields(email_address="nobody")
    for number in range(70):
        lead.custom[f"mx_{'Unknown' * 20}_{number}"].text = "x"
    lead.custom["mx_" + "y" * 5000].text = "x"
    error = failing(calls.create_lead, CreateLeadRequest(lead=lead))
    assert error.reason == REASON.INVALID_FIELD
    assert "more" in error.violations[-1].description + error.violations[-1].field
    assert len(error.violations) > 5


def test_a_message_that_is_too_large_names_its_size(calls):
    upsert = UpsertLeadRequest(lead=LeadFields(email_address="a@b.example", notes="x" * 100_000))
    error = failing(calls.batch_upsert_leads, BatchUpsertLeadsRequest(requests=[upsert] * 50))
    assert error.reason == REASON.INVALID_FIELD
    assert "5,00" in error.details() or "500" in error.details()


def test_the_path_of_a_field_to_clear_is_that_of_the_request(calls):
    lead_id = create(calls, email_address=unique("clear"))
    error = failing(calls.update_lead, UpdateLeadRequest(lead_id=lead_id, clear_fields=["mx_No_Such_Attribute"]))
    assert [violation.field for violation in error.violations] == ["clear_fields[0]"]


def test_values_of_languages_without_absent_values_are_rejected(calls):
    nil = CreateLeadRequest(lead=LeadFields(first_name="A"), request_id=str(uuid.UUID(int=0)))
    assert [violation.field for violation in failing(calls.create_lead, nil).violations] == ["request_id"]


def test_the_same_id_with_another_message_is_an_error(calls):
    first = CreateLeadRequest(lead=LeadFields(email_address=unique("same")), request_id=str(uuid.uuid4()))
    calls.create_lead(first)
    other = CreateLeadRequest(lead=LeadFields(first_name="Other"), request_id=first.request_id)
    error = failing(calls.create_lead, other)
    assert (error.reason, error.request_id) == (REASON.INVALID_FIELD, first.request_id)


def test_wrong_metadata_is_named(calls):
    request = DescribeLeadFieldsRequest()
    error = failing(calls.describe_lead_fields, request, criticality="CRITICAL")
    assert "sheddable-plus" in str(error)
    error = failing(calls.describe_lead_fields, request, metadata=[("x-leadgate-tennant", "demo")])
    assert "x-leadgate-tenant" in str(error)


def test_a_lead_that_was_read_can_be_written_back(calls):
    lead_id = create(calls, email_address=unique("back"), city="Pune")
    lead = calls.get_lead(GetLeadRequest(lead_id=lead_id)).lead
    lead.fields.city = "Delhi"
    calls.update_lead(UpdateLeadRequest(lead_id=lead_id, lead=lead.fields))
    assert calls.get_lead(GetLeadRequest(lead_id=lead_id)).lead.fields.city == "Delhi"


def test_a_lost_response_is_reconciled(leadgate_client, leadgate_demo):
    leadgate_demo.control("POST", "faults", {"on": "Lead.Create", "what": "commit-then-drop"})
    email = unique("lost")
    lead_id = create(leadgate_client.leads, email_address=email)
    stored = [lead["ProspectID"] for lead in leadgate_demo.control("GET", "leads") if lead["EmailAddress"] == email]
    assert stored == [lead_id]


def test_an_unknown_outcome_that_cannot_be_resolved_is_raised_at_once(leadgate_client, leadgate_demo):
    # A create with a name only cannot be looked up.
    leadgate_demo.control("POST", "faults", {"on": "Lead.Create", "what": "commit-then-drop"})
    error = failing(leadgate_client.leads.create_lead, CreateLeadRequest(lead=LeadFields(first_name="Name only")))
    assert (error.code(), error.reason) == (grpc.StatusCode.ABORTED, REASON.OUTCOME_UNKNOWN)
    assert error.metadata["retry_same_request_id"] == "false"
    assert error.retry_after is None
    stored = [lead for lead in leadgate_demo.control("GET", "leads") if lead["FirstName"] == "Name only"]
    assert len(stored) == 1
