"""The gateway as a process, used through the generated stubs: what callers and operators see."""

import os
import re
import tempfile
import time
import unittest
import uuid
from concurrent.futures import ThreadPoolExecutor

import grpc
from google.protobuf import descriptor_pool, json_format
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from processes import ACCESS_KEY, SECRET_KEY, Case, Gateway, Simulator, eventually, run

import leadgate.v1
from leadgate.v1 import activity_pb2, lead_pb2, quota_pb2, share_pb2, user_pb2

LEAD_SERVICE = "leadgate.v1.LeadService"
SERVING = health_pb2.HealthCheckResponse.SERVING


def health_of(channel, service=""):
    """Returns the health of a gateway, or None if it does not respond."""
    request = health_pb2.HealthCheckRequest(service=service)
    try:
        return health_pb2_grpc.HealthStub(channel).Check(request, timeout=2).status
    except grpc.RpcError:
        return None


def fields_of(error):
    return [violation.field for violation in error.violations]


class GatewayCase(Case):
    """A test with a simulator, a gateway and a client."""

    simulator_arguments = ()
    settings = {}

    def setUp(self):
        self.simulator = self.start(Simulator, *self.simulator_arguments)
        self.gateway = self.start(Gateway, self.simulator, **self.settings)
        self.client = leadgate.Client(self.gateway.address, insecure=True)
        self.addCleanup(self.client.close)
        eventually("health", lambda: health_of(self.client.channel) == SERVING)

    def call(self, method, request, **options):
        response, _ = self.call_with_trailers(method, request, **options)
        return response

    def call_with_trailers(self, method, request, timeout=10, metadata=(), service="leads"):
        """Calls a stub with a request in the JSON form of protobuf. Returns the response and the trailing metadata."""
        message = json_format.ParseDict(request, getattr(leadgate.v1, f"{method}Request")())
        stub = getattr(getattr(self.client, service).stub, method)
        response, call = stub.with_call(message, timeout=timeout, metadata=metadata)
        return response, dict(call.trailing_metadata())

    def call_in_background(self, method, request):
        """Calls an rpc in another thread. Returns a function that waits for the response."""
        pool = ThreadPoolExecutor(max_workers=1)
        future = pool.submit(self.call, method, request)
        pool.shutdown(wait=False)
        return future.result

    def call_failing(self, method, request, **options):
        with self.assertRaises(grpc.RpcError) as caught:
            self.call(method, request, **options)
        return leadgate.Error.from_rpc(caught.exception)


