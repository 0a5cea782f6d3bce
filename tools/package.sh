#!/usr/bin/env bash
# package.sh BINARY ZIG CARGO_CYCLONEDX GLIBC
#
# Writes what a release consists of into the folder dist, which is replaced: an archive, its content as a folder, a Debian package, the list
# of packages in the binary (SBOM), and the checksums. BINARY was built by release-binary.sh, and needs GLIBC or newer. ZIG is the
# Python environment with zig. The same binary and commit give the same files.
set -euo pipefail

binary=$(realpath "$1")
zig=$(echo "$2"/lib/python*/site-packages/ziglang)
cyclonedx=$3
glibc=$4
cd "$(dirname "$0")/.."
umask 022
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
export SOURCE_DATE_EPOCH LC_ALL=C
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' Cargo.toml | head -n 1)
name=leadgate-$version-x86_64-linux
dist=$PWD/dist
tree=$dist/$name

rm -rf "$dist"
mkdir -p "$tree"/{completions,man}
install -m 0755 "$binary" "$tree/leadgate"
install -m 0644 LICENSE README.md CHANGELOG.md Dockerfile deploy/leadgate.service config/default.toml "$tree"
"$tree/leadgate" man "$tree/man"
"$tree/leadgate" completions bash >"$tree/completions/leadgate.bash"
"$tree/leadgate" completions zsh >"$tree/completions/_leadgate"
"$tree/leadgate" completions fish >"$tree/completions/leadgate.fish"
"$tree/leadgate" completions powershell >"$tree/completions/leadgate.ps1"
"$tree/leadgate" completions elvish >"$tree/completions/leadgate.elv"
# The contract, with the files that it imports.
mkdir "$tree/proto"
cp -r proto/leadgate third_party/googleapis/google "$tree/proto"
"${PYTHON:-python3}" tools/licenses.py "$zig" "$tree/THIRD-PARTY-LICENSES.txt"
"${PYTHON:-python3}" tools/sbom.py "$cyclonedx" "$dist/$name.cdx.json"

tar --create --directory "$dist" --sort=name --format=gnu --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner \
    --mode=u+rw,go=rX "$name" | gzip --no-name --best >"$dist/$name.tar.gz"

# The Debian package, from the files of the archive.
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
chmod 0755 "$root"
documents=$root/usr/share/doc/leadgate
mkdir -p "$documents" "$root"/usr/lib/systemd/system "$root"/usr/share/man/man1 "$root"/DEBIAN
install -D -m 0755 "$tree/leadgate" "$root/usr/bin/leadgate"
sed 's|/usr/local/bin/|/usr/bin/|' deploy/leadgate.service >"$root/usr/lib/systemd/system/leadgate.service"
# The user of the service can read the settings, others cannot. postinst sets the group.
install -d -m 0750 "$root/etc/leadgate"
install -m 0640 deploy/debian/leadgate.toml "$root/etc/leadgate/leadgate.toml"
install -D -m 0644 "$tree/completions/leadgate.bash" "$root/usr/share/bash-completion/completions/leadgate"
install -D -m 0644 "$tree/completions/_leadgate" "$root/usr/share/zsh/vendor-completions/_leadgate"
install -D -m 0644 "$tree/completions/leadgate.fish" "$root/usr/share/fish/vendor_completions.d/leadgate.fish"
for page in "$tree"/man/*.1; do
    gzip --no-name --best --stdout "$page" >"$root/usr/share/man/man1/${page##*/}.gz"
done
install -m 0644 README.md config/default.toml "$documents"
cp -r "$tree/proto" "$documents/proto"
gzip --no-name --best <CHANGELOG.md >"$documents/changelog.gz"
{
    echo "leadgate is under the Apache License 2.0: /usr/share/common-licenses/Apache-2.0."
    echo
    cat "$tree/THIRD-PARTY-LICENSES.txt"
} >"$documents/copyright"
install -m 0755 deploy/debian/{postinst,prerm,postrm} "$root/DEBIAN"
echo /etc/leadgate/leadgate.toml >"$root/DEBIAN/conffiles"
(cd "$root" && find . -type f -not -path './DEBIAN/*' -printf '%P\0' | sort -z | xargs -0 md5sum) >"$root/DEBIAN/md5sums"
size=$(du --summarize --apparent-size --block-size=1024 --exclude=DEBIAN "$root" | cut -f 1)
sed -e "s/@version@/$version/" -e "s/@glibc@/$glibc/" -e "s/@size@/$size/" deploy/debian/control.in >"$root/DEBIAN/control"
dpkg-deb --root-owner-group --threads-max=1 -Zxz --build "$root" "$dist/leadgate_${version}_amd64.deb"

(cd "$dist" && sha256sum -- *.deb *.json *.tar.gz >SHA256SUMS)
cat "$dist/SHA256SUMS"
