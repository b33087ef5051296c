#!/usr/bin/env bash
# The paper's own model of dynamically binarised MNIST (Table 2: -80.15 nats) on a GPU, trained and measured there.
#
#   bash reproduce/gpu.sh                   # 1000 epochs; after Ctrl-C or a kill, the same command goes on
#   MINUTES=25 bash reproduce/gpu.sh        # train for so long, then measure what there is
#   OPTIONS=--amp bash reproduce/gpu.sh     # matrices in bfloat16: worth it if step-amp.json says so
#
# To try it without a GPU:
#
#   DEVICE=cpu PRESET=demo DATA=digits OPTIONS="--epochs 1" SAMPLES=100 LIMIT=20 OUT=/tmp/gpu bash reproduce/gpu.sh
#
# OUT gets the run, step.json and step-amp.json (a training step by its parts, against its matrix products alone),
# logz.json, ll.json, seconds.txt (what the measurements took) and report.html.
set -euo pipefail
cd "$(dirname "$0")/.."
: "${DEVICE:=cuda}" "${PRESET:=paper-mnist}" "${DATA:=mnist}" "${OPTIONS:=}" "${MINUTES:=0}"
: "${SAMPLES:=10000}" "${LIMIT:=0}" "${OUT:=runs/gpu-$PRESET}" "${PYTHON:=python}"
: "${TRAIN:=dvae-train}" "${EVAL:=dvae-eval}"   # or: "python -m dvae_cli.train", "python -m dvae_cli.main"

# A result that is not to be trusted (3) is a result; training that was stopped (130) leaves a model.
measured() { "$@" || [ $? -eq 3 ]; }
stopped() { "$@" || [ $? -eq 130 ]; }

say() { printf '\n$ %s\n' "$*"; }

seconds() { # name, command
  local name=$1 start=$SECONDS
  shift
  say "$@"
  measured "$@"
  printf '%s: %s s\n' "$name" $((SECONDS - start)) | tee -a "$OUT/seconds.txt"
}

mkdir -p "$(dirname "$OUT")"
limit=()
[ "$MINUTES" = 0 ] || limit=(timeout --preserve-status --signal=INT "$((60 * MINUTES))")
# shellcheck disable=SC2086
if [ -f "$OUT/config.json" ]; then
  say $TRAIN --resume --out "$OUT"
  stopped "${limit[@]}" $TRAIN --resume --out "$OUT" --device "$DEVICE"
else
  say $TRAIN "$DATA" --preset "$PRESET" --out "$OUT" --device "$DEVICE" $OPTIONS
  stopped "${limit[@]}" $TRAIN "$DATA" --preset "$PRESET" --out "$OUT" --device "$DEVICE" $OPTIONS
fi

[ -f "$OUT/step.json" ] ||
  "$PYTHON" benchmarks/train_step.py "$PRESET" --device "$DEVICE" --json "$OUT/step.json"
[ -f "$OUT/step-amp.json" ] ||
  "$PYTHON" benchmarks/train_step.py "$PRESET" --device "$DEVICE" --amp --json "$OUT/step-amp.json"

# The model may have changed since it was last measured.
# shellcheck disable=SC2086
seconds "log Z to 0.01 nats" $EVAL logz "$OUT/model.pt" --device "$DEVICE" --precision 0.01
# shellcheck disable=SC2086
seconds "log-likelihood, $SAMPLES samples" $EVAL ll "$OUT/model.pt" --device "$DEVICE" --samples "$SAMPLES" \
  --limit "$LIMIT"
"$PYTHON" - "$OUT/metrics.jsonl" <<'PYTHON'
import json, statistics, sys

epochs = [json.loads(line) for line in open(sys.argv[1], encoding="utf-8")]
rate = statistics.median(epoch["images_per_s"] for epoch in epochs)
print(f"{len(epochs)} epochs, {rate:.0f} images/s (median of the epochs), validation bound "
      f"{max(epoch['valid']['elbo'] for epoch in epochs):.2f} nats at best, log Z tracked roughly")
PYTHON
# shellcheck disable=SC2086
measured $EVAL report "$OUT"
# shellcheck disable=SC2086
measured $EVAL table "$OUT"
