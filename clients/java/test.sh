#!/usr/bin/env bash
# Builds the Java client and its example, and runs their tests. LEADGATE_BIN names the leadgate binary (default: leadgate on the PATH).
set -euo pipefail
cd "$(dirname "$0")/../.."

step() { echo "== java: $*"; }
maven() { mvn --quiet --batch-mode -Dstyle.color=never --no-transfer-progress "$@"; }

step "compile with lint, run all tests, install into the local Maven repository"
maven --file clients/java/pom.xml install
for versions in oldest newest; do
    step "the same classes with the $versions supported gRPC and protobuf"
    maven --file clients/java/pom.xml -P$versions '-Dtest=LayerTest,RetryTest,StreamTest,DemoTest' surefire:test
done
step "the example"
maven --file examples/java/pom.xml verify
step "all tests have passed"
