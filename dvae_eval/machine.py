"""A Boltzmann machine as plain arrays, the input of all estimators."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dvae_core.cards import Card, HasCard, rows_of
from dvae_core.errors import ConfigError, DataError
from dvae_core.graphs import bipartition, colour_classes
from dvae_core.text import count, short
from dvae_core.types import Float

from .couplings import (
    Table,
    add_to_digest,
    compact,
    entries,
    is_full,
    n_entries,
    needs_rows,
    part_of,
    table_of,
    transposed,
    used,
)

Index = NDArray[np.integer[Any]]
MAX_COUPLINGS = 1 << 28  # a table of 2 GiB
MAX_UNITS = 1 << 22  # units whose graph takes about as long to process
ROUNDING = 1e-6  # relative difference of J_ij and J_ji after a product in float32


@dataclass(frozen=True, slots=True)
class Reduced:
    """A machine with an independent set h of its units summed out, and the others, v, kept.

    p_β(v) ∝ exp(β (v'Jv / 2 + b'v)) Π_j (1 + exp(β (c_j + (v'W)_j))).

    Attributes
    ----------
    W : float64 or csr_array, shape (n_kept, n_summed)
    b, c : float64, shape (n_kept,), (n_summed,)
    J : float64 or csr_array, shape (n_kept, n_kept), or None
        Symmetric couplings among the kept units; None if there are none.
    blocks : tuple of slice
        Classes of kept units; the units of a class can be drawn at once.
    """

    W: Table
    b: Float
    c: Float
    J: Table | None
    blocks: tuple[slice, ...]

    @property
    def biases(self) -> Float:
        """Biases of all units, the kept ones first, shape (n_kept + n_summed,)."""
        return np.concatenate((self.b, self.c))

    def bonds(self) -> tuple[NDArray[np.intp], Float]:
        """Return the pairs of coupled units, shape (n_bonds, 2), numbered as in `biases`, and their couplings."""
        across, values = entries(self.W)
        across = across + np.array([0, len(self.b)])
        if self.J is None:
            return across, values
        kept, couplings = entries(self.J)
        once = kept[:, 0] < kept[:, 1]
        return np.concatenate((across, kept[once])), np.concatenate((values, couplings[once]))


@dataclass(frozen=True, slots=True, repr=False)
class BipartiteMachine(HasCard):
    """An RBM over {0,1}: p(v, h) ∝ exp(v'Wh + b_left'v + b_right'h).

    Attributes
    ----------
    W : float64, shape (n_left, n_right)
        A `scipy.sparse.csr_array` if it is large and few entries are nonzero.
    b_left, b_right : float64, shape (n_left,), (n_right,)
        Biases in nats.
    order : int, shape (n_units,), optional
        Index of each unit, those on the left first, among the units that the machine was made from; None if the
        order is the same.
    """

    W: Table
    b_left: Float
    b_right: Float
    order: NDArray[np.intp] | None = field(default=None, repr=False, compare=False)
    _digests: list[str] = field(default_factory=list, init=False, repr=False, compare=False)

    @classmethod
    def from_arrays(cls, W: ArrayLike, b_left: ArrayLike, b_right: ArrayLike) -> BipartiteMachine:
        """Return the machine of these arrays.

        Raises
        ------
        DataError
            If the shapes do not match, a side is empty, or a number is complex, nan or infinite.
        """
        is_sparse = hasattr(W, "tocoo")
        w = _rows_of("W", W) if is_sparse else real_array("W", W)
        left, right = (real_array(name, a) for name, a in (("b_left", b_left), ("b_right", b_right)))
        if w.ndim != 2 or 0 in w.shape:
            raise DataError(f"W has shape {w.shape}; give (n_left, n_right), both at least 1")
        for name, bias, n in (("b_left", left, w.shape[0]), ("b_right", right, w.shape[1])):
            if bias.shape != (n,):
                raise DataError(
                    f"{name} has shape {bias.shape}, W has shape {w.shape}; give {name} of shape ({n},)"
                )
        return cls(w if is_sparse else compact(w), left, right)

    @property
    def n_left(self) -> int:
        """Number of units on the left."""
        return int(self.W.shape[0])

    @property
    def n_right(self) -> int:
        """Number of units on the right."""
        return int(self.W.shape[1])

    @property
    def n_units(self) -> int:
        """Number of units on both sides."""
        return self.n_left + self.n_right

    @property
    def sha256(self) -> str:
        """Digest of the parameters' shapes and float64 bytes; it identifies the model, not its file."""
        return _digest(self._digests, f"{self.n_left}x{self.n_right}", self.W, self.b_left, self.b_right)

    def smaller_side_first(self) -> BipartiteMachine:
        """Return the same machine with the sides exchanged if the right one is the smaller."""
        if self.n_left <= self.n_right:
            return self
        return BipartiteMachine(transposed(self.W), self.b_right, self.b_left)

    def without_isolated_units(self) -> tuple[BipartiteMachine | None, float]:
        """Return the machine without isolated units, None if no unit is left, and log Z of the isolated ones."""
        left, right = used(self.W)
        if left.all() and right.all():
            return self, 0.0
        alone = _log_z_of_independent(np.concatenate((self.b_left[~left], self.b_right[~right])))
        W = part_of(self.W, np.flatnonzero(left), np.flatnonzero(right))
        return (BipartiteMachine(W, self.b_left[left], self.b_right[right]) if left.any() else None), alone

    def reduced(self) -> Reduced:
        """Return the machine with its larger side summed out."""
        m = self.smaller_side_first()
        return Reduced(m.W, m.b_left, m.b_right, None, (slice(0, m.n_left),))

    def reduced_units(self) -> NDArray[np.intp]:
        """Return the indices of the units of `reduced()`, kept ones first, among those it was made from."""
        order = np.arange(self.n_units) if self.order is None else self.order
        return order if self.n_left <= self.n_right else np.roll(order, -self.n_left)

    def clamped(self, values: Mapping[int, int]) -> tuple[Machine, float]:
        """Return the machine of the free units if others are clamped to 0 or 1, and a constant in nats.

        With x_a the clamped units, log p(x_a) = log Z(clamped) + constant - log Z.

        Parameters
        ----------
        values : dict
            From indices of units, in the order that the machine was made from, to 0 or 1.

        Raises
        ------
        ConfigError
            If a unit does not exist, or a value is not 0 or 1.
        """
        order = np.arange(self.n_units) if self.order is None else self.order
        is_free, x = _clamped_units(values, self.n_units)
        left, right = np.split(is_free[order], [self.n_left])
        x_left, x_right = np.split(x[order], [self.n_left])
        constant = float(x_left @ self.b_left + x_right @ self.b_right + (x_left @ self.W) @ x_right)
        b_left, b_right = (self.b_left + self.W @ x_right)[left], (self.b_right + x_left @ self.W)[right]
        rank = np.cumsum(is_free)[order[np.concatenate((left, right))]] - 1
        if not (left.any() and right.any()):
            b = np.empty(len(rank))
            b[rank] = np.concatenate((b_left, b_right))
            return _independent(b), constant
        W = part_of(self.W, np.flatnonzero(left), np.flatnonzero(right))
        kept = None if self.order is None else rank
        return BipartiteMachine(W, b_left, b_right, kept), constant

    def description(self) -> dict[str, Any]:
        """Return sizes and digest, for `model` of a result."""
        return {"prior_sha256": self.sha256, "n_left": self.n_left, "n_right": self.n_right}

    def _card(self) -> Card:
        """Return sizes and ranges."""
        title = f"RBM of {self.n_left} + {self.n_right} units over {{0,1}}"
        biases = np.concatenate((self.b_left, self.b_right))
        return Card(type(self).__name__, title, _card_rows(self.W, biases))


@dataclass(frozen=True, slots=True, repr=False)
class GeneralMachine(HasCard):
    """A Boltzmann machine over {0,1}: p(z) ∝ exp(z'Jz + b'z); see `machine_from_couplings`.

    Attributes
    ----------
    J : float64, shape (n_units, n_units)
        Strictly upper triangular, nats; a `scipy.sparse.csr_array` if it is large and few entries are nonzero.
    b : float64, shape (n_units,)
    classes : tuple of int arrays
        A partition of the units into independent sets; the first is the best one to sum out.
    """

    J: Table
    b: Float
    classes: tuple[NDArray[np.intp], ...]
    _digests: list[str] = field(default_factory=list, init=False, repr=False, compare=False)

    @property
    def n_units(self) -> int:
        """Number of units."""
        return len(self.b)

    @property
    def sha256(self) -> str:
        """Digest of the parameters' shapes and float64 bytes."""
        return _digest(self._digests, f"{self.n_units}", self.J, self.b)

    def without_isolated_units(self) -> tuple[GeneralMachine | None, float]:
        """Return the machine without isolated units, None if no unit is left, and log Z of the isolated ones."""
        coupled = np.logical_or(*used(self.J))
        if coupled.all():
            return self, 0.0
        number, units = np.cumsum(coupled) - 1, np.flatnonzero(coupled)
        classes = tuple(number[c[coupled[c]]] for c in self.classes if coupled[c].any())
        rest = GeneralMachine(part_of(self.J, units, units), self.b[units], classes)
        return (rest if len(units) else None), _log_z_of_independent(self.b[~coupled])

    def reduced(self) -> Reduced:
        """Return the machine with its first class summed out."""
        summed, kept = self.classes[0], np.concatenate((np.empty(0, np.intp), *self.classes[1:]))
        J = self.J + self.J.T
        ends = np.cumsum([0, *map(len, self.classes[1:])]).tolist()
        blocks = tuple(slice(*pair) for pair in pairwise(ends))
        W, inside = part_of(J, kept, summed), part_of(J, kept, kept)
        return Reduced(W, self.b[kept], self.b[summed], inside, blocks)

    def reduced_units(self) -> NDArray[np.intp]:
        """Return the indices of the units of `reduced()`, the kept ones first."""
        return np.concatenate((*self.classes[1:], self.classes[0]))

    def clamped(self, values: Mapping[int, int]) -> tuple[Machine, float]:
        """Return the machine of the free units if others are clamped; see `BipartiteMachine.clamped`."""
        is_free, x = _clamped_units(values, self.n_units)
        constant = float(x @ self.b + (x @ self.J) @ x)
        b = self.b + self.J @ x + x @ self.J
        if not is_free.any():
            return _independent(b[is_free]), constant
        units = np.flatnonzero(is_free)
        return machine_from_bonds(*entries(part_of(self.J, units, units)), b[units]), constant

    def description(self) -> dict[str, Any]:
        """Return sizes and digest, for `model` of a result."""
        return {"prior_sha256": self.sha256, "n_units": self.n_units, "n_edges": n_entries(self.J)}

    def _card(self) -> Card:
        """Return sizes and ranges."""
        title = f"Boltzmann machine of {self.n_units} units over {{0,1}}"
        return Card(type(self).__name__, title, _card_rows(self.J, self.b))


Machine = BipartiteMachine | GeneralMachine


def _card_rows(table: Table, biases: Float) -> tuple[tuple[str, str], ...]:
    """Return the card's rows about couplings and biases."""
    n = n_entries(table)
    couplings = f"{count(n)}, {_range(table)}" if n else "none"
    return rows_of(("couplings", couplings), ("biases", _range(biases) if len(biases) else "none"))


def _range(values: Table) -> str:
    """Return the least and the largest of some numbers, nats."""
    low, high = (short(float(end)) for end in (values.min(), values.max()))
    return f"{low} nats" if low == high else f"{low} ... {high} nats"


def machine_from_couplings(J: ArrayLike, b: ArrayLike) -> Machine:
    """Return the machine of p(z) ∝ exp(Σ_{i<j} J_ij z_i z_j + b'z), bipartite if its graph is.

    Parameters
    ----------
    J : shape (n_units, n_units)
        Strictly upper triangular, or symmetric with a zero diagonal; each pair counts once.
    b : shape (n_units,)

    Returns
    -------
    BipartiteMachine or GeneralMachine
        Bipartite, with sides that keep the order of the units, if the graph of nonzero couplings is bipartite.
        Units without any coupling make a general machine, whose log Z has a closed form.

    Raises
    ------
    DataError
        If the shapes do not match, J is neither, or a number is complex, nan or infinite.
    """
    biases = real_array("b", b)
    if hasattr(J, "tocoo"):  # a scipy.sparse matrix, which stays sparse
        entries = J.tocoo()
        if entries.shape != 2 * biases.shape:
            raise DataError(f"b has shape {biases.shape}, J has shape {entries.shape}; give b of shape (n_units,)")
        entries.sum_duplicates()
        return machine_from_bonds(*pairs_once(entries.row, entries.col, real_array("J", entries.data)), biases)
    couplings = real_array("J", J)
    if couplings.ndim != 2 or couplings.shape[0] != couplings.shape[1] or 0 in couplings.shape:
        raise DataError(f"J has shape {couplings.shape}; give (n_units, n_units), n_units at least 1")
    if biases.shape != couplings.shape[:1]:
        raise DataError(f"b has shape {biases.shape}, J has shape {couplings.shape}; give b of shape (n_units,)")
    row, column = np.nonzero(couplings)
    return machine_from_bonds(*pairs_once(row, column, couplings[row, column]), biases)


def _rows_of(name: str, matrix: Any) -> Table:
    """Return the table of a scipy.sparse matrix; it becomes an array only if it is small or full."""
    found = matrix.tocoo()
    if found.ndim != 2:
        return np.empty(found.shape)
    found.sum_duplicates()
    return _table(found.shape, found.row, found.col, real_array(name, found.data))


def _log_z_of_independent(b: Float) -> float:
    """Return Σ log(1 + exp(b))."""
    return float(np.logaddexp(0, b).sum())


def pairs_once(row: Index, column: Index, value: Float) -> tuple[Index, Float]:
    """Return the bonds i < j, shape (n_bonds, 2), and their couplings from the entries of a square J.

    Raises
    ------
    DataError
        If J is neither strictly upper triangular nor symmetric with a zero diagonal.  A J that is symmetric up to
        rounding, `ROUNDING` of the largest coupling, is replaced by its symmetric part.
    """
    kept = value != 0
    ends, value = np.column_stack((row, column))[kept], value[kept]
    if (ends[:, 0] == ends[:, 1]).any():
        raise DataError("J has a diagonal that is not zero; add each unit's coupling to itself to b")
    is_upper = ends[:, 0] < ends[:, 1]
    above, below = ends[is_upper], ends[~is_upper][:, ::-1]
    if len(below):
        first, second = np.lexsort(above.T), np.lexsort(below.T)
        above, up, down = above[first], value[is_upper][first], value[~is_upper][second]
        if not (np.array_equal(above, below[second]) and _same(up, down)):
            raise DataError(
                "J is neither strictly upper triangular nor symmetric, and each pair must count once: give "
                "numpy.triu(J + J.T, 1) if J_ij and J_ji are to be added, numpy.triu(J, 1) if they should be equal"
            )
        return above, up / 2 + down / 2
    return above, value[is_upper]


def _same(up: Float, down: Float) -> bool:
    """Return whether couplings are equal up to rounding."""
    return bool((np.abs(up / 2 - down / 2) <= ROUNDING / 2 * np.abs(up).max()).all())


def machine_from_bonds(ends: Index, couplings: ArrayLike, b: ArrayLike) -> Machine:
    """Return the machine of p(z) ∝ exp(Σ_(i,j) J_ij z_i z_j + b'z), bipartite if its graph is.

    Parameters
    ----------
    ends : int, shape (n_bonds, 2)
        The pairs i < j, each once, with indices from 0 to n_units - 1.
    couplings : shape (n_bonds,)
        Their J_ij; zeros are not bonds.
    b : shape (n_units,)

    Raises
    ------
    DataError
        If a number is complex, nan or infinite, or a table of all couplings would not fit into memory.
    """
    values, biases = real_array("J", couplings), real_array("b", b)
    edges, values, n = np.asarray(ends)[values != 0], values[values != 0], len(biases)
    check_units(n)
    i, j = edges.T
    sides = bipartition(n, edges) if len(edges) else None
    if sides is None:
        J = _table((n, n), i, j, values)
        return GeneralMachine(J, biases, tuple(np.array(c, np.intp) for c in colour_classes(n, edges)))
    left, right = sides
    place, is_left = np.empty(n, np.intp), np.zeros(n, bool)
    place[left], place[right], is_left[left] = np.arange(len(left)), np.arange(len(right)), True
    rows, columns = place[np.where(is_left[i], i, j)], place[np.where(is_left[i], j, i)]
    W = _table((len(left), len(right)), rows, columns, values)
    return BipartiteMachine(W, biases[left], biases[right], np.concatenate((left, right)).astype(np.intp))


def _clamped_units(values: Mapping[int, int], n_units: int) -> tuple[NDArray[np.bool_], Float]:
    """Return which units are free, and the values of the clamped ones, with zeros for the free ones."""
    is_free, x = np.ones(n_units, bool), np.zeros(n_units)
    for unit, value in values.items():
        if not 0 <= unit < n_units or value not in (0, 1):
            raise ConfigError(f"clamped: unit {unit} = {value}; give units of 0 ... {n_units - 1}, and 0 or 1")
        is_free[unit], x[unit] = False, value
    return is_free, x


def _independent(b: Float) -> GeneralMachine:
    """Return the machine of units without couplings."""
    n = len(b)
    nothing = np.empty(0, np.intp)
    return GeneralMachine(table_of((n, n), nothing, nothing, np.empty(0)), b, (np.arange(n),))


def check_units(n: int) -> None:
    """Raise DataError if a machine has more than `MAX_UNITS` units."""
    if n > MAX_UNITS:
        raise DataError(f"has {n} units, which are too many; at most {MAX_UNITS} are allowed")


def _table(shape: tuple[int, int], row: Index, column: Index, value: Float) -> Table:
    """Return the table of these couplings; raise DataError if it would not fit into memory."""
    if shape[0] * shape[1] > MAX_COUPLINGS and not needs_rows(*shape, len(value)):
        raise DataError(
            f"its table of couplings, {shape[0]} x {shape[1]}, is too large; at most {MAX_COUPLINGS} values are "
            "allowed"
        )
    return table_of(shape, row, column, value)


def _digest(known: list[str], sizes: str, table: Table, *biases: Float) -> str:
    """Return the SHA-256 of sizes and float64 values; for compressed rows it is computed once.

    Compressed rows have the digest of the full table.  If that has more than `MAX_COUPLINGS` entries, only the
    bonds are included.
    """
    if known:
        return known[0]
    digest = hashlib.sha256(sizes.encode())
    if table.shape[0] * table.shape[1] > MAX_COUPLINGS:
        places, values = entries(table)
        digest.update(np.ascontiguousarray(places, dtype="<i8").tobytes() + values.astype("<f8").tobytes())
    else:
        add_to_digest(digest, table)
    for bias in biases:
        digest.update(np.ascontiguousarray(bias, dtype="<f8").tobytes())
    if not is_full(table):
        known.append(digest.hexdigest())
    return digest.hexdigest()


def real_array(name: str, values: ArrayLike) -> Float:
    """Return an array, tensor or sparse matrix as a finite float64 array; DataError if a value is masked."""
    array = _as_array(name, values)
    if array.dtype.kind not in "fiub":
        raise DataError(f"{name} is of type {array.dtype}; give real numbers")
    if array.size > MAX_COUPLINGS:
        raise DataError(
            f"{name} has shape {array.shape}, which is too large; at most {MAX_COUPLINGS} values are allowed"
        )
    with np.errstate(all="ignore"):  # wider floats and signalling NaN may warn here; they are refused below
        result = np.ascontiguousarray(array, dtype=np.float64)
    if not np.isfinite(result).all():
        raise DataError(f"{name} contains nan or infinite values; give finite numbers")
    return result


def _as_array(name: str, values: Any) -> NDArray[Any]:
    """Return an array from an array-like, a tensor of any device or type, or a sparse matrix."""
    if isinstance(values, np.ma.MaskedArray) and np.ma.getmaskarray(values).any():
        raise DataError(f"{name} contains masked values; fill them, with zero where there is no coupling")
    if hasattr(values, "detach") and hasattr(values, "cpu"):  # a torch tensor, possibly a parameter or on a GPU
        values = values.detach().cpu()
        values = values.to_dense() if getattr(values, "is_sparse", False) else values
        return np.asarray(values.double() if values.is_floating_point() else values)
    if hasattr(values, "toarray"):
        if math.prod(values.shape) > MAX_COUPLINGS:
            raise DataError(
                f"{name} has shape {values.shape}, which is too large; at most {MAX_COUPLINGS} values are allowed"
            )
        values = values.toarray()
    return np.asarray(values)
