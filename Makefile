# `make help` lists the targets. They need cargo, gcc, make, git, Python 3.10 or newer, Go 1.25 or newer, Java 17 or newer with Maven, and
# Node.js 20 or newer with npm. All other tools are installed into .venv, .tools and the node_modules of packages, in fixed versions, from the
# package registries.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
# Targets run one after the other: each one uses all cores, and the output stays readable.
.NOTPARALLEL:

PYTHON ?= python3
CARGO_DENY := 0.20.2
CARGO_CYCLONEDX := 0.5.9
KUSTOMIZE := 5.8.1
# The tools whose recipes are in docs/tools.md, which names these versions, too.
GRPC_TOOLS := github.com/fullstorydev/grpcurl/cmd/grpcurl@v1.9.4 github.com/bojand/ghz/cmd/ghz@v0.120.0 \
    github.com/grpc-ecosystem/grpc-health-probe@v0.4.52

TARGET := $(or $(CARGO_TARGET_DIR),target)
# The binary with all optimizations, for this machine.
DIST_BIN := $(TARGET)/dist/leadgate
# The binary that the client tests, the incidents, the browser tests, `make hostile` and `make hostile-rest` run.
LEADGATE_BIN ?= $(DIST_BIN)
INCIDENTS := $(sort $(filter-out %/incident.py,$(wildcard examples/incidents/*.py)))
REQUIREMENTS := tools/requirements.txt examples/incidents/requirements.txt
# The folders of the client packages, with generate.sh and test.sh.
CLIENTS := $(sort $(dir $(wildcard clients/*/test.sh)))
PYTHON_READY := .venv/ready
DENY_READY := .tools/cargo-deny-$(CARGO_DENY)
# The oldest glibc that the binary of a release runs with.
GLIBC := 2.28
VERSION := $(shell sed -n 's/^version = "\(.*\)"$$/\1/p' Cargo.toml | head -n 1)
ARCHIVE := leadgate-$(VERSION)-x86_64-linux
ZIG_READY := .tools/zig/ready
CYCLONEDX_READY := .tools/cargo-cyclonedx-$(CARGO_CYCLONEDX)
KUSTOMIZE_READY := .tools/kustomize-$(KUSTOMIZE)
GRPC_TOOLS_READY := .tools/grpc-tools-$(firstword $(shell echo "$(GRPC_TOOLS)" | cksum))
BROWSER_READY := tests/browser/node_modules/ready
# The name that cargo-deny gives to its copy of the RustSec database, in the folder of deny.toml.
ADVISORY_COPY := .tools/advisory-dbs/advisory-db-3157b0e258782691
BIN := .venv/bin
JSONSCHEMA := $(BIN)/check-jsonschema
SCRIPTS := .ci/run $(wildcard tools/*.sh clients/*/*.sh tests/*/*.sh tests/rest/clients/*.sh) $(addprefix deploy/debian/,postinst prerm postrm)

.PHONY: help
help: ## Lists the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: test
test: announce tools lint unit crash release-binary client-test transcoder-test rest-test tools-test tutorials-test incidents browser-test ## Runs all checks and tests of CI
	@echo
	@echo "make test: lint, unit, crash, release-binary, client-test, transcoder-test, rest-test, tools-test, tutorials-test, incidents and browser-test have all passed"

.PHONY: announce
announce:
	@echo "make test installs the Python packages of $(REQUIREMENTS) into .venv"
	@echo "and cargo-deny $(CARGO_DENY), kustomize $(KUSTOMIZE), grpcurl, ghz and grpc-health-probe into .tools, if they are missing, packages of npm into tests/browser and tests/rest/clients,"
	@echo "and PostgreSQL, PgBouncer, Prometheus, Chromium, curl, PHP, Ruby and Mono with apt-get."
	@echo "Then it runs lint, unit, crash, release-binary, client-test, transcoder-test, rest-test, tools-test, tutorials-test, incidents and browser-test. The first run takes more than half an hour on two cores."

.PHONY: tools
tools: $(PYTHON_READY) $(DENY_READY) $(KUSTOMIZE_READY) $(GRPC_TOOLS_READY) $(BROWSER_READY) postgres promtool chromium rest-clients ## Installs the linters, the packages of the client and browser tests, PostgreSQL, promtool, Chromium, and clients of HTTP

.PHONY: postgres
postgres:
	@tools/install-postgres.sh

.PHONY: promtool
promtool:
	@tools/install-promtool.sh

.PHONY: chromium
chromium:
	@tools/install-chromium.sh

.PHONY: rest-clients
rest-clients:
	@tools/install-rest-clients.sh

$(PYTHON_READY): $(REQUIREMENTS) tools/python-environment.sh
	@echo "== tools: Python packages"
	PYTHON=$(PYTHON) tools/python-environment.sh .venv $(REQUIREMENTS)
	@touch $@

$(DENY_READY):
	@echo "== tools: cargo-deny $(CARGO_DENY)"
	@mkdir -p .tools
	cargo install cargo-deny --locked --version $(CARGO_DENY) --root .tools
	@touch $@

$(KUSTOMIZE_READY):
	@echo "== tools: kustomize $(KUSTOMIZE)"
	@mkdir -p .tools/bin
	GOBIN="$(abspath .tools/bin)" go install sigs.k8s.io/kustomize/kustomize/v5@v$(KUSTOMIZE)
	@touch $@

$(ZIG_READY): tools/requirements-release.txt tools/python-environment.sh
	@echo "== tools: zig and cargo-zigbuild"
	PYTHON=$(PYTHON) tools/python-environment.sh .tools/zig tools/requirements-release.txt
	@touch $@

$(GRPC_TOOLS_READY):
	@echo "== tools: $(GRPC_TOOLS)"
	@mkdir -p .tools/bin
	for tool in $(GRPC_TOOLS); do GOBIN="$(abspath .tools/bin)" go install "$$tool"; done
	@touch $@

$(CYCLONEDX_READY):
	@echo "== tools: cargo-cyclonedx $(CARGO_CYCLONEDX)"
	@mkdir -p .tools
	cargo install cargo-cyclonedx --locked --version $(CARGO_CYCLONEDX) --root .tools
	@touch $@

$(BROWSER_READY): tests/browser/package.json tests/browser/package-lock.json
	@echo "== tools: packages of the browser tests"
	npm ci --prefix tests/browser --no-audit --no-fund
	@touch $@

.PHONY: lint
lint: lint-text lint-proto lint-deploy lint-rust ## Checks formats, spelling, links, protobuf, scripts, deployment files, dependencies and the Rust code

.PHONY: lint-text
lint-text: $(PYTHON_READY)
	@echo "== lint: spelling, links, TOML, scripts, Dockerfile"
	$(BIN)/typos
	$(BIN)/python tools/check-docs.py
	RUST_LOG=warn $(BIN)/taplo fmt --check
	$(BIN)/shellcheck $(SCRIPTS)
	$(BIN)/hadolint Dockerfile

.PHONY: lint-proto
lint-proto: $(PYTHON_READY)
	@echo "== lint: protobuf"
	$(BIN)/buf lint
	$(BIN)/buf format --diff --exit-code --path proto/leadgate
	$(BIN)/python tools/api.py $(BIN)/buf --check
	@mkdir -p $(TARGET)
	$(BIN)/buf build --output $(TARGET)/contract.binpb
	$(BIN)/buf breaking $(TARGET)/contract.binpb --path leadgate --against "$(lastword $(shell ls proto/released/v*.binpb | sort --version-sort))"

.PHONY: api
api: $(PYTHON_READY) ## Writes docs/api.md from the comments of the contract
	$(BIN)/python tools/api.py $(BIN)/buf

.PHONY: lint-deploy
lint-deploy: $(PYTHON_READY) $(KUSTOMIZE_READY) promtool
	@echo "== lint: deployment files"
	$(JSONSCHEMA) --builtin-schema vendor.compose-spec deploy/compose.yaml
	$(JSONSCHEMA) --schemafile tools/schemas/prometheus.json deploy/prometheus/prometheus.yaml
	$(JSONSCHEMA) --schemafile tools/schemas/prometheus-rules.json deploy/prometheus/alerts.yaml
	$(JSONSCHEMA) --schemafile tools/schemas/grafana-datasources.json deploy/grafana/datasources/*.yaml
	$(JSONSCHEMA) --schemafile tools/schemas/grafana-dashboards.json deploy/grafana/dashboards/*.yaml
	$(JSONSCHEMA) --schemafile tools/schemas/grafana-dashboard.json deploy/grafana/dashboards/*.json
	$(BIN)/python tools/dashboards.py --check
	promtool check rules deploy/prometheus/alerts.yaml
	promtool test rules deploy/prometheus/*_test.yaml
	$(BIN)/python tools/check-deploy.py .tools/bin/kustomize

# `cargo check` checks a gateway without the simulator.
.PHONY: lint-rust
lint-rust: $(DENY_READY)
	@echo "== lint: Rust"
	cargo fmt --all --check
	cargo fmt --manifest-path fuzz/Cargo.toml --check
	cargo clippy --locked --all-targets -- -D warnings
	cargo check --locked --package leadgate --no-default-features
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps
	.tools/bin/cargo-deny --locked check --hide-inclusion-graph bans licenses sources

.PHONY: unit
unit: postgres ## Runs the Rust tests: unit tests, and whole processes over real sockets
	@echo "== unit: the Rust tests"
	cargo test --locked

.PHONY: postgres-versions
postgres-versions: postgres ## Runs the tests of the store with the oldest supported PostgreSQL and a newer one, from npm
	@echo "== postgres-versions: the store with other versions of PostgreSQL"
	tools/postgres-versions.sh

.PHONY: hostile
hostile: release-binary ## Measures what hostile clients cost a good one, in a quarter of an hour (LEADGATE_HOSTILE_ATTACK=GzipBomb: only this attack)
	@echo "== hostile: a good client is served beside hostile ones, and they cost no memory"
	LEADGATE_BIN="$(abspath $(LEADGATE_BIN))" cargo test --locked --test hostile hostile_clients -- --nocapture

.PHONY: hostile-rest
hostile-rest: release-binary ## Measures what bad requests to the REST listener cost good clients, in less than half an hour (LEADGATE_HOSTILE_ATTACK="no keys": only this input)
	@echo "== hostile-rest: good clients are served beside bad requests, which cost no memory and no slots"
	LEADGATE_BIN="$(abspath $(LEADGATE_BIN))" cargo test --locked --test hostile rest:: -- --nocapture

.PHONY: crash
crash: ## Kills processes and connections during mutations, and compares (LEADGATE_CRASH_SECONDS=3600: one hour)
	@echo "== crash: each acknowledged mutation has exactly one effect"
	cargo test --locked --test crash -- --nocapture

.PHONY: fuzz
fuzz: ## Runs each fuzz target (LEADGATE_FUZZ_SECONDS=600: ten minutes each; FUZZ_TARGETS="settings" names some)
	tools/fuzz.sh $(FUZZ_TARGETS)

.PHONY: release-binary
release-binary: ## Builds the binary with all optimizations for this machine, target/dist/leadgate, and checks the libraries that it needs
	@echo "== release-binary: the binary with all optimizations"
	cargo build --profile dist --locked --bin leadgate
	tools/check-binary.sh $(DIST_BIN)

.PHONY: clients
clients: $(PYTHON_READY) ## Writes the generated code of the client packages
	@for folder in $(CLIENTS); do \
	    echo "== clients: $$folder"; \
	    BUF="$(abspath $(BIN)/buf)" "$$folder"generate.sh; \
	done

# `make release-test` needs root.
.PHONY: release
release: $(PYTHON_READY) $(ZIG_READY) $(CYCLONEDX_READY) contract ## Writes the archive, the Debian package, the SBOM and the checksums of a release to dist
	@echo "== release: leadgate $(VERSION) for Linux on x86-64 with glibc $(GLIBC)"
	binary="$$(tools/release-binary.sh .tools/zig $(GLIBC))"; \
	tools/check-binary.sh "$$binary" $(GLIBC); \
	PYTHON=$(PYTHON) tools/package.sh "$$binary" .tools/zig .tools/bin/cargo-cyclonedx $(GLIBC)

.PHONY: contract
contract: $(PYTHON_READY) ## Writes the contract of this version to proto/released; lint-proto compares later versions with it
	@echo "== contract: proto/released/v$(VERSION).binpb"
	$(BIN)/buf build --exclude-source-info --output proto/released/v$(VERSION).binpb

.PHONY: release-test
release-test: deb-test image-test ## Tests the Debian package and the image of make release; needs root

.PHONY: deb-test
deb-test: ## Installs, updates and removes the Debian package of make release in a small Debian; needs root
	@echo "== deb-test: the Debian package"
	tools/install-debootstrap.sh
	tests/release/deb.sh dist/leadgate_$(VERSION)_amd64.deb

.PHONY: image-test
image-test: ## Builds the image from the archive of make release, and runs it; needs root
	@echo "== image-test: the image"
	tools/install-debootstrap.sh
	tests/release/image.sh dist/$(ARCHIVE)

.PHONY: client-test
client-test: clients test-binary ## Tests the client packages and their examples against real processes (LEADGATE_BIN names another binary)
	@git diff --exit-code -- clients && test -z "$$(git ls-files --others --exclude-standard -- clients)" || { echo "the generated code is not up to date: run make clients and commit the result"; exit 1; }
	@for folder in $(CLIENTS); do \
	    echo "== client-test: $$folder"; \
	    LEADGATE_BIN="$(abspath $(LEADGATE_BIN))" "$$folder"test.sh; \
	done

.PHONY: transcoder-test
transcoder-test: $(PYTHON_READY) test-binary ## Tests the HTTP bindings of the contract with grpc-gateway (LEADGATE_BIN names another binary)
	@echo "== transcoder-test: the HTTP bindings of the contract"
	BUF="$(abspath $(BIN)/buf)" LEADGATE_BIN="$(abspath $(LEADGATE_BIN))" tests/transcoder/test.sh

.PHONY: rest-test
rest-test: $(PYTHON_READY) rest-clients test-binary ## Tests the REST listener with the HTTP clients of other languages, and with raw sockets (LEADGATE_BIN names another binary)
	@echo "== rest-test: real clients of the REST API"
	PYTHON="$(abspath $(BIN)/python)" LEADGATE_BIN="$(abspath $(LEADGATE_BIN))" tests/rest/test.sh

.PHONY: bench-calling
bench-calling: $(PYTHON_READY) test-binary ## Measures deadlines and retries of a caller, and writes docs/benchmarks/calling.md
	LEADGATE_BIN="$(abspath $(LEADGATE_BIN))" $(BIN)/python benches/calling/calling.py --write docs/benchmarks

.PHONY: tools-install
tools-install: $(GRPC_TOOLS_READY) ## Installs grpcurl, ghz and grpc-health-probe into .tools/bin

.PHONY: tools-test
tools-test: $(PYTHON_READY) $(GRPC_TOOLS_READY) test-binary ## Runs the recipes of docs/tools.md with the tools themselves (LEADGATE_BIN names another binary)
	@echo "== tools-test: the recipes of docs/tools.md"
	LEADGATE_BIN="$(abspath $(LEADGATE_BIN))" $(BIN)/python tests/tools.py

.PHONY: tutorials-test
tutorials-test: test-binary ## Runs the commands of the tutorials (LEADGATE_BIN names another binary)
	@echo "== tutorials-test: the commands of docs/tutorials"
	LEADGATE_BIN="$(abspath $(LEADGATE_BIN))" tests/tutorials/test.sh

.PHONY: incidents
incidents: $(PYTHON_READY) postgres test-binary ## Reproduces the incidents of docs/incidents.md (LEADGATE_BIN names another binary)
	@for script in $(INCIDENTS); do \
	    echo "== incidents: $$script"; \
	    LEADGATE_BIN="$(abspath $(LEADGATE_BIN))" $(BIN)/python "$$script"; \
	done

# Builds the binary that is shipped, unless LEADGATE_BIN names another one.
.PHONY: test-binary
test-binary:
ifeq ($(LEADGATE_BIN), $(DIST_BIN))
	cargo build --profile dist --locked --bin leadgate
endif

.PHONY: browser-test
browser-test: chromium $(PYTHON_READY) $(BROWSER_READY) test-binary ## Tests the status page, and pages that call RPCs and the REST listener, in headless Chromium (LEADGATE_BIN names another binary)
	@echo "== browser-test: the status page, gRPC-Web and CORS in a browser"
	LEADGATE_BIN="$(abspath $(LEADGATE_BIN))" npm --prefix tests/browser test

.PHONY: screenshots
screenshots: chromium $(BROWSER_READY) test-binary ## Writes the screenshots of the status page to docs/images
	LEADGATE_BIN="$(abspath $(LEADGATE_BIN))" npm --prefix tests/browser run screenshots

.PHONY: advisories
advisories: $(DENY_READY) ## Checks the dependencies against the RustSec database (ADVISORY_DB=PATH: a clone of it, without the network)
	@echo "== advisories: dependencies with known vulnerabilities"
ifdef ADVISORY_DB
	mkdir -p $(dir $(ADVISORY_COPY))
	rm -rf $(ADVISORY_COPY)
	trap 'rm -f $(ADVISORY_COPY)' EXIT; \
	ln -s "$(abspath $(ADVISORY_DB))" $(ADVISORY_COPY); \
	.tools/bin/cargo-deny --locked --offline check --hide-inclusion-graph advisories
else
	.tools/bin/cargo-deny --locked check --hide-inclusion-graph advisories
endif

.PHONY: sbom
sbom: $(CYCLONEDX_READY) ## Writes the packages of the shipped binary to target/leadgate.cdx.json, in CycloneDX form
	@echo "== sbom: the packages of the shipped binary"
	$(PYTHON) tools/sbom.py .tools/bin/cargo-cyclonedx $(TARGET)/leadgate.cdx.json

.PHONY: demo
demo: ## Runs a gateway with a simulated LeadSquared; needs no account
	cargo run --release --locked -- demo

.PHONY: first-run
first-run: ## Measures the build time of the first cargo run --release
	tools/first-run.sh

.PHONY: clean
clean: ## Removes all build results and installed tools
	cargo clean
	rm -rf .venv .tools dist tests/browser/node_modules tests/rest/clients/node_modules tests/transcoder/gen
