#!/usr/bin/env python3
"""check-deploy.py KUSTOMIZE

Checks the files in deploy/ that the schemas of single files do not cover. Uses no network.

* deploy/kubernetes: renders base and example with the program KUSTOMIZE. Checks each object against the schemas of the oldest and
  newest supported Kubernetes, and the names and ports that objects use of each other and of leadgate.toml.
* deploy/compose.yaml: the services, volumes and files that it, Prometheus and Grafana name.
* deploy/prometheus/alerts.yaml: docs/operations.md describes each alert, and each alert has tests.
* deploy/grafana/dashboards: promtool can parse the queries. tests/it/queries.rs checks the metrics and labels in all queries.
"""

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

import jsonschema
import kubernetes_validate
import yaml

KUBERNETES = Path("deploy/kubernetes")
SECRETS = KUBERNETES / "example/secrets.example.yaml"
COMPOSE = Path("deploy/compose.yaml")
COMPOSE_CONFIG = Path("deploy/compose/leadgate.toml")
PROMETHEUS = Path("deploy/prometheus/prometheus.yaml")
ALERTS = Path("deploy/prometheus/alerts.yaml")
DASHBOARDS = Path("deploy/grafana/dashboards")
DATASOURCES = Path("deploy/grafana/datasources/prometheus.yaml")
ALERT_TESTS = sorted(ALERTS.parent.glob("*_test.yaml"))
GUIDE = Path("docs/operations.md")
# The placeholder that operators replace.
RUNBOOKS = "https://leadgate.example"
SERVICE_MONITOR = json.loads(Path("tools/schemas/service-monitor.json").read_text(encoding="utf-8"))
# unhealthyPodEvictionPolicy of a PodDisruptionBudget is stable since 1.31.
VERSIONS = ["1.31", "1.37"]
# server.drain has this default. Look-ups of lost writes take up to 10 s after it, and saving the state some time more.
DRAIN = 20
AFTER_DRAIN = 15


def listen_ports(config):
    return sorted(map(int, re.findall(r'^listen = ".*:(\d+)"$', config, re.MULTILINE)))


def documents(text):
    return [document for document in yaml.safe_load_all(text) if document]


def load(path):
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def schema_errors(item):
    """The errors of a Kubernetes object by itself."""
    try:
        if item["kind"] == "ServiceMonitor":
            jsonschema.validate(item, SERVICE_MONITOR)
            return
        for version in VERSIONS:
            kubernetes_validate.validate(item, version, strict=True)
    except jsonschema.ValidationError as error:
        yield f"{'.'.join(map(str, error.path))}: {error.message}"
    except kubernetes_validate.SchemaNotFoundError as error:
        yield error.message


