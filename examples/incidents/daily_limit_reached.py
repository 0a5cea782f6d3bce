#!/usr/bin/env python3
"""The calls of the day are used up. See docs/incidents.md."""

import signal

from incident import PLAN, Incident, Traffic, eventually, expect, metric, show, show_log, show_metrics, show_ready, step

DAILY = 100


def remaining(gateway):
    return metric(gateway, "leadgate_quota_daily_remaining")


def main(incident):
    simulator = incident.simulator("--daily", str(DAILY))
    gateway = incident.gateway(simulator, incident.settings(PLAN + f"daily = {DAILY}\n"))
    traffic = incident.start(Traffic, gateway)

    step("Normal state", f"The account has {DAILY} calls per day, limits.daily = {DAILY}. The calls that remain become fewer.")
    traffic.report(traffic.wait_until_normal())
    show_metrics(gateway, "leadgate_quota_daily_remaining")
    expect("calls remain", (remaining(gateway) or 0) > 0)

    step("The calls of the day are used up", "RPCs that need a call fail immediately. They get the time until the next day.")
    eventually("the end of the daily quota", lambda: remaining(gateway) == 0)
    mark = traffic.mark()
    traffic.wait_for_count(24, mark)
    show_metrics(gateway, "leadgate_quota_daily_remaining")
    traffic.report(mark)
    found = traffic.since(mark)
    errors = {(each.code, each.reason) for each in found}
    expect("all RPCs fail with DAILY_BUDGET_EXHAUSTED", errors == {("RESOURCE_EXHAUSTED", "DAILY_BUDGET_EXHAUSTED")})
    expect("they have a retry time", all(each.retry > 0 for each in found))
    expect("/ready is degraded, with HTTP 200", show_ready(gateway) == (200, "degraded", ["DAILY_BUDGET_EXHAUSTED"]))
    stats = simulator.control("GET", "stats")
    show(f"calls that LeadSquared got: {stats['daily_used']}, refused because of the daily limit: {stats['refused_daily']}")
    expect("leadgate has used all calls of the day", stats["daily_used"] == DAILY)
    expect("leadgate has sent no further call", stats["refused_daily"] == 0)
    traffic.call("DescribeLeadFields", {})
    expect("an RPC that needs no call succeeds (DescribeLeadFields)", True)

    step("The limit is raised", "LeadSquared raises the daily limit, and the operator sets limits.daily. No restart is needed.")
    options = simulator.control("GET", "options")
    simulator.control("PATCH", "options", {"limits": {**options["limits"], "daily": 10_000}})
    incident.settings(PLAN + "daily = 10000\n")
    gateway.signal(signal.SIGHUP)
    show_log(gateway, "files reloaded")
    traffic.report(traffic.wait_until_normal())
    show_metrics(gateway, "leadgate_quota_daily_remaining")
    expect("/ready is ready", show_ready(gateway)[1] == "ready")


if __name__ == "__main__":
    with Incident() as started:
        main(started)
