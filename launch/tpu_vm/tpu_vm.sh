#!/usr/bin/env bash
# Trains on a Cloud TPU VM or a slice of several hosts, over preemptions: run this on your own machine, in the
# checkout. launch/README.md says what to prepare. Costs end with `down`; `run` ends with it too.
#
#   launch/tpu_vm/tpu_vm.sh run      up, install, start; after a preemption again; at the end of training down
#   launch/tpu_vm/tpu_vm.sh up | install | start | logs | status | stop | down      each step by itself
set -euo pipefail
shopt -s inherit_errexit

PROJECT=${PROJECT:?your Google Cloud project: PROJECT=... $0}
BUCKET=${BUCKET:?a bucket with hierarchical namespace in the same region, without gs://: BUCKET=... $0}
ZONE=${ZONE:-us-west4-a}
ACCELERATOR=${ACCELERATOR:-v5litepod-16} # v5e, 4 x 4 chips on 4 hosts
RUNTIME=${RUNTIME:-v2-alpha-tpuv5-lite}  # v6e: v2-alpha-tpuv6e; v5p: v2-alpha-tpuv5; v4: tpu-ubuntu2204-base
TIER=${TIER---spot}                      # TIER= takes what is not preempted, at the full price
WAIT=${WAIT:-24h}                        # how long the request may wait in the queue
RETRIES=${RETRIES:-3}                    # of a training that fails though its TPU is there
NAME=${NAME:-richhf-base}                # of the TPU, and of the run in the bucket
MODEL=${MODEL:-base_augmented_prompt}    # one of gin/models
FLAGS=${FLAGS:-}                         # more flags of launch.train, such as --gin.TRAIN_STEPS=2001
PLACE=(--project="$PROJECT" --zone="$ZONE")
TPU=(gcloud compute tpus)

state() { # ABSENT, WAITING_FOR_RESOURCES, PROVISIONING, ACTIVE, SUSPENDING, SUSPENDED, FAILED, ...
  local rows
  rows=$("${TPU[@]}" queued-resources list "${PLACE[@]}" --format='value(name.basename(),state.state)')
  awk -v name="$NAME" '$1 == name { found = $2 } END { print found ? found : "ABSENT" }' <<<"$rows"
}

up() {
  local now
  while true; do
    now=$(state) || now="no answer"
    echo "$(date '+%F %T') $NAME: $now"
    case $now in
      ACTIVE) return ;;
      ABSENT)
        "${TPU[@]}" queued-resources create "$NAME" "${PLACE[@]}" --node-id="$NAME" ${TIER:+"$TIER"} \
          --accelerator-type="$ACCELERATOR" --runtime-version="$RUNTIME" --valid-until-duration="$WAIT"
        ;;
      SUSPENDED | FAILED) down ;; # a preempted one never comes back: make a new one
      *) sleep 60 ;;
    esac
  done
}

on() { # WORKER COMMAND
  "${TPU[@]}" tpu-vm ssh "$NAME" "${PLACE[@]}" --worker="$1" --command="$2"
}

install() {
  local code="${TMPDIR:-/tmp}/$NAME.tar.gz" unpack="mkdir -p richhf && tar -xzf $NAME.tar.gz -C richhf"
  git archive --format=tar.gz --output="$code" HEAD &&
    "${TPU[@]}" tpu-vm scp "$code" "$NAME:" "${PLACE[@]}" --worker=all &&
    on all "$unpack && bash richhf/launch/tpu_vm/install.sh $BUCKET"
}

start() {
  on all "setsid nohup bash richhf/launch/tpu_vm/train.sh $MODEL $NAME $FLAGS > train.log 2>&1 < /dev/null &"
}

wait_for_end() { # the exit status of training, or `gone` where its TPU is
  local found
  while sleep 60; do
    found=$(on 0 'cat train.status 2> /dev/null || true' 2> /dev/null) || found=
    if [[ -n $found ]]; then
      echo "$found"
      return
    elif found=$(state) && [[ $found != ACTIVE ]]; then
      echo gone
      return
    fi
  done
}

run() {
  local ended=gone failures=0
  while [[ $ended != 0 && $ended != 2 ]] && ((failures < RETRIES)); do
    up
    if install && start; then
      ended=$(wait_for_end)
      echo "training: $ended"
    else
      ended=gone
    fi
    # A host that loses another ends with some other status: the loss is known to Cloud TPU a little later.
    if [[ $ended != [02] && $ended != 143 ]]; then
      sleep 300
      [[ $(state) != ACTIVE ]] || failures=$((failures + 1))
    fi
  done
  on 0 'tail -n 20 train.log' || true
  echo "ended with status $ended; the run is gs://$BUCKET/runs/$NAME"
  down
  [[ $ended == 0 ]]
}

logs() { on 0 'tail -n 200 -f train.log'; }

status() { "${TPU[@]}" queued-resources list "${PLACE[@]}"; }

# Saves; `start` goes on. (End `run` first: it would start again.)
# shellcheck disable=SC2016 # the host's file
stop() { on all 'kill -TERM "$(cat train.pid)"'; }

down() { "${TPU[@]}" queued-resources delete "$NAME" "${PLACE[@]}" --force --quiet; }

case ${1:-} in
  run | up | install | start | logs | status | stop | down) "$1" ;;
  *)
    sed -n '2,7s/^# \{0,1\}//p' "$0"
    exit 2
    ;;
esac
