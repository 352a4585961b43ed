#!/usr/bin/env bash
# Checks gantrain on one GPU in a few minutes, without a network: see scripts/gpu_check.py. --cpu tries the script itself.
exec "${PYTHON:-python3}" "$(dirname "$0")/gpu_check.py" "$@"
