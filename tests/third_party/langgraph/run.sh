#!/usr/bin/env bash
# Drives the real package against the real program, on loopback.
#   COUNTERSIGN=target/debug/countersign tests/third_party/langgraph/run.sh VENV
# VENV is a virtual environment with what requirements.txt beside this file lists; without one the check is skipped.
set -euo pipefail
venv=${1:-target/langgraph-venv}
if [ ! -x "$venv/bin/langgraph" ]; then
    echo "skipped: langgraph is not installed in $venv"
    exit 0
fi
export COUNTERSIGN=${COUNTERSIGN:-target/debug/countersign}
exec "$venv/bin/python" "$(dirname "$0")/drive.py"
