#!/usr/bin/env python3
"""LeadSquared is down: a proxy in front of it responds with HTTP 502 to every call. See docs/incidents.md."""

from incident import Incident, Traffic, eventually, expect, metric, show, show_log, show_metrics, show_ready, step


def main(incident):
    simulator = incident.simulator()
    upstream = '[tenants.test.upstream]\nbreaker_max_pause = "4s"\n'
    gateway = incident.gateway(simulator, incident.settings(more=upstream))
    traffic = incident.start(Traffic, gateway)

    step("Normal state", "Three callers are served.")
    mark = traffic.wait_until_normal()
    traffic.report(mark)
    expect("/ready is ready", show_ready(gateway)[1] == "ready")

    step("LeadSquared fails", "Every call gets HTTP 502 and a page in HTML. After five failures, the circuit breaker opens.")
    before = simulator.control("GET", "stats")["accepted"]
    mark = traffic.mark()
    simulator.inject(what="html502", times=1_000_000)
    eventually("circuit breaker", lambda: metric(gateway, "leadgate_upstream_breaker_open") == 1)
    show_log(gateway, "circuit breaker opened")
    show_metrics(gateway, "leadgate_upstream_breaker_open")
    expect("/ready is degraded, with HTTP 200", show_ready(gateway) == (200, "degraded", ["UPSTREAM_UNAVAILABLE"]))

    step("During the outage", "RPCs that would end before the next probe fail immediately. Other ones wait for it.")
    traffic.wait_for_count(90, mark)
    traffic.report(mark)
    failed = [found for found in traffic.since(mark) if not found.is_ok]
    unavailable = [found for found in failed if found.reason == "UPSTREAM_UNAVAILABLE"]
    others = {found.reason for found in failed} - {"UPSTREAM_UNAVAILABLE"}
    expect("most RPCs fail with UPSTREAM_UNAVAILABLE", len(unavailable) >= 60)
    expect("other ones with DEADLINE_EXCEEDED or OUTCOME_UNKNOWN", others <= {"DEADLINE_EXCEEDED", "OUTCOME_UNKNOWN"})
    expect("UPSTREAM_UNAVAILABLE has a retry time", all(found.retry is not None for found in unavailable))
    expect("some fail immediately", min(found.took for found in unavailable) < 0.5)
    spent = simulator.control("GET", "stats")["accepted"] - before
    show(f"calls that LeadSquared got since the outage began: {spent}")
    expect("the outage costs few calls", spent < 30)

    step("LeadSquared works again", "The next probe succeeds, and closes the circuit breaker. There is nothing to do.")
    simulator.control("DELETE", "faults")
    mark = traffic.wait_until_normal()
    show_log(gateway, "circuit breaker closed")
    traffic.report(mark)
    show_metrics(gateway, "leadgate_upstream_breaker_open")
    expect("/ready is ready", show_ready(gateway)[1] == "ready")


if __name__ == "__main__":
    with Incident() as started:
        main(started)
