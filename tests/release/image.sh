#!/usr/bin/env bash
# image.sh FOLDER
#
# Builds the image from the unpacked archive of a release with buildah, and runs it like a container: as the user of the image, with a
# read-only root and one writable volume. Its base is made of packages of Debian, and has the files of the real base that the binary uses.
# Needs root, buildah and debootstrap.
set -euo pipefail

# Mounts are not seen by other processes, and end with this one.
if [ -z "${IN_NAMESPACE:-}" ]; then
    IN_NAMESPACE=1 exec unshare --mount --propagation private "$0" "$@"
fi
context=$(realpath "$1")
cd "$(dirname "$0")"
# shellcheck source=tests/release/gateway.sh
. ./gateway.sh

work=$(mktemp -d)
processes=()
clean_up() {
    ((${#processes[@]} == 0)) || kill "${processes[@]}" 2>/dev/null || true
    wait
    umount --quiet --recursive "$work" || true
    rm -rf --one-file-system "$work"
}
trap clean_up EXIT
mount --types tmpfs --options mode=0755 tmpfs "$work"
export BUILDAH_ISOLATION=chroot STORAGE_DRIVER=vfs
run_buildah() {
    buildah --root "$work/storage" --runroot "$work/run" "$@"
}

echo "== the base"
from=$(sed -n 's/^FROM \(.*:nonroot\)$/\1/p' "$context/Dockerfile")
mkdir "$work/debian"
./debian.sh "$work/debian"
base=$(run_buildah from scratch)
files=$(run_buildah mount "$base")
mkdir -p "$files"/{etc/ssl/certs,usr/lib,usr/lib64,proc,dev,tmp}
ln -s usr/lib "$files/lib"
ln -s usr/lib64 "$files/lib64"
chroot "$work/debian" dpkg --listfiles libc6 libgcc-s1 ca-certificates tzdata | while read -r file; do
    [ ! -f "$work/debian$file" ] || echo "${file#/}"
done >"$work/files"
echo etc/ssl/certs/ca-certificates.crt >>"$work/files"
tar --create --directory "$work/debian" --files-from "$work/files" | tar --extract --directory "$files" --keep-directory-symlink
rm -rf "$work/debian"
run_buildah commit --quiet "$base" "$from" >/dev/null
run_buildah rm "$base" >/dev/null

echo "== the image"
# The format of Docker has the health check.
run_buildah build --quiet --format docker --pull-never --tag leadgate:test "$context" >/dev/null
run_buildah inspect --type image leadgate:test >"$work/image.json"
configuration() {
    "${PYTHON:-python3}" - "$work/image.json" "$1" <<'END'
import json, sys
value = json.load(open(sys.argv[1], encoding="utf-8"))["Docker"]["config"]
for key in sys.argv[2].split("."):
    value = value[key]
print(*(value if isinstance(value, list) else [value]), sep="\n")
END
}
user=$(configuration User)
volume=$(configuration WorkingDir)
mapfile -t entrypoint < <(configuration Entrypoint)
mapfile -t command < <(configuration Cmd)
mapfile -t health < <(configuration Healthcheck.Test)
[ "$user" = 65532:65532 ] || fail "the user is $user"
[ "${health[0]}" = CMD ] || fail "the health check needs a shell"

echo "== the container"
root=$(run_buildah mount "$(run_buildah from --pull-never leadgate:test)")
[ "$(stat --format %u:%g "$root$volume")" = "$user" ] || fail "$volume does not belong to the user"
# What a container runtime does.
mkdir -p "$root/etc/leadgate" "$work/volume" "$work/settings"
chown "$user" "$work/volume"
read -r grpc admin leadsquared <<<"$(free_ports 3)"
gateway_settings "$grpc" "$admin" "$leadsquared" "$volume/leadgate.db" /etc/leadgate >"$work/settings/leadgate.toml"
printf %s "$ACCESS_KEY" >"$work/settings/acme-access-key"
printf %s "$SECRET_KEY" >"$work/settings/acme-secret-key"
mount --bind "$root" "$root"
mount --options remount,bind,ro "$root"
mount --bind "$work/volume" "$root$volume"
mount --bind "$work/settings" "$root/etc/leadgate"
mount --bind /dev "$root/dev"
mount --types proc proc "$root/proc"
container=(env --ignore-environment --chdir / "LEADGATE_ADDR=127.0.0.1:$grpc" "$(command -v chroot)" "--userspec=$user" "$root")
! touch "$root/tmp/file" 2>/dev/null || fail "the root can be written"

"${container[@]}" "${entrypoint[@]}" --version
"${container[@]}" "${entrypoint[@]}" simulate --listen "127.0.0.1:$leadsquared" >"$work/simulator" 2>&1 &
processes+=($!)
! "${container[@]}" "${health[@]:1}" 2>/dev/null || fail "the health check passes without a gateway"
"${container[@]}" "${entrypoint[@]}" "${command[@]}" >"$work/log" 2>&1 &
processes+=($!)
gateway=$!
healthy() {
    "${container[@]}" "${health[@]:1}" >"$work/health" 2>&1
}
wait_until 60 healthy || fail "$(cat "$work/health" "$work/log")"
cat "$work/health"
"${container[@]}" "${entrypoint[@]}" top --once
[ "$(stat --format '%u:%g' "$work/volume/leadgate.db")" = "$user" ] || fail "there is no store in the volume"
kill "$gateway"
wait "$gateway" || fail "the gateway ended with $?: $(tail -n 5 "$work/log")"
echo "image.sh: the image passed"
