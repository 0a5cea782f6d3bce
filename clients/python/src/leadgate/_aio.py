"""The asyncio client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

import grpc
import grpc.aio
from google.protobuf.message import Message

from leadgate._core import IMPORT, MAX_ROWS, Call, ImportResult, Rows, Settings
from leadgate._errors import Error
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
            except (Exception, asyncio.CancelledError) as failure:
                await self._pause(call, failure)

    async def _pause(self, call: Call[Any], failure: BaseException) -> None:
        """Waits until the next attempt, or raises the error."""
        # grpc also raises CancelledError if the channel is closed. Python 3.10 does not know if the task is cancelled.
        if isinstance(failure, asyncio.CancelledError) and getattr(asyncio.current_task(), "cancelling", int)():
            raise failure
        pause = call.pause(failure)
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._settings.closed.wait(), pause)

    def _stream(
        self, rpc: grpc.aio.UnaryStreamMultiCallable[Req, Resp], request: Req, work: Work, options: CallOptions
    ) -> AsyncGenerator[Resp, None]:
        call = Call(self._settings, request, work, options)

        async def responses() -> AsyncGenerator[Resp, None]:
            while True:
                stream = None
                try:
                    stream = rpc(call.request, **call.attempt())
                    async for response in stream:
                        call.received(response)
                        yield response
                except (Exception, asyncio.CancelledError) as failure:
                    await self._pause(call, failure)
                else:
                    return
                finally:
                    if stream is not None:
                        stream.cancel()

        return responses()

    def _import(
        self,
        rpc: grpc.aio.StreamStreamMultiCallable[ImportLeadsRequest, ImportLeadsResponse],
        rows: Iterable[ImportLeadsRequest] | AsyncIterable[ImportLeadsRequest],
        options: CallOptions,
    ) -> AsyncGenerator[ImportResult, None]:
        call = Call(self._settings, ImportLeadsRequest(), IMPORT, options)
        source = _Source(rows)
        call.rows = source.rows

        async def results() -> AsyncGenerator[ImportResult, None]:
            try:
                while True:
                    stream = None
                    try:
                        stream = rpc(source.send(), **call.attempt())
                        async for response in stream:
                            call.received(response)
                            for result in source.finish(response):
                                yield result
                        source.check_results()
                    except (Exception, asyncio.CancelledError) as failure:
                        if source.failure is not None:
                            raise source.failure from None
                        await self._pause(call, _shown(failure))
                    else:
                        return
                    finally:
                        if stream is not None:
                            stream.cancel()
            finally:
                source.close()

        return results()


def _shown(error: BaseException) -> BaseException:
    """Returns an error that says that the stream was lost, if grpc.aio hides the status of the stream.

    If a write fails because the stream has ended, grpc.aio may report the failed write instead of the status.
    """
    if isinstance(error, grpc.aio.AioRpcError) and error.details() == "Internal error from Core":
        return Error(grpc.StatusCode.UNAVAILABLE, details="the stream was lost")
    return error


class _Source:
    """The rows of the caller, read in a task of its own: the end of a stream does not cancel it."""

    def __init__(self, rows: Iterable[ImportLeadsRequest] | AsyncIterable[ImportLeadsRequest]) -> None:
        self._source: AsyncIterator[ImportLeadsRequest] | None = aiter(
            rows if isinstance(rows, AsyncIterable) else _each(rows)
        )
        self._reading: asyncio.Task[None] | None = None
        self._slots = asyncio.Semaphore(MAX_ROWS)
        self.rows = Rows()
        self.failure: Exception | None = None

    def check_results(self) -> None:
        """Raises an error if the stream has ended before all rows had a result."""
        if self._source is not None or self.failure is not None or self.rows.unfinished():
            raise Error(grpc.StatusCode.UNAVAILABLE, details="the stream ended before all rows had a result")

    def close(self) -> None:
        """Ends the task that reads a row."""
        if self._reading is not None:
            self._reading.cancel()

    async def send(self) -> AsyncGenerator[ImportLeadsRequest, None]:
        """Returns the rows without a result, and then more rows."""
        sent = -1
        while True:
            row = self.rows.after(sent)
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
        result = self.rows.finish(response)
        if result is not None:
            self._slots.release()
            yield result

    async def _read(self, source: AsyncIterator[ImportLeadsRequest]) -> None:
        try:
            await self._slots.acquire()
            self.rows.add(await anext(source))
        except StopAsyncIteration:
            self._source = None
        except Exception as failure:
            # It belongs to the caller of the import, not to grpc's task.
            self._source, self.failure = None, failure
        finally:
            self._reading = None


async def _each(rows: Iterable[ImportLeadsRequest]) -> AsyncIterator[ImportLeadsRequest]:
    for row in rows:
        yield row
