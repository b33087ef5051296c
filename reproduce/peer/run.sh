#!/usr/bin/env bash
# Our discrete VAE and D-Wave's, with the same data, latent size, CPU time of one thread and evaluation.
#
#   bash reproduce/peer/run.sh        # half an hour of one core; results/ gets JSON files and table.md
#
# Steps whose results exist are skipped: run the same command again to continue. A rehearsal of a minute:
#
#   DATA=digits EPOCHS=2 SAMPLES=200 LIMIT=20 RUNS=/tmp/peer RESULTS=/tmp/peer/results bash reproduce/peer/run.sh
#
# Ours is trained for EPOCHS epochs, 30 of which take some five minutes; the peer gets the same CPU time.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
: "${DATA:=mnist-static}" "${EPOCHS:=30}" "${LEFT:=32}" "${RIGHT:=32}" "${SAMPLES:=10000}" "${LIMIT:=500}"
: "${RUNS:=runs/peer}" "${RESULTS:=$here/results}" "${PYTHON:=python}"
: "${TRAIN:=dvae-train}" "${EVAL:=dvae-eval}"   # or: "python -m dvae_cli.train", "python -m dvae_cli.main"
export OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE
mkdir -p "$RUNS" "$RESULTS"

# Run a command; write its CPU seconds, start included, and the command to a JSON file.
timed() {
  local file=$1 spent TIMEFORMAT='%U %S'
  shift
  { time "$@" 2>&3; } 3>&2 2> "$RUNS/cpu"
  spent=$(awk '{printf "%.1f", $1 + $2}' "$RUNS/cpu")
  printf '{"cpu_seconds": %s, "command": "%s"}\n' "$spent" "$*" > "$file.part"
  mv "$file.part" "$file"
}

# Run a command for which exit status 3, a result that is not trustworthy, is no failure.
measured() { "$@" || [ $? -eq 3 ]; }

ours() { # name, settings
  local name=$1 run=$RUNS/$1
  shift
  if [ ! -f "$RESULTS/$name-training.json" ]; then
    rm -rf "$run"
    # shellcheck disable=SC2086
    timed "$RESULTS/$name-training.json" $TRAIN "$DATA" --preset ablation-deep-128-small \
      --left "$LEFT" --right "$RIGHT" --epochs "$EPOCHS" "$@" --threads 1 --quiet --out "$run"
  fi
  log_z "$name" "$run/model.pt"
  # shellcheck disable=SC2086
  [ -f "$RESULTS/$name-ll.json" ] || measured $EVAL ll "$run/model.pt" --log-z "$RESULTS/$name-logz.json" \
    --samples "$SAMPLES" --limit "$LIMIT" --workers 1 --threads 1 -o "$RESULTS/$name-ll.json"
}

peer() { # recipe, CPU minutes
  local name=peer-$1 model=$RUNS/peer-$1.pt
  [ -f "$RESULTS/$name-training.json" ] || "$PYTHON" "$here/train_peer.py" "$DATA" --out "$model" --recipe "$1" \
    --minutes "$2" --left "$LEFT" --right "$RIGHT" --report "$RESULTS/$name-training.json"
  log_z "$name" "$model"
  [ -f "$RESULTS/$name-ll.json" ] || measured "$PYTHON" "$here/evaluate_peer.py" "$model" --data "$DATA" \
    --log-z "$RESULTS/$name-logz.json" --samples "$SAMPLES" --limit "$LIMIT" -o "$RESULTS/$name-ll.json"
}

log_z() { # name, model
  # shellcheck disable=SC2086
  [ -f "$RESULTS/$1-logz.json" ] ||
    measured $EVAL logz "$2" --precision 0.01 --threads 1 -o "$RESULTS/$1-logz.json"
}

ours ours
minutes=$(awk -F '[:,]' '{print $2 / 60}' "$RESULTS/ours-training.json")
peer documented "$minutes"
peer tuned "$minutes"
ours ours-factorial --groups 1
"$PYTHON" "$here/table.py" "$RESULTS" --output "$RESULTS/table.md"
