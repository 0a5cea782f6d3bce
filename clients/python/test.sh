#!/usr/bin/env bash
# LEADGATE_BIN=PATH test.sh
#
# Builds the wheel, checks it with ruff and mypy, and runs all tests, also that of examples/python, against the installed wheel: with
# the newest and with the oldest supported versions of grpcio and protobuf, at the same time. The packages are installed into .tools in
# the root of the repository. PYTHON names another interpreter: 3.10 to 3.12.
set -euo pipefail

: "${LEADGATE_BIN:?the path of the binary of leadgate}"
LEADGATE_BIN=$(realpath "$LEADGATE_BIN")
export LEADGATE_BIN
cd "$(dirname "$0")"
root=$(cd ../.. && pwd)

environment() {
    local tools=$root/.tools/python-$1
    if ! cat tests/tools.txt "tests/$1.txt" | cmp -s - "$tools/ready"; then
        echo "== python: packages of tests/$1.txt"
        "$root/tools/python-environment.sh" "$tools" "tests/$1.txt"
        cat tests/tools.txt "tests/$1.txt" > "$tools/ready"
    fi
}

environment newest
environment oldest
newest=$root/.tools/python-newest/bin
oldest=$root/.tools/python-oldest/bin

echo "== python: wheel"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/source"
# A copy, because the build writes into its folder.
tar --create --exclude=__pycache__ --exclude='*.egg-info' pyproject.toml README.md LICENSE src | tar --extract --directory "$work/source"
"$newest/python" -m pip wheel --quiet --no-deps --wheel-dir "$work" "$work/source"
for python in "$newest/python" "$oldest/python"; do
    "$python" -m pip install --quiet --no-deps --force-reinstall "$work"/leadgate-*.whl
    "$python" -m pip check
done

echo "== python: ruff"
"$newest/ruff" check --quiet . ../../examples/python --config pyproject.toml
"$newest/ruff" format --quiet --check . ../../examples/python --config pyproject.toml

echo "== python: mypy"
"$newest/mypy"
"$newest/mypy" --strict ../../examples/python/client.py

versions='import grpc, google.protobuf as p, sys; print(f"== python: tests with grpcio {grpc.__version__}, protobuf {p.__version__}")'
# tests/test_generators.py needs the generators of newest.txt.
(
    "$oldest/python" -c "$versions"
    "$oldest/python" -m pytest -q -n 2 -p no:cacheprovider --ignore tests/test_generators.py
) > "$work/oldest.log" 2>&1 &
job=$!
status=0
"$newest/python" -c "$versions"
"$newest/python" -m pytest -q -n 2 || status=$?
wait "$job" || status=$?
cat "$work/oldest.log"
exit "$status"
