"""The client of leadgate.

with leadgate.Client("leadgate.internal:443", token_file="/var/run/secrets/leadgate/token", tenant="india") as client:
    created = client.leads.create_lead(CreateLeadRequest(lead=LeadFields(email_address="a@example.com")))

`leadgate.aio` has the same client for asyncio, `leadgate.v1` the messages, and `leadgate.testing` helpers for tests.
"""

from leadgate._client import Client
from leadgate._core import CallOptions, Criticality, ImportResult, Timeouts
from leadgate._errors import Error, Resource, Violation
from leadgate._version import __version__
from leadgate.v1 import ErrorReason

__all__ = [
    "CallOptions",
    "Client",
    "Criticality",
    "Error",
    "ErrorReason",
    "ImportResult",
    "Resource",
    "Timeouts",
    "Violation",
    "__version__",
]
