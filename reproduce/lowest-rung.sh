#!/bin/sh
# Why the simplest variant falls short of the paper's: the same model with wider networks, or trained longer.
. "$(dirname "$0")/settings.sh"

sweep lowest-rung/as-on-the-ladder -- mnist-static --preset ablation-flat-200-small
sweep lowest-rung/wider -- mnist-static --preset ablation-flat-200-small --encoder-hidden 1000,1000
EPOCHS=${EPOCHS:-160}
sweep lowest-rung/longer -- mnist-static --preset ablation-flat-200-small
