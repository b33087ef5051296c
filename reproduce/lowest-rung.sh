#!/bin/sh
# The simplest variant stays below the paper's result: the same model with wider networks, and trained longer.
. "$(dirname "$0")/settings.sh"

sweep lowest-rung/as-on-the-ladder -- mnist-static --preset ablation-flat-200-small
sweep lowest-rung/wider -- mnist-static --preset ablation-flat-200-small --encoder-hidden 1000,1000
EPOCHS=${EPOCHS:-160}
sweep lowest-rung/longer -- mnist-static --preset ablation-flat-200-small
