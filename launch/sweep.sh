#!/usr/bin/env bash
# Gives each category to a worker of this machine, and gathers one table of those that finished:
#
#   DEVICES='0 1 2 3' launch/sweep.sh [--dry-run] [--config.data.root=/data/mvtec …]
#
# A worker that is done takes the next category. What each prints is in WORKDIR/logs. Called again
# it goes on where it stopped. Exit status: 0 finished, 75 stopped, 1 a category failed.
set -euo pipefail

CONFIG=${CONFIG:-configs/mvtec.py}
WORKDIR=${WORKDIR:-runs/mvtec}  # a local or shared folder
CATEGORIES=${CATEGORIES:-"bottle cable capsule carpet grid hazelnut leather metal_nut pill screw \
tile toothbrush transistor wood zipper"}
DEVICES=${DEVICES:-0}           # a worker on each of these GPUs; without GPUs just a worker for each
PYTHON=${PYTHON:-python}
MAX_RESTARTS=${MAX_RESTARTS:-100}

cd "$(dirname "$0")/.."
source launch/lib.sh
read -ra categories <<<"$CATEGORIES"
read -ra devices <<<"$DEVICES"

# Trains, on device $1 with the flags $2 …, the categories that no other worker has taken.
worker() {
  local device=$1 category status train
  shift
  for category in "${categories[@]}"; do
    mkdir "$taken/$category" 2>/dev/null || continue
    train=(env CUDA_VISIBLE_DEVICES="$device"
      "$PYTHON" -m diffad_jax.main --config="$CONFIG:$category" --workdir="$WORKDIR" "$@")
    show "${train[@]}"
    status=0
    $DRY_RUN || start_again "${train[@]}" >>"$WORKDIR/logs/$category.log" 2>&1 || status=$?
    if $stopped; then return; fi
    echo "$status" >"$taken/$category/status"
  done
}

$DRY_RUN || mkdir -p "$WORKDIR/logs"
taken=$(mktemp -d)
trap 'rm -r "$taken"' EXIT
workers=()
trap 'stopped=true; kill -TERM "${workers[@]}" 2>/dev/null' INT TERM
for device in "${devices[@]}"; do
  worker "$device" "$@" &
  workers+=($!)
done
for pid in "${workers[@]}"; do status_of "$pid" || true; done
if $stopped; then
  echo "stopped; call it again to go on" >&2
  exit "$STOPPED_STATUS"
fi

finished=()
for category in "${categories[@]}"; do
  if [[ $(cat "$taken/$category/status") == 0 ]]; then
    finished+=("$category")
  else
    echo "$category failed: see $WORKDIR/logs/$category.log" >&2
  fi
done
if ((${#finished[@]})); then
  names=$(IFS=, && echo "${finished[*]}")
  run "$PYTHON" -m diffad_jax.main --mode=evaluate --config="$CONFIG:$names" \
    --workdir="$WORKDIR" "$@"
fi
((${#finished[@]} == ${#categories[@]}))
