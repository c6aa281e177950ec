#!/usr/bin/env bash
# On each host of a TPU slice: trains, or goes on training. ~/train.pid is whom to send SIGTERM, ~/train.status
# the exit status once there is one (launch/command.py lists them).
set -euo pipefail

MODEL=${1:?usage: train.sh MODEL NAME FLAGS}
NAME=${2:?usage: train.sh MODEL NAME FLAGS}
SHARED=$HOME/bucket

rm -f ~/train.status
cd ~/richhf
~/venv/bin/python -m launch.train --gin_file="gin/models/$MODEL.gin" --gin_file=gin/data/richhf18k.gin \
  --gin_file=gin/runs/finetune.gin --gin.DATA_DIR="$SHARED/richhf18k" \
  --gin.VOCABULARY="$SHARED/sentencepiece.model" --gin.MODEL_DIR="$SHARED/runs/$NAME" \
  --coordinator_address=auto "${@:3}" &
echo $! > ~/train.pid
exit_status=0
wait $! || exit_status=$?
echo "$exit_status" > ~/train.status
exit "$exit_status"
