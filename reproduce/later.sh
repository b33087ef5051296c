#!/bin/sh
# Later smoothings with the same model, data and number of epochs: the paper's own, DVAE++'s and GumBolt's.
SEEDS=${SEEDS:-2}
. "$(dirname "$0")/settings.sh"

# The sharpness is at most 3 at first and 5 at the end; the authors of DVAE++ took 4 for this smoothing.
sweep later/spike-and-exponential -- mnist-static --preset mnist-static-small
# 10 is the value that the same authors took for networks of this depth (code of DVAE#, `run.py`).
sweep later/overlapping-exponential -- mnist-static --preset mnist-static-small \
    --smoothing overlapping-exponential --sharpness 10 --sharpness-growth 0
# A temperature of 1/7, lower by the end of training.
sweep later/gumbolt -- mnist-static --preset mnist-static-small --smoothing gumbolt --sharpness 7
