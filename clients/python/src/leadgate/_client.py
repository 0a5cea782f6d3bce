"""The blocking client."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from leadgate._core import CallOptions, Criticality, Pem, Settings, Timeouts
from leadgate._services import ActivityService, LeadService, QuotaService, RestService, ShareService, UserService
from leadgate._sync import open_channel

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Sequence

    from typing_extensions import Self, Unpack


class Client:
    """A connection to leadgate, for any number of threads, with a service as each attribute.

    The address is "host:port". The connection uses TLS with the certificate authorities of the system, or with `ca`.
    `cert` and `key` are the certificate of the client. `ca`, `cert` and `key` are paths of PEM files, or their
    content. The files are read once. `insecure=True` uses plaintext; without it, no token is sent over plaintext.

    `token` is an API key or a token, or a function that returns one for each attempt. `token_file` is read for each
    attempt. `tenant`, `caller` (only with the setting auth.mode = "none"), `criticality` and `timeouts` are defaults of
    all calls, and options of each call. `options` and `interceptors` are those of a channel of grpc.
    """

    def __init__(
        self,
        address: str,
        *,
        token: str | Callable[[], str] | None = None,
        token_file: str | os.PathLike[str] | None = None,
        ca: Pem | None = None,
        cert: Pem | None = None,
        key: Pem | None = None,
        insecure: bool = False,
        tenant: str | None = None,
        caller: str | None = None,
        criticality: Criticality | None = None,
        timeouts: Timeouts = Timeouts(),  # noqa: B008
        options: Sequence[tuple[str, Any]] = (),
        interceptors: Sequence[Any] = (),
    ) -> None:
        settings = address, token, token_file, ca, cert, key, insecure, tenant, caller, criticality, timeouts, options
        self._settings = Settings(*settings, closed=threading.Event())
        self.channel = open_channel(self._settings, interceptors)
        """The channel, for other stubs such as that of the health service."""
        self.leads = LeadService(self.channel, self._settings)
        self.activities = ActivityService(self.channel, self._settings)
        self.shares = ShareService(self.channel, self._settings)
        self.users = UserService(self.channel, self._settings)
        self.quota = QuotaService(self.channel, self._settings)
        self.rest = RestService(self.channel, self._settings)

    def metadata(self, **options: Unpack[CallOptions]) -> tuple[tuple[str, str], ...]:
        """Returns the metadata of a call: credentials, tenant, caller and criticality. For calls of a stub."""
        return self._settings.metadata(options)

    def close(self) -> None:
        """Closes the connection. Calls in progress fail with CANCELLED."""
        self._settings.closed.set()
        self.channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
