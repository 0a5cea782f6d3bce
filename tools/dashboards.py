#!/usr/bin/env python3
"""dashboards.py [--check]

Writes the dashboards in deploy/grafana/dashboards. With --check it writes nothing, and fails if one of them is not up to date. This file
is the source of the dashboards: change it, run it, and commit both. tests/it/queries.rs checks the queries.
"""

import json
import sys
from pathlib import Path

FOLDER = Path("deploy/grafana/dashboards")
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
TITLES = {
    "overview": "Overview",
    "quota": "Quota",
    "callers": "Callers",
    "sharing": "Sharing",
    "upstream": "LeadSquared",
    "cluster": "Replicas and store",
}
# The labels of the variables of a dashboard, and of a tenant's metrics.
JOB = 'job=~"$job"'
TENANT = 'job=~"$job",tenant=~"$tenant"'
CALLER = 'job=~"$job",tenant=~"$tenant",caller=~"$caller"'
RATE = "$__rate_interval"


def rate(metric, labels=TENANT):
    return f"rate({metric}{{{labels}}}[{RATE}])"


def total(by, expression):
    return f"sum by ({by}) ({expression})"


def quantile(q, metric, by="", labels=TENANT):
    by = f"le, {by}" if by else "le"
    return f"histogram_quantile({q}, sum by ({by}) ({rate(metric + '_bucket', labels)}))"


def quantiles(metric, labels=TENANT):
    return [(quantile(q, metric, labels=labels), name) for q, name in [(0.5, "p50"), (0.95, "p95"), (0.99, "p99")]]


def targets(queries, **options):
    for number, (expression, legend) in enumerate(queries):
        yield {"datasource": SOURCE, "refId": chr(ord("A") + number), "expr": expression, "legendFormat": legend, **options}


def steps(warning=None, critical=None):
    """Green, and other colors from these values on."""
    colors = [(None, "green"), (warning, "orange"), (critical, "red")]
    return {
        "mode": "absolute",
        "steps": [{"color": color, "value": value} for color, value in colors if color == "green" or value is not None],
    }


def panel(kind, title, description, queries, unit, width, height, target_options=None, options=None, defaults=None):
    return {
        "type": kind,
        "title": title,
        "description": description,
        "datasource": SOURCE,
        "gridPos": {"w": width, "h": height},
        "targets": list(targets(queries, **(target_options or {}))),
        "fieldConfig": {"defaults": {"unit": unit, **(defaults or {})}, "overrides": []},
        "options": options or {},
    }


def graph(title, description, queries, unit="short", width=12, stack=False, exemplars=False):
    custom = {"lineWidth": 1, "fillOpacity": 20 if stack else 0, "showPoints": "never", "stacking": {"mode": "normal" if stack else "none"}}
    options = {
        "legend": {"displayMode": "table", "placement": "bottom", "showLegend": True, "calcs": ["lastNotNull", "max"]},
        "tooltip": {"mode": "multi", "sort": "desc"},
    }
    return panel(
        "timeseries",
        title,
        description,
        queries,
        unit,
        width,
        8,
        target_options={"exemplar": True} if exemplars else None,
        options=options,
        defaults={"custom": custom, "min": 0},
    )