class Contract(GatewayCase):
    """Responses and errors of a gateway without upstream failures."""

    def test_health_is_reported_for_the_server_and_for_the_service(self):
        assert health_of(self.client.channel) == SERVING
        assert health_of(self.client.channel, LEAD_SERVICE) == SERVING

    def test_reflection_has_the_contract_of_the_package(self):
        reflected = ProtoReflectionDescriptorDatabase(self.client.channel)
        assert "grpc.health.v1.Health" in reflected.get_services()
        pool = descriptor_pool.DescriptorPool(reflected)
        for module in (activity_pb2, lead_pb2, quota_pb2, share_pb2, user_pb2):
            for name, service in module.DESCRIPTOR.services_by_name.items():
                methods = pool.FindServiceByName(f"leadgate.v1.{name}").methods_by_name
                assert sorted(methods) == sorted(service.methods_by_name)

    def test_a_lead_is_created_and_read_back_typed(self):
        custom = {
            "mx_KYC": {"fieldSet": {"fields": {"Status": "Approved", "mx_CustomObject_1": "PAN"}}},
            "mx_Loan_Amount": {"number": 250000.5},
            "mx_Consent": {"flag": True},
            "mx_Next_Call": {"time": "2026-01-31T10:30:00Z"},
            "mx_Segment": {"text": "Retail"},
        }
        lead = {"firstName": "Asha", "emailAddress": "asha@example.com", "city": "Pune", "doNotCall": True}
        created = self.call("CreateLead", {"lead": {**lead, "custom": custom}})
        uuid.UUID(created.lead_id)

        read = self.call("GetLead", {"emailAddress": "asha@example.com"}).lead
        assert read.lead_id == created.lead_id
        assert read.lead_number.isdigit()
        assert read.create_time.seconds > 0
        assert read.fields.first_name == "Asha"
        assert read.fields.city == "Pune"
        assert read.fields.do_not_call is True
        assert not read.fields.HasField("last_name")
        typed = read.fields.custom
        assert dict(typed["mx_KYC"].field_set.fields) == {"Status": "Approved", "mx_CustomObject_1": "PAN"}
        assert typed["mx_Loan_Amount"].number == 250000.5
        assert typed["mx_Consent"].flag is True
        assert typed["mx_Next_Call"].time.ToJsonString() == "2026-01-31T10:30:00Z"
        assert typed["mx_Segment"].text == "Retail"

    def test_a_lead_is_updated_cleared_and_read_by_a_mask(self):
        lead = {"firstName": "Ben", "emailAddress": "ben@example.com", "city": "Pune", "company": "Example"}
        lead_id = self.call("CreateLead", {"lead": lead}).lead_id
        change = {"leadId": lead_id, "lead": {"lastName": "Kay"}, "clearFields": ["city"]}
        assert self.call("UpdateLead", change).affected_rows == 1
        mask = "leadNumber,fields.lastName,fields.city"
        read = self.call("GetLead", {"leadId": lead_id, "readMask": mask}).lead
        assert (read.lead_id, read.fields.last_name, read.fields.city) == (lead_id, "Kay", "")
        assert not read.fields.HasField("company")

    def test_an_upsert_creates_and_then_updates(self):
        lead = {"firstName": "Asha", "emailAddress": "asha@example.com"}
        created = self.call("UpsertLead", {"lead": lead})
        updated = self.call("UpsertLead", {"lead": {**lead, "city": "Pune"}})
        assert updated.lead_id == created.lead_id
        assert self.call("GetLead", {"leadId": created.lead_id}).lead.fields.city == "Pune"

    def test_a_capture_returns_whether_the_lead_is_new(self):
        lead = {"firstName": "Asha", "emailAddress": "asha@example.com"}
        created = self.call("CaptureLead", {"lead": lead})
        captured = self.call("CaptureLead", {"lead": lead})
        assert (created.created, captured.created) == (True, False)
        assert captured.lead_id == created.lead_id

    def test_leads_are_returned_in_the_requested_order(self):
        people = [{"firstName": name, "emailAddress": f"{name}@example.com"} for name in ("a", "b", "c")]
        ids = [self.call("CreateLead", {"lead": person}).lead_id for person in people]
        absent = str(uuid.uuid4())
        response = self.call("BatchGetLeads", {"leadIds": [ids[2], absent, ids[0]]})
        assert [lead.lead_id for lead in response.leads] == [ids[2], ids[0]]
        assert list(response.missing_lead_ids) == [absent]
        # The second call verifies that the missing lead does not exist.
        assert self.simulator.calls("Leads/Retrieve/ByIds") == 2

    def test_all_violations_of_a_message_are_returned_at_once(self):
        custom = {"mx_Shoe_Size": {"number": 42}, "mx_Loan_Amount": {"text": "a lot"}}
        failure = self.call_failing(
            "CreateLead", {"lead": {"emailAddress": "nobody", "custom": custom}, "requestId": "7"}
        )
        assert failure.code() == grpc.StatusCode.INVALID_ARGUMENT
        assert failure.reason_name == "INVALID_FIELD"
        expected = ['lead.custom["mx_Loan_Amount"]', 'lead.custom["mx_Shoe_Size"]', "lead.email_address", "request_id"]
        assert sorted(fields_of(failure)) == expected
        assert self.simulator.calls("Lead.Create") == 0

    def test_validate_only_sends_nothing(self):
        lead = {"firstName": "Asha", "emailAddress": "asha@example.com"}
        assert self.call("CreateLead", {"lead": lead, "validateOnly": True}).lead_id == ""
        assert self.simulator.calls("Lead.Create") == 0

    def test_a_duplicate_names_the_field(self):
        lead = {"firstName": "Asha", "emailAddress": "asha@example.com"}
        self.call("CreateLead", {"lead": lead})
        failure = self.call_failing("CreateLead", {"lead": lead})
        assert failure.code() == grpc.StatusCode.ALREADY_EXISTS
        assert (failure.domain, failure.reason_name) == ("leadgate", "LEAD_DUPLICATE")
        assert failure.metadata["tenant"] == "test"
        assert failure.metadata["exception_type"] == "MXDuplicateEntryException"
        assert (failure.resource.type, failure.resource.description) == ("leadgate.v1.Lead", "lead.email_address")

    def test_an_unknown_lead_is_not_found(self):
        failure = self.call_failing("GetLead", {"leadId": str(uuid.uuid4())})
        assert (failure.code(), failure.reason_name) == (grpc.StatusCode.NOT_FOUND, "LEAD_NOT_FOUND")

    def test_an_unknown_tenant_is_rejected(self):
        failure = self.call_failing("GetLead", {"leadNumber": "1"}, metadata=[("x-leadgate-tenant", "other")])
        assert (failure.code(), failure.reason_name) == (grpc.StatusCode.PERMISSION_DENIED, "CALLER_NOT_ALLOWED")
        assert failure.metadata["rule"] == "tenant"

    def test_every_response_has_the_request_id_in_its_trailers(self):
        lead = {"firstName": "Asha", "emailAddress": "asha@example.com"}
        _, trailers = self.call_with_trailers("CreateLead", {"lead": lead})
        assert trailers["x-request-id"]
        _, trailers = self.call_with_trailers("DescribeLeadFields", {}, metadata=[("x-request-id", "order-17")])
        assert trailers["x-request-id"] == "order-17"
        failure = self.call_failing("GetLead", {}, metadata=[("x-request-id", "order-18")])
        assert dict(failure.trailing_metadata())["x-request-id"] == "order-18"
        assert failure.rpc_id == "order-18"

    def test_a_request_id_is_executed_once_and_returns_the_same_response(self):
        request = {"lead": {"firstName": "Asha", "emailAddress": "asha@example.com"}, "requestId": str(uuid.uuid4())}
        first = self.call("CreateLead", request)
        assert self.call("CreateLead", request).lead_id == first.lead_id
        assert self.simulator.calls("Lead.Create") == 1
        other = {**request, "lead": {"firstName": "Ben"}}
        assert fields_of(self.call_failing("CreateLead", other)) == ["request_id"]

    def test_a_batch_is_one_call_with_a_result_per_request(self):
        people = [{"lead": {"emailAddress": f"p{n}@example.com"}} for n in range(20)]
        people[7] = {"lead": {"emailAddress": "nobody"}}
        results = self.call("BatchUpsertLeads", {"requests": people}).results
        succeeded = [result.HasField("response") for result in results]
        assert succeeded == [n != 7 for n in range(20)]
        assert results[7].error.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
        assert {result.response.outcome for result in results if result.HasField("response")} == {1}
        # On a busy machine, the gateway may send the first rows in a call of their own.
        assert self.simulator.calls("Lead/Bulk/CreateOrUpdate") in {1, 2}
        assert self.simulator.calls("Lead.CreateOrUpdate") == 0


