#!/usr/bin/env bash
# install-chromium.sh
#
# Installs Chromium, in which the tests of the status page run, with apt-get, if neither it nor Chrome is installed. The variable CHROMIUM
# names another binary.
set -euo pipefail

has_browser() {
    command -v "${CHROMIUM:-chromium}" || command -v chromium-browser || command -v google-chrome
}

if has_browser >/dev/null; then
    exit 0
fi
if ! command -v apt-get >/dev/null; then
    echo "install-chromium.sh: install Chromium: there is no apt-get" >&2
    exit 1
fi
"$(dirname "$0")"/apt-install.sh chromium fonts-dejavu-core
has_browser
