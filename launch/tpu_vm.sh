#!/usr/bin/env bash
# Experimental: no TPU has seen it.
# Trains on a Cloud TPU VM, one host or a slice of many, and on another one after a preemption:
#
#   SHARE=10.0.0.2:/diffad launch/tpu_vm.sh [--dry-run] [--config.data.root=/mnt/diffad/mvtec …]
#
# It asks the queue for a TPU, installs the commit that is checked out, and trains. The TPU is
# deleted when it is preempted, when training ends, and when this script is stopped; checkpoints and
# photos lie on an NFS share (Filestore) in the network of the TPU. Several hosts: `ssh-add
# ~/.ssh/google_compute_engine` first.
set -euo pipefail

SHARE=${SHARE:?names the NFS share with photos and checkpoints, for example 10.0.0.2:/diffad}
NAME=${NAME:-diffad}
ZONE=${ZONE:-europe-west4-a}
ACCELERATOR_TYPE=${ACCELERATOR_TYPE:-v6e-8}           # one host; v6e-16 and more are slices
RUNTIME_VERSION=${RUNTIME_VERSION:-v2-alpha-tpuv6e}
TIER=${TIER:---spot}                                  # or --reserved, --guaranteed
CONFIG=${CONFIG:-configs/mvtec.py}
WORKDIR=${WORKDIR:-/mnt/diffad/runs/mvtec}            # the share is mounted at /mnt/diffad
MAX_RESTARTS=${MAX_RESTARTS:-100}
POLL_SECONDS=${POLL_SECONDS:-30}

cd "$(dirname "$0")/.."
source launch/lib.sh

# Of the queued resource: its command $1 and flags $2 …
queue() { run gcloud compute tpus queued-resources "$1" "$NAME" --zone="$ZONE" "${@:2}"; }
state() { queue describe --format='value(state.state)'; }
delete() { queue delete --force --quiet; }
copy_code() {
  run gcloud compute tpus tpu-vm scp "$archive" "$NAME:diffad.tar.gz" --zone="$ZONE" --worker=all
}
# A dead machine does not close its connections: ssh has to ask.
on_all_hosts() {
  run gcloud compute tpus tpu-vm ssh "$NAME" --zone="$ZONE" --worker=all \
    --ssh-flag='-o ServerAliveInterval=30' --command="$1"
}

# The TPU's system has Python 3.10; uv brings a newer one.
INSTALL="set -e
sudo apt-get -o DPkg::Lock::Timeout=300 install --yes --quiet nfs-common
sudo mkdir -p /mnt/diffad
sudo mount -t nfs $SHARE /mnt/diffad
tar -xzf diffad.tar.gz
cd diffad
python3 -m pip install --quiet --user uv
~/.local/bin/uv venv --quiet --python 3.12
~/.local/bin/uv pip install --quiet --constraint constraints.txt --editable '.[data]' 'jax[tpu]'"
TRAIN="cd diffad && .venv/bin/python -m diffad_jax.main --distributed"
TRAIN+=" --config=$CONFIG --workdir=$WORKDIR"
if (($#)); then TRAIN+=$(printf ' %q' "$@"); fi

# Returns 0 when the TPU is there, 75 when it was taken away again.
wait_for_tpu() {
  local now
  while true; do
    now=$(state) || now=UNKNOWN
    if $DRY_RUN || [[ $now == ACTIVE ]]; then return 0; fi
    if [[ $now == SUSPEND* ]]; then return "$STOPPED_STATUS"; fi
    if [[ $now == FAILED ]]; then return 1; fi
    sleep "$POLL_SECONDS"
  done
}

# Returns 75 when another TPU should go on: main said so, or this one was taken away.
train_on_a_new_tpu() {
  local status=0
  queue create --node-id="$NAME" --accelerator-type="$ACCELERATOR_TYPE" \
    --runtime-version="$RUNTIME_VERSION" "$TIER" || return 1
  trap delete EXIT
  wait_for_tpu || return
  { copy_code && on_all_hosts "$INSTALL" && on_all_hosts "$TRAIN"; } || status=$?
  if ((status)) && [[ $(state) != ACTIVE ]]; then return "$STOPPED_STATUS"; fi
  return "$status"
}

archive=$(mktemp --suffix=.tar.gz)
trap 'rm "$archive"' EXIT
run git archive --format=tar.gz --prefix=diffad/ --output="$archive" HEAD
start_again train_on_a_new_tpu
