#!/usr/bin/env bash
# check-binary.sh BINARY [GLIBC]
#
# Checks that the version of a binary is that of Cargo.toml, that it needs no libraries except the C library, and no newer glibc than GLIBC,
# such as 2.28. Needs readelf.
set -euo pipefail

binary=$1
maximum=${2:-}
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' Cargo.toml | head -n 1)

if [ "$("$binary" --version)" != "leadgate $version" ]; then
    echo "$binary --version prints $("$binary" --version), but Cargo.toml has version $version" >&2
    exit 1
fi

needed=$(ldd "$binary" | awk '{ print $1 }')
for library in $needed; do
    case ${library##*/} in
        linux-vdso.so.* | ld-linux*.so.* | libc.so.* | libm.so.* | libgcc_s.so.* | libpthread.so.* | libdl.so.* | librt.so.*) ;;
        *)
            echo "$binary needs $library, which the Docker image does not have" >&2
            exit 1
            ;;
    esac
done

# The newest symbol version.
glibc=$(readelf --wide --version-info "$binary" | grep --only-matching 'GLIBC_[0-9.]*' | sed 's/GLIBC_//' | sort --version-sort | tail -n 1)
if [ -n "$maximum" ] && [ "$(printf '%s\n' "$glibc" "$maximum" | sort --version-sort | tail -n 1)" != "$maximum" ]; then
    echo "$binary needs glibc $glibc, which is newer than $maximum" >&2
    exit 1
fi

echo "leadgate $version, $(du -h --apparent-size "$binary" | cut -f 1); needs $(echo "$needed" | xargs -n 1 basename | xargs); glibc $glibc"
