#!/usr/bin/env bash
# debian.sh FOLDER
#
# Unpacks a small Debian 12 into FOLDER. debootstrap installs it once, and .tools keeps it. Needs root.
set -euo pipefail

folder=$1
archive=$(dirname "$0")/../../.tools/debian-bookworm.tar
if [ ! -e "$archive" ]; then
    new=$(mktemp -d)
    trap 'rm -rf --one-file-system "$new"' EXIT
    debootstrap --variant=minbase --include=ca-certificates,procps bookworm "$new" >"$new.log" 2>&1 || {
        tail "$new.log" >&2
        exit 1
    }
    rm "$new.log"
    mkdir -p "$(dirname "$archive")"
    tar --create --directory "$new" --file "$archive.new" .
    mv "$archive.new" "$archive"
fi
tar --extract --directory "$folder" --file "$archive"
# Other users than root use it.
chmod 0755 "$folder"
