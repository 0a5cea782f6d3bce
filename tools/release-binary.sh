#!/usr/bin/env bash
# release-binary.sh ENVIRONMENT GLIBC
#
# Builds the binary of a release for Linux on x86-64, which needs this version of glibc or a newer one, such as 2.28. zig is the C compiler
# and linker: it has the symbols of each version. ENVIRONMENT has zig and cargo-zigbuild. Prints the path of the binary.
#
# The same commit, toolchain and versions give the same binary: paths of this machine are replaced, and the time is that of the commit.
set -euo pipefail

environment=$(realpath "$1")
glibc=$2
cd "$(dirname "$0")/.."
platform=x86_64-unknown-linux-gnu
target=$(realpath --canonicalize-missing "${CARGO_TARGET_DIR:-target}")
registry=$(realpath --canonicalize-missing "${CARGO_HOME:-$HOME/.cargo}")/registry/src

separator=$'\x1f'
CARGO_ENCODED_RUSTFLAGS="--remap-path-prefix=$registry=/cargo$separator--remap-path-prefix=$PWD=/leadgate"
CARGO_ENCODED_RUSTFLAGS+="$separator--remap-path-prefix=$target=/leadgate/target"
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
LEADGATE_COMMIT=$(git describe --always --dirty --abbrev=40 --exclude '*')
export CARGO_ENCODED_RUSTFLAGS SOURCE_DATE_EPOCH LEADGATE_COMMIT
export PATH=$environment/bin:$PATH
cargo-zigbuild zigbuild --profile dist --locked --package leadgate --bin leadgate --target "$platform.$glibc" >&2
echo "$target/$platform/dist/leadgate"
