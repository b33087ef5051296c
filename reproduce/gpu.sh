#!/usr/bin/env bash
# The most that some minutes of one large GPU can show: tests, timings, tempering, and the paper's model of dynamically
# binarised MNIST (Table 2: -80.15 nats), trained and evaluated.
#
#   bash reproduce/gpu.sh prepare    # anywhere, no GPU needed: copies the data set and makes the machines
#   bash reproduce/gpu.sh            # on the GPU: all stages within MINUTES; the same command again continues
#   bash reproduce/gpu.sh retry      # the same, and stages that failed or exceeded their limit run again
#
#   MINUTES  budget of all calls together (15): tests, timings and tempering take at most 45% of it, the evaluation of
#            the trained model gets 25%, and training gets what is left
#   OUT      directory of the results (runs/gpu-paper-mnist)
#   DEVICE   cuda or cpu (cuda)
#   SIZE     full, or tiny for a rehearsal of seconds:  DEVICE=cpu SIZE=tiny OUT=/tmp/gpu bash reproduce/gpu.sh
#   PYTHON   interpreter with the packages of this checkout (python)
#
# OUT gets summary.md and summary.json, a STAGE.json and a log for each stage, and the run directory `run`. Remove
# a STAGE.json to run that stage again. gpu.py holds the list of stages.
set -euo pipefail
cd "$(dirname "$0")/.."
exec "${PYTHON:-python}" reproduce/gpu.py "$@"
