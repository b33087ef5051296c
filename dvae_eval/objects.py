"""Machines from objects that others hold: tensors, sparse matrices, dimod's models, networkx's graphs.

They are known by what they can do, so that none of these libraries is imported for it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike

from dvae_core.errors import ConfigError, DataError
from dvae_core.io.files import to_utf8

from .bonds import machine_of_bonds
from .machine import BipartiteMachine, GeneralMachine, Machine, machine_from_couplings

__all__ = ["as_labels", "machine_from_object", "units_of_object"]

MODELS = (
    "a BipartiteMachine, a GeneralMachine, (W, b_left, b_right) or (J, b), a BinaryQuadraticModel of dimod, or a "
    "graph of networkx with a weight on each edge"
)
WEIGHTS, BIASES = ("weight", "J", "bias"), ("bias", "b", "h", "weight")


def machine_from_object(model: Any) -> tuple[Machine, float]:
    """Return the machine that an object is, and what is to be added to its log Z, nats.

    Parameters
    ----------
    model : object
        A machine; arrays (W, b_left, b_right) or (J, b), tensors of any device and sparse matrices among them; a
        dimod BinaryQuadraticModel, p(x) ∝ exp(-E(x)) in its own variables, offset included; or an undirected
        networkx graph, p(z) ∝ exp(Σ_edges weight z_i z_j + Σ_nodes bias z_i) over {0,1}, a node without `bias`
        having none.

    Raises
    ------
    ConfigError
        If it is none of these.
    DataError
        If its numbers are no machine.
    """
    if isinstance(model, BipartiteMachine | GeneralMachine):
        return model, 0.0
    if isinstance(model, tuple | list) and len(model) in (2, 3):
        arrays = cast("tuple[ArrayLike, ...]", model)
        return (
            BipartiteMachine.from_arrays(*arrays) if len(arrays) == 3 else machine_from_couplings(*arrays)
        ), 0.0
    if all(hasattr(model, name) for name in ("vartype", "linear", "quadratic", "offset")):
        return _from_quadratic_model(model)
    if all(hasattr(model, name) for name in ("nodes", "edges", "is_directed")):
        return _from_graph(model)
    raise ConfigError(f"model: give {MODELS}")


def units_of_object(model: Any) -> tuple[str, tuple[str, ...]]:
    """Return the values of an object's units, `01` or `pm1`, and their names, if they have any.

    Parameters
    ----------
    model : object
        What `machine_from_object` takes.
    """
    if isinstance(model, BipartiteMachine | GeneralMachine | tuple | list):
        return "01", ()
    is_model = hasattr(model, "vartype")
    is_spin = is_model and getattr(model.vartype, "name", str(model.vartype)) == "SPIN"
    return ("pm1" if is_spin else "01"), as_labels(list(model.linear if is_model else model.nodes))


def as_labels(found: Any, n_units: int | None = None) -> tuple[str, ...]:
    """Return labels as texts, those that are none in JSON; none at all where they do not name each unit.

    Numbers of the units from 0 on are no labels.
    """
    if not isinstance(found, list) or n_units not in (None, len(found)) or found == list(range(len(found))):
        return ()
    labels = tuple(label if isinstance(label, str) else json.dumps(label, default=str) for label in found)
    return tuple(map(to_utf8, labels)) if len(set(labels)) == len(labels) else ()


def _from_quadratic_model(model: Any) -> tuple[Machine, float]:
    """Return the machine of exp(-E), E the energy of a dimod model."""
    vartype = getattr(model.vartype, "name", str(model.vartype))
    if vartype not in ("SPIN", "BINARY"):
        raise DataError(f"model: its variables are {vartype}; give a model of SPIN or BINARY ones")
    number = {variable: i for i, variable in enumerate(model.linear)}
    quadratic = cast("Mapping[tuple[Any, Any], float]", model.quadratic)
    ends = [(number[u], number[v]) for u, v in quadratic]
    b, J = (-np.array(list(values.values()), np.float64) for values in (model.linear, quadratic))
    return _read(ends, J, b, -float(model.offset), "pm1" if vartype == "SPIN" else "01")


def _from_graph(graph: Any) -> tuple[Machine, float]:
    """Return the machine of a graph with weights."""
    if graph.is_directed():
        raise DataError(
            "model: a directed graph, in which a pair may be coupled twice; give graph.to_undirected()"
        )
    number = {node: i for i, node in enumerate(graph.nodes)}
    edges = list(graph.edges(data=True))
    ends = [(number[u], number[v]) for u, v, _ in edges]
    J = [_attribute(data, WEIGHTS, f"edge {u!s:.20}-{v!s:.20}") for u, v, data in edges]
    b = [_attribute(data, BIASES, f"node {node!s:.20}", 0.0) for node, data in graph.nodes(data=True)]
    return _read(ends, np.array(J, np.float64), np.array(b, np.float64), 0.0, "01")


def _attribute(data: Mapping[str, Any], names: Iterable[str], of: str, default: float = math.nan) -> float:
    """Return the one number under one of these names."""
    found = [name for name in names if name in data]
    if len(found) > 1 or (not found and math.isnan(default)):
        raise DataError(f"model: {of} has {' and '.join(found) or 'no weight'}; give it one of {', '.join(names)}")
    value = data[found[0]] if found else default
    if not isinstance(value, int | float | np.number):
        raise DataError(f"model: {of} has a {found[0]} that is no number")
    return float(value)


def _read(ends: list[tuple[int, int]], J: Any, b: Any, constant: float, units: str) -> tuple[Machine, float]:
    """Return the machine of bonds, and its constant."""
    return machine_of_bonds(np.array(ends, np.int64).reshape(-1, 2), J, b, constant, units)
