#!/usr/bin/env bash
# Trains on a TPU slice of a GKE cluster that has JobSet and the Cloud Storage FUSE driver: launch/README.md says how
# to make one. Deleting the JobSet frees the nodes; the cluster and its node pools cost until they are deleted too.
#
#   launch/gke/gke.sh apply | logs | status | stop | delete
set -euo pipefail

export NAME=${NAME:-richhf-base}
export MODEL=${MODEL:-base_augmented_prompt}
export IMAGE=${IMAGE:?the image of launch/docker/Dockerfile: IMAGE=... $0}
export BUCKET=${BUCKET:?a bucket with hierarchical namespace in the same region, without gs://: BUCKET=... $0}
export SERVICE_ACCOUNT=${SERVICE_ACCOUNT:-richhf} # of Kubernetes, with access to the bucket
HERE=$(cd "$(dirname "$0")" && pwd)

case ${1:-} in
  apply)
    # shellcheck disable=SC2016 # the names of the variables, for envsubst
    envsubst '$NAME $MODEL $IMAGE $BUCKET $SERVICE_ACCOUNT' < "$HERE/jobset.yaml" | kubectl apply -f -
    ;;
  logs) # of the first host, which says how far training is
    kubectl logs --follow --tail=200 --container=train \
      --selector="jobset.sigs.k8s.io/jobset-name=$NAME,batch.kubernetes.io/job-completion-index=0"
    ;;
  status) kubectl get jobset,job,pod --selector="jobset.sigs.k8s.io/jobset-name=$NAME" --output=wide ;;
  stop) kubectl patch jobset "$NAME" --type=merge --patch='{"spec": {"suspend": true}}' ;; # false goes on
  delete) kubectl delete jobset "$NAME" ;;
  *)
    sed -n '2,5s/^# \{0,1\}//p' "$0"
    exit 2
    ;;
esac
