#!/usr/bin/env bash
# Calls leadgate as HTTP and JSON, through grpc-gateway. Needs Go and the buf command: BUF is its path. LEADGATE_BIN is the path of
# the leadgate program. The plugin is installed into .tools of the repository, and writes the gateway into gen.
set -euo pipefail

: "${LEADGATE_BIN:?set LEADGATE_BIN to the path of the leadgate program}"
LEADGATE_BIN=$(realpath "$LEADGATE_BIN")
export LEADGATE_BIN
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
buf=${BUF:-$root/.venv/bin/buf}
bin=$root/.tools/go/bin

cd "$here"
# go.mod has the version of the plugin, which is that of the library.
GOBIN=$bin go install -mod=readonly tool
rm -rf gen
(cd "$root" && "$buf" generate proto --template "{
    \"version\": \"v2\",
    \"plugins\": [{\"local\": \"$bin/protoc-gen-grpc-gateway\", \"out\": \"$here/gen\", \"opt\": [\"module=leadgate.example/go\", \"standalone=true\"]}]
}")

unformatted=$(gofmt -l ./*.go)
if [ -n "$unformatted" ]; then
    echo "not formatted by gofmt: $unformatted"
    exit 1
fi
go mod verify >/dev/null
go vet -mod=readonly ./...
# -count=1: the tests run processes that the cache does not know.
go test -mod=readonly -count=1 -parallel=8 -timeout=5m ./...
