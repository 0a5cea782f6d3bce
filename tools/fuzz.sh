#!/usr/bin/env bash
# fuzz.sh [TARGET]...
#
# Builds the fuzz targets and runs each one, or only the named ones, for LEADGATE_FUZZ_SECONDS (default: 60). It needs no nightly
# toolchain, and a C++ compiler for libFuzzer. Inputs that reach new code are kept in TARGET_DIR/fuzz/corpus. An input that fails
# is written to fuzz/artifacts, and ends the run of its target. The script goes on with the next target. It fails at the end, and
# names the targets that failed.
#
# fuzz.sh --minimize [TARGET]...
#
# Adds a small set of the new inputs to fuzz/corpus: those that reach code that no input in fuzz/corpus reaches.
set -euo pipefail

cd "$(dirname "$0")/.."
seconds=${LEADGATE_FUZZ_SECONDS:-60}
folder=${CARGO_TARGET_DIR:-target}/fuzz
host=$(rustc -vV | sed -n 's/^host: //p')
programs=$folder/$host/release

is_minimize=
if [[ ${1:-} == --minimize ]]; then
    is_minimize=1
    shift
fi
targets=("$@")
if ((${#targets[@]} == 0)); then
    for file in fuzz/fuzz_targets/*.rs; do
        targets+=("$(basename "$file" .rs)")
    done
fi

# The coverage and the comparisons that libFuzzer reads. With --target, build scripts and macros are compiled without them.
export RUSTFLAGS="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares"
cargo build --manifest-path fuzz/Cargo.toml --locked --release --target "$host" --target-dir "$folder"

failed=()
for target in "${targets[@]}"; do
    corpus=fuzz/corpus/$target
    new=$folder/corpus/$target
    mkdir -p "$corpus" "$new" "fuzz/artifacts/$target"
    options=(-timeout=10 -rss_limit_mb=2048 -artifact_prefix="fuzz/artifacts/$target/")
    dictionary=fuzz/dictionaries/$target.dict
    [[ ! -f $dictionary ]] || options+=(-dict="$dictionary")
    if [[ -n $is_minimize ]]; then
        echo "== fuzz: minimizing $corpus"
        # Without the number of times that code runs, a tenth of the inputs is enough.
        "$programs/$target" "${options[@]}" -set_cover_merge=1 -use_counters=0 -max_len=1500 "$corpus" "$new"
        continue
    fi
    echo "== fuzz: $target for $seconds s"
    "$programs/$target" "${options[@]}" -max_total_time="$seconds" -print_final_stats=1 "$new" "$corpus" && continue
    status=$?
    # libFuzzer's status after Ctrl-C.
    ((status != 72)) || exit $status
    failed+=("$target")
done
if ((${#failed[@]} > 0)); then
    echo "fuzz.sh: failed targets: ${failed[*]}; the inputs are in fuzz/artifacts" >&2
    exit 1
fi
