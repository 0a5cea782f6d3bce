#!/usr/bin/env bash
# Builds the Java client and its example, and runs their tests. LEADGATE_BIN names the leadgate binary (default: leadgate on the PATH).
set -euo pipefail
cd "$(dirname "$0")/../.."

step() { echo "== java: $*"; }
maven() { mvn --quiet --batch-mode --no-transfer-progress "$@"; }

step "compile with lint, tests with the newest supported gRPC and protobuf, install into the local Maven repository"
maven --file clients/java/pom.xml install
step "the same classes and tests with the oldest supported gRPC and protobuf"
maven --file clients/java/pom.xml -Poldest '-Dtest=!KeepAliveTest' surefire:test
step "the example"
maven --file examples/java/pom.xml verify
step "all tests have passed"
