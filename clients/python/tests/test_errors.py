"""The errors of both clients."""

import pickle

import grpc
import grpc.aio
import pytest
from fake import Failure
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2

import leadgate
from leadgate.v1 import CreateLeadRequest

ALREADY_EXISTS = grpc.StatusCode.ALREADY_EXISTS
INVALID = grpc.StatusCode.INVALID_ARGUMENT
REQUEST = CreateLeadRequest()


def failing(client, fake, failure):
    fake.script = [failure]
    with pytest.raises(leadgate.Error) as caught:
        client.call(fake.address, "leads", "create_lead", REQUEST)
    return caught.value


def test_an_error_has_its_details_as_attributes(client, fake):
    invalid = error_details_pb2.BadRequest()
    invalid.field_violations.add(field="lead.email_address", description="has no @")
    details = (
        invalid,
        error_details_pb2.ResourceInfo(resource_type="leadgate.v1.Lead", resource_name="7", description="lead.phone"),
        error_details_pb2.RequestInfo(request_id="rpc-1"),
        error_details_pb2.QuotaFailure(violations=[error_details_pb2.QuotaFailure.Violation(subject="tenant:demo")]),
    )
    error = failing(client, fake, Failure(ALREADY_EXISTS, "LEAD_DUPLICATE", retry=1.5, more=details, tenant="demo"))
    assert error.code() is ALREADY_EXISTS
    assert error.details() == "failed"
    assert error.reason == leadgate.ErrorReason.LEAD_DUPLICATE
    assert (error.domain, error.reason_name) == ("leadgate", "LEAD_DUPLICATE")
    assert error.metadata == {"tenant": "demo"}
    assert error.violations == (leadgate.Violation("lead.email_address", "has no @"),)
    assert error.resource == leadgate.Resource("leadgate.v1.Lead", "7", "lead.phone")
    assert error.retry_after == 1.5
    assert error.request_id == fake.received[0].request.request_id
    assert error.rpc_id == "rpc-1"
    assert error.detail(error_details_pb2.QuotaFailure).violations[0].subject == "tenant:demo"
    assert error.detail(error_details_pb2.PreconditionFailure) is None
    for text in ("ALREADY_EXISTS", "LEAD_DUPLICATE", "failed", error.request_id, "rpc-1"):
        assert text in str(error)


def test_an_unknown_reason_and_unknown_details_stay_readable(client, fake):
    unknown = any_pb2.Any(type_url="type.googleapis.com/leadgate.v9.Surprise", value=b"\xff\xff")
    broken = any_pb2.Any(type_url="type.googleapis.com/google.rpc.BadRequest", value=b"\xff\xff")
    failure = Failure(INVALID, "WRONG_MOON", more=[unknown, broken], details="the moon is wrong", phase="full")
    error = failing(client, fake, failure)
    assert error.reason == leadgate.ErrorReason.ERROR_REASON_UNSPECIFIED
    assert (error.reason_name, error.metadata) == ("WRONG_MOON", {"phase": "full"})
    assert (error.violations, error.resource, error.retry_after) == ((), None, None)
    assert unknown.type_url in {detail.type_url for detail in error.status.details}
    assert "INVALID_ARGUMENT WRONG_MOON: the moon is wrong" in str(error)


def test_the_reason_of_another_service_is_not_one_of_leadgate(client, fake):
    error = failing(client, fake, Failure(INVALID, "INTERNAL", domain="proxy.example"))
    assert error.reason == leadgate.ErrorReason.ERROR_REASON_UNSPECIFIED
    assert (error.domain, error.reason_name) == ("proxy.example", "INTERNAL")


def test_an_error_without_details_is_readable(client, fake):
    error = failing(client, fake, Failure(INVALID))
    assert (error.reason_name, error.domain, error.details()) == ("", "", "failed")


def test_details_that_cannot_be_decoded_are_ignored(client, fake):
    def respond(_, context):
        context.set_trailing_metadata((("grpc-status-details-bin", b"\xff\xff"),))
        context.abort(INVALID, "failed")

    error = failing(client, fake, respond)
    assert (error.code(), error.status) == (INVALID, None)


@pytest.mark.parametrize("kind", [grpc.RpcError, grpc.aio.AioRpcError, leadgate.Error])
def test_existing_handlers_catch_the_error(client, fake, kind):
    fake.script = [Failure(INVALID, "INVALID_FIELD")]
    with pytest.raises(kind) as caught:
        client.call(fake.address, "leads", "create_lead", REQUEST)
    error = caught.value
    assert (error.code(), error.details()) == (INVALID, "failed")
    assert "grpc-status-details-bin" in {key for key, _ in error.trailing_metadata()}
    assert list(error.initial_metadata() or ()) == []


def test_an_error_survives_pickle(client, fake):
    error = failing(client, fake, Failure(ALREADY_EXISTS, "LEAD_DUPLICATE", retry=1, tenant="demo"))
    copy = pickle.loads(pickle.dumps(error))
    assert (copy.code(), copy.reason, copy.metadata, copy.request_id, str(copy)) == (
        error.code(),
        error.reason,
        error.metadata,
        error.request_id,
        str(error),
    )


def test_the_error_of_a_result_is_the_same_class():
    status = Failure(ALREADY_EXISTS, "LEAD_DUPLICATE").status
    error = leadgate.Error.from_status(status, "1")
    assert (error.code(), error.reason_name, error.request_id) == (ALREADY_EXISTS, "LEAD_DUPLICATE", "1")
    assert leadgate.Error.from_status(status_pb2.Status(code=99)).code() is grpc.StatusCode.UNKNOWN
