"""The plugin of pytest."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from leadgate import testing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from leadgate import Client
    from leadgate.testing import Demo


@pytest.fixture(scope="session")
def leadgate_demo() -> Iterator[Demo]:
    """Runs a gateway with a simulated LeadSquared, without TLS, for all tests."""
    with testing.demo() as running:
        yield running


@pytest.fixture(scope="session")
def leadgate_secure_demo() -> Iterator[Demo]:
    """Runs a gateway with a simulated LeadSquared, with TLS and credentials, for all tests."""
    with testing.demo(secure=True) as running:
        yield running


@pytest.fixture
def leadgate_client(leadgate_demo: Demo) -> Iterator[Client]:
    """Returns a client of `leadgate_demo`."""
    with leadgate_demo.client() as client:
        yield client
