"""Groups of exchangeable units, counted instead of enumerated: n such units have n + 1 states, not 2^n.

All units of a Curie-Weiss model form one group, as do those of a planted (Mattis) model after a change of signs; a
model with p patterns has at most 2^(p-1) groups.  A unit that is not exchangeable with another is its own group.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from dvae_core.types import Float, Index

from ..couplings import Table, as_array, is_full
from ..machine import Reduced

# Nothing with 2^64 states can be enumerated, so the search stops at this number of groups.
MAX_GROUPS = 64
MAX_TABLE = 1 << 28  # entries


@dataclass(frozen=True, slots=True)
class Grouped:
    """A reduced machine in terms of the sums s_g = Σ_{i in g} k_i v_i, k_i = ±1, over groups of its kept units.

    Z = Σ_s exp(Σ_g a_g(s_g) + s'Js / 2) Π_j (1 + exp(c_j + (s'W)_j)).

    Attributes
    ----------
    W : float64, shape (n_groups, n_summed)
    c : float64, shape (n_summed,)
    J : float64, shape (n_groups, n_groups)
        Symmetric; the diagonal has the couplings within a group.
    starts : float64, shape (n_groups,)
        The least value of each s_g; the other values follow in steps of one.
    log_weights : tuple of float64 arrays
        a_g(s_g), the logarithm of the sum over all states of the group with this s_g.
    members : tuple of tuples
        (index among the kept units, bias, sign k_i) of every unit of every group.  Couplings within the group are
        written as half a square of s_g; the bias is the unit's own less the remainder.
    """

    W: Float
    c: Float
    J: Float
    starts: Float
    log_weights: tuple[Float, ...]
    members: tuple[tuple[tuple[int, float, int], ...], ...] = ()

    @property
    def counts(self) -> Index:
        """Number of values of each s_g, shape (n_groups,)."""
        return np.array([len(weights) for weights in self.log_weights], np.int64)

    @property
    def n_states(self) -> int:
        """Number of joint values of all s_g."""
        return math.prod(map(len, self.log_weights))


def grouped(reduced: Reduced) -> Grouped | None:
    """Return the machine with exchangeable kept units in groups; None if there are more than `MAX_GROUPS`.

    Units i and j are exchangeable if their couplings to every third unit are equal, or all opposite; in the second
    case v_j and 1 - v_j change places, so that signs do not matter.  Biases may differ.
    """
    if _has_many_rows(reduced.W):
        return None
    W = as_array(reduced.W)
    J = np.zeros((len(reduced.b),) * 2) if reduced.J is None else as_array(reduced.J)
    groups = exchangeable_units(W, J)
    if groups is None:
        return None
    first = [members[0][0] for members in groups]
    J_groups = J[np.ix_(first, first)]
    starts, log_weights, described = [], [], []
    for g, members in enumerate(groups):
        if len(members) > 1:
            (i, _), (j, sign) = members[:2]
            J_groups[g, g] = sign * J[i, j]
        # k_i k_j J v_i v_j over all pairs of the group sum to J (s^2 - Σ_i v_i) / 2: half a square minus a bias.
        described.append(tuple((i, float(reduced.b[i] - J_groups[g, g] / 2), sign) for i, sign in members))
        start, weights = _log_weights([(bias, sign) for _, bias, sign in described[-1]])
        starts.append(start)
        log_weights.append(weights)
    return Grouped(W[first], reduced.c, J_groups, np.array(starts, float), tuple(log_weights), tuple(described))


def _has_many_rows(W: Table) -> bool:
    """Return whether a sparse W has more than `MAX_GROUPS` distinct rows, or is too large to search for groups."""
    if is_full(W):
        return False
    distinct: set[tuple[bytes, bytes]] = set()
    for row in (slice(*pair) for pair in pairwise(W.indptr.tolist())):
        distinct.add((W.indices[row].tobytes(), np.abs(W.data[row]).tobytes()))
        if len(distinct) > MAX_GROUPS:
            return True
    n_rows, n_columns = (int(n) for n in W.shape)
    return n_rows * max(n_rows, n_columns) > MAX_TABLE


def exchangeable_units(W: Float, J: Float) -> list[list[tuple[int, int]]] | None:
    """Return groups of exchangeable units as (unit, sign), the first of each with sign 1; None if too many."""
    groups: list[list[tuple[int, int]]] = []
    # Only units with equal rows of W up to the sign need comparing; adding 0 turns -0 into 0.
    of_row: dict[bytes, list[list[tuple[int, int]]]] = {}
    for i, row in enumerate(W):
        similar = of_row.setdefault(min((row + 0.0).tobytes(), (0.0 - row).tobytes()), [])
        found = next(((g, sign) for g in similar if (sign := _sign(W, J, g[0][0], i))), None)
        if found:
            found[0].append((i, found[1]))
            continue
        groups.append([(i, 1)])
        similar.append(groups[-1])
        if len(groups) > MAX_GROUPS:
            return None
    return groups


def _sign(W: Float, J: Float, i: int, j: int) -> int:
    """Return 1 if units i and j are exchangeable, -1 if they are with opposite signs, else 0."""
    for sign in (1, -1):
        if (W[i] == sign * W[j]).all():
            same = J[i] == sign * J[j]
            same[[i, j]] = True
            if same.all():
                return sign
    return 0


def _log_weights(members: list[tuple[float, int]]) -> tuple[int, Float]:
    """Return the least s and, for all s, the logarithm of the coefficient of x^s in Π_i (1 + e^(b_i) x^(k_i))."""
    start, weights = 0, np.zeros(1)
    for bias, sign in members:
        off, on = (0.0, bias) if sign > 0 else (bias, 0.0)
        start += min(sign, 0)
        weights = np.logaddexp(np.append(weights + off, -np.inf), np.append(-np.inf, weights + on))
    return start, weights
