"""The error of all RPCs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, cast

import grpc
import grpc.aio
from google.protobuf.message import DecodeError, Message
from google.rpc import error_details_pb2, status_pb2

from leadgate.v1.error_reason_pb2 import ErrorReason

if TYPE_CHECKING:
    from leadgate.v1.lead_pb2 import ImportLeadsRequest

DOMAIN = "leadgate"
_STATUS = "grpc-status-details-bin"
_CODES = {code.value[0]: code for code in grpc.StatusCode}
_M = TypeVar("_M", bound=Message)


class Violation(NamedTuple):
    """An invalid field of a request."""

    field: str
    """The path in the request, such as "lead.email_address"."""
    description: str


class Resource(NamedTuple):
    """The lead, share, user or activity that an error is about."""

    type: str
    """Such as "leadgate.v1.Lead"."""
    name: str
    """The id. Empty if it is not known."""
    description: str
    """With LEAD_DUPLICATE, the path of the field in the request."""


class Error(grpc.aio.AioRpcError):
    """The error of an RPC, of both clients. Handlers of grpc.RpcError and of grpc.aio.AioRpcError catch it, too.

    `code()`, `details()` (the message) and `trailing_metadata()` are methods, as in grpc.
    """

    reason: ErrorReason.ValueType
    """The reason. ERROR_REASON_UNSPECIFIED if the error does not come from leadgate, or if the reason is newer than
    this package. Then decide by `code()`."""
    reason_name: str
    """The text of the reason, also if this package does not know it. Empty if there is none."""
    domain: str
    """"leadgate" if the error comes from leadgate. Empty if the connection was lost, for example."""
    metadata: dict[str, str]
    """The metadata of ErrorInfo, such as `tenant`, `attempts` and `retry_same_request_id`. See docs/errors.md."""
    violations: tuple[Violation, ...]
    """The invalid fields."""
    resource: Resource | None
    """The resource. With LEAD_DUPLICATE, the other lead."""
    retry_after: float | None
    """When to retry, in seconds."""
    request_id: str
    """The request_id that was sent. To repeat a mutation later, send the same message with this id."""
    rpc_id: str
    """The x-request-id of the RPC, for the log of the gateway."""
    unfinished_rows: tuple[ImportLeadsRequest, ...] = ()
    """With import_leads, the rows without a result, with their request_id. Import them again to continue."""
    status: status_pb2.Status | None
    """All details as they were received."""

    def __init__(
        self,
        code: grpc.StatusCode,
        initial_metadata: Any = None,
        trailing_metadata: Any = None,
        details: str | None = None,
        debug_error_string: str | None = None,
        *,
        request_id: str = "",
    ) -> None:
        super().__init__(code, initial_metadata, trailing_metadata, details, debug_error_string)
        # Not dict(): the metadata of older versions of grpc.aio is not a mapping.
        trailers: dict[str, Any] = {key: value for key, value in trailing_metadata or ()}  # noqa: C416
        self.request_id = request_id
        self.status = _status(trailers.get(_STATUS))
        info = self.detail(error_details_pb2.ErrorInfo)
        self.domain = info.domain if info else ""
        self.reason_name = info.reason if info else ""
        self.metadata = dict(info.metadata) if info else {}
        known = self.domain == DOMAIN and self.reason_name in ErrorReason.keys()  # noqa: SIM118
        self.reason = ErrorReason.Value(self.reason_name) if known else ErrorReason.ERROR_REASON_UNSPECIFIED
        invalid = self.detail(error_details_pb2.BadRequest)
        fields = invalid.field_violations if invalid else ()
        self.violations = tuple(Violation(field.field, field.description) for field in fields)
        named = self.detail(error_details_pb2.ResourceInfo)
        self.resource = Resource(named.resource_type, named.resource_name, named.description) if named else None
        retry = self.detail(error_details_pb2.RetryInfo)
        self.retry_after = retry.retry_delay.ToNanoseconds() / 1e9 if retry else None
        rpc = self.detail(error_details_pb2.RequestInfo)
        self.rpc_id = rpc.request_id if rpc else str(trailers.get("x-request-id", ""))

    @classmethod
    def from_rpc(cls, error: grpc.RpcError, request_id: str = "") -> Error:
        """Returns the error of an RPC that a stub has raised."""
        call = cast("Any", error)
        debug = call.debug_error_string() if hasattr(call, "debug_error_string") else None
        metadata = call.initial_metadata(), call.trailing_metadata()
        return cls(call.code(), *metadata, call.details(), debug, request_id=request_id)

    @classmethod
    def from_status(cls, status: status_pb2.Status, request_id: str = "") -> Error:
        """Returns the error of one result of a batch or an import."""
        trailers = ((_STATUS, status.SerializeToString()),)
        code = _CODES.get(status.code, grpc.StatusCode.UNKNOWN)
        return cls(code, None, trailers, status.message, request_id=request_id)

    def detail(self, kind: type[_M]) -> _M | None:
        """Returns the detail of this type, such as google.rpc.QuotaFailure, or None."""
        for packed in self.status.details if self.status else ():
            if packed.Is(kind.DESCRIPTOR):
                found = kind()
                try:
                    found.ParseFromString(packed.value)
                except DecodeError:
                    return None
                return found
        return None

    def __str__(self) -> str:
        parts = [f"{self.code().name} {self.reason_name}".strip(), self.details() or ""]
        ids = [f"{name} {value}" for name, value in (("request_id", self.request_id), ("rpc", self.rpc_id)) if value]
        return ": ".join(filter(None, parts)) + (f" [{', '.join(ids)}]" if ids else "")

    __repr__ = __str__

    def __reduce__(self) -> tuple[Any, ...]:
        trailers = tuple((key, value) for key, value in self.trailing_metadata() or ())
        return _restore, (self.code(), trailers, self.details(), self.debug_error_string(), self.request_id)


def _restore(code: grpc.StatusCode, trailers: Any, details: str | None, debug: str | None, request_id: str) -> Error:
    return Error(code, None, trailers, details, debug, request_id=request_id)


def _status(packed: Any) -> status_pb2.Status | None:
    if not isinstance(packed, bytes):
        return None
    status = status_pb2.Status()
    try:
        status.ParseFromString(packed)
    except DecodeError:
        return None
    return status
