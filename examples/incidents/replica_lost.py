#!/usr/bin/env python3
"""The replica that owns the account ends without a shutdown, as with its machine. The lease is 3 s. See docs/incidents.md."""

import collections

from incident import (
    Database, Incident, Traffic, eventually, expect, free_port, metric, show, show_log, show_metrics, show_ready, step,
)

MOVES = 'leadgate_cluster_moves_total{tenant="test",reason="takeover"'


def main(incident):
    simulator = incident.simulator()
    # LeadSquared would refuse a second lead with the same email address, and hide a write that was executed twice.
    simulator.control("PATCH", "options", {"unique": []})
    database = incident.start(Database)
    database.start()
    settings = incident.settings()
    ports = [[free_port() for _ in range(3)] for _ in range(2)]
    replicas = [incident.replica(simulator, settings, database, ports[number]) for number in range(2)]
    traffic = incident.start(Traffic, *replicas, timeout=20, attempts=10, rate=0.5)

    step("Normal state", "Two replicas serve one account. Callers use both. They retry after UNAVAILABLE.")
    traffic.report(traffic.wait_until_normal())
    owner = 0 if is_owner(replicas[0]) else 1
    expect("one replica owns the account", is_owner(replicas[owner]) and not is_owner(replicas[1 - owner]))
    lost, other = replicas[owner], replicas[1 - owner]
    show_metrics(other, "leadgate_cluster_owner", "leadgate_cluster_replicas")
    show(incident.cluster_status(database).stdout)

    step("The owner is lost", "Its process is killed. Callers of it get UNAVAILABLE, and retry with the other replica.")
    mark = traffic.mark()
    lost.kill()
    failed = traffic.wait_for("UNAVAILABLE", mark, lambda found: found.code == "UNAVAILABLE")
    show(f"error of a caller: {failed.code}, reason {failed.reason or 'none'}: {failed.text}")
    expect("the error has no reason, because it is from the client library", failed.reason == "")
    show_metrics(other, "leadgate_cluster_owner", "leadgate_cluster_replicas")
    show(incident.cluster_status(database).stdout)
    expect("/ready of the other replica is HTTP 200", show_ready(other)[0] == 200)

    step("The other replica takes the account over", "Calls wait for the lease and a window of the quota, and continue.")
    eventually("the takeover", lambda: is_owner(other))
    show_log(other, "tenant acquired")
    show_metrics(other, "leadgate_cluster_owner", "leadgate_cluster_replicas", MOVES)
    show(incident.cluster_status(database).stdout)
    # METADATA_MISSING is possible until the metadata is fetched.
    expect("/ready is HTTP 200", show_ready(other)[0] == 200)
    traffic.wait_until_normal()
    traffic.report(mark)
    attempts = traffic.since(mark)
    ended = [found for found in attempts if found.is_last]
    expect("each RPC succeeds", all(found.is_ok for found in ended))
    expect("some of them at a later attempt", len(ended) < len(attempts))
    leads = collections.Counter(lead["EmailAddress"] for lead in simulator.control("GET", "leads"))
    written = [found.email for found in ended if found.email]
    expect(f"each of the {len(written)} writes has exactly one lead", {leads[email] for email in written} == {1})

    step("The replica starts again", "It joins the cluster, and forwards.")
    restarted = incident.replica(simulator, settings, database, ports[owner])
    eventually("two replicas", lambda: metric(other, "leadgate_cluster_replicas") == 2)
    traffic.report(traffic.wait_until_normal())
    show(incident.cluster_status(database).stdout)
    expect("/ready of both is HTTP 200", show_ready(other)[0] == show_ready(restarted)[0] == 200)


def is_owner(replica):
    return metric(replica, "leadgate_cluster_owner") == 1


if __name__ == "__main__":
    with Incident() as started:
        main(started)