class Manifests:
    """The objects of one rendered folder and what the Secrets of the example contain."""

    def __init__(self, items, secrets):
        self.items = items
        self.secrets = secrets
        [deployment] = self.of("Deployment")
        self.deployment = deployment["spec"]
        self.pod = self.deployment["template"]
        [self.container] = self.pod["spec"]["containers"]
        self.ports = {port["name"]: port["containerPort"] for port in self.container["ports"]}
        self.config = next((item["data"]["leadgate.toml"] for item in self.of("ConfigMap")), "")

    def of(self, kind):
        return [item for item in self.items if item["kind"] == kind]

    def errors(self):
        for item in self.items:
            for error in schema_errors(item):
                yield f"{item['kind']} {item['metadata']['name']}: {error}"
        yield from self.selector_errors()
        yield from self.port_errors()
        yield from self.monitor_errors()
        yield from self.name_errors()
        yield from self.settings_errors()

    def selector_errors(self):
        """Each selector of leadgate's pods selects them."""
        selectors = [("Service", item["spec"]["selector"]) for item in self.of("Service")]
        for kind, key in [("Deployment", "selector"), ("PodDisruptionBudget", "selector"), ("NetworkPolicy", "podSelector")]:
            selectors += [(kind, item["spec"][key]["matchLabels"]) for item in self.of(kind)]
        for constraint in self.pod["spec"]["topologySpreadConstraints"]:
            selectors.append((constraint["topologyKey"], constraint["labelSelector"]["matchLabels"]))
        labels = self.pod["metadata"]["labels"].items()
        for name, selector in selectors:
            if not selector.items() <= labels:
                yield f"{name}: {selector} does not select the pods of the Deployment"

    def port_errors(self):
        names = [(probe, self.container[probe]["httpGet"]["port"]) for probe in ["readinessProbe", "livenessProbe"]]
        for item in self.of("Service"):
            names += [(f"Service {item['metadata']['name']}", port["targetPort"]) for port in item["spec"]["ports"]]
        for user, name in names:
            if name not in self.ports:
                yield f"{user}: the container has no port {name}"
        [policy] = self.of("NetworkPolicy")
        rules = [rule for rule in policy["spec"]["ingress"] if rule.get("from")]
        admitted = sorted(port["port"] for rule in rules for port in rule["ports"])
        if admitted != sorted(self.ports.values()):
            yield f"NetworkPolicy: admits the ports {admitted}, the container has {sorted(self.ports.values())}"
        forwarded = [port["port"] for rule in policy["spec"]["egress"] for port in rule.get("ports", [])]
        if self.ports["peer"] not in forwarded:
            yield "NetworkPolicy: egress to the peer port is denied"
        variables = {item["name"]: item.get("value") for item in self.container["env"]}
        advertise = variables.get("LEADGATE__CLUSTER__ADVERTISE", "")
        if not advertise.endswith(f":{self.ports['peer']}"):
            yield f"LEADGATE__CLUSTER__ADVERTISE: {advertise} does not name the peer port {self.ports['peer']}"

    def monitor_errors(self):
        """Each ServiceMonitor selects one Service, which has the port. Two would count each replica twice."""
        for monitor in self.of("ServiceMonitor"):
            labels = monitor["spec"]["selector"]["matchLabels"].items()
            services = [item for item in self.of("Service") if labels <= item["metadata"]["labels"].items()]
            ports = [port["name"] for item in services for port in item["spec"]["ports"]]
            for endpoint in monitor["spec"]["endpoints"]:
                if ports.count(endpoint["port"]) != 1:
                    found = f"{len(services)} Services are selected, with the ports {ports}"
                    yield f"ServiceMonitor: {endpoint['port']} must be a port of one Service: {found}"

    def volumes(self):
        """For each volume of the pod: the kind of its objects, and their names."""
        for volume in self.pod["spec"]["volumes"]:
            if "configMap" in volume:
                yield volume["name"], "ConfigMap", [volume["configMap"]["name"]]
            elif "secret" in volume:
                yield volume["name"], "Secret", [volume["secret"]["secretName"]]
            else:
                yield volume["name"], "Secret", [source["secret"]["name"] for source in volume["projected"]["sources"]]

    def name_errors(self):
        names = {(item["kind"], item["metadata"]["name"]) for item in self.items}
        names |= {("Secret", name) for name in self.secrets}
        used = [("ServiceAccount", self.pod["spec"]["serviceAccountName"])]
        used += [(kind, name) for _, kind, objects in self.volumes() for name in objects]
        for kind, name in used:
            if (kind, name) not in names:
                yield f"Deployment: there is no {kind} {name}"
        volumes = sorted(name for name, _, _ in self.volumes())
        mounts = sorted(mount["name"] for mount in self.container["volumeMounts"])
        if volumes != mounts:
            yield f"Deployment: the volumes {volumes} are mounted as {mounts}"

    def settings_errors(self):
        """The ports and files of leadgate.toml, and the time that a shutdown takes."""
        listen = listen_ports(self.config)
        if listen != sorted(self.ports.values()):
            yield f"leadgate.toml: listens on {listen}, the container has {sorted(self.ports.values())}"
        folders = {mount["name"]: mount["mountPath"] for mount in self.container["volumeMounts"]}
        files = {
            f"{folders.get(volume)}/{key}"
            for volume, kind, objects in self.volumes()
            for name in objects
            if kind == "Secret"
            for key in self.secrets.get(name, [])
        }
        for file in sorted(set(re.findall(r'/run/secrets/[^"&]*', self.config)) - files):
            yield f"leadgate.toml: no mounted Secret of {SECRETS.name} has the file {file}"
        delays = re.findall(r'^shutdown_delay = "(\d+)s"$', self.config, re.MULTILINE)
        least = sum(map(int, delays)) + DRAIN + AFTER_DRAIN
        grace = self.pod["spec"]["terminationGracePeriodSeconds"]
        if not delays or grace < least:
            yield f"Deployment: terminationGracePeriodSeconds is {grace}, a shutdown with shutdown_delay {delays} takes {least} s"


def kubernetes_errors(kustomize):
    objects = documents(SECRETS.read_text(encoding="utf-8"))
    for item in objects:
        for error in schema_errors(item):
            yield f"{SECRETS}: {error}"
        for key, value in item["stringData"].items():
            if not value.startswith("PLACEHOLDER-"):
                yield f"{SECRETS}: {key} is not a placeholder"
    secrets = {item["metadata"]["name"]: list(item["stringData"]) for item in objects}
    for folder in [KUBERNETES / "base", KUBERNETES / "example"]:
        rendered = subprocess.run([kustomize, "build", folder], capture_output=True, text=True, check=False)
        if rendered.returncode:
            yield f"{folder}: {rendered.stderr.strip()}"
            continue
        for error in Manifests(documents(rendered.stdout), secrets).errors():
            yield f"{folder}: {error}"


