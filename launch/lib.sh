# What the launch scripts share: --dry-run, and going on after a stop.
# shellcheck shell=bash

# main's exit status when it was stopped with everything saved: start me again (EX_TEMPFAIL).
readonly STOPPED_STATUS=75
# And when another one of several processes is gone. JAX ends some by SIGABRT, which is the same.
readonly LOST_STATUS=134

# The first argument of a script that sources this file; the other ones are flags of main.
DRY_RUN=false
if [[ ${1:-} == --dry-run ]]; then
  DRY_RUN=true
  shift
fi

# Prints a command so that it can be pasted into a shell.
show() {
  local word line='+'
  for word in "$@"; do
    if [[ -z $word || $word == *[!a-zA-Z0-9_./:=,@+-]* ]]; then
      word="'${word//\'/\'\\\'\'}'"
    fi
    line+=" $word"
  done
  echo "$line" >&2
}

# Prints a command and, unless this is a dry run, runs it.
run() {
  show "$@"
  $DRY_RUN || "$@"
}

# Returns the exit status of a background process. A trapped signal ends bash's `wait`, but not the
# process, which is waited for again.
status_of() {
  local status=0
  wait "$1" || status=$?
  while kill -0 "$1" 2>/dev/null; do
    status=0
    wait "$1" || status=$?
  done
  return "$status"
}

# Whether an exit status of main means "start me again".
goes_on() { (($1 == STOPPED_STATUS || $1 == LOST_STATUS)); }

# Runs a command, and again each time that it ends so, at most MAX_RESTARTS times. A SIGTERM or SIGINT
# for this script goes on to the command, which is then not started again: 75 is returned.
stopped=false
child=''
start_again() {
  local status restarts
  trap 'stopped=true; kill -TERM $child 2>/dev/null' INT TERM
  for ((restarts = 0; ; restarts++)); do
    "$@" &
    child=$!
    if $stopped; then kill -TERM "$child"; fi
    status=0
    status_of "$child" || status=$?
    if $stopped; then return "$STOPPED_STATUS"; fi
    if ! goes_on "$status" || ((restarts >= MAX_RESTARTS)); then return "$status"; fi
    echo "stopped ($status), checkpoints saved; restart $((restarts + 1)) of $MAX_RESTARTS" >&2
  done
}
