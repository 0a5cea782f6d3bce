"""The blocking client."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, TypeVar

import grpc
from google.protobuf.message import Message

from leadgate._core import IMPORT, MAX_ROWS, Call, ImportResult, Rows, Settings
from leadgate._errors import Error
from leadgate.v1.lead_pb2 import ImportLeadsRequest, ImportLeadsResponse

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator, Sequence

    from leadgate._core import CallOptions, Req, Work

Resp = TypeVar("Resp", bound=Message)


def open_channel(settings: Settings, interceptors: Sequence[Any]) -> grpc.Channel:
    """Opens a channel."""
    credentials = settings.credentials()
    options = settings.channel_options()
    if credentials is None:
        channel = grpc.insecure_channel(settings.address, options)
    else:
        channel = grpc.secure_channel(settings.address, credentials, options)
    return grpc.intercept_channel(channel, *interceptors) if interceptors else channel


class Service:
    """The base of the services."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def _unary(
        self, rpc: grpc.UnaryUnaryMultiCallable[Req, Resp], request: Req, work: Work, options: CallOptions
    ) -> Resp:
        call = Call(self._settings, request, work, options)
        while True:
            try:
                return rpc(call.request, **call.attempt())
            except Exception as failure:
                self._pause(call, failure)

    def _pause(self, call: Call[Any], failure: Exception) -> None:
        """Waits until the next attempt, or raises the error."""
        self._settings.closed.wait(call.pause(failure))

    def _stream(
        self, rpc: grpc.UnaryStreamMultiCallable[Req, Resp], request: Req, work: Work, options: CallOptions
    ) -> Generator[Resp, None, None]:
        call = Call(self._settings, request, work, options)

        def responses() -> Generator[Resp, None, None]:
            while True:
                stream = None
                try:
                    stream = rpc(call.request, **call.attempt())
                    for response in stream:
                        call.received(response)
                        yield response
                except Exception as failure:
                    self._pause(call, failure)
                else:
                    return
                finally:
                    if stream is not None:
                        stream.cancel()

        return responses()

    def _import(
        self,
        rpc: grpc.StreamStreamMultiCallable[ImportLeadsRequest, ImportLeadsResponse],
        rows: Iterable[ImportLeadsRequest],
        options: CallOptions,
    ) -> Generator[ImportResult, None, None]:
        call = Call(self._settings, ImportLeadsRequest(), IMPORT, options)
        source = _Source(rows)
        call.rows = source.rows

        def results() -> Generator[ImportResult, None, None]:
            try:
                while True:
                    stream = None
                    try:
                        stream = rpc(source.send(), **call.attempt())
                        for response in stream:
                            call.received(response)
                            yield from source.finish(response)
                        source.check_results()
                    except Exception as failure:
                        if source.failure is not None:
                            raise source.failure from None
                        self._pause(call, failure)
                    else:
                        return
                    finally:
                        if stream is not None:
                            stream.cancel()
            finally:
                source.close()

        return results()


class _Source:
    """The rows of the caller. grpc reads them in a thread of each stream, so two threads may read at the same time."""

    def __init__(self, rows: Iterable[ImportLeadsRequest]) -> None:
        self._source: Iterator[ImportLeadsRequest] | None = iter(rows)
        self._lock = threading.Lock()
        self._slots = threading.Semaphore(MAX_ROWS)
        self.rows = Rows()
        self.failure: Exception | None = None

    def send(self) -> Iterator[ImportLeadsRequest]:
        """Returns the rows without a result, and then more rows."""
        sent = -1
        while True:
            row = self.rows.after(sent)
            if row is None:
                with self._lock:
                    # Another thread may have read a row while this one was waiting for the lock.
                    row = self.rows.after(sent) or self._read()
            if row is None:
                return
            sent = row.sequence
            yield row

    def check_results(self) -> None:
        """Raises an error if the stream has ended before all rows had a result."""
        if self._source is not None or self.failure is not None or self.rows.unfinished():
            raise Error(grpc.StatusCode.UNAVAILABLE, details="the stream ended before all rows had a result")

    def finish(self, response: ImportLeadsResponse) -> Iterator[ImportResult]:
        """Returns the result of a row, if it is the first one."""
        result = self.rows.finish(response)
        if result is not None:
            self._slots.release()
            yield result

    def close(self) -> None:
        """Ends the threads that wait for a slot."""
        self._source = None
        self._slots.release()

    def _read(self) -> ImportLeadsRequest | None:
        if self._source is not None:
            self._slots.acquire()
        if self._source is None:
            self._slots.release()
            return None
        try:
            return self.rows.add(next(self._source))
        except StopIteration:
            self._source = None
        except Exception as failure:
            # It belongs to the caller of the import, not to grpc's thread.
            self._source, self.failure = None, failure
        return None
