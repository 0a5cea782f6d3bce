"""A server in the process of the test, whose responses a test scripts, and a way to call both clients."""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.rpc import error_details_pb2, status_pb2

import leadgate.aio
import leadgate.v1
from leadgate.v1 import activity_pb2, lead_pb2, quota_pb2, share_pb2, user_pb2

SERVICES = {
    "leads": lead_pb2.DESCRIPTOR.services_by_name["LeadService"],
    "activities": activity_pb2.DESCRIPTOR.services_by_name["ActivityService"],
    "shares": share_pb2.DESCRIPTOR.services_by_name["ShareService"],
    "users": user_pb2.DESCRIPTOR.services_by_name["UserService"],
    "quota": quota_pb2.DESCRIPTOR.services_by_name["QuotaService"],
}


def kind_of(message):
    return getattr(leadgate.v1, message.name)


class Failure:
    """A response that is an error."""

    def __init__(self, code, reason=None, *, retry=None, more=(), details="failed", domain="leadgate", **metadata):
        self.code = code
        status = status_pb2.Status(code=code.value[0], message=details)
        packed = list(more)
        if reason is not None:
            packed.append(error_details_pb2.ErrorInfo(domain=domain, reason=reason, metadata=metadata))
        if retry is not None:
            delay = duration_pb2.Duration()
            delay.FromNanoseconds(int(retry * 1e9))
            packed.append(error_details_pb2.RetryInfo(retry_delay=delay))
        for detail in packed:
            if isinstance(detail, any_pb2.Any):
                status.details.append(detail)
            else:
                status.details.add().Pack(detail)
        self.status = status


class Received:
    """One attempt of a client."""

    def __init__(self, method, request, context):
        self.at = time.monotonic()
        self.method = method
        self.request = request
        self.metadata = dict(context.invocation_metadata())
        self.timeout = context.time_remaining()


class Fake(grpc.GenericRpcHandler):
    """A leadgate that responds with `script`: per attempt a Failure, a response, a list of them, or a function."""

    def __init__(self, credentials=None):
        self.script = []
        self.received = []
        self.methods = {}
        for service in SERVICES.values():
            for name, method in service.methods_by_name.items():
                self.methods[f"/{service.full_name}/{name}"] = method
        self._server = grpc.server(ThreadPoolExecutor(16), handlers=[self])
        port = self._server.add_insecure_port("127.0.0.1:0")
        self.address = f"127.0.0.1:{port}"
        self._server.start()

    def stop(self):
        self._server.stop(None).wait()

    def service(self, details):
        method = self.methods[details.method]
        streams = "stream" if is_streaming(method, "client") else "unary", "stream" if is_streaming(method) else "unary"
        make = getattr(grpc, "_".join(streams) + "_rpc_method_handler")
        respond = self._stream if streams[1] == "stream" else self._unary

        def handle(request, context):
            attempt = Received(method.name, request, context)
            self.received.append(attempt)
            step = self.script.pop(0) if self.script else kind_of(method.output_type)()
            return respond(step, request, context)

        return make(handle, kind_of(method.input_type).FromString, kind_of(method.output_type).SerializeToString)

    def _unary(self, step, request, context):
        step = step(request, context) if callable(step) else step
        return abort(context, step) if isinstance(step, Failure) else step

    def _stream(self, step, request, context):
        steps = step(request, context) if callable(step) else step if isinstance(step, list) else [step]
        for message in steps:
            if isinstance(message, Failure):
                abort(context, message)
            yield message


def is_streaming(method, side="server"):
    """Returns whether requests or responses are a stream. Older versions of protobuf have no property for it."""
    from google.protobuf import descriptor_pb2  # noqa: PLC0415

    proto = descriptor_pb2.ServiceDescriptorProto()
    method.containing_service.CopyToProto(proto)
    found = next(each for each in proto.method if each.name == method.name)
    return getattr(found, f"{side}_streaming")


def abort(context, failure):
    context.set_trailing_metadata((("grpc-status-details-bin", failure.status.SerializeToString()),))
    context.abort(failure.code, failure.status.message)


class Sync:
    """Calls the blocking client."""

    name = "sync"

    def call(self, address, service, method, request, options=None, **call):
        with leadgate.Client(address, **(options or {"insecure": True})) as client:
            response = getattr(getattr(client, service), method)(request, **call)
            return response if hasattr(response, "DESCRIPTOR") else list(response)


class Aio:
    """Calls the client for asyncio."""

    name = "aio"

    def call(self, address, service, method, request, options=None, **call):
        async def run():
            async with leadgate.aio.Client(address, **(options or {"insecure": True})) as client:
                response = getattr(getattr(client, service), method)(request, **call)
                if hasattr(response, "__aiter__"):
                    return [message async for message in response]
                return await response

        return asyncio.run(run())
