# shellcheck shell=bash
# Functions for the tests of the packages. Source this file.

fail() {
    echo "$0: $*" >&2
    exit 1
}

# The next ports that are free.
free_ports() {
    "${PYTHON:-python3}" - "$1" <<'END'
import socket, sys
sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(int(sys.argv[1]))]
print(*(server.getsockname()[1] for server in sockets))
END
}

# wait_until SECONDS COMMAND...: repeats a command until it succeeds.
wait_until() {
    local end=$((SECONDS + $1))
    shift
    until "$@"; do
        ((SECONDS < end)) || return 1
        sleep 0.1
    done
}

# The keys of the simulator.
# shellcheck disable=SC2016,SC2034
ACCESS_KEY='u$rSimulatorAccessKey' SECRET_KEY=simulator-secret-key

# gateway_settings GRPC ADMIN LEADSQUARED STORE KEYS: the settings of a gateway with these ports, this store and this folder of keys.
gateway_settings() {
    cat <<END
[server]
listen = "127.0.0.1:$1"
[admin]
listen = "127.0.0.1:$2"
[store]
url = "sqlite://$4"
[tenants.acme]
base_url = "http://127.0.0.1:$3"
insecure_plaintext = true
access_key = { file = "$5/acme-access-key" }
secret_key = { file = "$5/acme-secret-key" }
[tenants.acme.upstream]
allow_private_addresses = true
END
}