def gateway_errors(name, service):
    """The addresses of a gateway in compose.yaml are those of its settings."""
    published = {int(port.split(":")[-1]) for port in service["ports"]}
    host, peer = service["environment"]["LEADGATE__CLUSTER__ADVERTISE"].split(":")
    ports = sorted(published | {int(peer)})
    listen = listen_ports(COMPOSE_CONFIG.read_text(encoding="utf-8"))
    if ports != listen:
        yield f"{COMPOSE}: {name}: uses the ports {ports}, {COMPOSE_CONFIG} listens on {listen}"
    if host != service["networks"]["default"]["ipv4_address"]:
        yield f"{COMPOSE}: {name}: LEADGATE__CLUSTER__ADVERTISE does not name its address"


def compose_errors():
    compose = load(COMPOSE)
    services = compose["services"]
    for name, service in services.items():
        if name.startswith("gateway"):
            yield from gateway_errors(name, service)
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            exists = Path(COMPOSE.parent, source).exists() if source.startswith(".") else source in compose["volumes"]
            if not exists:
                yield f"{COMPOSE}: {name}: there is no volume or file {source}"
        for other in service.get("depends_on", []):
            if other not in services:
                yield f"{COMPOSE}: {name}: depends_on: there is no service {other}"
    targets = [(DATASOURCES, urlsplit(source["url"]).netloc) for source in load(DATASOURCES)["datasources"]]
    for job in load(PROMETHEUS)["scrape_configs"]:
        targets += [(PROMETHEUS, target) for item in job["static_configs"] for target in item["targets"]]
    for file, target in targets:
        name, port = target.split(":")
        ports = [published.split(":")[-1] for published in services.get(name, {}).get("ports", [])]
        if port not in ports:
            yield f"{file}: no service of {COMPOSE} is {target}"
    for rules in load(PROMETHEUS)["rule_files"]:
        if not Path(PROMETHEUS.parent, rules).is_file():
            yield f"{PROMETHEUS}: there is no file {rules}"


def alert_errors():
    """Each alert has a section of its own in the guide, and tests in which it fires and does not fire."""
    headings = re.findall(r"^### (Leadgate\w+)$", GUIDE.read_text(encoding="utf-8"), re.MULTILINE)
    rules = [rule for group in load(ALERTS)["groups"] for rule in group["rules"]]
    names = [rule["alert"] for rule in rules]
    if headings != names:
        yield f"{GUIDE}: has sections for the alerts {headings}, {ALERTS} has {names}"
    for rule in rules:
        if rule["annotations"]["runbook_url"] != f"{RUNBOOKS}/{GUIDE}#{rule['alert'].lower()}":
            yield f"{ALERTS}: {rule['alert']}: runbook_url is not the section of the alert"
    tests = {test["name"]: test["promql_expr_test"] for file in ALERT_TESTS for test in load(file)["tests"]}
    for name in names:
        expression = f'ALERTS{{alertname="{name}",alertstate="firing"}}'
        expected = [bool(test.get("exp_samples")) for test in tests.get(name, []) if test["expr"] == expression]
        if sorted(expected) != [False, True]:
            yield f"{ALERTS}: {name} needs a test in which it does not fire and one in which it fires, with {expression}"


def dashboard_errors():
    """promtool can parse each query of the dashboards."""
    rules = []
    for path in sorted(DASHBOARDS.glob("*.json")):
        for panel in json.loads(path.read_text(encoding="utf-8"))["panels"]:
            for target in panel.get("targets", []):
                query = target["expr"].replace("$__rate_interval", "5m")
                rules.append({"record": "query", "expr": query, "labels": {"panel": f"{path.name}: {panel['title']} {target['refId']}"}})
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        yaml.safe_dump({"groups": [{"name": "dashboards", "rules": rules}]}, file)
        file.flush()
        checked = subprocess.run(["promtool", "check", "rules", file.name], capture_output=True, text=True, check=False)
    if checked.returncode:
        yield f"{DASHBOARDS}: {checked.stderr.strip()}"


def main():
    [kustomize] = sys.argv[1:]
    errors = [*kubernetes_errors(kustomize), *compose_errors(), *alert_errors(), *dashboard_errors()]
    for error in dict.fromkeys(errors):
        print(error, file=sys.stderr)
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main())
