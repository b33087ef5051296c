"""The test machines by name: how each is made, how its log Z is known, and why it is hard."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import ClassVar, NamedTuple

import numpy as np

from dvae_core.errors import ConfigError
from dvae_core.types import Float

from ..machine import BipartiteMachine, Machine
from . import graphs, rbms

CRITICAL = float(np.log(1 + np.sqrt(2)) / 2)  # of the Ising model on a square lattice
MAX_VISITED = 1 << 16  # states over which moments are summed


@dataclass(frozen=True, slots=True)
class TestMachine:
    """A machine over {0,1} whose log Z is known without an estimate.

    Attributes
    ----------
    name : str
    machine : BipartiteMachine or GeneralMachine
        An RBM has `W`, `b_left`, `b_right`; any other graph has `J`, each pair once, and `b`.
    log_z : float
        Exact up to rounding, nats.
    how : str
        How log Z is known.
    why_hard : str
        The difficulty for an estimator.
    """

    __test__: ClassVar[bool] = False  # not a test, in spite of the name that pytest looks for

    name: str
    machine: Machine
    log_z: float
    how: str
    why_hard: str = field(repr=False)

    def moments(self) -> tuple[float, Float] | None:
        """Return the exact mean energy and means of all units, from a sum over the states of the smaller side.

        Returns
        -------
        tuple of (float, float64 of shape (n_units,)), or None
            The mean of E = -(v'Wh + b_left'v + b_right'h), nats; and the means, left side first.  None for a
            general graph, or if the smaller side has more than 16 units.
        """
        m = self.machine
        if not isinstance(m, BipartiteMachine) or 1 << min(m.n_left, m.n_right) > MAX_VISITED:
            return None
        W = np.asarray(m.W if isinstance(m.W, np.ndarray) else m.W.toarray())
        return rbms.enumerated_moments(W, m.b_left, m.b_right)


Make = Callable[[int], tuple[Machine, float]]


class _Entry(NamedTuple):
    make: Make
    how: str
    why_hard: str


def names() -> list[str]:
    """Return the names of all test machines."""
    return list(MACHINES)


def make(name: str, seed: int = 0) -> TestMachine:
    """Return the test machine with a name.

    Parameters
    ----------
    name : str
        One of `names()`.
    seed : int
        Another seed draws another machine of the same kind.  Lattices with equal couplings and trained machines
        are the same for every seed.

    Raises
    ------
    ConfigError
        If there is no such machine.
    """
    if name not in MACHINES:
        raise ConfigError(f"test machine {name!r} is not known; give one of {', '.join(MACHINES)}")
    entry = MACHINES[name]
    machine, log_z = entry.make(seed)
    return TestMachine(name, machine, float(log_z), entry.how, entry.why_hard)


def suite(name: str) -> list[str]:
    """Return the names of the machines of a suite: quick, standard, trained or large.

    Raises
    ------
    ConfigError
        If there is no such suite.
    """
    if name not in SUITES:
        raise ConfigError(f"suite {name!r} is not known; give one of {', '.join(SUITES)}")
    return list(SUITES[name])


def _of_kind(how: str, why_hard: str, machines: dict[str, Make]) -> None:
    """Add machines whose log Z is known in the same way, and which are hard for the same reason."""
    MACHINES.update({name: _Entry(of_seed, how, why_hard) for name, of_seed in machines.items()})


ENUMERATED = "sum over the states of the smaller side"
COUNTED = "sum over the numbers of units that are on, weighted by binomial coefficients"
TRANSFER = "transfer matrices"
KAUFMAN = "Kaufman's formula for the Ising model on a torus"
PARTS = "sum of the log Z of its independent parts, each by enumeration"
TRAINED = (
    "clusters-80x10",
    "clusters-120x11",
    "clusters-300x20",
    "digits-64x8",
    "digits-64x20",
    "populations-800x20",
)
LARGE = (
    "ising-32x32-hot",
    "ising-32x32-critical",
    "ising-32x32-cold",
    "curie-weiss-500x500",
    "pattern-field-400x400",
    "blocks-500x500",
    "glass-8x100",
)
MACHINES: dict[str, _Entry] = {}

_of_kind(
    "closed form, Σ log(1 + exp(b))",
    "easy: the error should be zero",
    {"independent-30x20": lambda seed: rbms.independent(seed, (30, 20))},
)
_of_kind(
    ENUMERATED,
    "couplings from weak to so strong that few states have all the mass",
    {
        f"random-64x16-{scale}": partial(rbms.random_rbm, shape=(64, 16), scale=scale)
        for scale in (0.3, 1.0, 2.0, 4.0, 8.0)
    },
)
_of_kind(
    ENUMERATED,
    "a few strong directions among many weak ones",
    {
        "low-rank-64x16": lambda seed: rbms.low_rank(seed, (64, 16), 3, 2.0),
        "singular-values-14x60": lambda seed: rbms.many_scales(seed, (14, 60)),
    },
)
_of_kind(
    ENUMERATED,
    "mirror-image modes, between which Gibbs sampling never moves",
    {
        "planted-16x64": lambda seed: rbms.planted(seed, (16, 64), 0.3),
        "planted-4-16x64": lambda seed: rbms.planted(seed, (16, 64), 1.2, 4),
        "planted-field-16x64": lambda seed: rbms.planted(seed, (16, 64), 0.3, 1, 0.2),
    },
)
_of_kind(
    COUNTED,
    "modes of unequal weight: a missed light mode leaves no trace in the samples",
    {
        "patterns-40x80": lambda seed: rbms.unequal_patterns(10, 20, (0.03, 0.015)),
        "patterns-32x120": lambda seed: rbms.unequal_patterns(8, 30, (0.06, 0.054)),
        "patterns-24x80": lambda seed: rbms.unequal_patterns(3, 10, (0.06, 0.05, 0.04)),
        "pattern-field-60x60": lambda seed: rbms.unequal_patterns(30, 30, (0.05,), 0.02),
    },
)
_of_kind(
    COUNTED,
    "a first-order transition on the way from β = 0",
    {
        "condensing-100x40": lambda seed: rbms.from_classes([100], [40], [[0.24]], [-18 * 0.24], [-55 * 0.24]),
        "condensing-60x200": lambda seed: rbms.from_classes([60], [200], [[0.25]], [-1.0], [-10.0]),
    },
)
_of_kind(
    COUNTED,
    "a critical point, where the energy fluctuates most",
    {"curie-weiss-64x64": lambda seed: rbms.curie_weiss(64, 64, 0.06, -1.92, -1.92)},
)
_of_kind(
    ENUMERATED,
    "a first-order trap: one unit switches between a broad and a narrow half",
    {
        "switched-broad-15x40": lambda seed: rbms.switched(seed, 14, 20, -3.0),
        "switched-15x40": lambda seed: rbms.switched(seed, 14, 20, 0.0),
        "switched-narrow-15x40": lambda seed: rbms.switched(seed, 14, 20, 3.0),
    },
)
_of_kind(
    COUNTED,
    "a golf hole: nothing guides a sampler to the states with the mass",
    {
        "golf-hole-20x40": lambda seed: rbms.golf_hole(seed=seed),
        "golf-hole-100x40": lambda seed: rbms.golf_hole(100, 40, 0.2, 0.9, seed),
    },
)
_of_kind(
    ENUMERATED,
    "sides of very unequal size",
    {
        "lopsided-2x1000": lambda seed: rbms.lopsided(seed, (2, 1000)),
        "one-unit-1x300": lambda seed: rbms.one_unit_side(seed, 300, 2.0),
    },
)
_of_kind(
    ENUMERATED,
    "numbers that overflow, cancel or nearly coincide",
    {
        "duplicates-14x96": lambda seed: rbms.duplicates(seed, (14, 12), 8, 1e-6),
        "extreme-biases-14x40": lambda seed: rbms.extreme_biases(seed, (14, 40), 700.0),
        "huge-weights-12x64": lambda seed: rbms.huge(seed, (12, 64), 50.0),
        "tiny-weights-12x64": lambda seed: rbms.huge(seed, (12, 64), 1e-6),
    },
)
_of_kind(
    PARTS,
    "too many independent modes to list them all",
    {
        "blocks-64x64": lambda seed: rbms.blocks(seed, 8, (8, 8), 3.0),
        "blocks-500x500": lambda seed: rbms.blocks(seed, 50, (10, 10), 3.0),
    },
)
_of_kind(
    "sums over a tree from its leaves",
    "correlations over many units",
    {
        "chain-1000": lambda seed: graphs.chain(seed, 1000, 2.0),
        "tree-300": lambda seed: graphs.tree(seed, 300, 4.0),
        "star-301": lambda seed: graphs.star(seed, 300, 2.0),
    },
)
_of_kind(
    TRANSFER,
    "a spin glass: many valleys, and no symmetry that a reference could use",
    {
        "glass-8x16-weak": lambda seed: graphs.strip(seed, 8, 16, 0.5),
        "glass-8x16": lambda seed: graphs.strip(seed, 8, 16, 1.5),
        "glass-8x100": lambda seed: graphs.strip(seed, 8, 100, 1.0),
    },
)
_of_kind(
    KAUFMAN,
    "domains, critical fluctuations, and two phases at low temperature",
    {
        "ising-8x8-hot": lambda seed: graphs.torus(8, 8, 0.3),
        "ising-8x8-critical": lambda seed: graphs.torus(8, 8, CRITICAL),
        "ising-8x8-cold": lambda seed: graphs.torus(8, 8, 0.6),
        "ising-9x9-critical": lambda seed: graphs.torus(9, 9, CRITICAL),
        "ising-32x32-hot": lambda seed: graphs.torus(32, 32, 0.3),
        "ising-32x32-critical": lambda seed: graphs.torus(32, 32, CRITICAL),
        "ising-32x32-cold": lambda seed: graphs.torus(32, 32, 0.6),
    },
)
_of_kind(
    TRANSFER,
    "frustration in every triangle",
    {"triangular-6x12": lambda seed: graphs.triangular(6, 12, -1.0)},
)
_of_kind(
    TRANSFER,
    "constraints: about one of every five units is on",
    {"potts-16x5": lambda seed: graphs.potts(seed, 16, 5, 12.0, 2.0)},
)
_of_kind(
    "sum over all states",
    "every unit is coupled to every other",
    {
        "complete-16": lambda seed: graphs.complete(seed, 16, 4.0),
        "hopfield-16": lambda seed: graphs.hopfield(seed, 16, 5, 0.3),
        "antihopfield-16": lambda seed: graphs.hopfield(seed, 16, 5, -0.5),
    },
)
_of_kind(
    COUNTED,
    "many units and one pair of modes: errors must not grow with the number of units",
    {
        "curie-weiss-500x500": lambda seed: rbms.curie_weiss(500, 500, 0.012, -3.0, -3.0),
        "pattern-field-400x400": lambda seed: rbms.unequal_patterns(200, 200, (0.008,), 0.002),
    },
)
_of_kind(
    "sum over the states of the hidden units",
    "trained machines: basins of unequal weight, between which the mass moves abruptly",
    {name: partial(rbms.trained, name) for name in TRAINED},
)

SUITES: dict[str, tuple[str, ...]] = {
    "quick": (
        "independent-30x20",
        "random-64x16-2.0",
        "planted-16x64",
        "patterns-32x120",
        "switched-15x40",
        "golf-hole-20x40",
        "ising-8x8-critical",
        "glass-8x16",
        "clusters-80x10",
        "digits-64x20",
    ),
    "standard": tuple(name for name in MACHINES if name not in (*TRAINED, *LARGE)),
    "trained": TRAINED,
    "large": LARGE,
}
