"""Compiled and torch tempering against enumeration, a float64 formula, and themselves after any interruption."""

import itertools

import numpy as np
import pytest
from scipy import stats

from dvae_eval import tempering
from dvae_eval.ladder import Ladder
from dvae_eval.machine import BipartiteMachine, machine_from_couplings
from dvae_eval.path import Base
from dvae_eval.tempering import Tempering

BETAS = np.array([0.0, 0.1, 0.35, 0.8, 1.0])


def rbm(n, m, scale=1.0, fill=1.0, seed=0):
    rng = np.random.default_rng(seed)
    W = rng.normal(size=(n, m)) * (rng.random((n, m)) < fill) * scale
    return BipartiteMachine.from_arrays(W, rng.normal(size=n) * scale, rng.normal(size=m) * scale)


def general(n, scale=1.0, fill=1.0, seed=0):
    rng = np.random.default_rng(seed)
    J = np.triu(rng.normal(size=(n, n)) * (rng.random((n, n)) < fill), 1)
    return machine_from_couplings(J * scale, rng.normal(size=n) * scale)


def random_base(machine, seed=9):
    reduced, rng = machine.reduced(), np.random.default_rng(seed)
    return Base(rng.normal(size=len(reduced.b)), rng.normal(size=len(reduced.c)))


def log_p(machine, base, beta, v):
    """Return log p_β(v) + log Z_β, float64: the formula of the module, written out."""
    r = machine.reduced()
    x = beta * (v @ r.W + r.c) + (1 - beta) * base.c
    pairs = 0 if r.J is None else np.einsum("...i,ij,...j->...", v, np.triu(r.J), v)
    return beta * (pairs + v @ r.b) + (1 - beta) * (v @ base.b) + np.logaddexp(0, x).sum(-1)


@pytest.fixture(params=["compiled", "torch"])
def engine(request, monkeypatch):
    if request.param == "torch":
        monkeypatch.setattr(tempering, "has_numba", lambda: False)
    return request.param


SMALL = {
    "3x5": rbm(3, 5),
    "1x1": rbm(1, 1, 2.0),
    "1x40": rbm(1, 40, 0.3),
    "5x17, sparse": rbm(5, 17, fill=0.15),
    "complete": general(5),
    "classes": general(8, fill=0.4, seed=3),
}


@pytest.mark.parametrize("exchange", ["even-odd", "random"])
@pytest.mark.parametrize("energies", ["reduced", "joint"])
@pytest.mark.parametrize("name", SMALL)
def test_every_rung_has_its_own_distribution(name, energies, exchange):
    machine = SMALL[name]
    base = random_base(machine)
    ladder, n_ladders, n_rounds = Ladder(BETAS), 400, 30
    t = Tempering(machine, ladder, n_ladders, seed=1, round=0, base=base, exchange=exchange, energies=energies)
    n = t.v.shape[-1]
    states = np.array(list(itertools.product((0, 1), repeat=n)))
    counts = np.zeros((len(BETAS), 2**n))
    for _ in range(n_rounds):
        t.run(25)
        codes = t.v @ (1 << np.arange(n)[::-1])
        counts += np.stack([np.bincount(codes[:, k], minlength=2**n) for k in range(len(BETAS))])
    for k, beta in enumerate(BETAS):
        logs = log_p(machine, base, beta, states)
        expected = np.exp(logs - np.logaddexp.reduce(logs)) * counts[k].sum()
        rare = expected < 5
        seen = np.append(counts[k][~rare], counts[k][rare].sum())
        expected = np.append(expected[~rare], expected[rare].sum())
        good = expected > 0
        p = stats.chisquare(seen[good], expected[good]).pvalue
        assert p > 1e-5
