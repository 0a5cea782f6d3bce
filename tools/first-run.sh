#!/usr/bin/env bash
# first-run.sh [PROFILE]
#
# Measures the time that the first `cargo run --release -- demo` needs before the demo starts: builds the binary with a profile
# (default: release) into an empty folder, and prints the elapsed time, the CPU time and the machine. The sources of the
# dependencies are downloaded before the measurement. Without other load, the elapsed time is the one to compare; on a shared
# machine, compare the CPU time.
set -euo pipefail

cd "$(dirname "$0")/.."
profile=${1:-release}
target=$(mktemp -d)
trap 'rm -rf "$target"' EXIT

cargo fetch --locked --quiet
TIMEFORMAT='%R %U %S'
export CARGO_TARGET_DIR=$target
# Errors of cargo go to standard error, the times into the variable.
times=$({ time cargo build --locked --quiet --profile "$profile" --bin leadgate 2>&3; } 3>&2 2>&1)
read -r elapsed user system <<<"$times"

model=$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)
awk -v profile="$profile" -v elapsed="$elapsed" -v user="$user" -v sys="$system" 'BEGIN {
    printf "profile %s: %.0f s elapsed, %.0f s CPU (%.0f s user, %.0f s system)\n", profile, elapsed, user + sys, user, sys
}'
echo "machine: $(nproc) cores, ${model:-unknown model}, $(uname -srm), $(rustc --version)"
