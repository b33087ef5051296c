"""Random numbers that stay the same on every computer, in every version of NumPy and for every user's seed.

NumPy promises this for the raw output of a bit generator and for `SeedSequence`, but not for the
distributions of `Generator`.  Partitions and test sets must never change, so they are made from raw words.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def words(key: str, n: int) -> NDArray[np.uint64]:
    """Return n uniform 64-bit words, shape (n,), determined by `key`."""
    return np.random.PCG64(np.random.SeedSequence(list(key.encode()))).random_raw(n)


def permutation(key: str, n: int) -> NDArray[np.intp]:
    """Return a random order of 0..n-1, shape (n,), determined by `key`."""
    return np.argsort(words(key, n), kind="stable")


def bernoulli(key: str, values: NDArray[np.uint8], levels: int) -> NDArray[np.uint8]:
    """Return 0/1 draws, shape and dtype of `values`, determined by `key`: 1 with probability values/levels.

    Each draw uses 16 bits, so the error of a probability is below 2^-16; 0 and 1 are exact.
    """
    bits = words(key, -(-values.size // 4)).astype("<u8").view("<u2")[: values.size]
    uniform = bits.reshape(values.shape).astype(np.uint32)
    return (uniform * levels < values.astype(np.uint32) << 16).astype(np.uint8)
