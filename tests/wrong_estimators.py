"""Estimators of which it is known what is wrong with them, for the benchmark to find out."""

import os
import signal
import time

import numpy as np
from scipy.special import logsumexp

from dvae_eval.test_machines.rbms import enumerated

NOISE = 0.05  # nats


def honest(W, b_left, b_right, seed):
    """Off by as much as it claims."""
    return enumerated(W, b_left, b_right) + NOISE * np.random.default_rng(seed).normal(), NOISE


def halved(W, b_left, b_right, seed):
    """Claims half of its error."""
    log_z, std_err = honest(W, b_left, b_right, seed + 1000)
    return log_z, std_err / 2


def one_mode(W, b_left, b_right, seed):
    """Sees one of two modes that mirror each other."""
    log_z, std_err = honest(W, b_left, b_right, seed)
    return log_z - np.log(2), std_err


def doubtful(W, b_left, b_right, seed):
    """Sees one of two modes, and says that it cannot be trusted."""
    return *one_mode(W, b_left, b_right, seed), False


def of_any_graph(J, b):
    """Visits all states."""
    z = (np.arange(1 << len(b))[:, None] >> np.arange(len(b)) & 1).astype(float)
    return float(logsumexp((z @ J * z).sum(1) + z @ b)), 0


def crashes(W):
    os.kill(os.getpid(), signal.SIGSEGV)


def kills_its_parent(W):
    os.kill(os.getppid(), signal.SIGKILL)


def burns(W):
    while True:
        pass


def sleeps(W):
    time.sleep(60)


def knows_nothing(W):
    return float("nan"), 1.0


def returns_one_number(W):
    return 3.0


def raises(W):
    raise RuntimeError("no\nluck")


def takes_something_else(weights):
    return 0.0, 1.0


def slow(W, seed):
    """Takes long enough to be interrupted."""
    time.sleep(0.2)
    return float(seed), 1.0
