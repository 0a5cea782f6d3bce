#!/usr/bin/env bash
# deb.sh PACKAGE
#
# Installs the Debian package into a small Debian 12, runs the gateway with the settings of the package, and updates, removes and purges the
# package. Checks the unit with systemd-analyze. systemd itself does not run. Needs root, debootstrap and systemd-analyze.
set -euo pipefail

package=$(realpath "$1")
cd "$(dirname "$0")"
# shellcheck source=tests/release/gateway.sh
. ./gateway.sh
# The maximum of `systemd-analyze security`, times 10. The unit has 1.2.
exposure=13

root=$(mktemp -d)
processes=()
clean_up() {
    ((${#processes[@]} == 0)) || kill "${processes[@]}" 2>/dev/null || true
    wait
    rm -rf --one-file-system "$root" "$root".*
}
trap clean_up EXIT
./debian.sh "$root"
as_root=(chroot "$root" env --ignore-environment PATH=/usr/sbin:/usr/bin:/sbin:/bin)
as_service=("${as_root[@]}" setpriv --reuid leadgate --regid leadgate --init-groups)
within() {
    "${as_root[@]}" "$@"
}
has_mode() {
    local found
    found=$(within stat --format '%a %U:%G' "$1")
    [ "$found" = "$2" ] || fail "$1 has $found, not $2"
}
# The files of the system, without what dpkg and useradd keep about the package and its user.
files() {
    within find / -xdev -not -path '/var/lib/dpkg/*' -not -path '/var/log/*' -not -path '/var/cache/*' -not -path '/etc/*-' \
        -not -path '/etc/.pwd.lock' | sort
}

files >"$root.before"
echo "== installation"
cp "$package" "$root/tmp/leadgate.deb"
within dpkg --install /tmp/leadgate.deb
within dpkg --verify leadgate
has_mode /usr/bin/leadgate '755 root:root'
has_mode /etc/leadgate '750 root:leadgate'
has_mode /etc/leadgate/leadgate.toml '640 root:leadgate'
within test ! -e /etc/systemd/system/multi-user.target.wants/leadgate.service || fail "the service is enabled"
"${as_service[@]}" leadgate --version
for file in man/man1/leadgate.1.gz man/man1/leadgate-serve.1.gz bash-completion/completions/leadgate zsh/vendor-completions/_leadgate \
    fish/vendor_completions.d/leadgate.fish doc/leadgate/default.toml doc/leadgate/copyright doc/leadgate/changelog.gz \
    doc/leadgate/proto/leadgate/v1/lead.proto; do
    # debootstrap's dpkg excludes nothing of these.
    within test -s "/usr/share/$file" || fail "/usr/share/$file is missing"
done

echo "== the unit"
unit=$root/usr/lib/systemd/system/leadgate.service
# With the units of this machine, and the binary of the package.
mkdir "$root.unit"
sed "s|^ExecStart=/|&${root#/}/|" "$unit" >"$root.unit/leadgate.service"
systemd-analyze verify "$root.unit/leadgate.service"
systemd-analyze security --offline=yes --threshold="$exposure" "$unit" | tail -n 1 || fail "the unit is less hardened than before"
command=$(sed -n 's/^ExecStart=//p' "$unit")

echo "== the settings of the package have no tenant"
code=0
# shellcheck disable=SC2086
"${as_service[@]}" $command 2>"$root.err" || code=$?
[ "$code" = 78 ] || fail "serve ended with $code"
grep -i tenants "$root.err" || fail "serve says: $(cat "$root.err")"

echo "== the gateway"
install -d -m 0755 "$root/run/credentials"
install -d -m 0700 "$root/run/credentials/leadgate.service"
printf %s "$ACCESS_KEY" >"$root/run/credentials/leadgate.service/acme-access-key"
printf %s "$SECRET_KEY" >"$root/run/credentials/leadgate.service/acme-secret-key"
# What systemd does for StateDirectory and LoadCredential.
within install -d -m 0700 -o leadgate -g leadgate /var/lib/leadgate
within chmod 0400 /run/credentials/leadgate.service/{acme-access-key,acme-secret-key}
within chown -R leadgate /run/credentials/leadgate.service
read -r grpc admin leadsquared <<<"$(free_ports 3)"
# The lines of the package, with the simulator as LeadSquared.
within sed -i -e 's/^#\([a-z\[]\)/\1/' \
    -e "s|^base_url = .*|base_url = \"http://127.0.0.1:$leadsquared\"\ninsecure_plaintext = true|" /etc/leadgate/leadgate.toml
cat >>"$root/etc/leadgate/leadgate.toml" <<END
[tenants.acme.upstream]
allow_private_addresses = true
[server]
listen = "127.0.0.1:$grpc"
[admin]
listen = "127.0.0.1:$admin"
END
has_mode /etc/leadgate/leadgate.toml '640 root:leadgate'
"${as_service[@]}" leadgate simulate --listen "127.0.0.1:$leadsquared" >"$root.simulator" 2>&1 &
processes+=($!)
# shellcheck disable=SC2086
"${as_service[@]}" $command >"$root.log" 2>&1 &
processes+=($!)
gateway=$!
health() {
    "${as_service[@]}" leadgate health --addr "127.0.0.1:$grpc" >"$root.health" 2>&1
}
wait_until 60 health || fail "$(cat "$root.health" "$root.log")"
"${as_service[@]}" leadgate check --config /etc/leadgate/leadgate.toml --connect
within test -s /var/lib/leadgate/leadgate.db || fail "there is no store"

echo "== an update keeps the settings and the store"
work=$root/tmp/update
dpkg-deb --raw-extract "$package" "$work"
sed -i 's/^Version: .*/Version: 99.0.0/' "$work/DEBIAN/control"
echo '# changed' >>"$work/etc/leadgate/leadgate.toml"
dpkg-deb --root-owner-group -Znone --build "$work" "$root/tmp/update.deb" >/dev/null
rm -rf "$work"
within dpkg --force-confdef --force-confold --install /tmp/update.deb
grep -q "$leadsquared" "$root/etc/leadgate/leadgate.toml" || fail "the update has replaced the settings"
has_mode /etc/leadgate/leadgate.toml '640 root:leadgate'
health || fail "the update has ended the process"

echo "== removal"
kill "${processes[@]}"
wait "$gateway" || fail "the gateway ended with $?: $(tail -n 5 "$root.log")"
wait
processes=()
within mkdir -p /etc/systemd/system/leadgate.service.d
within dpkg --remove leadgate
within test ! -e /usr/bin/leadgate
within test -e /etc/leadgate/leadgate.toml || fail "the removal has deleted the settings"
within test -s /var/lib/leadgate/leadgate.db || fail "the removal has deleted the store"
within dpkg --purge leadgate
rm -r "$root/tmp/"*.deb "$root/run/credentials"
files >"$root.after"
diff "$root.before" "$root.after" || fail "the purge has left other files"
echo "deb.sh: the package passed"
