#!/bin/sh
# Does parallel tempering in the negative phase beat 100 block Gibbs sweeps at equal cost?  (Section 5 of the paper)
SEEDS=${SEEDS:-3}
. "$(dirname "$0")/settings.sh"

compare() { # units on each side, epochs
    EPOCHS=$2
    sweep negative-phase/gibbs-$1 -- mnist-static --left $1 --right $1 --sweeps 100
    # Eight rungs at 12 sweeps cost what one does at 100.
    sweep negative-phase/tempering-$1 -- mnist-static --left $1 --right $1 --sampler tempering --rungs 8 --sweeps 12
}

epochs=$EPOCHS
compare 64 "${epochs:-8}"
compare 200 "${epochs:-4}"
