#!/bin/sh
# Checks the units without starting them. Exit: 0 sound, 1 not. Needs systemd-analyze (252 or later).
set -eu

cd "$(dirname "$0")"
if ! command -v systemd-analyze >/dev/null; then
    echo "check.sh: systemd-analyze is not installed, the units were NOT checked" >&2
    [ -z "${CI:-}" ] || exit 1
    exit 0
fi
status=0
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

for unit in fieldpost-agent.service fieldpost.service; do
    # The executable may not be installed where this runs; everything else is checked as it stands.
    sed 's#^ExecStart=/usr/bin/[a-z-]*#ExecStart=/bin/true#' "$unit" >"$work/$unit"
    # RestartSteps= and RestartMaxDelaySec= came with systemd 254; before, they are ignored with this warning.
    faults=$(systemd-analyze verify "$work/$unit" 2>&1 | grep -vE "Unknown key( name)? '(RestartSteps|RestartMaxDelaySec)'" || true)
    if [ -n "$faults" ]; then
        echo "check.sh: $unit: $faults" >&2
        status=1
    fi
    # 12 is an exposure of 1.2: what a well hardened service that needs the network can reach.
    if answer=$(systemd-analyze security --offline=true --no-pager --threshold=12 "$work/$unit" 2>/dev/null); then
        echo "$answer" | tail -n 1
    else
        echo "check.sh: $unit is more exposed than 1.2" >&2
        status=1
    fi
    # README.md gives the reason of each directive.
    sed -n 's/^\([A-Z][A-Za-z]*\)=.*/\1/p' "$unit" | sort -u >"$work/directives"
    while read -r directive; do
        grep -q "\`$directive=" README.md || { echo "check.sh: $unit: $directive= has no reason in README.md" >&2; status=1; }
    done <"$work/directives"
done
exit "$status"
