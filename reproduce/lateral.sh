#!/bin/sh
# The gain of the RBM's lateral connections by the width of the networks, and by the number of continuous layers.
SEEDS=${SEEDS:-2}
. "$(dirname "$0")/settings.sh"
EPOCHS=${EPOCHS:-20}

compare() { # width, layers
    sweep lateral/width-$(printf %03d $1)-layers-$2 --vary "prior=rbm independent" -- mnist-static \
        --encoder-hidden $1,$1 --prior-hidden $(($1 / 2)) --decoder-hidden $1 --layers $2
}

for width in 50 200 400; do compare $width 2; done
compare 50 6
