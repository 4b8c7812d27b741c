#!/bin/sh
# Builds fieldpost and fieldpost-agent for boxes of other kinds, in containers, with `cross`.
#
#   cross/build.sh                                all targets
#   cross/build.sh aarch64-unknown-linux-gnu      one or several
#   PROFILE=dev cross/build.sh ...                another cargo profile (default: release)
#
# Result: target/cross/TARGET/{fieldpost,fieldpost-agent} and SHA256SUMS. Exit: 0 built, 1 a build failed, 2 wrong use.
set -eu

cd "$(dirname "$0")/.."
profile=${PROFILE:-release}
known=$(sed -n 's/^\[target\.\([^.]*\)\.dockerfile\]$/\1/p' cross/Cross.toml)

fail() {
    echo "build.sh: $1" >&2
    [ -z "${2:-}" ] || echo "  $2" >&2
    exit 2
}

# Highest glibc symbol version that a binary asks for, empty for a static one.
glibc_floor() {
    readelf -VW "$1" | grep -oE 'GLIBC_2\.[0-9]+' | sort -uV | tail -n 1
}

[ "$#" -gt 0 ] || { # shellcheck disable=SC2086 # One word a target.
    set -- $known
}
for target in "$@"; do
    printf '%s\n' "$known" | grep -qxF "$target" || fail "no target $target in cross/Cross.toml" "known: $(printf '%s' "$known" | tr '\n' ' ')"
done
command -v cross >/dev/null || fail "cross is not installed" "see cross/README.md: version 0.2.5 is not enough"
command -v docker >/dev/null || command -v podman >/dev/null || fail "neither docker nor podman is installed"

# cross up to 0.2.5 misreads what today's rustup prints, and then installs and updates toolchains. With this it leaves rustup
# alone; so the standard library for the target must be there already.
export CROSS_CUSTOM_TOOLCHAIN=1 CROSS_CONFIG=cross/Cross.toml
sysroot=$(rustc --print sysroot)
for target in "$@"; do
    [ -d "$sysroot/lib/rustlib/$target" ] || fail "no standard library for $target" "rustup target add $target"
done

status=0
for target in "$@"; do
    echo "== $target"
    if ! cross build --locked --profile "$profile" --target "$target" --package fieldpost --package fieldpost-agent; then
        echo "build.sh: $target failed" >&2
        status=1
        continue
    fi
    folder=$profile
    [ "$profile" != dev ] || folder=debug
    out=target/cross/$target
    mkdir -p "$out"
    for name in fieldpost fieldpost-agent; do
        cp "target/$target/$folder/$name" "$out/$name"
        floor=$(glibc_floor "$out/$name" || true)
        printf '%s  %s bytes  %s\n' "$name" "$(wc -c <"$out/$name")" "${floor:-static}"
        case $target in
        *-musl) [ -z "$floor" ] || { echo "build.sh: $out/$name needs $floor, must be static" >&2; status=1; } ;;
        esac
    done
    (cd "$out" && sha256sum fieldpost fieldpost-agent >SHA256SUMS)
done
exit "$status"
