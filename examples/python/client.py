#!/usr/bin/env python3
"""A client of leadgate without generated code: it reads the services and messages from the server by reflection.

    python3 client.py 127.0.0.1:50051
"""

import sys
import uuid

import grpc
from google.protobuf import descriptor_pool, json_format, message_factory
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from grpc_status import rpc_status

LEAD_SERVICE = "leadgate.v1.LeadService"
SHARE_SERVICE = "leadgate.v1.ShareService"
USER_SERVICE = "leadgate.v1.UserService"

# The types of error details that are printed.
DETAILS = [
    error_details_pb2.BadRequest,
    error_details_pb2.ErrorInfo,
    error_details_pb2.PreconditionFailure,
    error_details_pb2.QuotaFailure,
    error_details_pb2.RequestInfo,
    error_details_pb2.ResourceInfo,
    error_details_pb2.RetryInfo,
]


class Service:
    """The rpcs of one service. Requests are dicts in the JSON form of protobuf. Responses are messages."""

    def __init__(self, channel, name=LEAD_SERVICE):
        pool = descriptor_pool.DescriptorPool(ProtoReflectionDescriptorDatabase(channel))
        self.channel = channel
        self.name = name
        self.methods = pool.FindServiceByName(name).methods_by_name

    def call(self, method, request, timeout=10, metadata=()):
        """Calls an rpc. Returns the response and the trailing metadata, or raises grpc.RpcError."""
        method_descriptor = self.methods[method]
        message = json_format.ParseDict(request, message_factory.GetMessageClass(method_descriptor.input_type)())
        rpc = self.channel.unary_unary(
            f"/{self.name}/{method}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=message_factory.GetMessageClass(method_descriptor.output_type).FromString,
        )
        response, call = rpc.with_call(message, timeout=timeout, metadata=metadata)
        return response, dict(call.trailing_metadata())

    def stream(self, method, requests, timeout=60, metadata=()):
        """Sends a stream of requests and yields the responses. Returns the trailing metadata."""
        method_descriptor = self.methods[method]
        request_class = message_factory.GetMessageClass(method_descriptor.input_type)
        rpc = self.channel.stream_stream(
            f"/{self.name}/{method}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=message_factory.GetMessageClass(method_descriptor.output_type).FromString,
        )
        messages = (json_format.ParseDict(request, request_class()) for request in requests)
        call = rpc(messages, timeout=timeout, metadata=metadata)
        yield from call
        return dict(call.trailing_metadata())


def details_of(error):
    """Returns the google.rpc details of an error by type: {"ErrorInfo": ..., "BadRequest": ...}."""
    status = rpc_status.from_call(error)
    found = {}
    for packed in status.details if status else ():
        for kind in DETAILS:
            if packed.Is(kind.DESCRIPTOR):
                found[kind.DESCRIPTOR.name] = kind.FromString(packed.value)
    return found


def explain(error):
    """Prints an error: the code, the reason, the invalid fields, and when to retry."""
    details = details_of(error)
    info = details.get("ErrorInfo")
    print(f"   {error.code().name} {info.reason if info else ''}: {error.details()}")
    for violation in details["BadRequest"].field_violations if "BadRequest" in details else ():
        print(f"     field {violation.field}: {violation.description}")
    if "ResourceInfo" in details:
        resource = details["ResourceInfo"]
        print(f"     resource {resource.resource_type} {resource.resource_name}: {resource.description}")
    for name, value in sorted(info.metadata.items()) if info else ():
        print(f"     {name}: {value}")
    if "RetryInfo" in details:
        print(f"     retry after {details['RetryInfo'].retry_delay.ToJsonString()}")
    if "RequestInfo" in details:
        print(f"     request id {details['RequestInfo'].request_id}")