class Sharing(GatewayCase):
    """Shares, as callers, LeadSquared and operators see them."""

    settings = {
        "LEADGATE__TENANTS__TEST__SHARING__DEFAULT_ACTIVITY_TYPE": "201",
        "LEADGATE__TENANTS__TEST__SHARING__POLL_EVERY": "50ms",
    }

    def test_a_lead_is_shared_and_revoked(self):
        lead_id = self.call("CreateLead", {"lead": {"firstName": "Asha"}}).lead_id
        request = {"leadId": lead_id, "userEmailAddress": "sam@simulator.example", "access": "ACCESS_WRITE"}
        request = {**request, "duration": "1800s", "waitFor": "WAIT_FOR_ACTIVE", "requestId": str(uuid.uuid4())}
        shared = self.call("ShareLead", request, service="shares")
        share = shared.share
        assert share.expire_time.seconds - share.grant_time.seconds == 1800
        assert (share.lead_id, share.lead_number) == (lead_id, "1001")

        # The same request again returns the same share.
        again = self.call("ShareLead", request, service="shares")
        assert again.share.share_id == share.share_id
        assert self.simulator.calls("ProspectActivity.Create") == 1
        assert self.simulator.calls("EntityAccess.Share") == 1

        listed = run("shares", "list", "--addr", self.gateway.address, "--user", "sam@simulator.example")
        assert listed.returncode == 0, listed.stderr
        assert re.search(f"(?m)^{share.share_id}  active ", listed.stdout)
        revoked = run("shares", "revoke", "--addr", self.gateway.address, "--yes", share.share_id)
        assert (revoked.returncode, revoked.stdout) == (0, f"{share.share_id}  revoked\n")
        assert self.simulator.calls("EntityAccess.Revoke") == 1
        known = self.call("GetShare", {"shareId": share.share_id}, service="shares")
        states = [change.state for change in known.changes]
        assert states[-1] == known.share.state
        assert share.state in states


