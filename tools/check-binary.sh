#!/usr/bin/env bash
# check-binary.sh BINARY
#
# Checks that the version of a binary is that of Cargo.toml, and that it needs no libraries except the C library.
set -euo pipefail

binary=$1
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

echo "leadgate $version, $(du -h --apparent-size "$binary" | cut -f 1); needs $(echo "$needed" | xargs -n 1 basename | xargs)"