def main(address):
    with grpc.insecure_channel(address) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        response = health.Check(health_pb2.HealthCheckRequest(service=LEAD_SERVICE), timeout=10)
        print("1. Health:", health_pb2.HealthCheckResponse.ServingStatus.Name(response.status))

        print("2. Services, by reflection")
        for name in ProtoReflectionDescriptorDatabase(channel).get_services():
            print("  ", name)
        leads = Service(channel)
        print("   rpcs:", ", ".join(leads.methods))

        print("3. CreateLead")
        email = f"asha.{uuid.uuid4().hex[:8]}@example.com"
        asha = {"firstName": "Asha", "lastName": "Rao", "emailAddress": email, "city": "Pune"}
        # With a request id, the request can be repeated safely: it is executed once, and every call returns the same response.
        create = {"lead": asha, "requestId": str(uuid.uuid4())}
        created, trailers = leads.call("CreateLead", create)
        print(f"   lead {created.lead_id}; x-request-id in the gateway's log: {trailers['x-request-id']}")
        repeated, _ = leads.call("CreateLead", create)
        print(f"   lead {repeated.lead_id}, after the same request was sent again")

        print("4. GetLead by email")
        read, _ = leads.call("GetLead", {"emailAddress": email})
        fields = read.lead.fields
        print(f"   number {read.lead.lead_number}: {fields.first_name} {fields.last_name}, {fields.city}")

        print("5. CreateLead with invalid fields")
        try:
            leads.call("CreateLead", {"lead": {"emailAddress": "nobody", "custom": {"mx_Shoe_Size": {"number": 42}}}})
        except grpc.RpcError as error:
            explain(error)

        print("6. CreateLead of a duplicate")
        try:
            leads.call("CreateLead", {"lead": asha})
        except grpc.RpcError as error:
            explain(error)

        print("7. ImportLeads: a stream of rows")
        import_leads(leads)

        print("8. ShareLead and RevokeShare")
        try:
            share(channel, created.lead_id)
        except grpc.RpcError as error:
            explain(error)


def import_leads(leads):
    """Writes three rows, one of them invalid. The results arrive in any order."""
    people = [f"row.{uuid.uuid4().hex[:8]}@example.com", f"row.{uuid.uuid4().hex[:8]}@example.com", "nobody"]
    rows = ({"sequence": n, "upsert": {"lead": {"emailAddress": email}}} for n, email in enumerate(people, 1))
    responses = leads.stream("ImportLeads", rows)
    try:
        while True:
            response = next(responses)
            succeeded = response.HasField("response")
            print(f"   row {response.sequence}:", response.response.lead_id if succeeded else response.error.message)
    except StopIteration as ended:
        counts = {name: value for name, value in ended.value.items() if name.startswith("x-leadgate-import")}
        print("  ", counts)


def share(channel, lead_id):
    """Shares a lead with a sales user for half an hour, and revokes the share."""
    sales, _ = Service(channel, USER_SERVICE).call("ListUsers", {"role": "Sales_User", "pageSize": 1})
    if not sales.users:
        print("   the account has no sales user")
        return
    shares = Service(channel, SHARE_SERVICE)
    request = {"leadId": lead_id, "userId": sales.users[0].user_id, "access": "ACCESS_READ", "duration": "1800s"}
    # WAIT_FOR_ACTIVE waits until LeadSquared has processed the request, which may take some seconds.
    shared, _ = shares.call("ShareLead", {**request, "waitFor": "WAIT_FOR_ACTIVE"}, timeout=60)
    print(f"   {sales.users[0].first_name} can read the lead until {shared.share.expire_time.ToJsonString()}")
    revoke = {"shareId": shared.share.share_id, "waitFor": "WAIT_FOR_ACTIVE"}
    revoked, _ = shares.call("RevokeShare", revoke, timeout=60)
    print("  ", json_format.MessageToDict(revoked.share)["state"])


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: client.py HOST:PORT")
    try:
        main(sys.argv[1])
    except grpc.RpcError as error:
        sys.exit(f"{sys.argv[1]}: {error.code().name}: {error.details()}")