class UpstreamFailures(GatewayCase):
    """Failures of LeadSquared, as callers see them."""

    def test_a_failed_read_is_retried(self):
        lead_id = self.call("CreateLead", {"lead": {"firstName": "Asha"}}).lead_id
        self.simulator.inject(on="Leads.GetById", what="html502")
        assert self.call("GetLead", {"leadId": lead_id}).lead.fields.first_name == "Asha"
        assert self.simulator.calls("Leads.GetById") == 2

    def test_a_lost_response_creates_no_second_lead(self):
        self.simulator.inject(on="Lead.Create", what="commit-then-drop")
        lead = {"firstName": "Asha", "emailAddress": "asha@example.com"}
        created = self.call("CreateLead", {"lead": lead, "requestId": str(uuid.uuid4())})
        stored = self.simulator.control("GET", "leads")
        assert [lead["ProspectID"] for lead in stored] == [created.lead_id]

    def test_rejected_keys_are_a_failed_precondition(self):
        self.simulator.inject(on="Leads.GetById", what="unauthorized")
        failure = self.call_failing("GetLead", {"leadId": str(uuid.uuid4())})
        assert failure.code() == grpc.StatusCode.FAILED_PRECONDITION
        assert failure.reason_name == "UPSTREAM_CREDENTIALS_REJECTED"

    def test_a_failing_leadsquared_is_unavailable(self):
        self.simulator.inject(on="Leads.GetById", what="empty503", times=100)
        failure = self.call_failing("GetLead", {"leadId": str(uuid.uuid4())}, timeout=3)
        assert (failure.code(), failure.reason_name) == (grpc.StatusCode.UNAVAILABLE, "UPSTREAM_UNAVAILABLE")
        assert failure.retry_after is not None
        assert "grpc-retry-pushback-ms" in dict(failure.trailing_metadata())


class Quota(GatewayCase):
    """A limit of two calls per window. The metadata uses one of them."""

    simulator_arguments = ("--calls", "2", "--per", "30s")
    settings = {"LEADGATE__TENANTS__TEST__LIMITS__CALLS": "2", "LEADGATE__TENANTS__TEST__LIMITS__WINDOW": "30s"}

    def test_an_infeasible_deadline_fails_at_once(self):
        self.call("DescribeLeadFields", {})
        read = {"leadId": str(uuid.uuid4())}
        assert self.call_failing("GetLead", read).code() == grpc.StatusCode.NOT_FOUND

        started = time.monotonic()
        failure = self.call_failing("GetLead", read, timeout=5)
        assert time.monotonic() - started < 4
        assert failure.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert failure.reason_name == "DEADLINE_INFEASIBLE"
        # A retry is useful only with a later deadline.
        assert dict(failure.trailing_metadata())["grpc-retry-pushback-ms"] == "-1"
        delay = failure.retry_after
        assert delay > 0
        assert delay <= 34
        assert failure.detail(error_details_pb2.QuotaFailure).violations[0].subject == "tenant:test"
        assert self.simulator.control("GET", "stats")["refused"] == 0


