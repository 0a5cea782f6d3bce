#!/bin/sh
# Generates src/gen from the contract. BUF: the buf CLI, by default that of the repository's .venv.
set -eu
cd "$(dirname "$0")"
buf=${BUF:-../../.venv/bin/buf}
if [ ! -x node_modules/.bin/protoc-gen-es ]; then
    npm ci --no-audit --no-fund --ignore-scripts
fi
"$buf" generate
