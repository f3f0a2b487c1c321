#!/usr/bin/env bash
# Trains on all GPUs of one server, and again after each stop, until it is finished:
#
#   launch/gpu_server.sh [--dry-run] [--config.data.root=/data/mvtec …]
#
# Several servers without a scheduler: start it on each with --coordinator=HOST:PORT
# --num_processes=N --process_id=I and a WORKDIR that all of them share.
set -euo pipefail

CONFIG=${CONFIG:-configs/mvtec.py}
WORKDIR=${WORKDIR:-runs/mvtec}
VENV=${VENV:-.venv}              # made if it is missing
JAX=${JAX:-'jax[cuda12]'}        # or jax[cuda13], for the driver of this server
MAX_RESTARTS=${MAX_RESTARTS:-100}

cd "$(dirname "$0")/.."
source launch/lib.sh

if [[ ! -x $VENV/bin/python ]]; then
  run python3 -m venv "$VENV"
  run "$VENV/bin/python" -m pip install --quiet --constraint constraints.txt \
    --editable '.[data]' "$JAX"
fi

train=("$VENV/bin/python" -m diffad_jax.main --config="$CONFIG" --workdir="$WORKDIR" "$@")
show "${train[@]}"
$DRY_RUN || start_again "${train[@]}"
