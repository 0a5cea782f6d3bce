#!/usr/bin/env bash
# install-postgres.sh
#
# Installs the programs of PostgreSQL and PgBouncer that the tests start, with apt-get, if they are missing. The tests use no system
# service: the packages create and start none.
set -euo pipefail

has_programs() {
    { command -v initdb || compgen -G '/usr/lib/postgresql/*/bin/initdb'; } >/dev/null &&
        PATH=$PATH:/usr/sbin command -v pgbouncer >/dev/null
}

if has_programs; then
    exit 0
fi
if ! command -v apt-get >/dev/null; then
    echo "install-postgres.sh: install PostgreSQL 13 or newer and PgBouncer: there is no apt-get" >&2
    exit 1
fi
sudo=()
if [ "$(id -u)" != 0 ]; then
    sudo=(sudo)
fi

# Without this file, the package creates a cluster in /var/lib/postgresql and starts it.
if [ ! -e /etc/postgresql-common/createcluster.conf ]; then
    "${sudo[@]}" mkdir -p /etc/postgresql-common
    echo 'create_main_cluster = false' | "${sudo[@]}" tee /etc/postgresql-common/createcluster.conf >/dev/null
fi
"$(dirname "$0")"/apt-install.sh postgresql postgresql-contrib pgbouncer
has_programs