def stat(title, description, expression, unit="short", warning=None, critical=None, legend="", width=4):
    options = {"colorMode": "value", "graphMode": "area", "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False}}
    return panel(
        "stat",
        title,
        description,
        [(expression, legend)],
        unit,
        width,
        4,
        options=options,
        defaults={"thresholds": steps(warning, critical)},
    )


def table(title, description, expression, width=12, unit="short"):
    shown = {
        "id": "organize",
        "options": {"excludeByName": {"Time": True, "__name__": True, "job": True}, "indexByName": {}, "renameByName": {}},
    }
    item = panel(
        "table", title, description, [(expression, "")], unit, width, 8, target_options={"format": "table", "instant": True}
    )
    return {**item, "transformations": [shown]}


def row(title):
    return {"type": "row", "title": title, "collapsed": False, "panels": [], "gridPos": {"w": 24, "h": 1}}


def overview():
    codes = "CANCELLED|UNKNOWN|DEADLINE_EXCEEDED|RESOURCE_EXHAUSTED|INTERNAL|UNAVAILABLE|DATA_LOSS"
    failed = 'code=~"UNAVAILABLE|INTERNAL|UNKNOWN|DATA_LOSS"'
    # Health checks and reflection are no work.
    own = JOB + ',method=~"/leadgate.*"'
    return [
        stat("Replicas", "Replicas whose metrics Prometheus can read.", f"sum(up{{{JOB}}})", width=3),
        stat("RPCs", "Finished RPCs per second.", f"sum({rate('leadgate_rpcs_total', JOB)})", "reqps", width=3),
        stat(
            "Failed RPCs",
            "Part of the RPCs of leadgate's services that failed because of leadgate, its store or LeadSquared: UNAVAILABLE, INTERNAL, UNKNOWN, DATA_LOSS.",
            f"(sum({rate('leadgate_rpcs_total', own + ',' + failed)}) or vector(0)) / sum({rate('leadgate_rpcs_total', own)})",
            "percentunit",
            0.01,
            0.05,
            width=3,
        ),
        stat(
            "Paused tenants",
            "Tenants that an operator has paused. Their RPCs fail with TENANT_PAUSED.",
            f"sum(max by (job, tenant) (leadgate_tenant_paused{{{TENANT}}}))",
            warning=1,
            width=3,
        ),
        stat(
            "Open circuit breakers",
            "Tenants for which LeadSquared does not work. Their calls wait.",
            f"sum(max by (job, tenant) (leadgate_upstream_breaker_open{{{TENANT}}}))",
            critical=1,
        ),
        stat(
            "Longest wait for a slot",
            "Time that the oldest waiting call of any class has waited.",
            f"max(leadgate_quota_oldest_seconds{{{TENANT}}})",
            "s",
            10,
            30,
        ),
        stat(
            "Stores that cannot be written",
            "Replicas whose last check of the store failed. Mutations with a request id and shares fail there.",
            f"count(leadgate_store_writable{{{JOB}}}) - sum(leadgate_store_writable{{{JOB}}})",
            critical=1,
        ),
        row("RPCs"),
        graph("RPCs by code", "Finished RPCs per second, by gRPC code.", [(total("code", rate("leadgate_rpcs_total", JOB)), "{{code}}")], "reqps", 8, True),
        graph("Duration of RPCs", "From the headers to the response. Points are traces.", quantiles("leadgate_rpc_duration_seconds", JOB), "s", 8, exemplars=True),
        graph(
            "Errors by reason",
            "Failed RPCs of known callers per second, by the reason of the error.",
            [(total("reason", rate("leadgate_caller_rpcs_total", TENANT + ',code!="OK"')), "{{reason}}")],
            "reqps",
            8,
            True,
        ),
        graph("Busiest methods", "RPCs per second of the ten busiest methods.", [(f"topk(10, {total('method', rate('leadgate_rpcs_total', JOB))})", "{{method}}")], "reqps"),
        graph(
            "Methods that fail",
            "RPCs per second that failed for other reasons than the request itself.",
            [(f"topk(10, {total('method, code', rate('leadgate_rpcs_total', JOB + f',code=~{json.dumps(codes)}'))})", "{{method}} {{code}}")],
            "reqps",
        ),
        row("LeadSquared and quota"),
        graph("Requests to LeadSquared", "Requests per second, by outcome.", [(total("outcome", rate("leadgate_upstream_attempts_total")), "{{outcome}}")], "reqps", 8, True),
        graph(
            "Used part of the quota",
            "Used part of the last complete window of all calls.",
            [(f"max by (tenant) (leadgate_quota_utilization_ratio{{{TENANT}}})", "{{tenant}}")],
            "percentunit",
            8,
        ),
        graph("Waiting calls", "Calls that wait for a slot, by class.", [(f"sum by (class) (leadgate_quota_waiting{{{TENANT}}})", "{{class}}")], "short", 8, True),
        row("Process"),
        graph("RPCs in progress", "RPCs that have begun and have not ended.", [(f"leadgate_rpcs_in_progress{{{JOB}}}", "{{instance}}")], "short", 8),
        graph("Connections", "Connections of clients.", [(f"sum by (instance, state) (leadgate_connections{{{JOB}}})", "{{instance}} {{state}}")], "short", 8),
        graph("Time since the start", "A replica that restarts begins at 0.", [(f"time() - leadgate_start_time_seconds{{{JOB}}}", "{{instance}}")], "s", 8),
        table("Versions", "The running binaries.", f"leadgate_build_info{{{JOB}}}"),
        table("Certificates", "Time until the first certificate of a file expires.", f"min by (instance, file) (leadgate_certificate_expiry_timestamp_seconds{{{JOB}}}) - time()", unit="s"),
    ]


def quota():
    window = "sum by (tenant, window)"
    return [
        row("Windows"),
        graph(
            "Limits",
            "Configured: the settings. Allowed: what LeadSquared has stated. Sent: what leadgate uses at most, less while other clients use the account.",
            [
                (f"max by (tenant, window) (leadgate_quota_configured_limit{{{TENANT}}})", "{{tenant}} {{window}} configured"),
                (f"max by (tenant, window) (leadgate_quota_limit{{{TENANT}}})", "{{tenant}} {{window}} allowed"),
                (f"max by (tenant, window) (leadgate_quota_effective_limit{{{TENANT}}})", "{{tenant}} {{window}} sent"),
            ],
        ),
        graph("Slots in use", "Slots of the window that are in use.", [(f"max by (tenant, window) (leadgate_quota_slots_used{{{TENANT}}})", "{{tenant}} {{window}}")]),
        graph("Used part of the window", "Used part of the last complete window of all calls.", [(f"max by (tenant) (leadgate_quota_utilization_ratio{{{TENANT}}})", "{{tenant}}")], "percentunit"),
        graph("Slots granted", "Slots per second.", [(total("tenant", rate("leadgate_quota_grants_total")), "{{tenant}}")], "reqps"),
        row("Waiting"),
        graph("Waiting calls", "Calls that wait for a slot, by class.", [(f"sum by (tenant, class) (leadgate_quota_waiting{{{TENANT}}})", "{{tenant}} {{class}}")], stack=True),
        graph("Oldest waiting call", "Time that the oldest call of a class has waited.", [(f"max by (tenant, class) (leadgate_quota_oldest_seconds{{{TENANT}}})", "{{tenant}} {{class}}")], "s"),
        graph("Wait for a slot (p95)", "Time that requests to LeadSquared waited for their slot.", [(quantile(0.95, "leadgate_quota_wait_seconds", "tenant, class"), "{{tenant}} {{class}}")], "s"),
        graph("Waiting calls by caller", "Callers without a table in the settings are one: other.", [(f"sum by (tenant, caller) (leadgate_caller_waiting{{{TENANT}}})", "{{tenant}} {{caller}}")], stack=True),
        row("Rate limit errors"),
        graph(
            "Rate limit errors by cause",
            "own: leadgate sent too many calls. foreign: only other clients of the account can be the cause.",
            [(f"{window} ({rate('leadgate_quota_refusals_total', TENANT + f',attribution={json.dumps(cause)}')})", "{{tenant}} {{window}} " + cause) for cause in ["own", "foreign"]],
            "reqps",
        ),
        graph("Pauses of all calls", "Pauses after a rate limit error, per second.", [(total("tenant, window", rate("leadgate_quota_holds_total")), "{{tenant}} {{window}}")], "reqps"),
        graph("Part of the latency that is charged", "Maximum time for which a slot stays held because of the latency of its call.", [(f"max by (tenant, window) (leadgate_quota_margin_seconds{{{TENANT}}})", "{{tenant}} {{window}}")], "s"),
        graph("Rate limit errors by HTTP status", "Requests that LeadSquared rejected.", [(total("tenant, status", rate("leadgate_upstream_refusals_total")), "{{tenant}} {{status}}")], "reqps"),
        row("Day"),
        graph(
            "Calls of the day",
            "The limit and the remaining calls are absent if no daily limit is known.",
            [(f"max by (tenant) (leadgate_quota_daily_{name}{{{TENANT}}})", "{{tenant}} " + name) for name in ["limit", "used", "remaining"]],
        ),
        row("Batches"),
        graph("Saved requests", "Requests per second that batching saved.", [(total("tenant, lane", rate("leadgate_batch_saved_calls_total")), "{{tenant}} {{lane}}")], "reqps", stack=True),
        graph(
            "Size of batches",
            "Average number of operations in a request.",
            [(f"{total('tenant, lane', rate('leadgate_batch_size_sum'))} / {total('tenant, lane', rate('leadgate_batch_size_count'))}", "{{tenant}} {{lane}}")],
        ),
        graph("Split batches", "Batches that LeadSquared rejected as a whole.", [(total("tenant, lane", rate("leadgate_batch_bisections_total")), "{{tenant}} {{lane}}")], "reqps"),
    ]


def callers():
    rejected = CALLER + ',code="RESOURCE_EXHAUSTED"'
    return [
        row("RPCs"),
        graph("RPCs by caller", "Finished RPCs per second. Callers without a table in the settings are one: other.", [(total("caller", rate("leadgate_caller_rpcs_total", CALLER)), "{{caller}}")], "reqps", stack=True),
        graph(
            "Failed RPCs by caller",
            "Part of the RPCs of a caller that failed, for any reason.",
            [(f"{total('caller', rate('leadgate_caller_rpcs_total', CALLER + ',code!=' + json.dumps('OK')))} / {total('caller', rate('leadgate_caller_rpcs_total', CALLER))}", "{{caller}}")],
            "percentunit",
        ),
        graph("Duration of RPCs (p95)", "From the headers to the response.", [(quantile(0.95, "leadgate_caller_rpc_duration_seconds", "caller", CALLER), "{{caller}}")], "s"),
        graph("Errors by caller and reason", "Failed RPCs per second.", [(total("caller, reason", rate("leadgate_caller_rpcs_total", CALLER + ',code!="OK"')), "{{caller}} {{reason}}")], "reqps", stack=True),
        row("Quota"),
        graph("Requests to LeadSquared by caller", "A batch counts for the caller that began it.", [(total("caller", rate("leadgate_caller_attempts_total", CALLER)), "{{caller}}")], "reqps", stack=True),
        graph("Waiting calls by caller", "Calls that wait for a slot now.", [(f"sum by (caller) (leadgate_caller_waiting{{{CALLER}}})", "{{caller}}")], stack=True),
        graph("Rejected RPCs by caller and reason", "RPCs per second that failed with RESOURCE_EXHAUSTED.", [(total("caller, reason", rate("leadgate_caller_rpcs_total", rejected)), "{{caller}} {{reason}}")], "reqps", stack=True),
        graph("Unknown outcomes", "Writes per second that failed with OUTCOME_UNKNOWN.", [(total("caller", rate("leadgate_caller_rpcs_total", CALLER + ',reason="OUTCOME_UNKNOWN"')), "{{caller}}")], "reqps"),
        row("Access"),
        graph("Denied RPCs", "RPCs per second that the settings of the caller do not allow.", [(total("caller", rate("leadgate_caller_rpcs_total", CALLER + ',code="PERMISSION_DENIED"')), "{{caller}}")], "reqps", 8),
        graph("RPCs without a valid credential", "Per second, by reason.", [(total("reason", rate("leadgate_auth_failures_total", JOB)), "{{reason}}")], "reqps", 8),
        graph("Failed TLS handshakes", "Per second, by reason.", [(total("reason", rate("leadgate_tls_handshakes_failed_total", JOB)), "{{reason}}")], "reqps", 8),
        graph("Connections that leadgate closed", "Per second, by reason.", [(total("reason", rate("leadgate_connections_closed_total", JOB)), "{{reason}}")], "cps", 8),
        graph("Connections above a limit", "Connections per second that were closed at once, by the setting.", [(total("limit", rate("leadgate_connections_refused_total", JOB)), "{{limit}}")], "cps", 8),
        graph("Unknown metadata", "Ignored entries per second: unknown names that start with x-leadgate-.", [(total("instance", rate("leadgate_unknown_headers_total", JOB)), "{{instance}}")], "reqps", 8),
    ]


def sharing():
    service = JOB + ',method=~"/leadgate.v1.ShareService/.*"'
    access = TENANT + ',endpoint=~"EntityAccess.*"'
    state = lambda name: f"sum(max by (job, tenant) (leadgate_shares{{{TENANT},state=\"{name}\"}}))"
    return [
        stat("Active", "Shares whose user has access.", state("active"), width=6),
        stat("In progress", "Shares that are requested and not granted yet.", f"sum(max by (job, tenant, state) (leadgate_shares{{{TENANT},state=~\"pending|submitted|processing\"}}))", width=6),
        stat("Being revoked", "Shares whose revoke is in progress.", state("revoking"), width=6),
        stat("Uncertain", "Shares of which it is unknown whether they were granted or revoked. RetryShare or RevokeShare ends this state.", state("uncertain"), warning=1, width=6),
        row("Shares"),
        graph("Shares by state", "Shares in the ledger that have not ended.", [(f"max by (tenant, state) (leadgate_shares{{{TENANT},state!~\"expired|failed|revoked\"}})", "{{tenant}} {{state}}")]),
        graph("Ended shares", "Shares in the ledger that have ended, until they are deleted.", [(f"max by (tenant, state) (leadgate_shares{{{TENANT},state=~\"expired|failed|revoked\"}})", "{{tenant}} {{state}}")]),
        row("RPCs"),
        graph("RPCs of ShareService", "Finished RPCs per second.", [(total("method, code", rate("leadgate_rpcs_total", service)), "{{method}} {{code}}")], "reqps"),
        graph("Duration (p95)", "ShareLead with wait_for = ACTIVE waits for LeadSquared.", [(quantile(0.95, "leadgate_rpc_duration_seconds", "method", service), "{{method}}")], "s"),
        row("LeadSquared"),
        graph("Requests for access", "Requests per second, by outcome. EntityAccess.Status are polls.", [(total("endpoint, outcome", rate("leadgate_upstream_attempts_total", access)), "{{endpoint}} {{outcome}}")], "reqps"),
        graph("Duration of these requests (p95)", "From sending a request to its response.", [(quantile(0.95, "leadgate_upstream_attempt_duration_seconds", "endpoint", access), "{{endpoint}}")], "s"),
        graph("Ledger (p95)", "Duration of the operations of the store for shares.", [(quantile(0.95, "leadgate_store_operation_duration_seconds", "operation", JOB + ',operation=~".*share.*"'), "{{operation}}")], "s", 24),
    ]


def upstream():
    return [
        stat("Open circuit breakers", "Tenants for which LeadSquared does not work.", f"sum(max by (job, tenant) (leadgate_upstream_breaker_open{{{TENANT}}}))", critical=1, width=6),
        stat("Requests", "Requests per second.", f"sum({rate('leadgate_upstream_attempts_total')})", "reqps", width=6),
        stat("In progress", "Requests without a response yet.", f"sum(leadgate_upstream_requests_in_progress{{{TENANT}}})", width=6),
        stat("Next keys in use", "Tenants whose requests are sent with the next pair of keys.", f"sum(max by (job, tenant) (leadgate_key_in_use{{{TENANT},pair=\"next\"}}))", warning=1, width=6),
        row("Requests"),
        graph("Requests by outcome", "Requests per second.", [(total("outcome", rate("leadgate_upstream_attempts_total")), "{{outcome}}")], "reqps", 8, True),
        graph("Duration", "From sending a request to its response. Points are traces.", quantiles("leadgate_upstream_attempt_duration_seconds"), "s", 8, exemplars=True),
        graph("Requests without a usable response", "Per second, by cause. dns, refused and connect-timeout: the network or LeadSquared. certificate: TLS. proxy: upstream.proxy.", [(total("tenant, cause", rate("leadgate_upstream_failures_total")), "{{tenant}} {{cause}}")], "reqps", 8),
        graph("Requests by endpoint", "Requests per second.", [(total("endpoint", rate("leadgate_upstream_attempts_total")), "{{endpoint}}")], "reqps", stack=True),
        graph("Duration by endpoint (p95)", "From sending a request to its response.", [(quantile(0.95, "leadgate_upstream_attempt_duration_seconds", "endpoint"), "{{endpoint}}")], "s"),
        graph("Failed requests by endpoint", "Requests per second, without those that succeeded.", [(total("endpoint, outcome", rate("leadgate_upstream_attempts_total", TENANT + ',outcome!="ok"')), "{{endpoint}} {{outcome}}")], "reqps"),
        graph("Requests in progress", "At most upstream.max_in_flight.", [(f"sum by (tenant) (leadgate_upstream_requests_in_progress{{{TENANT}}})", "{{tenant}}")]),
        row("Circuit breaker and keys"),
        graph("Circuit breaker", "1 while it is open or half-open.", [(f"max by (tenant) (leadgate_upstream_breaker_open{{{TENANT}}})", "{{tenant}}")], "short", 8),
        graph("Pair of keys in use", "1 for the pair with which requests are sent.", [(f"max by (tenant, pair) (leadgate_key_in_use{{{TENANT}}})", "{{tenant}} {{pair}}")], "short", 8),
        graph("Checks and switches of keys", "In the last hour.", [(f"sum by (tenant, pair, result) (increase(leadgate_key_checks_total{{{TENANT}}}[1h]))", "{{tenant}} {{pair}} {{result}}"), (f"sum by (tenant, pair) (increase(leadgate_key_switches_total{{{TENANT}}}[1h]))", "{{tenant}} switch to {{pair}}")], "short", 8),
        row("Saved requests"),
        graph("Coalesced reads", "Reads per second that used the response of another read: in progress (flight) or finished (cache).", [(total("tenant, by", rate("leadgate_reads_coalesced_total")), "{{tenant}} {{by}}")], "reqps", 8),
        graph("Batches", "Requests per second that batching saved.", [(total("tenant, lane", rate("leadgate_batch_saved_calls_total")), "{{tenant}} {{lane}}")], "reqps", 8),
        graph("Caches", "Lookups of metadata, users and activity types per second. missing and stale cost a request.", [(total("cache, result", rate("leadgate_cache_lookups_total")), "{{cache}} {{result}}")], "reqps", 8),
    ]


def cluster():
    return [
        stat("Replicas", "Replicas whose metrics Prometheus can read.", f"sum(up{{{JOB}}})", width=6),
        stat("Seen by all", "Replicas alive, as the replica that sees the fewest sees it. 0 without a cluster.", f"min(leadgate_cluster_replicas{{{JOB}}})", width=6),
        stat("Tenants without an owner", "Their calls wait or fail.", f"count(max by (job, tenant) (leadgate_cluster_owner{{{TENANT}}}) == 0) or vector(0)", critical=1, width=6),
        stat("Failed operations of the store", "Per second.", f"sum({rate('leadgate_store_operation_duration_seconds_count', JOB + ',result=~' + json.dumps('failed|unreadable'))}) or vector(0)", "ops", critical=0.01, width=6),
        row("Owners"),
        graph("Owned tenants", "Tenants that each replica owns.", [(f"sum by (instance) (leadgate_cluster_owner{{{TENANT}}})", "{{instance}}")], "short", 8, True),
        graph("Moves", "Moves to or from a replica, in 5 minutes. takeover: the owner did not respond.", [(f"sum by (tenant, reason) (increase(leadgate_cluster_moves_total{{{TENANT}}}[5m]))", "{{tenant}} {{reason}}")], "short", 8),
        table("Owner of each tenant", "The replicas that own tenants now.", f"leadgate_cluster_owner{{{TENANT}}} == 1", 8),
        graph("Forwarded RPCs", "RPCs per second that another replica executed.", [(total("tenant, code", rate("leadgate_forwarded_rpcs_total")), "{{tenant}} {{code}}")], "reqps"),
        graph("Time that forwarding added", "Unary RPCs.", quantiles("leadgate_forwarding_duration_seconds"), "s"),
        row("Store"),
        graph("Operations", "Operations per second, by result. not_owner: another replica owns the tenant.", [(total("result", rate("leadgate_store_operation_duration_seconds_count", JOB)), "{{result}}")], "ops", 8, True),
        graph("Duration (p95)", "By operation. Includes the wait for a connection.", [(quantile(0.95, "leadgate_store_operation_duration_seconds", "operation", JOB), "{{operation}}")], "s", 8),
        graph("Can be written", "1 if the last check of the store succeeded.", [(f"leadgate_store_writable{{{JOB}}}", "{{instance}}")], "short", 8),
        graph("Connections to PostgreSQL", "At most store.max_connections. Absent with SQLite.", [(f"sum by (instance, state) (leadgate_store_connections{{{JOB}}})", "{{instance}} {{state}}"), (f"leadgate_store_max_connections{{{JOB}}}", "{{instance}} maximum")], "short", 8),
        graph("Operations that wait for a connection", "Above 0 for long: increase store.max_connections, or check the load of the database.", [(f"leadgate_store_waiting_operations{{{JOB}}}", "{{instance}}")], "short", 8),
        graph("Damaged rows", "Rows that cannot be read and are ignored.", [(f"leadgate_store_damaged_rows{{{JOB}}}", "{{instance}}")], "short", 8),
        row("Process"),
        graph("Audit", "Lines per second, by outcome.", [(total("instance, outcome", rate("leadgate_audit_lines_total", JOB)), "{{instance}} {{outcome}}")], "ops", 8),
        graph("Reloads of files", "In 5 minutes.", [(f"sum by (instance, what, result) (increase(leadgate_reloads_total{{{JOB}}}[5m]))", "{{instance}} {{what}} {{result}}"), (f"leadgate_reload_failing{{{JOB}}}", "{{instance}} {{what}} fails now")], "short", 8),
        graph("Failures of the process", "Connections that could not be accepted, per second; and 1 while the keys of the token issuer cannot be fetched.", [(rate("leadgate_accept_failures_total", JOB), "{{instance}} accept"), (f"leadgate_token_keys_failing{{{JOB}}}", "{{instance}} token keys")], "short", 8),
        graph("Steering requests", "Requests under /admin in 5 minutes, by action and result. unknown: without the token, or for no such request.", [(f"sum by (action, result) (increase(leadgate_steering_requests_total{{{JOB}}}[5m]))", "{{action}} {{result}}")], "short", 12),
        graph("Dropped spans and log lines", "Per second: spans that were not exported (traces), and lines that were not written (logs).", [(rate("leadgate_telemetry_dropped_total", JOB), "{{instance}} {{signal}}")], "short", 12),
    ]


def variable(name, label, query):
    return {
        "type": "query",
        "name": name,
        "label": label,
        "datasource": SOURCE,
        "query": {"query": query, "refId": "variable"},
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": ["All"], "value": ["$__all"]},
    }


def dashboard(name, panels):
    x = y = height = 0
    for number, item in enumerate(panels, 1):
        place = item["gridPos"]
        if x + place["w"] > 24:
            x, y, height = 0, y + height, 0
        place.update(x=x, y=y)
        x, height = x + place["w"], max(height, place["h"])
        item["id"] = number
    variables = [
        {"type": "datasource", "name": "datasource", "label": "Data source", "query": "prometheus", "current": {}},
        variable("job", "Job", "label_values(leadgate_build_info, job)"),
        variable("tenant", "Tenant", f"label_values(leadgate_key_in_use{{{JOB}}}, tenant)"),
    ]
    if name == "callers":
        variables.append(variable("caller", "Caller", f"label_values(leadgate_caller_rpcs_total{{{TENANT}}}, caller)"))
    links = [
        {
            "type": "link",
            "title": title,
            "url": f"/d/leadgate-{other}",
            "icon": "dashboard",
            "includeVars": True,
            "keepTime": True,
            "targetBlank": False,
        }
        for other, title in TITLES.items()
        if other != name
    ]
    return {
        "uid": f"leadgate-{name}",
        "title": f"leadgate: {TITLES[name]}",
        "tags": ["leadgate"],
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "timezone": "browser",
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "links": links,
        "templating": {"list": variables},
        "annotations": {"list": []},
        "panels": panels,
    }


def main():
    is_check = sys.argv[1:] == ["--check"]
    dashboards = {
        "overview": overview,
        "quota": quota,
        "callers": callers,
        "sharing": sharing,
        "upstream": upstream,
        "cluster": cluster,
    }
    stale = {path.name for path in FOLDER.glob("*.json")} - {f"{name}.json" for name in dashboards}
    for name, panels in dashboards.items():
        path = FOLDER / f"{name}.json"
        text = json.dumps(dashboard(name, panels()), indent=1) + "\n"
        if not is_check:
            path.write_text(text, encoding="utf-8")
        elif not path.is_file() or path.read_text(encoding="utf-8") != text:
            stale.add(path.name)
    for name in sorted(stale):
        print(f"{FOLDER / name} is not up to date: run tools/dashboards.py", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
