# What the scripts in this folder have in common; sourced by each.  Any of it can be set from outside:
#
#   RUNS     where runs are made, and gone on with
#   WORKERS  runs at a time
#   DEVICE   cpu or cuda
#   SAMPLES  importance samples for an image
#   LIMIT    test images that are measured, evenly spread (0 = all)
#   EPOCHS   of every run; empty = as its preset says
#   SEEDS    runs of every setting
set -eu
RUNS=${RUNS:-runs/reproduce}
WORKERS=${WORKERS:-2}
DEVICE=${DEVICE:-cpu}
SAMPLES=${SAMPLES:-10000}
LIMIT=${LIMIT:-0}
EPOCHS=${EPOCHS:-}
SEEDS=${SEEDS:-1}

# Exit status 3 means done, but not to be trusted: that stands in the results, and the script goes on.
go() {
    printf '\n$ %s\n' "$*" >&2
    "$@" || [ $? -eq 3 ]
}

# sweep DIRECTORY OPTIONS_OF_SWEEP... -- DATASET OPTIONS_OF_TRAINING...
sweep() {
    out=$1
    shift
    options=
    while [ "$1" != -- ]; do options="$options '$1'"; shift; done
    shift
    eval "go dvae-eval sweep --out '$RUNS/$out' --workers $WORKERS --device $DEVICE --seeds $SEEDS $options" \
        "--logz '--precision 0.01' --ll '--samples $SAMPLES --limit $LIMIT'" '"$@"' ${EPOCHS:+--epochs $EPOCHS}
}
