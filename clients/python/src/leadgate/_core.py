"""What both clients share: settings, deadlines, request ids and retries. Nothing here sends or waits."""

from __future__ import annotations

import random
import re
import ssl
import time
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, Literal, NamedTuple, NoReturn, TypeAlias, TypedDict, TypeVar

import grpc
from google.protobuf.message import Message

from leadgate._errors import DOMAIN, Error
from leadgate._version import __version__
from leadgate.v1.error_reason_pb2 import ErrorReason
from leadgate.v1.lead_pb2 import ImportLeadsRequest, ImportLeadsResponse

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Sequence

Req = TypeVar("Req", bound=Message)
Criticality: TypeAlias = Literal["critical-plus", "critical", "sheddable-plus", "sheddable"]
Pem: TypeAlias = "str | os.PathLike[str] | bytes"


class Timeouts(NamedTuple):
    """Default timeouts of RPCs in seconds, all attempts included. Watches have none."""

    unary: float = 30
    """Single reads and writes."""
    share: float = 120
    """RPCs that wait for LeadSquared's asynchronous sharing."""
    batch: float = 120
    """Batch RPCs."""
    stream: float = 3600
    """Imports and exports."""


class CallOptions(TypedDict, total=False):
    """Options of one call. They replace those of the client; `metadata` is added."""

    timeout: float
    """Seconds, all attempts included."""
    tenant: str
    caller: str
    criticality: Criticality
    metadata: Sequence[tuple[str, str]]


class Work(NamedTuple):
    """What the generated services know about an RPC."""

    timeout: Literal["unary", "share", "batch", "stream"] | None
    """The field of Timeouts. None: no default timeout."""
    read: bool
    """Whether it changes nothing."""


READ = Work("unary", read=True)
WRITE = Work("unary", read=False)
SHARE = Work("share", read=False)
BATCH = Work("batch", read=False)
BATCH_READ = Work("batch", read=True)
STREAM = Work("stream", read=True)
WATCH = Work(None, read=True)
IMPORT = Work("stream", read=False)

# With these reasons nothing was executed: a mutation can be sent again even if the error does not say so, because
# leadgate did not read its request_id, or it has none.
_NOT_EXECUTED = {
    ErrorReason.DEADLINE_INFEASIBLE,
    ErrorReason.CALLER_LIMIT,
    ErrorReason.QUEUE_FULL,
    ErrorReason.DAILY_BUDGET_EXHAUSTED,
    ErrorReason.UPSTREAM_UNAVAILABLE,
    ErrorReason.SHUTTING_DOWN,
    ErrorReason.TENANT_PAUSED,
    ErrorReason.AUDIT_UNAVAILABLE,
    ErrorReason.STORE_UNAVAILABLE,
}
_RETRIED = {grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.ABORTED}
# With these reasons the timeout of the attempt was too short. A retry needs as long a timeout again, but not more than
# the gateway gives to an RPC (server.max_deadline, by default 60 s).
_TOO_SHORT = {ErrorReason.DEADLINE_INFEASIBLE, ErrorReason.CALLER_LIMIT}
_MAX_DEADLINE = 60.0
# The least time in which an attempt can succeed, in seconds.
_MIN_RUN = 0.05
_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 5.0
# A longer time in seconds counts as none: grpc and Python cannot represent all of them.
_FOREVER = 1e9
# "host:port", or one of the other forms that grpc knows.
_ADDRESS = r"(dns|unix|unix-abstract|ipv4|ipv6):\S+|(\[[0-9a-fA-F:.]+\]|[^\s:/@?#\[\]]+)(:\d+)?"
# Errors of TLS that a retry cannot resolve: a part of grpc's text, and what to do.
_TLS_ERRORS = {
    "CERTIFICATE_VERIFY_FAILED": "the gateway's certificate is expired, or its authority is not in `ca` or the system",
    "Hostname Verification": "the gateway's certificate is not valid for the host of `address`",
    "not in peer certificate": "the gateway's certificate is not valid for the host of `address`",
    "WRONG_VERSION_NUMBER": "the port does not use TLS: set `insecure=True` or use another port",
    "security handshaker": "`ca`, `cert` or `key` is invalid, or `key` is not the key of `cert`",
}


