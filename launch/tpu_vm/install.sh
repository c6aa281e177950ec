#!/usr/bin/env bash
# On each host of a TPU slice: the bucket mounted at ~/bucket, and richhf in ~/venv. Can be run again.
set -euo pipefail

BUCKET=${1:?usage: install.sh BUCKET}
KEY=/usr/share/keyrings/cloud.google.asc
REPOSITORY=https://packages.cloud.google.com/apt

if ! command -v gcsfuse > /dev/null; then
  curl -fsSL "$REPOSITORY/doc/apt-key.gpg" | sudo tee "$KEY" > /dev/null
  echo "deb [signed-by=$KEY] $REPOSITORY gcsfuse-$(lsb_release -cs) main" |
    sudo tee /etc/apt/sources.list.d/gcsfuse.list
  sudo apt-get -o DPkg::Lock::Timeout=600 update
  sudo apt-get -o DPkg::Lock::Timeout=600 install --yes gcsfuse
fi
mkdir -p ~/bucket
# Hosts write one checkpoint together: none of them may remember what another has since changed.
mountpoint -q ~/bucket ||
  gcsfuse --implicit-dirs --metadata-cache-ttl-secs=0 --metadata-cache-negative-ttl-secs=0 "$BUCKET" ~/bucket

# The image's Python is older than the 3.11 that richhf needs.
python3 -m pip install --quiet --user uv
[[ -x ~/venv/bin/python ]] || ~/.local/bin/uv venv --python 3.12 ~/venv
cd ~/richhf
~/.local/bin/uv pip install --python ~/venv/bin/python --editable '.[train,tpu]'
