#!/bin/sh
# Builds, type-checks and tests the package and examples/node. LEADGATE_BIN: the leadgate binary, by default `leadgate` on PATH.
# BUF: the buf CLI, by default that of the repository's .venv.
set -eu
cd "$(dirname "$0")"
LEADGATE_BIN=$(command -v "${LEADGATE_BIN:-leadgate}") || { echo "set LEADGATE_BIN to the leadgate binary" >&2; exit 1; }
export LEADGATE_BIN
for folder in . ../../examples/node; do
    echo "== $folder: npm ci, npm test"
    (cd "$folder" && npm ci --no-audit --no-fund && npm test)
done