@dataclass
class Settings:
    """The settings of a client."""

    address: str
    token: str | Callable[[], str] | None = None
    token_file: str | os.PathLike[str] | None = None
    ca: Pem | None = None
    cert: Pem | None = None
    key: Pem | None = None
    insecure: bool = False
    tenant: str | None = None
    caller: str | None = None
    criticality: Criticality | None = None
    timeouts: Timeouts = field(default_factory=Timeouts)
    options: Sequence[tuple[str, Any]] = ()
    closed: Any = None
    """An Event of threading or of asyncio: the client is closed."""

    def __post_init__(self) -> None:
        if not re.fullmatch(_ADDRESS, self.address):
            raise ValueError(f'address must be "host:port", but is {self.address!r}')
        if self.insecure and (self.ca or self.cert or self.key):
            raise ValueError("ca, cert and key need TLS, and insecure is set")
        if self.token is not None and self.token_file is not None:
            raise ValueError("token and token_file are both set")
        if (self.cert is None) != (self.key is None):
            raise ValueError("cert and key need each other")
        self._last_token = ""
        self.metadata({})

    def credentials(self) -> grpc.ChannelCredentials | None:
        """Returns the TLS credentials, or None for plaintext."""
        if self.insecure:
            return None
        ca = _pem("ca", self.ca, "CERTIFICATE") or _system_roots()
        key, cert = _pem("key", self.key, "PRIVATE KEY"), _pem("cert", self.cert, "CERTIFICATE")
        return grpc.ssl_channel_credentials(ca, key, cert)

    def channel_options(self) -> list[tuple[str, Any]]:
        """Returns the options of the channel. Those of the caller replace the others."""
        options: dict[str, Any] = {
            "grpc.primary_user_agent": f"leadgate-python/{__version__}",
            # leadgate allows one PING per 10 s (server.keepalive_min_interval).
            "grpc.keepalive_time_ms": 30_000,
            "grpc.keepalive_timeout_ms": 10_000,
            "grpc.keepalive_permit_without_calls": 1,
            "grpc.http2.max_pings_without_data": 0,
            # The client reconnects in the pace of its retries.
            "grpc.initial_reconnect_backoff_ms": 100,
            "grpc.min_reconnect_backoff_ms": 1_000,
            "grpc.max_reconnect_backoff_ms": 5_000,
            # No retryPolicy from DNS: it ignores RetryInfo.
            "grpc.service_config_disable_resolution": 1,
        }
        return [*{**options, **dict(self.options)}.items()]

    def metadata(self, call: CallOptions) -> tuple[tuple[str, str], ...]:
        """Returns the metadata of a call: credentials, tenant, caller, criticality."""
        pairs = (
            ("authorization", f"Bearer {token}" if (token := self._token()) else None),
            ("x-leadgate-tenant", call.get("tenant", self.tenant)),
            ("x-leadgate-caller", call.get("caller", self.caller)),
            ("x-leadgate-criticality", call.get("criticality", self.criticality)),
        )
        metadata = (*((name, value) for name, value in pairs if value), *call.get("metadata", ()))
        for name, value in metadata:
            if isinstance(value, str) and not (value.isascii() and value.isprintable()):
                # The value is not shown: it may be a secret.
                raise ValueError(f"the value of {name} must be printable ASCII text in one line")
        return tuple((name.lower(), value) for name, value in metadata)

    def _token(self) -> str | None:
        if callable(self.token):
            return self.token()
        if self.token_file is None:
            return self.token
        # The file is read for each attempt. While it is being replaced, the last token is used.
        try:
            with open(self.token_file, encoding="utf-8") as file:  # noqa: PTH123
                self._last_token = file.read().strip() or self._last_token
        except OSError:
            if not self._last_token:
                raise
        if not self._last_token:
            raise ValueError(f"token_file is empty: {self.token_file}")
        return self._last_token


def _pem(name: str, source: Pem | None, label: str) -> bytes | None:
    """Returns PEM: the source itself, or the file that it names."""
    if source is None:
        return None
    if isinstance(source, str) and "-----BEGIN " in source:
        source = source.encode()
    if not isinstance(source, bytes):
        with open(source, "rb") as file:  # noqa: PTH123
            source = file.read()
    if not re.search(rf"-----BEGIN [A-Z0-9 ]*{label}-----".encode(), source):
        raise ValueError(f"{name} must be PEM with a {label}, or the path of such a file")
    return source


