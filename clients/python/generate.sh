#!/usr/bin/env bash
# generate.sh
#
# Generates src/leadgate/v1, src/leadgate/_services.py and src/leadgate/_aio_services.py from proto/leadgate/v1. A second run changes
# nothing. The plugins of generate.txt are installed into .tools/python-generate in the root of the repository. They need Python
# 3.10 to 3.12; PYTHON names another interpreter.
set -euo pipefail

cd "$(dirname "$0")"
root=$(cd ../.. && pwd)
tools=$root/.tools/python-generate
if ! cmp -s generate.txt "$tools/ready"; then
    "$root/tools/python-environment.sh" "$tools" generate.txt
    cp generate.txt "$tools/ready"
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/leadgate"
(
    cd "$root/proto"
    # The messages of Google are those of googleapis-common-protos.
    "$tools/bin/python" -W ignore -m grpc_tools.protoc -I . -I "$root/third_party/googleapis" \
        --plugin=protoc-gen-mypy="$tools/bin/protoc-gen-mypy" --plugin=protoc-gen-mypy_grpc="$tools/bin/protoc-gen-mypy_grpc" \
        --python_out="$work" --grpc_python_out="$work" --mypy_out=quiet:"$work" --mypy_grpc_out=quiet:"$work" \
        --include_source_info --descriptor_set_out="$work/descriptors.pb" leadgate/v1/*.proto
)
# Files without a service have an empty module.
for module in "$work"/leadgate/v1/*_pb2_grpc.py; do
    grep -q Stub "$module" || rm "$module" "${module}i"
done
"$tools/bin/python" generate_services.py "$work/descriptors.pb" "$work/leadgate"
"$tools/bin/ruff" format --quiet --config pyproject.toml "$work"/leadgate/*.py
rm -rf src/leadgate/v1
mv "$work/leadgate/v1" src/leadgate/v1
mv "$work"/leadgate/*.py src/leadgate/
