#!/usr/bin/env bash
# python-environment.sh DIRECTORY REQUIREMENTS...
#
# Creates a Python environment in DIRECTORY and installs the packages of the requirements files. Debian has a part of Python's
# venv module in the package python3-venv. Without that package, the pip of the system fills the environment. Without pip as
# well, the script installs the package if it runs as root, and fails with a message otherwise.
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
            echo "$python cannot create an environment: install the package python3-venv" >&2
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
