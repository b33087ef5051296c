#!/bin/sh
# Medium presets: the paper's RBM, six continuous layers and wider networks, an hour of one core each.
. "$(dirname "$0")/settings.sh"

for data in ${DATASETS:-mnist-static caltech101 omniglot mnist}; do
    sweep medium/$data -- "$data" --preset "$data-medium"
done
