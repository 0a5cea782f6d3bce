#!/usr/bin/env bash
# install-promtool.sh
#
# Installs promtool, which tests the alerts, with apt-get, if it is missing. It is in the package of the Prometheus server, which is not
# started.
set -euo pipefail

if command -v promtool >/dev/null; then
    exit 0
fi
if ! command -v apt-get >/dev/null; then
    echo "install-promtool.sh: install promtool 2.40 or newer (part of Prometheus): there is no apt-get" >&2
    exit 1
fi
sudo=()
if [ "$(id -u)" != 0 ]; then
    sudo=(sudo)
fi

# Without this file, the package starts the server. An existing policy is kept.
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
    printf '#!/bin/sh\nexit 101\n' | "${sudo[@]}" tee $policy >/dev/null
    "${sudo[@]}" chmod +x $policy
    trap '"${sudo[@]}" rm -f $policy' EXIT
fi
"${sudo[@]}" apt-get update --quiet
DEBIAN_FRONTEND=noninteractive "${sudo[@]}" apt-get install --quiet --yes --no-install-recommends prometheus
command -v promtool
