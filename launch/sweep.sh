#!/usr/bin/env bash
# Gives each category to a worker of this machine, and gathers one table of those that finished:
#
#   DEVICES='0 1 2 3' launch/sweep.sh [--dry-run] [--config.data.root=/data/mvtec …]
#
# A worker that is done takes the next category. What each prints is in WORKDIR/logs. Called again
# it goes on where it stopped. Exit status: 0 finished, 75 stopped, 1 a category failed.
#
# On several machines that share WORKDIR each takes its share, and the table comes afterwards:
#
#   SHARD=0/2 launch/sweep.sh    # on one
#   SHARD=1/2 launch/sweep.sh    # on the other
#   launch/sweep.sh              # on any, when both are done: nothing is trained again
set -euo pipefail

CONFIG=${CONFIG:-configs/mvtec.py}
WORKDIR=${WORKDIR:-runs/mvtec}  # a local or shared folder
CATEGORIES=${CATEGORIES:-"bottle cable capsule carpet grid hazelnut leather metal_nut pill screw \
tile toothbrush transistor wood zipper"}
SHARD=${SHARD:-0/1}             # I/N: the I-th of N shares of the categories, from 0 on
DEVICES=${DEVICES:-0}           # a worker on each of these GPUs; without GPUs just a worker for each
PYTHON=${PYTHON:-python}
MAX_RESTARTS=${MAX_RESTARTS:-100}

cd "$(dirname "$0")/.."
source launch/lib.sh
read -ra all <<<"$CATEGORIES"
read -ra devices <<<"$DEVICES"
if ! [[ $SHARD =~ ^(0|[1-9][0-9]*)/([1-9][0-9]*)$ ]] || ((${SHARD%/*} >= ${SHARD#*/})); then
  echo "SHARD=$SHARD: must be I/N, the I-th of N shares, and I counts from 0 to N - 1" >&2
  exit 1
fi
categories=()
for i in "${!all[@]}"; do
  if ((i % ${SHARD#*/} == ${SHARD%/*})); then categories+=("${all[i]}"); fi
done

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
if ((${SHARD#*/} > 1)); then
  echo "this share is done; after the others launch/sweep.sh without SHARD makes the table" >&2
elif ((${#finished[@]})); then
  names=$(IFS=, && echo "${finished[*]}")
  run "$PYTHON" -m diffad_jax.main --mode=evaluate --config="$CONFIG:$names" \
    --workdir="$WORKDIR" "$@"
fi
((${#finished[@]} == ${#categories[@]}))
