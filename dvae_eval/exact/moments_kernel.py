"""The compiled loop of moments by enumeration: sums over a range of states, without the interpreter's lock."""

from __future__ import annotations

import math

from dvae_core.types import Float

from .enumeration_kernel import compiled


@compiled
def _set_fields(number: int, W: Float, c: Float, state: Float, x: Float) -> None:
    """Set the state with this number, and the fields of the summed-out units."""
    for j in range(len(x)):
        x[j] = c[j]
    for i in range(len(state)):
        state[i] = (number >> i) & 1
        if state[i] > 0:
            for j in range(len(x)):
                x[j] += W[i, j]


@compiled
def _own(state: Float, J: Float, b: Float) -> float:
    """Return b'v + v'Jv / 2."""
    total = 0.0
    for i in range(len(state)):
        if state[i] > 0:
            total += b[i]
            for k in range(i):
                total += J[i, k] * state[k]
    return total


@compiled
def add_states(
    first: int,
    stop: int,
    beta: float,
    W: Float,
    J: Float,
    b: Float,
    c: Float,
    sums: Float,
    z: Float,
    units: Float,
    pairs: Float,
) -> None:
    """Add the states with numbers from `first` up to `stop` to the sums.

    Parameters
    ----------
    first, stop : int
    beta : float
    W, J, b, c : float64
        The machine's arrays; kept units come first.
    sums : float64, shape (4,)
        top, Σ w with w = p / e^top, the mean of A, and Σ w (variance given v + (A - mean)^2); initially -inf and
        zeros.
    z : float64, shape (n_units,)
        Workspace for a state and its probabilities.
    units, pairs : float64, shape (n_units,), (n_kept, n_units)
        Σ w z_i and Σ w v_i z_j.
    """
    n_kept, n_summed = W.shape
    state, h = z[:n_kept], z[n_kept:]
    for number in range(first, stop):
        _set_fields(number, W, c, state, h)
        own = _own(state, J, b)
        mean, variance, log_p, product = own, 0.0, beta * own, 1.0
        for j in range(n_summed):
            x = h[j]
            less = math.exp(-abs(beta * x))
            log_p += max(beta * x, 0.0)
            product *= 1 + less
            if product > 1e290:
                log_p += math.log(product)
                product = 1.0
            share = 1 / (1 + less)
            h[j] = share if beta * x > 0 else less * share
            mean += x * h[j]
            variance += x * x * less * share * share
        log_p += math.log(product)
        if log_p > sums[0]:
            less = math.exp(sums[0] - log_p)
            sums[0] = log_p
            sums[1] *= less
            sums[3] *= less
            for j in range(len(units)):
                units[j] *= less
            for i in range(n_kept):
                for j in range(len(units)):
                    pairs[i, j] *= less
        w = math.exp(log_p - sums[0])
        sums[1] += w
        apart = mean - sums[2]
        sums[2] += apart * w / sums[1]
        sums[3] += w * (variance + apart * (mean - sums[2]))
        for j in range(len(units)):
            units[j] += w * z[j]
        for i in range(n_kept):
            if state[i] > 0:
                for j in range(len(units)):
                    pairs[i, j] += w * z[j]
