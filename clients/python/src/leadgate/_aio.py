"""The asyncio client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable
from typing import TYPE_CHECKING, Any, TypeVar

import grpc
import grpc.aio
from google.protobuf.message import Message

from leadgate._core import IMPORT, MAX_ROWS, Call, ImportResult, Rows, Settings
from leadgate.v1.lead_pb2 import ImportLeadsRequest, ImportLeadsResponse

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator, Sequence

    from leadgate._core import CallOptions, Req, Work

Resp = TypeVar("Resp", bound=Message)


def open_channel(settings: Settings, interceptors: Sequence[Any]) -> grpc.aio.Channel:
    """Opens a channel."""
    credentials = settings.credentials()
    options = settings.channel_options()
    if credentials is None:
        return grpc.aio.insecure_channel(settings.address, options, interceptors=interceptors)
    return grpc.aio.secure_channel(settings.address, credentials, options, interceptors=interceptors)


class Service:
    """The base of the services."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    async def _unary(
        self, rpc: grpc.aio.UnaryUnaryMultiCallable[Req, Resp], request: Req, work: Work, options: CallOptions
    ) -> Resp:
        call = Call(self._settings, request, work, options)
        while True:
            try:
                return await rpc(call.request, **call.attempt())
            except grpc.RpcError as error:
                pause = call.pause(error)
            await asyncio.sleep(pause)

    def _stream(
        self, rpc: grpc.aio.UnaryStreamMultiCallable[Req, Resp], request: Req, work: Work, options: CallOptions
    ) -> AsyncGenerator[Resp, None]:
        call = Call(self._settings, request, work, options)

        async def responses() -> AsyncGenerator[Resp, None]:
            while True:
                stream = rpc(call.request, **call.attempt())
                try:
                    async for response in stream:
                        call.received(response)
                        yield response
                except grpc.RpcError as error:
                    pause = call.pause(error)
                else:
                    return
                finally:
                    stream.cancel()
                await asyncio.sleep(pause)

        return responses()

    def _import(
        self,
        rpc: grpc.aio.StreamStreamMultiCallable[ImportLeadsRequest, ImportLeadsResponse],
        rows: Iterable[ImportLeadsRequest] | AsyncIterable[ImportLeadsRequest],
        options: CallOptions,
    ) -> AsyncGenerator[ImportResult, None]:
        call = Call(self._settings, ImportLeadsRequest(), IMPORT, options)
        source = _Source(rows)

        async def results() -> AsyncGenerator[ImportResult, None]:
            try:
                while True:
                    stream = rpc(source.send(), **call.attempt())
                    try:
                        async for response in stream:
                            call.received(response)
                            for result in source.finish(response):
                                yield result
                    except grpc.RpcError as error:
                        if source.failure is not None:
                            raise source.failure from None
                        pause = call.pause(_shown(error))
                    else:
                        if source.failure is not None:
                            raise source.failure
                        return
                    finally:
                        stream.cancel()
                    await asyncio.sleep(pause)
            finally:
                source.close()

        return results()


def _shown(error: grpc.RpcError) -> grpc.RpcError:
    """Returns an error that says that the stream was lost, if grpc.aio hides the status of the stream.

    If a write fails because the stream has ended, grpc.aio may report the failed write instead of the status.
    """
    if isinstance(error, grpc.aio.AioRpcError) and error.details() == "Internal error from Core":
        none = grpc.aio.Metadata()
        text = error.debug_error_string()
        return grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, none, none, "the stream was lost", text)
    return error


class _Source:
    """The rows of the caller, read in a task of its own: the end of a stream does not cancel it."""

    def __init__(self, rows: Iterable[ImportLeadsRequest] | AsyncIterable[ImportLeadsRequest]) -> None:
        self._source: AsyncIterator[ImportLeadsRequest] | None = aiter(
            rows if isinstance(rows, AsyncIterable) else _each(rows)
        )
        self._reading: asyncio.Task[None] | None = None
        self._slots = asyncio.Semaphore(MAX_ROWS)
        self._rows = Rows()
        self.failure: Exception | None = None

    def close(self) -> None:
        """Ends the task that reads a row."""
        if self._reading is not None:
            self._reading.cancel()

    async def send(self) -> AsyncGenerator[ImportLeadsRequest, None]:
        """Returns the rows without a result, and then more rows."""
        sent = -1
        while True:
            row = self._rows.after(sent)
            if row is not None:
                sent = row.sequence
                yield row
            elif self._source is None:
                return
            else:
                if self._reading is None:
                    self._reading = asyncio.create_task(self._read(self._source))
                await asyncio.shield(self._reading)

    def finish(self, response: ImportLeadsResponse) -> Iterator[ImportResult]:
        """Returns the result of a row, if it is the first one."""
        result = self._rows.finish(response)
        if result is not None:
            self._slots.release()
            yield result

    async def _read(self, source: AsyncIterator[ImportLeadsRequest]) -> None:
        try:
            await self._slots.acquire()
            self._rows.add(await anext(source))
        except StopAsyncIteration:
            self._source = None
        except Exception as failure:  # noqa: BLE001
            # It belongs to the caller of the import, not to grpc's task.
            self._source, self.failure = None, failure
        finally:
            self._reading = None


async def _each(rows: Iterable[ImportLeadsRequest]) -> AsyncIterator[ImportLeadsRequest]:
    for row in rows:
        yield row
