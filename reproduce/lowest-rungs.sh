#!/bin/sh
# The two simplest variants of Appendix J, trained six times as long as in ablation.sh.
SEEDS=${SEEDS:-2}
. "$(dirname "$0")/settings.sh"
EPOCHS=${EPOCHS:-240}

for rung in sbn flat; do
    sweep lowest-rungs/$rung -- mnist-static --preset ablation-$rung-200-small
done
