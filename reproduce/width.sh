#!/bin/sh
# The gain of the RBM's lateral connections by the width of the networks, on statically binarized MNIST.
SEEDS=${SEEDS:-2}
. "$(dirname "$0")/settings.sh"
EPOCHS=${EPOCHS:-20}

for width in 50 200 400; do
    sweep width/$(printf %03d $width) --vary "prior=rbm independent" -- mnist-static --encoder-hidden $width,$width \
        --prior-hidden $((width / 2)) --decoder-hidden $width
done
