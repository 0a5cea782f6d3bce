#!/usr/bin/env bash
# python-environment.sh DIRECTORY REQUIREMENTS...
#
# Makes a Python environment in DIRECTORY and installs the packages of the requirements files. Debian keeps a part of
# Python's venv module in a package of its own (python3-venv). Without it, the system's pip fills the environment; without
# that too, root installs the package, and anybody else is told to.
set -euo pipefail

directory=$1
shift
python=${PYTHON:-python3}

make_environment() {
    rm -rf "$directory"
    "$python" -m venv "$@" "$directory" >/dev/null 2>&1
}

pip=("$directory/bin/python" -m pip)
if ! make_environment; then
    pip=("$python" -m pip --python "$directory/bin/python")
    if ! make_environment --without-pip || ! "${pip[@]}" list >/dev/null 2>&1; then
        if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
            echo "$python cannot make an environment: install the package python3-venv" >&2
            exit 1
        fi
        echo "installing the package python3-venv"
        apt-get update -qq
        DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends python3-venv
        pip=("$directory/bin/python" -m pip)
        make_environment
    fi
fi

requirements=()
for file in "$@"; do
    requirements+=(--requirement "$file")
done
"${pip[@]}" install --quiet --disable-pip-version-check --no-input --only-binary :all: "${requirements[@]}"
