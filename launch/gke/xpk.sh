#!/usr/bin/env bash
# The same with xpk, which also makes the cluster: https://github.com/AI-Hypercomputer/xpk. Costs end with `down`.
#
#   launch/gke/xpk.sh up | train | status | stop | down
set -euo pipefail

PROJECT=${PROJECT:?your Google Cloud project: PROJECT=... $0}
IMAGE=${IMAGE:?the image of launch/docker/Dockerfile: IMAGE=... $0}
BUCKET=${BUCKET:?a bucket with hierarchical namespace in the same region, without gs://: BUCKET=... $0}
ZONE=${ZONE:-us-west4-a}
CLUSTER=${CLUSTER:-richhf}
ACCELERATOR=${ACCELERATOR:-v5litepod-16}
NAME=${NAME:-richhf-base}
MODEL=${MODEL:-base_augmented_prompt}
FLAGS=${FLAGS:-} # more flags of launch.train, such as --gin.TRAIN_STEPS=2001
SHARED=/bucket
PLACE=(--project="$PROJECT" --zone="$ZONE" --cluster="$CLUSTER")
TRAIN="python -m launch.train --gin_file=gin/models/$MODEL.gin --gin_file=gin/data/richhf18k.gin \
--gin_file=gin/runs/finetune.gin --gin.DATA_DIR=$SHARED/richhf18k --gin.VOCABULARY=$SHARED/sentencepiece.model \
--gin.MODEL_DIR=$SHARED/runs/$NAME --coordinator_address=auto $FLAGS"

case ${1:-} in
  up)
    xpk cluster create "${PLACE[@]}" --tpu-type="$ACCELERATOR" --num-slices=1 --spot --enable-gcsfuse-csi-driver
    xpk storage attach "$CLUSTER-bucket" "${PLACE[@]}" --type=gcsfuse --bucket="$BUCKET" --size=1 \
      --mount-point="$SHARED" --readonly=false --auto-mount=true \
      --mount-options=implicit-dirs,uid=1000,gid=1000,metadata-cache:ttl-secs:0,metadata-cache:negative-ttl-secs:0
    ;;
  train)
    xpk workload create "${PLACE[@]}" --workload="$NAME" --tpu-type="$ACCELERATOR" --num-slices=1 \
      --docker-image="$IMAGE" --max-restarts=50 --command="$TRAIN"
    ;;
  status) xpk workload list "${PLACE[@]}" ;;
  stop) xpk workload delete "${PLACE[@]}" --workload="$NAME" ;; # `train` goes on
  down) xpk cluster delete "${PLACE[@]}" ;;
  *)
    sed -n '2,4s/^# \{0,1\}//p' "$0"
    exit 2
    ;;
esac