def _system_roots() -> bytes | None:
    """Returns the certificate authorities of the system. If there are none, grpc uses a list of its own."""
    roots = ssl.create_default_context().get_ca_certs(binary_form=True)
    return "".join(map(ssl.DER_cert_to_PEM_cert, roots)).encode() or None


def uuid7() -> str:
    """Returns a UUID of version 7: milliseconds since 1970, and random bits."""
    value = (time.time_ns() // 1_000_000 & (1 << 48) - 1) << 80 | 7 << 76
    value |= random.SystemRandom().getrandbits(12) << 64 | 2 << 62 | random.SystemRandom().getrandbits(62)
    return str(uuid.UUID(int=value))


class Call(Generic[Req]):
    """One call of a client, with all its attempts."""

    def __init__(self, settings: Settings, request: Req, work: Work, options: CallOptions) -> None:
        unknown = options.keys() - CallOptions.__annotations__.keys()
        if unknown:
            raise TypeError(f"unknown options of a call: {', '.join(sorted(unknown))}")
        self._settings = settings
        self._options = options
        self._work = work
        timeout = options.get("timeout")
        if timeout is None and work.timeout is not None:
            timeout = float(getattr(settings.timeouts, work.timeout))
        self._deadline = None if timeout is None or timeout >= _FOREVER else time.monotonic() + timeout
        self._timeout: float | None = None
        self._retries = 0
        self._streamed = False
        self._copied = False
        self.rows: Rows | None = None
        """The rows of an import."""
        self.request = request
        self.request_id = ""
        # An import has ids in its rows.
        self._has_id = work is IMPORT
        if "request_id" in request.DESCRIPTOR.fields_by_name:
            self._has_id = True
            self.request_id = getattr(request, "request_id") or uuid7()  # noqa: B009
            self._set("request_id", self.request_id)
        if timeout is not None and not timeout > 0:
            self._fail(grpc.StatusCode.DEADLINE_EXCEEDED, f"nothing was sent: the timeout is {timeout}")

    def _fail(self, code: grpc.StatusCode, details: str) -> NoReturn:
        _raise(Error(code, details=details, request_id=self.request_id))

    def _set(self, name: str, value: str) -> None:
        """Sets a field in a copy: the message of the caller is not changed."""
        if getattr(self.request, name) != value:
            if not self._copied:
                copy = type(self.request)()
                copy.CopyFrom(self.request)
                self.request, self._copied = copy, True
            setattr(self.request, name, value)

    def attempt(self) -> dict[str, Any]:
        """Returns the options of the next attempt."""
        self._timeout = None if self._deadline is None else max(self._deadline - time.monotonic(), 0.0)
        return {"timeout": self._timeout, "metadata": self._settings.metadata(self._options)}

    def received(self, response: Message) -> None:
        """Notes a message of a stream. If the stream is interrupted, it continues after this message."""
        self._retries = 0
        self._streamed = True
        if "resume_token" in self.request.DESCRIPTOR.fields_by_name:
            self._set("resume_token", getattr(response, "resume_token") or getattr(self.request, "resume_token"))  # noqa: B009

    def pause(self, failure: BaseException) -> float:
        """Returns the seconds until the next attempt, or raises the error."""
        try:
            return self._pause(failure)
        except Error as error:
            error.unfinished_rows = self.rows.unfinished() if self.rows else ()
            raise

    def _pause(self, failure: BaseException) -> float:
        if self._settings.closed.is_set():
            self._fail(grpc.StatusCode.CANCELLED, "the client is closed")
        if not isinstance(failure, grpc.RpcError):
            raise failure
        error = Error.from_rpc(failure, self.request_id)
        after = self._retry_after(error)
        backoff = min(_FIRST_PAUSE * 2**self._retries, _LONGEST_PAUSE)
        pause = after * random.uniform(1.0, 1.1) if after is not None else backoff * random.uniform(0.5, 1.0)
        # Errors with the same short time, one after the other, also get a growing pause.
        if self._retries:
            pause = max(pause, backoff * random.uniform(0.5, 1.0))
        run = _MIN_RUN
        if error.reason in _TOO_SHORT:
            run = min(_MAX_DEADLINE if self._timeout is None else self._timeout, _MAX_DEADLINE)
        if self._deadline is not None and time.monotonic() + pause + run > self._deadline:
            _raise(error)
        self._retries += 1
        return pause

    def _repeatable(self) -> bool:
        return self._work.read or self._work is IMPORT

    def _retry_after(self, error: Error) -> float | None:
        """Returns the retry time of the error, or None for a growing pause. Raises the error if it is not retried."""
        if error.domain != DOMAIN:
            # Not an error of leadgate: the connection or the stream was lost, or a proxy has no connection.
            text = error.details() or ""
            for part, advice in _TLS_ERRORS.items():
                if part in text:
                    self._fail(grpc.StatusCode.UNAVAILABLE, f"{advice} ({text})")
            lost = error.code() is grpc.StatusCode.UNAVAILABLE or "RST_STREAM" in text
            if not lost or not (self._work.read or self._has_id):
                _raise(error)
        elif error.reason == ErrorReason.CALLER_UNKNOWN and self._streamed and not self._retries and self._repeatable():
            # The token of the stream has expired. The next attempt sends the current one.
            return None
        elif error.code() not in _RETRIED:
            _raise(error)
        elif self._repeatable():
            if error.retry_after is None:
                _raise(error)
        else:
            same_id = error.metadata.get("retry_same_request_id")
            # A stream that has sent results may have executed more than these.
            executed = self._streamed or error.reason not in _NOT_EXECUTED
            if same_id != "true" and (same_id is not None or executed):
                _raise(error)
        return None if error.retry_after is None else min(max(error.retry_after, 0.0), _FOREVER)


def _raise(error: Error) -> NoReturn:
    raise error from None


class ImportResult(NamedTuple):
    """The result of one row of an import."""

    request: ImportLeadsRequest
    """The row as it was sent, with its request_id. A row that failed can be sent again as it is."""
    response: ImportLeadsResponse
    """The response, with the sequence of the row."""

    @property
    def lead_id(self) -> str:
        """The id of the lead. Empty if the row failed."""
        return self.response.response.lead_id

    @property
    def error(self) -> Error | None:
        """The error of the row, or None."""
        if not self.response.HasField("error"):
            return None
        operation = getattr(self.request, self.request.WhichOneof("operation") or "create")
        return Error.from_status(self.response.error, operation.request_id)


# Maximum number of rows of an import without a result. The gateway has as many in progress (batching.import_window).
# Further rows are not read from the caller, because grpc would keep any number of them in memory.
MAX_ROWS = 2000


class Rows:
    """The rows of an import without a result, with numbers of their own: a caller may use one twice."""

    def __init__(self) -> None:
        self._rows: dict[int, ImportLeadsRequest] = {}
        self._count = 0

    def add(self, row: ImportLeadsRequest) -> ImportLeadsRequest:
        """Adds a row of the caller, and returns it as `after` does. It gets a request_id if it has none."""
        copy = ImportLeadsRequest()
        copy.CopyFrom(row)
        operation = copy.WhichOneof("operation")
        if operation is not None and not getattr(copy, operation).request_id:
            getattr(copy, operation).request_id = uuid7()
        self._rows[self._count] = copy
        self._count += 1
        return _numbered(copy, self._count - 1)

    def after(self, number: int) -> ImportLeadsRequest | None:
        """Returns the first row without a result after this number, with its number as the sequence."""
        for later in range(number + 1, self._count):
            row = self._rows.get(later)
            if row is not None:
                return _numbered(row, later)
        return None

    def unfinished(self) -> tuple[ImportLeadsRequest, ...]:
        """Returns the rows without a result."""
        return tuple(self._rows.copy().values())

    def finish(self, response: ImportLeadsResponse) -> ImportResult | None:
        """Returns the result of a row, once. Raises an error if the gateway ends and has not sent the row."""
        if response.HasField("error"):
            failure = Error.from_status(response.error, "")
            if failure.reason == ErrorReason.SHUTTING_DOWN:
                raise failure
        row = self._rows.pop(response.sequence, None)
        if row is None:
            return None
        response.sequence = row.sequence
        return ImportResult(row, response)


def _numbered(row: ImportLeadsRequest, number: int) -> ImportLeadsRequest:
    numbered = ImportLeadsRequest()
    numbered.CopyFrom(row)
    numbered.sequence = number
    return numbered