class Operation(GatewayCase):
    """Pages, logs and commands for operators, with full logging."""

    settings = {"LEADGATE__LOG__FILTER": "trace"}

    def test_the_admin_port_has_liveness_readiness_and_metrics(self):
        self.call("DescribeLeadFields", {})
        assert self.gateway.page("/live")[0] == 200
        assert self.gateway.page("/ready")[0] == 200
        status, text = self.gateway.page("/metrics")
        assert status == 200
        method = f"/{LEAD_SERVICE}/DescribeLeadFields"
        assert f'leadgate_rpcs_total{{method="{method}",code="OK"}} 1' in text
        assert 'leadgate_quota_limit{tenant="test",window="calls"} 25' in text

    def test_the_log_has_a_line_per_rpc_and_per_attempt_and_no_keys(self):
        trace = "0af7651916cd43dd8448eb211c80319c"
        metadata = [("x-request-id", "order-19"), ("traceparent", f"00-{trace}-b7ad6b7169203331-01")]
        self.call_failing("GetLead", {"emailAddress": "nobody@example.com"}, metadata=metadata)
        (finished,) = eventually("the log line of the rpc", lambda: self.lines_of("leadgate::rpc", "order-19"))
        assert (finished["code"], finished["tenant"]) == ("NOT_FOUND", "test")
        assert finished["trace_id"] == trace
        (attempt,) = self.lines_of("leadgate::attempt", "order-19")
        assert attempt["endpoint"] == "Leads.GetByEmailaddress"
        self.assert_no_secrets_in_log()

    def lines_of(self, target, request_id):
        lines = self.gateway.lines()
        return [line for line in lines if (line["target"], line.get("request_id")) == (target, request_id)]

    def assert_no_secrets_in_log(self):
        output = self.gateway.output()
        for secret in (ACCESS_KEY, "u$r", SECRET_KEY, "nobody@example.com"):
            assert secret not in output

    def test_the_exit_code_of_the_health_command_is_the_health(self):
        ended = run("health", "--addr", self.gateway.address)
        assert (ended.returncode, ended.stdout) == (0, "serving\n")
        self.gateway.terminate()
        assert self.gateway.wait() == 0
        ended = run("health", "--addr", self.gateway.address)
        assert ended.returncode == 1
        assert "cannot be reached" in ended.stderr

    def test_rpcs_in_progress_are_finished_before_the_process_ends(self):
        lead_id = self.call("CreateLead", {"lead": {"firstName": "Asha"}}).lead_id
        self.simulator.inject(on="Leads.GetById", what={"delay": {"by": "1s"}})
        read = self.call_in_background("GetLead", {"leadId": lead_id})
        eventually("the call at LeadSquared", lambda: self.simulator.calls("Leads.GetById") == 1)
        self.gateway.terminate()
        eventually("health other than SERVING", lambda: health_of(self.client.channel) != SERVING)
        assert read().lead.fields.first_name == "Asha"
        assert self.gateway.wait() == 0
        assert "stopped" in [line.get("message") for line in self.gateway.lines()]
        self.assert_no_secrets_in_log()


class Settings(unittest.TestCase):
    """Errors in the settings."""

    def test_every_error_is_listed(self):
        text = """
            [server]
            listen = "nowhere"
            colour = "red"
            [tenants.acme]
            base_url = "http://crm.example.com"
            access_key = { env = "NO_SUCH_VARIABLE" }
            secret_key = "secret-of-this-test"
            [tenants.acme.limits]
            calls = 0
        """
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "bad.toml")
            with open(path, "w", encoding="utf-8") as file:
                file.write(text)
            for command, code in (("check", 1), ("serve", 78)):
                ended = run(command, "--config", path)
                assert ended.returncode == code
                for expected in (
                    f"{path}: server.listen: ",
                    f"{path}: server.colour: ",
                    f"{path}: tenants.acme.base_url: ",
                    f"{path}: tenants.acme.access_key: ",
                    f"{path}: tenants.acme.limits.calls: ",
                ):
                    assert expected in ended.stderr
                assert "secret-of-this-test" not in ended.stdout + ended.stderr

    def test_a_tenant_is_required(self):
        ended = run("serve")
        assert ended.returncode == 78
        assert "tenants" in ended.stderr

    def test_valid_settings_are_accepted(self):
        settings = {
            "LEADGATE__TENANTS__ACME__BASE_URL": "https://api-in21.leadsquared.com",
            "LEADGATE__TENANTS__ACME__ACCESS_KEY": "a",
            "LEADGATE__TENANTS__ACME__SECRET_KEY": "b",
            "LEADGATE__STORE__URL": "sqlite::memory:",
        }
        ended = run("check", **settings)
        assert (ended.returncode, ended.stderr) == (0, "")
        assert "1 tenant(s)" in ended.stdout


if __name__ == "__main__":
    unittest.main()
