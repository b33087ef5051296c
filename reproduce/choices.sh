#!/bin/sh
# The medium preset of static MNIST with one setting changed at a time, in short trainings.
# The base is trained for three lengths, so that a change is compared with the base at equal training time.
LIMIT=${LIMIT:-500}
SAMPLES=${SAMPLES:-1000}
. "$(dirname "$0")/settings.sh"

# choice NAME EPOCHS OPTIONS_OF_TRAINING...
choice() {
    name=$1 epochs=$2
    shift 2
    sweep "choices/$name" -- mnist-static --preset mnist-static-medium \
        --warmup-epochs 1 --rbm-warmup-epochs 2 --epochs "$epochs" "$@"
}

choice base-8 8
choice base-4 4
choice base-16 16
choice widths-150 8 --encoder-hidden 150,150 --prior-hidden 100 --decoder-hidden 150
choice widths-600 4 --encoder-hidden 600,600 --prior-hidden 400 --decoder-hidden 600
choice layers-2 8 --layers 2
choice layers-12 8 --layers 12
choice batch-200 8 --batch-size 200
choice step-1e-3 8 --learning-rate 1e-3
choice constant-step 8 --learning-rate-decay 1
choice no-average 8 --ema-decay 0
choice importance-5 4 --importance 5
choice sweeps-5 8 --sweeps 5
choice sweeps-100 8 --sweeps 100
choice tempering 8 --sampler tempering --sweeps 3
choice rbm-32 8 --left 32 --right 32
