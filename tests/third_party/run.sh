#!/usr/bin/env bash
# Checks receipts and events by tools that nobody here wrote, in a virtual environment of its own.
#   tests/third_party/run.sh [VENV]
set -euo pipefail
cd "$(dirname "$0")/../.."
venv=${1:-target/third-party-venv}
[ -x "$venv/bin/python" ] || python3 -m venv "$venv"
for requirements in tests/third_party/requirements*.txt; do
    "$venv/bin/pip" install --quiet --disable-pip-version-check -r "$requirements"
done
site=$(mktemp -d)
trap 'rm -rf "$site"' EXIT
cargo run --quiet --locked -p countersign-cli -- demo --once --dir "$site" >"$site/demo.txt"
"$venv/bin/python" tests/third_party/verify_export.py "$site/export.ndjson" "$site/trust.json"
"$venv/bin/python" tests/third_party/validate_ocsf.py fixtures/export/*.ocsf.json
