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
"$(dirname "$0")"/apt-install.sh prometheus
command -v promtool
