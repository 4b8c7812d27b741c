#!/usr/bin/env bash
# RUSTC_WRAPPER of run.sh: gives libFuzzer's instrumentation to fieldpost's own crates, as `cargo fuzz --sanitizer none`
# gives it to everything. The runtime's compilation (tract) would take minutes more, and its decoders are not ours.
set -euo pipefail
rustc=$1
shift
case " $* " in
*" --crate-name fieldpost"*)
  exec "$rustc" "$@" -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares
  ;;
*) exec "$rustc" "$@" ;;
esac
