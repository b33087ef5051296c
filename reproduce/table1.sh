#!/bin/sh
# Evaluate the models of datasets.sh that have an RBM on the whole test set, whatever LIMIT is.
. "$(dirname "$0")/settings.sh"

for data in ${DATASETS:-caltech101 mnist-static omniglot mnist}; do
    from=$RUNS/datasets/$data/prior-rbm_seed-0
    run=$RUNS/table1/$data
    mkdir -p "$run"
    for file in config.json metrics.jsonl model.pt logz.json; do cp "$from/$file" "$run"; done
    [ -f "$run/ll.json" ] || go dvae-eval ll "$run/model.pt" --samples "$SAMPLES" --device "$DEVICE"
done
