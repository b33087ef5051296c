# Defaults and functions of the scripts in this folder, which source this file. Variables of the environment override:
#
#   RUNS     directory of the runs; a run that is there continues
#   WORKERS  runs at a time
#   DEVICE   cpu or cuda
#   SAMPLES  importance samples per image
#   LIMIT    number of test images to evaluate, evenly spread (0 = all)
#   EPOCHS   epochs of every run; empty = those of its preset
#   SEEDS    runs per setting
set -eu
RUNS=${RUNS:-runs/reproduce}
WORKERS=${WORKERS:-2}
DEVICE=${DEVICE:-cpu}
SAMPLES=${SAMPLES:-10000}
LIMIT=${LIMIT:-0}
EPOCHS=${EPOCHS:-}
SEEDS=${SEEDS:-1}

# Exit status 3 means done, but not trustworthy: the result says so, and the script continues.
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
