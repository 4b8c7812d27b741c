#!/bin/sh
# Checks this folder without building anything: no container, no cross, no rustup. Exit: 0 sound, 1 not.
#   cross/check.sh            needs python3 (3.11 or later, for TOML); uses shellcheck where it is installed
set -eu

cd "$(dirname "$0")/.."
status=0

for script in cross/*.sh; do
    sh -n "$script" || status=1
done
if command -v shellcheck >/dev/null; then
    shellcheck cross/*.sh || status=1
else
    echo "check.sh: shellcheck is not installed, scripts were only parsed" >&2
    [ -z "${CI:-}" ] || status=1
fi

python3 - <<'PYTHON' || status=1
import pathlib, re, sys, tomllib

faults = []
config = tomllib.loads(pathlib.Path("cross/Cross.toml").read_text())
targets = config.get("target", {})
if not targets:
    faults.append("Cross.toml names no target")

for target, settings in targets.items():
    named = settings.get("dockerfile", {}).get("file")
    if not named:
        faults.append(f"{target}: no dockerfile")
        continue
    path = pathlib.Path(named)
    if path.name != f"Dockerfile.{target}":
        faults.append(f"{target}: its dockerfile is named {path.name}")
    if not path.is_file():
        faults.append(f"{target}: {named} does not exist")
        continue
    if not pathlib.Path(settings["dockerfile"].get("context", ".")).is_dir():
        faults.append(f"{target}: its build context does not exist")
    text = re.sub(r"\\\n", " ", path.read_text())
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    words = [line.split()[0] for line in lines]
    unknown = set(words) - {"FROM", "ARG", "RUN", "ENV"}
    if unknown:
        faults.append(f"{path}: instructions {sorted(unknown)}: only FROM, ARG, RUN and ENV are expected here")
    if words.count("FROM") != 1 or any(word != "ARG" for word in words[: words.index("FROM")]):
        faults.append(f"{path}: exactly one FROM, after nothing but ARG")
    linker = f"CARGO_TARGET_{target.upper().replace('-', '_')}_LINKER="
    if linker not in text:
        faults.append(f"{path}: does not set {linker[:-1]}")
    # An image that is not gcc's own C target must name the C compiler, for ring, zstd and tract's kernels.
    if target != "x86_64-unknown-linux-gnu" and f"CC_{target.replace('-', '_')}=" not in text:
        faults.append(f"{path}: does not set CC_{target.replace('-', '_')}")
    for line in lines:
        if line.startswith("RUN") and "apt-get install" in line and "rm -rf /var/lib/apt/lists" not in line:
            faults.append(f"{path}: leaves the package lists in the image")

for path in sorted(pathlib.Path("cross").glob("Dockerfile*")):
    if path.name.removeprefix("Dockerfile.") not in targets:
        faults.append(f"{path}: no target of Cross.toml uses it")

# One list of targets: what is built here is what deny.toml looks at and what README.md explains.
denied = set(tomllib.loads(pathlib.Path("deny.toml").read_text())["graph"]["targets"])
if denied != set(targets):
    faults.append(f"deny.toml and Cross.toml differ in {sorted(denied ^ set(targets))}")
readme = pathlib.Path("cross/README.md").read_text()
faults += [f"README.md does not explain {target}" for target in targets if f"`{target}`" not in readme]

for fault in faults:
    print(f"check.sh: {fault}", file=sys.stderr)
print(f"{len(targets)} targets, {len(faults)} faults")
sys.exit(bool(faults))
PYTHON

exit "$status"
