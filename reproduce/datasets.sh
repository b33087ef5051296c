#!/bin/sh
# Table 1, with and without the RBM's lateral connections; Figure 10 and samples of the models with them.
. "$(dirname "$0")/settings.sh"

for data in ${DATASETS:-caltech101 mnist-static omniglot mnist}; do
    sweep "datasets/$data" --vary "prior=rbm independent" -- "$data"
    model=$RUNS/datasets/$data/prior-rbm_seed-0/model.pt
    mkdir -p "$RUNS/figure10"
    go dvae-eval logz "$model" --method pt-bar --repeats 100 --precision 0.05 --device "$DEVICE" \
        --force -o "$RUNS/figure10/$data.json"
    go dvae-eval samples "$model" --device "$DEVICE"
done
