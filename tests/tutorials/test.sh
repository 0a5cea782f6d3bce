#!/usr/bin/env bash
# LEADGATE_BIN=PATH test.sh [PAGE...]
#
# Runs the commands of the pages in docs/tutorials, or of the pages that are named. The Python package of clients/python, its
# dependencies and pytest are installed into .tools in the root of the repository. Needs curl, too.
set -euo pipefail

: "${LEADGATE_BIN:?the path of the binary of leadgate}"
LEADGATE_BIN=$(realpath "$LEADGATE_BIN")
export LEADGATE_BIN
folder=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$folder/../.." && pwd)
tools=$root/.tools/python-tutorials

if ! cmp -s "$folder/requirements.txt" "$tools/ready"; then
    echo "== tutorials: Python packages"
    "$root/tools/python-environment.sh" "$tools" "$folder/requirements.txt"
    cp "$folder/requirements.txt" "$tools/ready"
fi
# A copy, because the build writes into its folder.
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
tar --create --directory "$root/clients/python" --exclude=__pycache__ --exclude='*.egg-info' pyproject.toml README.md LICENSE src \
    | tar --extract --directory "$work"
"$tools/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --force-reinstall "$work"

PATH="$tools/bin:$PATH" "$tools/bin/python" "$folder/run.py" "$@"
