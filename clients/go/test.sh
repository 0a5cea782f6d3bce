#!/usr/bin/env bash
# Checks and tests the Go client and its example. LEADGATE_BIN is the path of the leadgate program.
# The oldest Go, that of go.mod, compiles everything. GOTOOLCHAIN=go1.23.12 also runs the tests with that release.
set -euo pipefail

: "${LEADGATE_BIN:?set LEADGATE_BIN to the path of the leadgate program}"
LEADGATE_BIN=$(realpath "$LEADGATE_BIN")
export LEADGATE_BIN
here=$(cd "$(dirname "$0")" && pwd)

# Race detection needs a C compiler.
race=()
if [ "$(go env CGO_ENABLED)" = 1 ] && command -v "$(go env CC)" >/dev/null; then
    race=(-race)
fi

for folder in "$here" "$here/../../examples/go"; do
    cd "$folder"
    echo "== ${PWD#"$(dirname "$(dirname "$here")")"/}: $(go env GOVERSION), gofmt, vet, test ${race[*]}"
    unformatted=$(gofmt -l .)
    if [ -n "$unformatted" ]; then
        echo "not formatted by gofmt: $unformatted"
        exit 1
    fi
    go mod verify >/dev/null
    # `go` downloads this toolchain as a module.
    oldest=go$(awk '$1 == "go" { print $2 }' go.mod)
    GOTOOLCHAIN=$oldest go build -mod=readonly -o /dev/null ./...
    GOTOOLCHAIN=$oldest go vet -mod=readonly ./...
    go vet -mod=readonly ./...
    # Most tests wait for the network. -count=1: the tests run processes that the cache does not know.
    go test -mod=readonly -count=1 -parallel=8 -timeout=5m "${race[@]}" ./...
done
