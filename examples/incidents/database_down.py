#!/usr/bin/env python3
"""The PostgreSQL server of two replicas is down. The lease is 3 s. See docs/incidents.md."""

from incident import (
    Database, Incident, Traffic, eventually, expect, free_port, metric, show, show_log, show_metrics, show_ready, step,
)


def main(incident):
    simulator = incident.simulator()
    database = incident.start(Database)
    database.start()
    settings = incident.settings()
    replicas = [incident.replica(simulator, settings, database, [free_port() for _ in range(3)]) for _ in range(2)]
    traffic = incident.start(Traffic, *replicas, timeout=5, rate=0.5)

    step("Normal state", "Two replicas serve one account. One of them owns it, and the other one forwards.")
    traffic.report(traffic.wait_until_normal())
    for replica in replicas:
        show_metrics(replica, "leadgate_cluster_owner", "leadgate_cluster_replicas")
    for replica in replicas:
        expect("/ready does not report the store", "STORE_UNAVAILABLE" not in show_ready(replica)[2])
    show(incident.cluster_status(database).stdout)

    step("The database stops", "Both replicas report it. They stay in service, because every replica has the same problem.")
    mark = traffic.mark()
    database.stop()
    for replica in replicas:
        show_log(replica, "the leases cannot be renewed")
        status, ready, reasons = show_ready(replica)
        expect("/ready is degraded, with HTTP 200", (status, ready) == (200, "degraded"))
        expect("its reason is STORE_UNAVAILABLE", "STORE_UNAVAILABLE" in reasons)
        eventually("the metric of the store", lambda: metric(replica, "leadgate_store_writable") == 0)
        show_metrics(replica, "leadgate_store_writable")
    status = incident.cluster_status(database)
    show(status.stderr)
    expect("leadgate cluster status fails", status.returncode != 0)

    step("During the outage", "Reads continue while the lease is valid. Writes fail: each one needs the database.")
    traffic.wait_for("a read during the outage", mark + 0.5, lambda found: found.is_ok, "portal")
    traffic.wait_for("a failed write", mark, lambda found: found.reason == "STORE_UNAVAILABLE", "checkout")
    traffic.wait_for("a failed read", mark, lambda found: not found.is_ok, "portal")
    traffic.report(mark)
    for replica in replicas:
        show_metrics(replica, "leadgate_cluster_owner", "leadgate_cluster_replicas")
    failed = [found for found in traffic.since(mark) if not found.is_ok]
    unavailable = [found for found in failed if found.reason == "STORE_UNAVAILABLE"]
    expect("most errors are STORE_UNAVAILABLE", len(unavailable) > 0.5 * len(failed))
    expect("STORE_UNAVAILABLE has a retry time", all(found.retry is not None for found in unavailable))
    owners = [metric(replica, "leadgate_cluster_owner") for replica in replicas]
    expect("one replica counts as the owner all the time", sorted(owners) == [0, 1])

    step("The database starts again", "The replicas continue. Nothing needs a restart.")
    database.start()
    traffic.report(traffic.wait_until_normal())
    for replica in replicas:
        show_log(replica, "the leases are renewed again")
        expect("/ready does not report the store", "STORE_UNAVAILABLE" not in show_ready(replica)[2])
    show(incident.cluster_status(database).stdout)


if __name__ == "__main__":
    with Incident() as started:
        main(started)
