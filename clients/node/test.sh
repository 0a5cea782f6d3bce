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

echo "== the packed package with the oldest versions of its dependencies"
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
npm pack --silent --pack-destination "$folder"
oldest=$(node -p 'Object.entries(require("./package.json").dependencies).map(([name, range]) => name + "@" + range.slice(1)).join(" ")')
cp test/one-call.mjs "$folder"
cd "$folder"
# shellcheck disable=SC2086
npm install --silent --no-audit --no-fund ./leadgate-*.tgz $oldest
node one-call.mjs
