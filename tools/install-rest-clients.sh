#!/usr/bin/env bash
# install-rest-clients.sh
#
# Installs the HTTP clients that the tests of the REST listener use: curl, PHP with its curl extension, Ruby with Faraday and HTTParty, and
# Mono with its C# compiler, with apt-get, if they are missing.
set -euo pipefail

packages=()
command -v curl >/dev/null || packages+=(curl)
php -r 'exit(function_exists("curl_init") ? 0 : 1);' 2>/dev/null || packages+=(php-cli php-curl)
ruby -e 'require "faraday"; require "httparty"' 2>/dev/null || packages+=(ruby-faraday ruby-httparty)
{ command -v mcs && command -v mono; } >/dev/null || packages+=(mono-mcs mono-runtime)
if ((${#packages[@]} == 0)); then
    exit 0
fi
if ! command -v apt-get >/dev/null; then
    echo "install-rest-clients.sh: install ${packages[*]}: there is no apt-get" >&2
    exit 1
fi
"$(dirname "$0")"/apt-install.sh "${packages[@]}"
