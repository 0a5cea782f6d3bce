"""The blocking client."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any, TypeVar

import grpc
from google.protobuf.message import Message

from leadgate._core import IMPORT, MAX_ROWS, Call, ImportResult, Rows, Settings
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
            except grpc.RpcError as error:
                pause = call.pause(error)
            time.sleep(pause)

    def _stream(
        self, rpc: grpc.UnaryStreamMultiCallable[Req, Resp], request: Req, work: Work, options: CallOptions
    ) -> Generator[Resp, None, None]:
        call = Call(self._settings, request, work, options)

        def responses() -> Generator[Resp, None, None]:
            while True:
                stream = rpc(call.request, **call.attempt())
                try:
                    for response in stream:
                        call.received(response)
                        yield response
                except grpc.RpcError as error:
                    pause = call.pause(error)
                else:
                    return
                finally:
                    stream.cancel()
                time.sleep(pause)

        return responses()

    def _import(
        self,
        rpc: grpc.StreamStreamMultiCallable[ImportLeadsRequest, ImportLeadsResponse],
        rows: Iterable[ImportLeadsRequest],
        options: CallOptions,
    ) -> Generator[ImportResult, None, None]:
        call = Call(self._settings, ImportLeadsRequest(), IMPORT, options)
        source = _Source(rows)

        def results() -> Generator[ImportResult, None, None]:
            try:
                while True:
                    stream = rpc(source.send(), **call.attempt())
                    try:
                        for response in stream:
                            call.received(response)
                            yield from source.finish(response)
                    except grpc.RpcError as error:
                        if source.failure is not None:
                            raise source.failure from None
                        pause = call.pause(error)
                    else:
                        if source.failure is not None:
                            raise source.failure
                        return
                    finally:
                        stream.cancel()
                    time.sleep(pause)
            finally:
                source.close()

        return results()


class _Source:
    """The rows of the caller. grpc reads them in a thread of each stream, so two threads may read at the same time."""

    def __init__(self, rows: Iterable[ImportLeadsRequest]) -> None:
        self._source: Iterator[ImportLeadsRequest] | None = iter(rows)
        self._lock = threading.Lock()
        self._slots = threading.Semaphore(MAX_ROWS)
        self._rows = Rows()
        self.failure: Exception | None = None

    def send(self) -> Iterator[ImportLeadsRequest]:
        """Returns the rows without a result, and then more rows."""
        sent = -1
        while True:
            row = self._rows.after(sent)
            if row is None:
                with self._lock:
                    # Another thread may have read a row while this one was waiting for the lock.
                    row = self._rows.after(sent) or self._read()
            if row is None:
                return
            sent = row.sequence
            yield row

    def finish(self, response: ImportLeadsResponse) -> Iterator[ImportResult]:
        """Returns the result of a row, if it is the first one."""
        result = self._rows.finish(response)
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
            return self._rows.add(next(self._source))
        except StopIteration:
            self._source = None
        except Exception as failure:  # noqa: BLE001
            # It belongs to the caller of the import, not to grpc's thread.
            self._source, self.failure = None, failure
        return None
