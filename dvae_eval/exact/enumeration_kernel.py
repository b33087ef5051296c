"""The compiled loops of the enumeration: sums over blocks of high states, without the interpreter's lock.

A number of any size is stored as a mantissa in [1, 2), float64, and a binary exponent, int64.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar, cast

import numpy as np
from numba import njit

from dvae_core.types import Float, Index

F = TypeVar("F", bound=Callable[..., Any])

LOG_2 = math.log(2)
CHUNK = 64  # high states processed together for each pass over the table of low states
FEW = -1022  # exponent of the least normal double


class Low(NamedTuple):
    """States of the low groups, a product of middle and inner ones."""

    tables: Float  # (n_middle, n_columns, n_inner): e^a, columns in fours
    mantissas: Float  # (n_middle, n_inner): weights of the states
    exponents: Index
    middle: Float  # (n_middle, n_middle_groups): the states themselves
    inner: Float  # (n_inner, n_inner_groups)
    ends: Index  # columns after which exponents are split off


class High(NamedTuple):
    """Arrays from which states of the high groups are made."""

    counts: Index  # (n_high_groups,)
    starts: Float
    log_weights: Float  # (n_high_groups, largest count)
    W: Float  # (n_high_groups, n_columns)
    J: Float  # (n_high_groups, n_high_groups)
    centre: Float  # (n_columns,): the field without a high state; -inf in a padding column
    cross: Float  # (n_low_groups, n_high_groups): couplings to the low groups, those of the inner ones first


def compiled(function: F) -> F:
    """Return the compiled function, cached on disk if some folder can be written."""
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": {"contract", "reassoc", "nsz"}}
    try:
        return cast(F, njit(cache=True, **options)(function))
    except RuntimeError:  # no folder is writable
        return cast(F, njit(**options)(function))


@compiled
def split(x: float) -> tuple[float, int]:
    """Return e^x as a mantissa and an exponent."""
    exponent = math.floor(x / LOG_2)
    return math.exp(x - exponent * LOG_2), exponent


@compiled
def _set_state(number: int, high: High, state: Float) -> float:
    """Set the high state with this number, and return the logarithm of its weight."""
    bias = 0.0
    for g in range(len(state)):
        digit = number % high.counts[g]
        number //= high.counts[g]
        state[g] = high.starts[g] + digit
        bias += high.log_weights[g, digit]
    for g in range(len(state)):
        for k in range(len(state)):
            bias += high.J[g, k] * state[g] * state[k] / 2
    return bias


@compiled
def _set_factors(high: High, state: Float, alpha: Float, beta: Float) -> float:
    """Set α and 1 - α of all columns, and return Σ_j log(1 + e^(m_j))."""
    for j in range(len(alpha)):
        alpha[j] = high.centre[j]
    for g in range(len(state)):
        for j in range(len(alpha)):
            alpha[j] += state[g] * high.W[g, j]
    total = 0.0
    for j in range(len(alpha)):
        field = alpha[j]
        small = math.exp(-abs(field))
        total += max(field, 0.0) + math.log1p(small)
        less, more = small / (1 + small), 1 / (1 + small)
        alpha[j], beta[j] = (less, more) if field > 0 else (more, less)
    return total


@compiled
def _set_weights(high: High, state: Float, first: int, states: Float, mantissas: Float, exponents: Index) -> None:
    """Set the weights of states of some low groups from their couplings to a high state."""
    for n in range(len(states)):
        x = 0.0
        for i in range(states.shape[1]):
            for g in range(len(state)):
                x += states[n, i] * high.cross[first + i, g] * state[g]
        mantissas[n], exponents[n] = split(x)


@compiled
def _put_aside(product: Float, exponents: Index) -> None:
    """Split exponents off positive doubles, so that these cannot overflow."""
    bits = product.view(np.int64)
    for n in range(len(product)):
        exponent = (bits[n] >> 52) - 1023
        bits[n] -= exponent << 52
        exponents[n] += exponent


@compiled
def _multiply(product: Float, exponents: Index, table: Float, alpha: Float, beta: Float, ends: Index) -> None:
    """Multiply the products by the factors of all columns."""
    j = 0
    for end in ends:
        while j < end:
            a0, a1, a2, a3 = alpha[j], alpha[j + 1], alpha[j + 2], alpha[j + 3]
            b0, b1, b2, b3 = beta[j], beta[j + 1], beta[j + 2], beta[j + 3]
            for n in range(len(product)):
                two = (a0 + b0 * table[j, n]) * (a1 + b1 * table[j + 1, n])
                product[n] *= two * ((a2 + b2 * table[j + 2, n]) * (a3 + b3 * table[j + 3, n]))
            j += 4
        _put_aside(product, exponents)


@compiled
def _sum(product: Float, exponents: Index, scratch: Float) -> tuple[float, int]:
    """Return Σ_n product_n 2^(exponents_n) as a number and an exponent."""
    top = exponents[0]
    for n in range(len(exponents)):
        top = max(top, exponents[n])
    bits = scratch.view(np.int64)
    for n in range(len(exponents)):
        bits[n] = (max(exponents[n] - top, FEW) + 1023) << 52
    total = 0.0
    for n in range(len(product)):
        total += product[n] * scratch[n]
    return total, top


@compiled
def log_sum(first: int, stop: int, low: Low, high: High, coupled: bool) -> float:
    """Return the logarithm of the sum over the high states from `first` up to `stop` and all low states."""
    n_middle, n_columns, n_inner = low.tables.shape
    n_inner_groups = low.inner.shape[1]
    state = np.empty(len(high.counts))
    alpha, beta, bias = np.empty((CHUNK, n_columns)), np.empty((CHUNK, n_columns)), np.empty(CHUNK)
    inner, inner_exponents = np.ones((CHUNK, n_inner)), np.zeros((CHUNK, n_inner), np.int64)
    middle, middle_exponents = np.ones((CHUNK, n_middle)), np.zeros((CHUNK, n_middle), np.int64)
    product, scratch, exponents = np.empty(n_inner), np.empty(n_inner), np.empty(n_inner, np.int64)
    top, total = -np.inf, 0.0
    for start in range(first, stop, CHUNK):
        n_high = min(CHUNK, stop - start)
        for k in range(n_high):
            bias[k] = _set_state(start + k, high, state) + _set_factors(high, state, alpha[k], beta[k])
            if coupled:
                _set_weights(high, state, 0, low.inner, inner[k], inner_exponents[k])
                _set_weights(high, state, n_inner_groups, low.middle, middle[k], middle_exponents[k])
        for m in range(n_middle):
            for k in range(n_high):
                for n in range(n_inner):
                    product[n] = low.mantissas[m, n] * inner[k, n] * middle[k, m]
                    exponents[n] = low.exponents[m, n] + inner_exponents[k, n] + middle_exponents[k, m]
                _multiply(product, exponents, low.tables[m], alpha[k], beta[k], low.ends)
                part, exponent = _sum(product, exponents, scratch)
                value = bias[k] + math.log(part) + exponent * LOG_2
                if value > top:
                    top, total = value, total * math.exp(top - value) + 1
                else:
                    total += math.exp(value - top)
    return top + math.log(total)
