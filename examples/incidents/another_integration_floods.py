#!/usr/bin/env python3
"""Another integration of the account floods LeadSquared, with keys of its own and without leadgate. See docs/incidents.md."""

import threading
import urllib.error
import urllib.parse
import urllib.request

from incident import (
    ACCESS_KEY, CALLS, SECRET_KEY, Incident, Traffic, eventually, expect, metric, show, show_metrics, show_ready, step,
)

NAMES = ("limit", "effective_limit", "refusals_total", "holds_total")
METRICS = [f'leadgate_quota_{name}{{tenant="test",window="calls"' for name in NAMES]


def effective_limit(gateway):
    return metric(gateway, "leadgate_quota_effective_limit", window="calls")


class OtherIntegration:
    """Calls LeadSquared directly, 20 times per second."""

    def __init__(self, simulator):
        keys = urllib.parse.urlencode({"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY, "emailaddress": "other@example.com"})
        self._url = f"{simulator.url}/v2/LeadManagement.svc/Leads.GetByEmailaddress?{keys}"
        self.accepted = self.refused = 0
        self._is_stopped = threading.Event()
        self._thread = threading.Thread(target=self._send, daemon=True)
        self._thread.start()

    def _send(self):
        while not self._is_stopped.wait(1 / 20):
            try:
                urllib.request.urlopen(self._url, timeout=5).close()
                self.accepted += 1
            except urllib.error.HTTPError as error:
                error.close()
                self.refused += 1

    def close(self):
        self._is_stopped.set()
        self._thread.join()


def main(incident):
    simulator = incident.simulator()
    gateway = incident.gateway(simulator, incident.settings())
    traffic = incident.start(Traffic, gateway)

    step("Normal state", f"The account has {CALLS} calls per second. leadgate needs 12 of them.")
    traffic.report(traffic.wait_until_normal())
    show_metrics(gateway, *METRICS)

    step("Another integration floods the account", "It sends 20 calls per second: together more than the account has.")
    mark = traffic.mark()
    other = incident.start(OtherIntegration, simulator)
    eventually("a lower effective limit", lambda: effective_limit(gateway) <= 0.7 * CALLS)
    traffic.wait_for_count(60, mark)
    show_metrics(gateway, *METRICS)
    show(f"calls of the other integration: {other.accepted} accepted, {other.refused} refused")
    foreign = metric(gateway, "leadgate_quota_refusals_total", window="calls", attribution="foreign")
    own = metric(gateway, "leadgate_quota_refusals_total", window="calls", attribution="own")
    expect("more refusals count as foreign than as own", foreign > own)
    expect("the limit of the account does not change", metric(gateway, "leadgate_quota_limit", window="calls") == CALLS)
    expect("the effective limit is lower", effective_limit(gateway) < CALLS)
    traffic.report(mark)
    expect("all RPCs of checkout (critical) succeed", all(found.is_ok for found in traffic.since(mark, "checkout")))
    reasons = {found.reason for found in traffic.since(mark) if not found.is_ok}
    expect("no caller sees a refusal: errors are about deadlines only", reasons <= {"DEADLINE_EXCEEDED", "DEADLINE_INFEASIBLE"})
    expect("/ready is ready", show_ready(gateway)[1] == "ready")

    step("The flood ends", "leadgate raises its effective limit step by step, within ten to fifteen windows.")
    other.close()
    traffic.report(traffic.wait_until_normal(30))
    eventually("the whole limit", lambda: effective_limit(gateway) >= CALLS - 1, 25)
    show_metrics(gateway, *METRICS)


if __name__ == "__main__":
    with Incident() as started:
        main(started)
