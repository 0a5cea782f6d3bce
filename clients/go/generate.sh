#!/usr/bin/env bash
# Writes leadgatev1/*.pb.go from proto/leadgate/v1. Needs Go and the buf command: BUF is its path.
# Plugins of fixed versions are installed into .tools/go of the repository. They decide the oldest google.golang.org/protobuf
# and google.golang.org/grpc that the generated code compiles with: do not make them newer than go.mod.
set -euo pipefail

PROTOC_GEN_GO=v1.36.6
PROTOC_GEN_GO_GRPC=v1.5.1

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
buf=${BUF:-$root/.venv/bin/buf}
bin=$root/.tools/go/$PROTOC_GEN_GO-$PROTOC_GEN_GO_GRPC

if [ ! -x "$bin/protoc-gen-go-grpc" ]; then
    GOBIN=$bin go install "google.golang.org/protobuf/cmd/protoc-gen-go@$PROTOC_GEN_GO"
    GOBIN=$bin go install "google.golang.org/grpc/cmd/protoc-gen-go-grpc@$PROTOC_GEN_GO_GRPC"
fi

rm -rf "$here/leadgatev1"
cd "$root"
"$buf" generate proto --template "{
    \"version\": \"v2\",
    \"plugins\": [
        {\"local\": \"$bin/protoc-gen-go\", \"out\": \"$here\", \"opt\": \"module=leadgate.example/go\"},
        {\"local\": \"$bin/protoc-gen-go-grpc\", \"out\": \"$here\", \"opt\": \"module=leadgate.example/go\"}
    ]
}"
