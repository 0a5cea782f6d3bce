#!/usr/bin/env python3
"""LeadSquared lowers the rate limit of the account from 25 to 10 calls per second. See docs/incidents.md."""

import signal

from incident import (
    CALLS, PLAN, Incident, Traffic, eventually, expect, metric, show_log, show_metrics, show_ready, step,
)

LOWERED = 10
NAMES = ("configured_limit", "limit", "refusals_total")
METRICS = [f'leadgate_quota_{name}{{tenant="test",window="calls"' for name in NAMES]


def limit_of(gateway):
    return metric(gateway, "leadgate_quota_limit", window="calls")


def configured_limit(gateway):
    return metric(gateway, "leadgate_quota_configured_limit", window="calls")


def refusals(gateway, attribution):
    return metric(gateway, "leadgate_quota_refusals_total", window="calls", attribution=attribution)


def main(incident):
    simulator = incident.simulator()
    settings = incident.settings()
    gateway = incident.gateway(simulator, settings)
    traffic = incident.start(Traffic, gateway)
    plan = simulator.control("GET", "options")["limits"]

    step("Normal state", f"The account has {CALLS} calls per second, and the callers need 12.")
    traffic.report(traffic.wait_until_normal())
    show_metrics(gateway, *METRICS)

    step("The limit is lowered", f"LeadSquared allows {LOWERED} calls per second. The text of a refusal names the limit.")
    mark = traffic.mark()
    simulator.control("PATCH", "options", {"limits": {**plan, "calls": LOWERED}})
    eventually("the new limit", lambda: limit_of(gateway) == LOWERED)
    show_log(gateway, "rate limit changed")
    show_metrics(gateway, *METRICS)
    expect("the condition of the alert LeadgateLimitLowered is true", limit_of(gateway) < configured_limit(gateway))
    expect("the refusals count as own", refusals(gateway, "own") > refusals(gateway, "foreign"))

    step("With the lower limit", "The quota is too small for all callers. RPCs of the lowest criticality fail.")
    traffic.wait_for("a failed RPC", mark, lambda found: not found.is_ok, "nightly")
    refused = simulator.control("GET", "stats")["refused"]
    traffic.wait_for_count(100, mark)
    traffic.report(mark)
    show_metrics(gateway, "leadgate_quota_waiting", "leadgate_quota_oldest_seconds")
    expect("all RPCs of checkout (critical) succeed", all(found.is_ok for found in traffic.since(mark, "checkout")))
    failed = {found.reason for found in traffic.since(mark) if not found.is_ok}
    expect("all errors are about deadlines", failed <= {"DEADLINE_EXCEEDED", "DEADLINE_INFEASIBLE"})
    further = simulator.control("GET", "stats")["refused"] - refused
    expect(f"LeadSquared refuses almost no further calls ({further})", further <= 5)
    expect("/ready is ready", show_ready(gateway)[1] == "ready")

    step("The operator corrects the setting", f"limits.calls = {LOWERED}: a restart then begins with the right limit.")
    incident.settings(PLAN.replace(str(CALLS), str(LOWERED), 1))
    gateway.signal(signal.SIGHUP)
    show_log(gateway, "files reloaded")
    expect("the limit stays, and the condition ends", limit_of(gateway) == configured_limit(gateway) == LOWERED)

    step("The limit is raised again", f"leadgate keeps the lower limit until the operator sets limits.calls = {CALLS}.")
    simulator.control("PATCH", "options", {"limits": plan})
    incident.settings()
    gateway.signal(signal.SIGHUP)
    eventually("the configured limit", lambda: limit_of(gateway) == CALLS)
    traffic.report(traffic.wait_until_normal())
    show_metrics(gateway, *METRICS[:2])


if __name__ == "__main__":
    with Incident() as started:
        main(started)
