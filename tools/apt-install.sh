#!/usr/bin/env bash
# apt-install.sh PACKAGE...
#
# Installs Debian packages with apt-get, for the scripts install-*.sh. Packages with a service do not start it.
set -euo pipefail

sudo=()
if [ "$(id -u)" != 0 ]; then
    sudo=(sudo)
fi
# An existing policy is kept.
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
    printf '#!/bin/sh\nexit 101\n' | "${sudo[@]}" tee $policy >/dev/null
    "${sudo[@]}" chmod +x $policy
    trap '"${sudo[@]}" rm -f $policy' EXIT
fi
"${sudo[@]}" apt-get update --quiet
DEBIAN_FRONTEND=noninteractive "${sudo[@]}" apt-get install --quiet --yes --no-install-recommends "$@"
