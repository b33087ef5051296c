#!/bin/sh
# Later smoothings on the same model, data and budget: DVAE++'s overlapping exponential and GumBolt's relaxation.
. "$(dirname "$0")/settings.sh"
SEEDS=${LATER_SEEDS:-2}

# The paper's own smoothing, whose sharpness is trained below a bound that grows from 3.
sweep later/spike -- mnist-static --preset mnist-static-small
sweep later/overlapping -- mnist-static --preset mnist-static-small --smoothing overlapping-exponential
sweep later/gumbolt -- mnist-static --preset mnist-static-small --smoothing gumbolt
