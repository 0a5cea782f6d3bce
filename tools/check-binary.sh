#!/usr/bin/env bash
# check-binary.sh BINARY
#
# Checks what a release binary needs of the machine on which it runs: nothing but the C library and its companions.
set -euo pipefail

binary=$1
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' Cargo.toml | head -n 1)

if [ "$("$binary" --version)" != "leadgate $version" ]; then
    echo "$binary --version says $("$binary" --version), Cargo.toml says $version" >&2
    exit 1
fi

needed=$(ldd "$binary" | awk '{ print $1 }')
for library in $needed; do
    case ${library##*/} in
        linux-vdso.so.* | ld-linux*.so.* | libc.so.* | libm.so.* | libgcc_s.so.* | libpthread.so.* | libdl.so.* | librt.so.*) ;;
        *)
            echo "$binary needs $library, which the image does not have" >&2
            exit 1
            ;;
    esac
done

echo "leadgate $version, $(du -h --apparent-size "$binary" | cut -f 1); needs $(echo "$needed" | xargs -n 1 basename | xargs)"
