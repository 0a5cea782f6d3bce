#!/usr/bin/env bash
# install-debootstrap.sh
#
# Installs what the tests of the Debian package and of the image need, debootstrap, buildah and systemd-analyze, with apt-get, if they are
# missing.
set -euo pipefail

packages=()
command -v debootstrap >/dev/null || packages+=(debootstrap)
command -v buildah >/dev/null || packages+=(buildah)
command -v systemd-analyze >/dev/null || packages+=(systemd)
if ((${#packages[@]} == 0)); then
    exit 0
fi
if ! command -v apt-get >/dev/null; then
    echo "install-debootstrap.sh: install ${packages[*]}: there is no apt-get" >&2
    exit 1
fi
"$(dirname "$0")"/apt-install.sh "${packages[@]}"
