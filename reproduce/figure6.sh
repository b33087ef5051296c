#!/bin/sh
# Figure 6 on dynamically binarized MNIST: Gibbs sweeps, size of the RBM, groups of its posterior.
. "$(dirname "$0")/settings.sh"
EPOCHS=${EPOCHS:-10}
LIMIT=${FIGURE6_LIMIT:-1000}

sweep figure6/sweeps --vary "sweeps=1 10 100" -- mnist
# Eight rungs at 12 sweeps cost as much as one rung at 100.
sweep figure6/tempering -- mnist --sampler tempering --rungs 8 --sweeps 12
sweep figure6/rbm-size --vary "left,right=8 16 32 64" -- mnist
sweep figure6/groups --vary "groups=1 2 4 8" -- mnist
