#!/bin/sh
# Appendix J: the contribution of each part of the model, on statically binarized MNIST.
. "$(dirname "$0")/settings.sh"

presets="mnist-static-small"
for rung in deep-200 deep-128 linear-200 linear-128 sbn-200 flat-200; do
    presets="$presets ablation-$rung-small"
done
sweep ablation --vary "preset=$presets" -- mnist-static
