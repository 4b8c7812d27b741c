#!/usr/bin/env bash
# Runs fuzz targets for a bounded time: run.sh [SECONDS] [TARGET...]. Seconds are for all targets together (default 60);
# targets are all by default. FUZZ_SEED=N repeats a run; else each looks elsewhere. Needs g++ (libFuzzer's engine is C++), no nightly and no cargo-fuzz.
set -euo pipefail
cd "$(dirname "$0")"
seconds=${1:-60}
shift || true
export CARGO_TERM_COLOR=never
# One directory with the main workspace: only our own crates are instrumented, all others are built as there.
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/../../target}
export RUSTC_WRAPPER=$PWD/instrument.sh
# FUZZ_ONLY_SHARED=1 leaves out what needs agent and controller to be built.
flags=()
[ -z "${FUZZ_ONLY_SHARED:-}" ] || flags=(--no-default-features)
cargo build --locked --quiet "${flags[@]}"
program=$CARGO_TARGET_DIR/debug/fieldpost-fuzz
mapfile -t all < <(FUZZ_TARGET=list "$program")
targets=("$@")
[ ${#targets[@]} -gt 0 ] || targets=("${all[@]}")
each=$((seconds / ${#targets[@]}))
[ "$each" -gt 0 ] || each=1
found=$CARGO_TARGET_DIR/fuzz-found
mkdir -p "$found"
failed=()
for target in "${targets[@]}"; do
  # A target without seeds would be run in the dark; a misspelt one not at all.
  [ -n "$(ls -A "corpus/$target" 2>/dev/null)" ] || { echo "no seeds in corpus/$target"; exit 1; }
  # New inputs go to a scratch directory: what is committed stays small and chosen.
  mkdir -p "$found/$target"
  log=$found/$target.log
  if FUZZ_TARGET=$target "$program" -seed="${FUZZ_SEED:-0}" -max_total_time="$each" -timeout=10 -rss_limit_mb=2048 -malloc_limit_mb=600 \
    -print_final_stats=1 -artifact_prefix="$found/$target-" "$found/$target" "corpus/$target" >"$log" 2>&1; then
    runs=$(grep -o 'number_of_executed_units: [0-9]*' "$log" | grep -o '[0-9]*$' || echo 0)
    covered=$(grep -o 'cov: [0-9]*' "$log" | tail -1 | grep -o '[0-9]*' || echo 0)
    # Without coverage the build was not instrumented, and the run has shown next to nothing.
    [ "${covered:-0}" -gt 20 ] || { echo "$target is not instrumented: coverage ${covered:-0}"; exit 1; }
    printf '%-15s %10s runs, coverage %s\n' "$target" "$runs" "$covered"
  else
    failed+=("$target")
    printf '%-15s FAILED\n' "$target"
    grep -vE '^(#|INFO)' "$log" | tail -30
  fi
done
[ ${#failed[@]} -eq 0 ] || { echo "failed: ${failed[*]}; the inputs are in $found"; exit 1; }
