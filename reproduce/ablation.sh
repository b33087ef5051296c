#!/bin/sh
# Appendix J: what each part of the model contributes, on statically binarized MNIST.
. "$(dirname "$0")/settings.sh"

presets="mnist-static-small"
for rung in deep-200 deep-128 linear-200 linear-128 sbn-200 flat-200; do
    presets="$presets ablation-$rung-small"
done
sweep ablation --vary "preset=$presets" -- mnist-static
