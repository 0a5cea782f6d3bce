#!/usr/bin/env python3
"""A small service that sends the enquiries of a web shop to LeadSquared through leadgate.

python client.py 127.0.0.1:50051 --insecure
python client.py leadgate.internal:443 --ca ca.crt --token-file token
"""

from __future__ import annotations

import argparse
import os
import sys
import time
import uuid
from typing import TYPE_CHECKING, NamedTuple

from google.protobuf.duration_pb2 import Duration

import leadgate
from leadgate.v1 import (
    Access,
    CreateLeadRequest,
    ErrorReason,
    GetLeadRequest,
    ImportLeadsRequest,
    LeadFields,
    ListUsersRequest,
    RevokeShareRequest,
    ShareLeadRequest,
    ShareState,
    UpdateLeadRequest,
    UpsertLeadRequest,
    WaitFor,
    WatchShareRequest,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


class Enquiry(NamedTuple):
    """An enquiry of a customer."""

    email: str
    first_name: str
    city: str

    def fields(self) -> LeadFields:
        """Returns the attributes of the lead."""
        return LeadFields(email_address=self.email, first_name=self.first_name, city=self.city, source="Web shop")


class Shop:
    """The service."""

    def __init__(self, client: leadgate.Client) -> None:
        self._client = client

    def receive(self, enquiry: Enquiry) -> str:
        """Returns the id of the lead: a new one, or the one that has the email address already."""
        try:
            return self._client.leads.create_lead(CreateLeadRequest(lead=enquiry.fields())).lead_id
        except leadgate.Error as error:
            if error.reason != ErrorReason.LEAD_DUPLICATE or error.resource is None or not error.resource.name:
                raise
            print(f"   {error.resource.description} belongs to lead {error.resource.name}: it is updated")
            lead_id = error.resource.name
            self._client.leads.update_lead(UpdateLeadRequest(lead_id=lead_id, lead=LeadFields(city=enquiry.city)))
            return lead_id

    def import_all(self, enquiries: Iterable[Enquiry]) -> tuple[int, list[leadgate.ImportResult]]:
        """Writes enquiries in bulk. Returns the number of leads that were written, and the rows that failed."""

        def rows() -> Iterator[ImportLeadsRequest]:
            for line, enquiry in enumerate(enquiries, 1):
                yield ImportLeadsRequest(sequence=line, upsert=UpsertLeadRequest(lead=enquiry.fields()))

        written, failed = 0, []
        # The rows are read as fast as leadgate writes them. If the connection is lost, the import goes on by itself.
        for result in self._client.leads.import_leads(rows()):
            if result.error is None:
                written += 1
            else:
                failed.append(result)
        return written, failed

    def share(self, lead_id: str) -> str:
        """Shares a lead with a sales user for half an hour. Returns the id of the share when the user has access."""
        users = self._client.users.list_users(ListUsersRequest(role="Sales_User", page_size=1)).users
        if not users:
            raise RuntimeError("the account has no sales user")
        request = ShareLeadRequest(
            lead_id=lead_id,
            user_id=users[0].user_id,
            access=Access.ACCESS_READ,
            duration=Duration(seconds=1800),
            wait_for=WaitFor.WAIT_FOR_NONE,
        )
        share_id = self._client.shares.share_lead(request).share.share_id
        for change in self._client.shares.watch_share(WatchShareRequest(share_id=share_id)):
            print(f"   {users[0].first_name}: {ShareState.Name(change.share.state)}")
            if change.share.state == ShareState.SHARE_STATE_ACTIVE:
                return share_id
        raise RuntimeError(f"the share {share_id} has ended before the user had access")

    def city_of(self, lead_id: str, timeout: float) -> str | None:
        """Returns the city of a lead, or None if the quota cannot serve the call within `timeout` seconds."""
        try:
            return self._client.leads.get_lead(GetLeadRequest(lead_id=lead_id), timeout=timeout).lead.fields.city
        except leadgate.Error as error:
            if error.reason != ErrorReason.DEADLINE_INFEASIBLE or error.retry_after is None:
                raise
            # leadgate says so at once. Nothing was sent.
            print(f"   {timeout:g} s are too short: the call can be served if it is sent in {error.retry_after:.1f} s")
            time.sleep(error.retry_after)
            return None


def run(client: leadgate.Client) -> None:
    """Does what a day of the service does."""
    shop = Shop(client)
    mark = uuid.uuid4().hex[:8]
    asha = Enquiry(f"asha.{mark}@example.com", "Asha", "Pune")

    print("1. Create a lead")
    lead_id = shop.receive(asha)
    print(f"   lead {lead_id}")

    print("2. The same customer again")
    shop.receive(asha._replace(city="Delhi"))

    print("3. Upsert")
    upserted = client.leads.upsert_lead(UpsertLeadRequest(lead=asha._replace(first_name="Asha M.").fields()))
    print(f"   lead {upserted.lead_id}")

    print("4. Read")
    lead = client.leads.get_lead(GetLeadRequest(lead_id=lead_id)).lead
    print(f"   number {lead.lead_number}: {lead.fields.first_name}, {lead.fields.city}")

    print("5. Import")
    enquiries = [Enquiry(f"{number}.{mark}@example.com", f"Customer {number}", "Pune") for number in range(30)]
    written, failed = shop.import_all([*enquiries, Enquiry("nobody", "Nobody", "Pune")])
    print(f"   {written} leads written")
    for result in failed:
        print(f"   line {result.request.sequence}: {result.error}")

    print("6. Share the lead, and watch the share until it is active")
    share_id = shop.share(lead_id)

    print("7. Revoke the share")
    revoke = RevokeShareRequest(share_id=share_id, wait_for=WaitFor.WAIT_FOR_ACTIVE)
    print(f"   {ShareState.Name(client.shares.revoke_share(revoke).share.state)}")

    print("8. A deadline that is too short")
    for _ in range(100):
        # More reads than the quota allows at once.
        if shop.city_of(lead_id, timeout=0.5) is None:
            print(f"   {shop.city_of(lead_id, timeout=5)}")
            break


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description="An example of the client of leadgate.")
    parser.add_argument("address", help="HOST:PORT")
    parser.add_argument(
        "--ca", help="a file with the certificate authority of the gateway; default: those of the system"
    )
    parser.add_argument("--token-file", help="a file with an API key or a token; default: $LEADGATE_TOKEN")
    parser.add_argument("--insecure", action="store_true", help="plaintext, for a gateway on this machine")
    parser.add_argument("--tenant", help="the account, if there are several")
    options = parser.parse_args()
    token = None if options.token_file else os.environ.get("LEADGATE_TOKEN")
    try:
        with leadgate.Client(
            options.address,
            ca=options.ca,
            token=token,
            token_file=options.token_file,
            insecure=options.insecure,
            tenant=options.tenant,
        ) as client:
            run(client)
    except leadgate.Error as error:
        sys.exit(f"{options.address}: {error}")


if __name__ == "__main__":
    main()
