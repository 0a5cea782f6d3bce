#!/usr/bin/env bash
# LEADGATE_BIN=PATH test.sh
#
# Tests the REST listener with real clients and with raw sockets. PYTHON is a Python with the packages of tools/requirements.txt, by default
# that of the repository's .venv. Installs curl, PHP, Ruby and Mono with apt-get, and axios with npm, if they are missing. Needs Go, Java and
# Node.js, too. The compiled clients are in .tools of the repository.
set -euo pipefail

: "${LEADGATE_BIN:?set LEADGATE_BIN to the path of the leadgate program}"
LEADGATE_BIN=$(realpath "$LEADGATE_BIN")
export LEADGATE_BIN
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
python=${PYTHON:-$root/.venv/bin/python}
export CLIENTS_BUILD=$root/.tools/rest-clients

cd "$here/clients"
"$root/tools/install-rest-clients.sh"
if ! cmp -s package-lock.json node_modules/ready; then
    npm ci --no-audit --no-fund
    cp package-lock.json node_modules/ready
fi
mkdir -p "$CLIENTS_BUILD"
unformatted=$(gofmt -l go)
if [ -n "$unformatted" ]; then
    echo "not formatted by gofmt: $unformatted"
    exit 1
fi
(cd go && go vet ./... && go build -o "$CLIENTS_BUILD/go-client" .)
javac -encoding UTF-8 -Xlint:all -Werror -d "$CLIENTS_BUILD/java" java/Clients.java
mcs -warnaserror -out:"$CLIENTS_BUILD/HttpWebRequestClient.exe" HttpWebRequestClient.cs

cd "$here"
LC_ALL=C.UTF-8 "$python" -m unittest --verbose test_transparent test_bytes test_sockets test_clients
