"""Machines from objects of other libraries: tensors, sparse matrices, dimod models, networkx graphs.

Objects are recognised by their attributes, so that none of these libraries is imported.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dvae_core.errors import ConfigError, DataError
from dvae_core.io.files import to_utf8
from dvae_core.types import Float

from .bonds import finite, machine_of_bonds
from .machine import (
    BipartiteMachine,
    GeneralMachine,
    Machine,
    machine_from_couplings,
    pairs_once,
    real_array,
)

MODELS = (
    "a BipartiteMachine, a GeneralMachine, (W, b_left, b_right) or (J, b), a BinaryQuadraticModel of dimod, or a "
    "graph of networkx with a weight on each edge"
)
WEIGHTS, BIASES = ("weight", "J", "bias"), ("bias", "b", "h", "weight")


def machine_from_spins(
    J: ArrayLike, h: ArrayLike | None = None, *, beta: float = 1.0, sign: int = 1
) -> tuple[Machine, float]:
    """Return the machine of spins -1 and +1, and the constant to add to its log Z, nats.

    p(s) ∝ exp(sign β (Σ_{i<j} J_ij s_i s_j + h's)).  With sign = 1 the energy is that of physics, E = -ΣJss - Σhs;
    with sign = -1 that of annealers, E = ΣJss + Σhs.

    Parameters
    ----------
    J : shape (n_units, n_units)
        Strictly upper triangular, or symmetric with a zero diagonal; each pair counts once.  An array, a tensor
        or a sparse matrix, which stays sparse.
    h : shape (n_units,), optional
        Zero by default.
    beta : float
        Inverse temperature.
    sign : 1 or -1

    Raises
    ------
    ConfigError
        If `beta` or `sign` has another value.
    DataError
        If the shapes do not fit, or an entry is not a finite number.

    Examples
    --------
    >>> import numpy as np
    >>> from dvae_eval import estimate_log_z
    >>> machine, constant = machine_from_spins(np.array([[0, 1.0], [0, 0]]))
    >>> bool(np.isclose(estimate_log_z(machine, constant=constant).log_z, np.log(2 * np.e + 2 / np.e)))
    True
    """
    ends, couplings, fields = _bonds_of_arrays(J, h)
    factor = _factor(beta, sign)
    return machine_of_bonds(ends, factor * couplings, factor * fields, 0.0, "pm1")


def machine_from_bqm(model: Any, *, beta: float = 1.0) -> tuple[Machine, float]:
    """Return the machine of p(x) ∝ exp(-β E(x)), E the energy of a dimod model, and its constant.

    Parameters
    ----------
    model : dimod.BinaryQuadraticModel
        With SPIN or BINARY variables; the offset is part of E.  Units keep the order of the variables.
    beta : float
        Inverse temperature.

    Raises
    ------
    ConfigError
        If `beta` is not a positive number.
    DataError
        If the variables are of another kind, or a number is not finite.
    """
    return _from_quadratic_model(model, _factor(beta, -1))


def machine_from_networkx(
    graph: Any, *, units: str = "01", beta: float = 1.0, sign: int = 1
) -> tuple[Machine, float]:
    """Return the machine of p(x) ∝ exp(sign β (Σ_edges weight x_i x_j + Σ_nodes bias x_i)), and its constant.

    Parameters
    ----------
    graph : networkx.Graph
        Undirected.  Every edge has a weight (`weight`, `J` or `bias`); a node may have a bias (`bias`, `b`, `h` or
        `weight`), 0 by default.  Units keep the order of the nodes.
    units : str
        `01`, or `pm1` for spins.
    beta, sign
        See `machine_from_spins`.

    Raises
    ------
    ConfigError
        If an option has another value.
    DataError
        If the graph is directed, an edge has no weight, or a number is not finite.
    """
    return _from_graph(graph, _known(units), _factor(beta, sign))


def machine_from_object(
    model: Any, *, units: str = "auto", sign: int = 1, beta: float = 1.0
) -> tuple[Machine, float]:
    """Return the machine that an object describes, and the constant to add to its log Z, nats.

    Parameters
    ----------
    model : object
        A machine; arrays (W, b_left, b_right) or (J, b), where tensors of any device and sparse matrices are
        allowed; a dimod BinaryQuadraticModel, p(x) ∝ exp(-E(x)) in its own variables, offset included; or an
        undirected networkx graph, p(z) ∝ exp(Σ_edges weight z_i z_j + Σ_nodes bias z_i) over {0,1}, where a
        missing bias is 0.
    units : str
        Values of the units of arrays and graphs: `01` (also `auto`), or `pm1` for spins -1 and +1.
    sign : 1 or -1
        1: arrays and graphs are log-probabilities, p ∝ exp(β (Σ J x x + Σ b x)).  -1: energies, p ∝ exp(-β (...)).
    beta : float
        Inverse temperature of arrays, graphs and dimod models.

    Raises
    ------
    ConfigError
        If the object is none of these, or an option does not apply to it.
    DataError
        If the shapes do not fit, or a number is not finite.
    """
    known, factor = _known(units), _factor(beta, sign)
    if isinstance(model, BipartiteMachine | GeneralMachine):
        if (units, sign, beta) != ("auto", 1, 1.0):
            raise ConfigError(
                "model: units, sign and beta apply to arrays and graphs; leave them out for a machine object, "
                "whose units are 0 and 1"
            )
        return model, 0.0
    if isinstance(model, tuple | list) and len(model) in (2, 3):
        return _from_arrays(cast("tuple[ArrayLike, ...]", model), known, factor)
    if _is_quadratic_model(model):
        if units not in ("auto", values_of_units(model)) or sign != 1:
            raise ConfigError("model: a BinaryQuadraticModel fixes units and sign; leave both out")
        return _from_quadratic_model(model, -factor)
    if all(hasattr(model, name) for name in ("nodes", "edges", "is_directed")):
        return _from_graph(model, known, factor)
    raise ConfigError(
        f"model: give {MODELS}; read_machine reads a file, machine_of returns a trained model's prior"
    )


def units_of_object(model: Any) -> tuple[str, tuple[str, ...]]:
    """Return the values of an object's units, `01` or `pm1`, and their names, empty if they have none.

    Parameters
    ----------
    model : object
        As in `machine_from_object`.
    """
    if isinstance(model, BipartiteMachine | GeneralMachine | tuple | list):
        return "01", ()
    return values_of_units(model), as_labels(list(model.linear if _is_quadratic_model(model) else model.nodes))


def as_labels(found: Any, n_units: int | None = None) -> tuple[str, ...]:
    """Return labels as strings, other values as JSON; empty if they are not one distinct label per unit.

    The plain numbers 0, 1, 2, ... count as no labels.
    """
    if not isinstance(found, list) or n_units not in (None, len(found)) or found == list(range(len(found))):
        return ()
    labels = tuple(label if isinstance(label, str) else json.dumps(label, default=str) for label in found)
    return tuple(map(to_utf8, labels)) if len(set(labels)) == len(labels) else ()


def values_of_units(model: Any, units: str = "auto") -> str:
    """Return the values of an object's units, `01` or `pm1`; `units` decides where the object does not."""
    if _is_quadratic_model(model):
        return "pm1" if _vartype(model) == "SPIN" else "01"
    return _known(units)


def _known(units: str) -> str:
    """Return `01` or `pm1`; ConfigError for any other option than those and `auto`."""
    if units not in ("auto", "01", "pm1"):
        raise ConfigError(f"units: {str(units)[:20]!r} is not allowed; give 01, or pm1 for spins -1 and +1")
    return "pm1" if units == "pm1" else "01"


def _factor(beta: float, sign: int) -> float:
    """Return sign times β; ConfigError if either is out of range."""
    if sign not in (1, -1):
        raise ConfigError(f"sign: {str(sign)[:20]} is not allowed; give 1 for log-probabilities, -1 for energies")
    if not (isinstance(beta, int | float | np.number) and 0 < beta < math.inf):
        raise ConfigError(f"beta: {str(beta)[:20]} is not allowed; give a positive number")
    return float(beta) * sign


def _bonds_of_arrays(J: ArrayLike, b: ArrayLike | None) -> tuple[NDArray[np.integer[Any]], Float, Float]:
    """Return the bonds of a square J, each pair once, their couplings and the biases; a sparse J stays sparse."""
    if hasattr(J, "tocoo"):
        table = J.tocoo()
        table.sum_duplicates()
        shape, row, column, values = table.shape, table.row, table.col, real_array("J", table.data)
    else:
        full = real_array("J", J)
        shape = full.shape
        row, column = np.nonzero(full) if full.ndim == 2 else (np.empty(0, int), np.empty(0, int))
        values = full[row, column] if full.ndim == 2 else full
    if len(shape) != 2 or shape[0] != shape[1] or not shape[0]:
        raise DataError(f"J has shape {tuple(shape)}; give shape (n_units, n_units) with n_units at least 1")
    biases = np.zeros(shape[0]) if b is None else real_array("b", b)
    if biases.shape != (shape[0],):
        raise DataError(f"b has shape {biases.shape}, J has shape {tuple(shape)}; give b with shape (n_units,)")
    return *pairs_once(row, column, values), biases


def _from_arrays(arrays: tuple[ArrayLike, ...], units: str, factor: float) -> tuple[Machine, float]:
    """Return the machine of (W, b_left, b_right) or (J, b), and its constant."""
    if units == "01" and factor == 1:
        is_rbm = len(arrays) == 3
        return (BipartiteMachine.from_arrays(*arrays) if is_rbm else machine_from_couplings(*arrays)), 0.0
    if len(arrays) == 2:
        ends, couplings, biases = _bonds_of_arrays(*arrays)
        return machine_of_bonds(ends, factor * couplings, factor * biases, 0.0, units)
    machine = BipartiteMachine.from_arrays(*arrays)
    W, left, right = factor * machine.W, factor * machine.b_left, factor * machine.b_right
    if units == "01":
        return BipartiteMachine(W, left, right), 0.0
    constant = float(W.sum() - left.sum() - right.sum())
    return BipartiteMachine(4 * W, 2 * (left - W.sum(1)), 2 * (right - W.sum(0))), finite(constant)


def _is_quadratic_model(model: Any) -> bool:
    """Return whether an object looks like a dimod BinaryQuadraticModel."""
    return all(hasattr(model, name) for name in ("vartype", "linear", "quadratic", "offset"))


def _vartype(model: Any) -> str:
    """Return the name of a dimod model's vartype, such as SPIN or BINARY."""
    return str(getattr(model.vartype, "name", model.vartype))


def _from_quadratic_model(model: Any, factor: float) -> tuple[Machine, float]:
    """Return the machine of exp(factor E), E the energy of a dimod model."""
    vartype = _vartype(model)
    if vartype not in ("SPIN", "BINARY"):
        raise DataError(f"model: its variables are {vartype}; give a model of SPIN or BINARY variables")
    number = {variable: i for i, variable in enumerate(model.linear)}
    quadratic = cast("Mapping[tuple[Any, Any], float]", model.quadratic)
    ends = [(number[u], number[v]) for u, v in quadratic]
    b, J = (factor * np.array(list(values.values()), np.float64) for values in (model.linear, quadratic))
    return _read(ends, J, b, factor * float(model.offset), "pm1" if vartype == "SPIN" else "01")


def _from_graph(graph: Any, units: str, factor: float) -> tuple[Machine, float]:
    """Return the machine of a graph with weights."""
    if graph.is_directed():
        raise DataError(
            "model: the graph is directed, so that a pair may be coupled twice; give graph.to_undirected()"
        )
    number = {node: i for i, node in enumerate(graph.nodes)}
    edges = list(graph.edges(data=True))
    ends = [(number[u], number[v]) for u, v, _ in edges]
    J = [_attribute(data, WEIGHTS, f"edge {u!s:.20}-{v!s:.20}") for u, v, data in edges]
    b = [_attribute(data, BIASES, f"node {node!s:.20}", 0.0) for node, data in graph.nodes(data=True)]
    return _read(ends, factor * np.array(J, np.float64), factor * np.array(b, np.float64), 0.0, units)


def _attribute(data: Mapping[str, Any], names: Iterable[str], of: str, default: float = math.nan) -> float:
    """Return the number stored under exactly one of these names; DataError if there are more, or none."""
    found = [name for name in names if name in data]
    if len(found) > 1 or (not found and math.isnan(default)):
        raise DataError(
            f"model: {of} has {' and '.join(found) or 'no weight'}; give it exactly one of {', '.join(names)}"
        )
    value = data[found[0]] if found else default
    if not isinstance(value, int | float | np.number):
        raise DataError(f"model: {of} has a {found[0]} that is not a number; give a number")
    return float(value)


def _read(ends: list[tuple[int, int]], J: Any, b: Any, constant: float, units: str) -> tuple[Machine, float]:
    """Return the machine of bonds, and its constant."""
    return machine_of_bonds(np.array(ends, np.int64).reshape(-1, 2), J, b, constant, units)
