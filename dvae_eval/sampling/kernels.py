"""Compiled parallel tempering of Boltzmann machines: block Gibbs, works and exchanges without Python inside.

Two layouts.  *Dense* RBMs keep a chain's units contiguous: states are bits, groups of four bits select one of 16
rows of a table of partial sums, and fields are sums of such rows.  *Sparse or general* machines keep a unit's
chains contiguous: fields are sums over neighbours, for many chains at once.  In both, a state never moves: an
exchange swaps the rungs of two replicas.

With x = base + β G the field of a unit between the reference (β = 0) and the machine (β = 1), and t = exp(-|x|) in
(0, 1], a unit is drawn as [x > 0], flipped with probability t / (1 + t), and softplus(x) = max(x, 0) + log(1 + t);
the logarithms of a row of units are that of one product.  Nothing here overflows, for any field, and differences
of softplus keep their digits.

All compiled code is in one file, because numba's cache of a function notices only changes of that function's file.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar, cast

import numpy as np
from numba import njit, types
from numba.extending import intrinsic

F = TypeVar("F", bound=Callable[..., Any])

# After a sweep: nothing, or works and exchanges of alternating or of random parity.
GIBBS_ONLY, EVEN_ODD, RANDOM = 0, 1, 2

u32, i32, f32, u64, f64 = np.uint32, np.int32, np.float32, np.uint64, np.float64

# Factors 1 + t lie in (1, 2]: a product of this number of them is below 2^128 in float32, below 2^1024 in float64.
SHORT_PRODUCT, LONG_PRODUCT = 64, 960
# Tables whose rows one pass adds, and their columns: these float32 rows fit into the fastest cache, 32 KiB.
PASS, COLUMNS = 8, 64


def kernel(*, reassoc: bool = False, cache: bool = False) -> Callable[[F], F]:
    """Return a decorator that compiles a function on its first call, without the interpreter's lock.

    `reassoc` allows sums and products in any order.  `cache` keeps the compiled code on disk if some folder can be
    written; it is for functions called from Python, which include the functions that they call.
    """
    # 'contract' permits a * b + c in one rounding.
    fastmath = {"contract", "nsz", *(["reassoc"] if reassoc else [])}

    def decorate(function: F) -> F:
        settings: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": fastmath}
        settings |= {"no_cpython_wrapper": not cache, "no_cfunc_wrapper": True}
        try:
            return cast(F, njit(cache=cache, **settings)(function))
        except RuntimeError:  # no folder for the cache is writable
            return cast(F, njit(**settings)(function))

    return decorate


def _inner_loop(typingctx: Any) -> Any:
    """Mark the calling function as an inner loop whose arrays do not overlap.

    It is compiled once, not at every call site, and for the processor's widest vectors, which makes it 1.4 times
    as fast.  (numba's default is half the width of AVX-512, because a few instructions of that width once slowed a
    processor down; here nearly all of them have it.)
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        function = builder.function
        function.attributes.add("noinline")
        if isinstance(function.attributes, set):
            # llvmlite's own `add` refuses unknown attributes.
            set.add(function.attributes, '"prefer-vector-width"="512"')
        # After the pointers for result and exception come, per array, its two owners and its data.
        pointers = [argument for argument in function.args[2:] if argument.type.is_pointer]
        for data in pointers[2::3]:
            data.add_attribute("noalias")
        return context.get_dummy_value()

    return types.void(), generate


inner_loop: Callable[[], None] = intrinsic(_inner_loop)


def _inlined(typingctx: Any) -> Any:
    """Mark the calling function to be inlined into its callers.

    A call with this number of arrays takes as long as the work on a hundred chains.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        builder.function.attributes.add("alwaysinline")
        return context.get_dummy_value()

    return types.void(), generate


inlined: Callable[[], None] = intrinsic(_inlined)


# --- arguments ----------------------------------------------------------------------------------------------


class DenseTables(NamedTuple):
    """An RBM and the reference of its path; width and width_v are the padded numbers of units.

    Attributes
    ----------
    W, W_v : float32
        Couplings, and their transpose; see `fields_of_rows`.
    own, own_v : float32
        Biases of the summed-out and of the kept units, minus the reference's.
    base, base_v : float32, shape (width,), (width_v,)
        Biases of the reference.
    """

    W: Any
    own: Any
    base: Any
    W_v: Any
    own_v: Any
    base_v: Any


class MixtureTables(NamedTuple):
    """An RBM and the mixture in which its path starts.

    Attributes
    ----------
    W, W_v : float32
        As in `DenseTables`.
    own, own_v : float32
        Biases of the machine; padding units are never on.
    bases, bases_v : float32, shape (K, width), (K, width_v)
        Logits of the components.
    log_weights : float64, shape (K,)
        log π_k - Σ softplus(a_k); plus a_k'v, this is L_k(0) + log K.
    cumulative : float64, shape (K,)
        π_1, π_1 + π_2, ...
    base_blocks : float64, shape (K, n_blocks)
        Σ log(1 + exp(-|d_k|)) over every SHORT_PRODUCT of the summed-out units.
    base_ends : float64, shape (K,)
        Σ softplus(d_k).
    mean_base : float32, shape (width,)
        Mean of `bases` over components.
    """

    W: Any
    own: Any
    bases: Any
    W_v: Any
    own_v: Any
    bases_v: Any
    log_weights: Any
    cumulative: Any
    base_blocks: Any
    base_ends: Any
    mean_base: Any


class TrajectoryTables(NamedTuple):
    """The RBMs along a training.

    Attributes
    ----------
    W, W_v : float32
        Couplings of every rung and their transposes, as in `DenseTables`, with a leading axis for rungs.
    own, own_v : float32
        Biases of every rung.
    base, base_v : float32, shape (width,), (width_v,)
        0, and for padding units a bias that keeps them off.
    step_W, step_own, step_v : float32
        Differences of W, own and own_v between neighbouring rungs, K of each.
    sizes : float32, shape (K,)
        Distances between neighbouring rungs.
    of_rung : int64, shape (n_rungs,)
        Rung whose couplings each rung uses: its own, except during annealing.
    """

    W: Any
    own: Any
    base: Any
    W_v: Any
    own_v: Any
    base_v: Any
    step_W: Any
    step_own: Any
    step_v: Any
    sizes: Any
    of_rung: Any


class Neighbours(NamedTuple):
    """The graph of any machine; the summed-out units come first.

    Attributes
    ----------
    n_summed : int
    own, base : float32, shape (n_summed + n_kept,)
        Biases minus the reference's, and the reference's.
    starts, middles, indices, couplings : int64, int64, uint64, float32
        Neighbours of unit i are `indices[starts[i] : starts[i + 1]]`; see `sweep_kept` for `middles`.
    """

    n_summed: Any
    own: Any
    base: Any
    starts: Any
    middles: Any
    indices: Any
    couplings: Any


class Replicates(NamedTuple):
    """What exchanges read and change.

    Attributes
    ----------
    coins : uint64
        Generators for exchanges, one per replicate.
    rungs, last_end, trips : int64
        See `exchange`.
    """

    coins: Any
    rungs: Any
    last_end: Any
    trips: Any


# --- arithmetic ---------------------------------------------------------------------------------------------


@kernel()
def exp_minus(a: Any) -> Any:
    """Return exp(-min(a, 87)) of a float32 a >= 0 to a relative 1e-7, vectorisably (Cephes' polynomial)."""
    x = -min(a, f32(87.0))
    # Adding 1.5 * 2^23 rounds to an integer.
    n = (x * f32(1.4426950408889634) + f32(12582912.0)) - f32(12582912.0)
    r = x - n * f32(0.693359375)
    r = r - n * f32(-2.12194440e-4)
    p = f32(1.9875691500e-4)
    p = p * r + f32(1.3981999507e-3)
    p = p * r + f32(8.3334519073e-3)
    p = p * r + f32(4.1665795894e-2)
    p = p * r + f32(1.6666665459e-1)
    p = p * r + f32(5.0000001201e-1)
    y = p * (r * r) + r + f32(1.0)
    power = i32((i32(n) + i32(127)) << i32(23))
    return y * power.view(f32)


@kernel()
def rotated(x: Any, n: Any) -> Any:
    """Return a uint32 rotated to the left by n bits."""
    # numba promotes sums and shifts of uint32 to 64 bits: every result is cut back to 32.
    return u32(u32(x << u32(n)) | u32(x >> u32(32 - n)))


@kernel()
def bernoulli(x: Any, bits: Any) -> Any:
    """Return whether a unit with field x is on, from 32 random bits."""
    t = exp_minus(abs(x))
    # 31 bits, at the middle of their interval: neither 0 nor 1 occurs.
    u = f32(i32(bits >> u32(1))) * f32(2.0**-31) + f32(2.0**-32)
    return (x > f32(0)) != (u * (f32(1) + t) < t)


@kernel()
def splitmix(states: Any, i: Any) -> Any:
    """Advance generator i (Steele et al., 2014) and return 64 random bits."""
    states[i] += u64(0x9E3779B97F4A7C15)
    z = states[i]
    z = (z ^ (z >> u64(30))) * u64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> u64(27))) * u64(0x94D049BB133111EB)
    return z ^ (z >> u64(31))


# --- rungs --------------------------------------------------------------------------------------------------


@kernel()
def exchange(
    start: Any, mode: Any, forward: Any, reverse: Any, rungs: Any, last_end: Any, trips: Any, coins: Any
) -> None:
    """Swap neighbours of every replicate with probability min(1, exp(-w_f - w_r)), and count round trips.

    `rungs[l, q]` is the rung of replica q of replicate l, `last_end[l, q]` the end that it visited last (1 cold,
    -1 hot, 0 neither); works are those of this iteration, K per replicate.
    """
    n_replicates, n_rungs = rungs.shape
    replicas = np.empty(n_rungs, np.int64)
    for replicate in range(n_replicates):
        for q in range(n_rungs):
            replicas[rungs[replicate, q]] = q
        parity = start % 2 if mode == EVEN_ODD else i32(splitmix(coins, replicate) >> u64(63))
        for k in range(parity, n_rungs - 1, 2):
            uniform = f64(splitmix(coins, replicate) >> u64(11)) * 2.0**-53
            if np.log(uniform) < -forward[replicate, k] - reverse[replicate, k]:
                replicas[k], replicas[k + 1] = replicas[k + 1], replicas[k]
        for k in range(n_rungs):
            rungs[replicate, replicas[k]] = k
        hot, cold = replicas[0], replicas[n_rungs - 1]
        trips[replicate] += last_end[replicate, hot] == 1
        last_end[replicate, hot] = -1
        last_end[replicate, cold] = 1


@kernel()
def place(betas: Any, rungs: Any, beta: Any, up: Any, down: Any) -> None:
    """Write every replica's β and its distances to the neighbouring rungs, 0 where there is no neighbour."""
    n_replicates, n_rungs = rungs.shape
    for replicate in range(n_replicates):
        for q in range(n_rungs):
            k, c = rungs[replicate, q], replicate * n_rungs + q
            beta[c] = betas[k]
            up[c] = betas[k + 1] - betas[k] if k + 1 < n_rungs else f32(0)
            down[c] = betas[k] - betas[k - 1] if k > 0 else f32(0)


@kernel()
def record(rungs: Any, rise: Any, fall: Any, slope: Any, forward: Any, reverse: Any, energies: Any) -> None:
    """Sort the results of every replica by its rung."""
    n_replicates, n_rungs = rungs.shape
    for replicate in range(n_replicates):
        for q in range(n_rungs):
            k, c = rungs[replicate, q], replicate * n_rungs + q
            energies[replicate, k] = slope[c]
            if k + 1 < n_rungs:
                forward[replicate, k] = rise[c]
            if k > 0:
                reverse[replicate, k - 1] = fall[c]


# --- dense RBMs: a chain's units are contiguous ---------------------------------------------------------------


@kernel()
def make_tables(W: Any, biases: Any, group: Any, start: Any, tables: Any) -> None:
    """Write the sums of all subsets of four rows of W, for 8 groups of four rows and 64 columns.

    Biases are added to those of the first group; `tables` has shape (8, 16, 64).
    """
    inner_loop()
    for i in range(PASS):
        first, bias, some = tables[i, 0], biases[start : start + COLUMNS], f32(group + i == 0)
        for j in range(COLUMNS):
            first[j] = some * bias[j]
        row, half = 4 * (group + i), 1
        # Ends when half is 16.  The compiler must not know that: it would write out all fifteen sums.
        while half < tables.shape[1]:
            w = W[row, start : start + COLUMNS]
            for subset in range(half):
                known, new = tables[i, subset], tables[i, half + subset]
                for j in range(COLUMNS):
                    new[j] = known[j] + w[j]
            row, half = row + 1, 2 * half


@kernel()
def add_rows(tables: Any, nibbles: Any, group: Any, start: Any, fields: Any) -> None:
    """Add the table rows selected by every chain's bits to 64 columns of its fields; group 0 overwrites them."""
    inner_loop()
    for c in range(len(fields)):
        field, n = fields[c, start : start + COLUMNS], nibbles[c, group : group + PASS]
        r0, r1, r2, r3 = tables[0, n[0]], tables[1, n[1]], tables[2, n[2]], tables[3, n[3]]
        r4, r5, r6, r7 = tables[4, n[4]], tables[5, n[5]], tables[6, n[6]], tables[7, n[7]]
        if group == 0:
            for j in range(COLUMNS):
                field[j] = ((r0[j] + r1[j]) + (r2[j] + r3[j])) + ((r4[j] + r5[j]) + (r6[j] + r7[j]))
        else:
            for j in range(COLUMNS):
                field[j] += ((r0[j] + r1[j]) + (r2[j] + r3[j])) + ((r4[j] + r5[j]) + (r6[j] + r7[j]))


@kernel()
def fields_of_rows(W: Any, biases: Any, nibbles: Any, tables: Any, fields: Any) -> None:
    """Write the fields of every chain: `biases` (n_columns,) plus the rows of W whose units are on.

    W has shape (n_rows, n_columns), n_rows a multiple of 32, n_columns of 64, `nibbles` (n_chains, n_rows / 4),
    `fields` (n_chains, n_columns).  All chains use a table while it is in the fastest cache.
    """
    for start in range(0, W.shape[1], COLUMNS):
        for group in range(0, nibbles.shape[1], PASS):
            make_tables(W, biases, group, start, tables)
            add_rows(tables, nibbles, group, start, fields)


@kernel()
def draw_rows(random: Any, beta: Any, fields: Any, base: Any, bits: Any) -> None:
    """Draw all units of all chains; every unit of a replicate has its own xoshiro128++ (Blackman and Vigna, 2021).

    `random` has shape (n_replicates, 4, width), `bits` (n_chains, width), `base` (width,); `fields` has one row
    per chain, which may be longer.
    """
    inner_loop()
    n_chains, width = bits.shape
    n_rungs = n_chains // len(random)
    for chain in range(n_chains):
        s, own = random[chain // n_rungs], beta[chain]
        for j in range(width):
            a, b, c, d = s[0, j], s[1, j], s[2, j], s[3, j]
            number = u32(rotated(u32(a + d), 7) + a)
            shifted = u32(b << u32(9))
            c, d = u32(c ^ a), u32(d ^ b)
            s[0, j], s[1, j], s[2, j], s[3, j] = u32(a ^ d), u32(b ^ c), u32(c ^ shifted), rotated(d, 11)
            bits[chain, j] = bernoulli(base[j] + own * fields[chain, j], number)


@kernel()
def pack(words: Any, nibbles: Any) -> None:
    """Pack four bytes of 0 or 1, in one uint32, into four bits."""
    inner_loop()
    for i in range(len(words)):
        nibbles[i] = (u32(words[i] * u32(0x01020408)) >> u32(24)) & u32(15)


@kernel(reassoc=True)
def kept_energy_rows(bits: Any, weights: Any, slope: Any) -> None:
    """Write the kept units' part of d log p / dβ, float64: their biases minus the reference's, where on."""
    inner_loop()
    for c in range(bits.shape[0]):
        total = 0.0
        for i in range(bits.shape[1]):
            total += f64(f32(bits[c, i]) * weights[i])
        slope[c] = total


@kernel(reassoc=True)
def joint_rows(fields: Any, bits: Any, slope: Any) -> None:
    """Add the summed-out units' part of d log p(v, h) / dβ."""
    inner_loop()
    for c in range(bits.shape[0]):
        total = 0.0
        for j in range(bits.shape[1]):
            total += f64(f32(bits[c, j]) * fields[c, j])
        slope[c] += total


@kernel(reassoc=True)
def reduced_rows(beta: Any, up: Any, down: Any, fields: Any, base: Any, slope: Any, rise: Any, fall: Any) -> None:
    """Write the works of every chain; on entry `slope` holds the kept units' part of d log p / dβ, on exit all."""
    inner_loop()
    width = len(base)
    for c in range(len(fields)):
        own, to_up, to_down = beta[c], up[c], -down[c]
        ahead, back, energy = slope[c] * f64(to_up), slope[c] * f64(to_down), slope[c]
        product, product_up, product_down = 1.0, 1.0, 1.0
        for start in range(0, width, SHORT_PRODUCT):
            # Slices, because the compiler cannot exclude negative indices in a range that does not start at 0.
            base_row = base[start : start + SHORT_PRODUCT]
            row = fields[c, start : start + len(base_row)]
            p, p_up, p_down = f32(1), f32(1), f32(1)
            linear_up, linear_down, linear = f32(0), f32(0), f32(0)
            for j in range(len(row)):
                g = row[j]
                x = base_row[j] + own * g
                step_up, step_down = to_up * g, to_down * g
                t = exp_minus(abs(x))
                above, below = max(x, f32(0)), min(x, f32(0))
                # max(x + step, 0) - max(x, 0), without losing digits of the step.
                linear_up += max(step_up + below, -above)
                linear_down += max(step_down + below, -above)
                linear += (f32(1) if x > f32(0) else t) / (f32(1) + t) * g
                p *= f32(1) + t
                p_up *= f32(1) + exp_minus(abs(x + step_up))
                p_down *= f32(1) + exp_minus(abs(x + step_down))
            ahead, back, energy = ahead + f64(linear_up), back + f64(linear_down), energy + f64(linear)
            product, product_up, product_down = (
                product * f64(p),
                product_up * f64(p_up),
                product_down * f64(p_down),
            )
            if (start + SHORT_PRODUCT) % LONG_PRODUCT == 0 or start + SHORT_PRODUCT >= width:
                ahead += np.log(product_up / product)
                back += np.log(product_down / product)
                product, product_up, product_down = 1.0, 1.0, 1.0
        slope[c], rise[c], fall[c] = energy, -ahead, -back


@kernel()
def linear_works(up: Any, down: Any, slope: Any, rise: Any, fall: Any) -> None:
    """Write the works of potentials that are linear in β."""
    for c in range(len(slope)):
        rise[c], fall[c] = -f64(up[c]) * slope[c], f64(down[c]) * slope[c]


@kernel(cache=True)
def temper_dense(
    n: Any,
    mode: Any,
    joint: Any,
    start: Any,
    betas: Any,
    tables: Any,
    words_v: Any,
    random: Any,
    replicates: Any,
    works: Any,
) -> None:
    """Run n iterations of some replicates of an RBM in place.

    Parameters
    ----------
    n, mode, joint, start : int, int, bool, int
        Number of iterations; mode after a sweep; whether potentials are joint; iterations made before.
    betas : float32, shape (n_rungs,)
    tables : DenseTables
    words_v : uint32, shape (n_chains, width_v / 4)
        States of the kept units, one byte each.
    random : uint32
        Generators for units, see `draw_rows`.
    replicates : Replicates
    works : float64, shape (3, n, n_replicates, n_rungs)
        Output: forward and reverse works, K of each, and energies.
    """
    W, own, base, W_v, own_v, base_v = tables
    coins, rungs, last_end, trips = replicates
    n_chains = len(words_v)
    forward, reverse, energies = works[0], works[1], works[2]
    fields, fields_v = np.empty((n_chains, len(own)), f32), np.empty((n_chains, len(own_v)), f32)
    tables = np.empty((PASS, 16, COLUMNS), f32)
    words = np.empty((n_chains, len(base) // 4), u32)
    bits, bits_v = words.view(np.uint8), words_v.view(np.uint8)
    nibbles, nibbles_v = np.empty(words.shape, np.uint8), np.empty(words_v.shape, np.uint8)
    steps, slopes = np.zeros((3, n_chains), f32), np.empty((3, n_chains))
    beta, up, down = steps[0], steps[1], steps[2]
    slope, rise, fall = slopes[0], slopes[1], slopes[2]
    place(betas, rungs, beta, up, down)
    pack(words_v.reshape(-1), nibbles_v.reshape(-1))
    fields_of_rows(W, own, nibbles_v, tables, fields)
    for i in range(n):
        draw_rows(random, beta, fields, base, bits)
        pack(words.reshape(-1), nibbles.reshape(-1))
        fields_of_rows(W_v, own_v, nibbles, tables, fields_v)
        draw_rows(random, beta, fields_v, base_v, bits_v)
        pack(words_v.reshape(-1), nibbles_v.reshape(-1))
        fields_of_rows(W, own, nibbles_v, tables, fields)
        if mode == GIBBS_ONLY:
            continue
        kept_energy_rows(bits_v, own_v, slope)
        if joint:
            joint_rows(fields, bits, slope)
            linear_works(up, down, slope, rise, fall)
        else:
            reduced_rows(beta, up, down, fields, base, slope, rise, fall)
        record(rungs, rise, fall, slope, forward[i], reverse[i], energies[i])
        exchange(start + i, mode, forward[i], reverse[i], rungs, last_end, trips, coins)
        place(betas, rungs, beta, up, down)


# --- dense RBMs on the path from a mixture --------------------------------------------------------------------

# Components below exp(-NEGLIGIBLE) times the largest are left out of a sum of exponentials: less than its
# rounding.
NEGLIGIBLE = 16.0


@kernel()
def draw_rows_of(random: Any, beta: Any, fields: Any, bases: Any, labels: Any, bits: Any) -> None:
    """Draw all units of all chains, with fields β G + (1 - β) times the logits of the chain's component.

    `bases` has shape (K, width), `labels` (n_chains,); see `draw_rows` for the others.
    """
    inner_loop()
    n_chains, width = bits.shape
    n_rungs = n_chains // len(random)
    for chain in range(n_chains):
        s, own, rest, base = random[chain // n_rungs], beta[chain], f32(1) - beta[chain], bases[labels[chain]]
        for j in range(width):
            a, b, c, d = s[0, j], s[1, j], s[2, j], s[3, j]
            number = u32(rotated(u32(a + d), 7) + a)
            shifted = u32(b << u32(9))
            c, d = u32(c ^ a), u32(d ^ b)
            s[0, j], s[1, j], s[2, j], s[3, j] = u32(a ^ d), u32(b ^ c), u32(c ^ shifted), rotated(d, 11)
            bits[chain, j] = bernoulli(own * fields[chain, j] + rest * base[j], number)


@kernel(reassoc=True)
def dot_bits(bits: Any, weights: Any) -> Any:
    """Return the sum of the weights of the units that are on, float64."""
    inner_loop()
    total = 0.0
    for i in range(len(bits)):
        total += f64(f32(bits[i]) * weights[i])
    return total


@kernel(reassoc=True)
def log_one_plus(row: Any) -> Any:
    """Return Σ log(1 + exp(-|x|)) over at most SHORT_PRODUCT units."""
    inner_loop()
    product = f32(1)
    for j in range(len(row)):
        product *= f32(1) + exp_minus(abs(row[j]))
    return np.log(f64(product))


@kernel(reassoc=True)
def sum_positive(row: Any) -> Any:
    """Return Σ max(x, 0), float64."""
    inner_loop()
    total = 0.0
    for j in range(len(row)):
        total += f64(max(row[j], f32(0)))
    return total


@kernel(reassoc=True)
def mixed_gap(t: Any, field: Any, base: Any) -> Any:
    """Return Σ softplus(x) - t max(field, 0) - (1 - t) max(base, 0) over units, x = t field + (1 - t) base.

    Apart from log(1 + exp(-|x|)), a term is 0 if field and base have equal signs, else minus the smaller part.
    """
    inner_loop()
    product, linear, s = f32(1), f32(0), f32(1) - t
    for j in range(len(field)):
        p, q = t * field[j], s * base[j]
        product *= f32(1) + exp_minus(abs(p + q))
        linear += min(max(p, f32(0)), max(-q, f32(0))) + min(max(-p, f32(0)), max(q, f32(0)))
    return np.log(f64(product)) - f64(linear)


@kernel(reassoc=True)
def mixed_slope(t: Any, field: Any, base: Any) -> Any:
    """Return the mean of Σ h_j (field_j - base_j) over h given x."""
    inner_loop()
    total, s = 0.0, f32(1) - t
    for j in range(len(field)):
        x = t * field[j] + s * base[j]
        e = exp_minus(abs(x))
        total += f64((f32(1) if x > f32(0) else e) / (f32(1) + e) * (field[j] - base[j]))
    return total


@kernel()
def describe_row(field: Any, blocks: Any) -> Any:
    """Return Σ softplus(field), and write Σ log(1 + exp(-|field|)) for every block of units."""
    total = sum_positive(field)
    for block in range(len(blocks)):
        blocks[block] = log_one_plus(field[SHORT_PRODUCT * block : SHORT_PRODUCT * (block + 1)])
        total += blocks[block]
    return total


@kernel()
def component(t: Any, most: Any, least: Any, field: Any, base: Any, blocks: Any, base_blocks: Any) -> Any:
    """Return L_k(t), or -inf once it is certain to be below `least`.

    L_k is convex in t, so every block of units lowers `most`, which starts as the chord between the ends.
    """
    for block in range(len(blocks)):
        start = SHORT_PRODUCT * block
        gap = mixed_gap(t, field[start : start + SHORT_PRODUCT], base[start : start + SHORT_PRODUCT])
        most += gap - f64(t) * blocks[block] - f64(f32(1) - t) * base_blocks[block]
        if most < least:
            return -np.inf
    return most


@kernel()
def log_sum(logs: Any) -> Any:
    """Return log Σ exp(logs)."""
    largest = logs[0]
    for value in logs:
        largest = max(largest, value)
    total = 0.0
    for value in logs:
        if value > largest - NEGLIGIBLE:
            total += np.exp(value - largest)
    return largest + np.log(total)


@kernel()
def components(
    t: Any, log_p_0: Any, log_p_1: Any, field: Any, bases: Any, blocks: Any, base_blocks: Any, logs: Any
) -> Any:
    """Write L_k(t) + log K of every component k, shape (K,), and return the log of the sum of their exponentials.

    `log_p_0` (K,) and `log_p_1` are the values at the ends, L_k(0) + log K and L_k(1) + log K.  Components below
    exp(-NEGLIGIBLE) times the largest get -inf.
    """
    s, first = f64(f32(1) - t), 0
    for k in range(len(logs)):
        if log_p_0[k] > log_p_0[first]:
            first = k
    if t == f32(0) or t == f32(1):
        for k in range(len(logs)):
            logs[k] = log_p_0[k] if t == f32(0) else log_p_1
        return log_sum(logs)
    shared = f64(t) * log_p_1
    largest = component(t, s * log_p_0[first] + shared, -np.inf, field, bases[first], blocks, base_blocks[first])
    for k in range(len(logs)):
        most, least = s * log_p_0[k] + shared, largest - NEGLIGIBLE
        logs[k] = -np.inf
        if k == first:
            logs[k] = largest
        elif most > least:
            logs[k] = component(t, most, least, field, bases[k], blocks, base_blocks[k])
    return log_sum(logs)


@kernel()
def draw_labels(coins: Any, beta: Any, slots: Any, logs: Any, cumulative: Any, labels: Any) -> None:
    """Draw every chain's component given its kept units, or from the mixture's weights at β = 0.

    `logs` has shape (n_chains, 3, K); `slots` selects the one of the three that belongs to the chain's β.
    """
    n_components, n_rungs = len(cumulative), len(beta) // len(coins)
    for c in range(len(beta)):
        uniform = f64(splitmix(coins, c // n_rungs) >> u64(11)) * 2.0**-53
        k = 0
        if beta[c] == f32(0):
            while k < n_components - 1 and uniform >= cumulative[k]:
                k += 1
        else:
            own, total, largest = logs[c, slots[c]], 0.0, -np.inf
            for value in own:
                largest = max(largest, value)
            for value in own:
                total += np.exp(value - largest)
            rest, last = uniform * total, 0
            for i in range(n_components):
                p = np.exp(own[i] - largest)
                if p > 0.0:
                    last = i
                    rest -= p
                    if rest < 0.0:
                        break
            k = last
        labels[c] = k


@kernel()
def mixed_energy(
    t: Any, log_p_0: Any, kept: Any, field: Any, bases: Any, logs: Any, total: Any, base_ends: Any, mean_base: Any
) -> Any:
    """Return d log p~_t / dt = Σ_k p(k | v) dL_k / dt; `kept` is the part of the machine's kept biases."""
    energy = 0.0
    if t == f32(1):  # all components coincide: one sum over units suffices
        for k in range(len(logs)):
            energy += base_ends[k] - log_p_0[k]
        return energy / len(logs) + kept + mixed_slope(t, field, mean_base)
    for k in range(len(logs)):
        p = np.exp(logs[k] - total)
        if p > 1e-9:
            energy += p * (kept - log_p_0[k] + base_ends[k] + mixed_slope(t, field, bases[k]))
    return energy


@kernel(cache=True)
def temper_mixture(
    n: Any,
    mode: Any,
    joint: Any,
    start: Any,
    betas: Any,
    tables: Any,
    words_v: Any,
    random: Any,
    replicates: Any,
    works: Any,
) -> None:
    """Run n iterations of some replicates of an RBM in place, on the path from a mixture.

    Potentials are those of v alone.  Parameters are those of `temper_dense`, with `MixtureTables`.
    """
    W, own, bases, W_v, own_v, bases_v, log_weights, cumulative, base_blocks, base_ends, mean_base = tables
    coins, rungs, last_end, trips = replicates
    n_chains, n_components, width = len(words_v), len(bases), bases.shape[1]
    n_rungs = rungs.shape[1]
    forward, reverse, energies = works[0], works[1], works[2]
    fields, fields_v = np.empty((n_chains, len(own)), f32), np.empty((n_chains, len(own_v)), f32)
    tables = np.empty((PASS, 16, COLUMNS), f32)
    words = np.empty((n_chains, width // 4), u32)
    bits, bits_v = words.view(np.uint8), words_v.view(np.uint8)
    nibbles, nibbles_v = np.empty(words.shape, np.uint8), np.empty(words_v.shape, np.uint8)
    beta, up, down = np.zeros(n_chains, f32), np.zeros(n_chains, f32), np.zeros(n_chains, f32)
    slope, rise, fall = np.zeros(n_chains), np.zeros(n_chains), np.zeros(n_chains)
    logs, labels = np.empty((n_chains, 3, n_components)), np.zeros(n_chains, np.int64)
    # The slot of a chain's own β in `logs`: 0 for the rung below that of the last sweep, 1 for the same, 2 above.
    slots, levels = np.ones(n_chains, np.int64), np.empty(n_chains, np.int64)
    log_p_0, blocks = np.empty(n_components), np.empty(base_blocks.shape[1])
    place(betas, rungs, beta, up, down)
    pack(words_v.reshape(-1), nibbles_v.reshape(-1))
    fields_of_rows(W, own, nibbles_v, tables, fields)
    for i in range(-1, n):
        if i >= 0:
            draw_labels(coins, beta, slots, logs, cumulative, labels)
            draw_rows_of(random, beta, fields, bases, labels, bits)
            pack(words.reshape(-1), nibbles.reshape(-1))
            fields_of_rows(W_v, own_v, nibbles, tables, fields_v)
            draw_rows_of(random, beta, fields_v, bases_v, labels, bits_v)
            pack(words_v.reshape(-1), nibbles_v.reshape(-1))
            fields_of_rows(W, own, nibbles_v, tables, fields)
        alone = i < 0 or mode == GIBBS_ONLY
        for c in range(n_chains):
            field, rung = fields[c, :width], rungs[c // n_rungs, c % n_rungs]
            kept = dot_bits(bits_v[c], own_v)
            log_p_1 = kept + describe_row(field, blocks)
            for k in range(n_components):
                log_p_0[k] = log_weights[k] + dot_bits(bits_v[c], bases_v[k])
            total = components(beta[c], log_p_0, log_p_1, field, bases, blocks, base_blocks, logs[c, 1])
            levels[c], slots[c] = rung, 1
            if alone:
                continue
            if rung + 1 < n_rungs:
                t = betas[rung + 1]
                rise[c] = total - components(t, log_p_0, log_p_1, field, bases, blocks, base_blocks, logs[c, 2])
            if rung > 0:
                t = betas[rung - 1]
                fall[c] = total - components(t, log_p_0, log_p_1, field, bases, blocks, base_blocks, logs[c, 0])
            slope[c] = mixed_energy(beta[c], log_p_0, kept, field, bases, logs[c, 1], total, base_ends, mean_base)
        if alone:
            continue
        record(rungs, rise, fall, slope, forward[i], reverse[i], energies[i])
        exchange(start + i, mode, forward[i], reverse[i], rungs, last_end, trips, coins)
        place(betas, rungs, beta, up, down)
        for c in range(n_chains):
            slots[c] = 1 + rungs[c // n_rungs, c % n_rungs] - levels[c]


# --- dense RBMs on the path along a training: every rung has its own couplings --------------------------------


@kernel()
def sort_by_rung(rungs: Any, rung: Any, rows: Any) -> None:
    """Write the rung of every chain, and the chains of every rung, `rows` (n_rungs, n_replicates)."""
    n_replicates, n_rungs = rungs.shape
    for replicate in range(n_replicates):
        for q in range(n_rungs):
            k, c = rungs[replicate, q], replicate * n_rungs + q
            rung[c], rows[k, replicate] = k, c


@kernel()
def add_rows_at(tables: Any, nibbles: Any, rows: Any, group: Any, start: Any, fields: Any) -> None:
    """Add table rows to the fields of some chains, as `add_rows` does for all."""
    inner_loop()
    for i in range(len(rows)):
        c = rows[i]
        field, n = fields[c, start : start + COLUMNS], nibbles[c, group : group + PASS]
        r0, r1, r2, r3 = tables[0, n[0]], tables[1, n[1]], tables[2, n[2]], tables[3, n[3]]
        r4, r5, r6, r7 = tables[4, n[4]], tables[5, n[5]], tables[6, n[6]], tables[7, n[7]]
        if group == 0:
            for j in range(COLUMNS):
                field[j] = ((r0[j] + r1[j]) + (r2[j] + r3[j])) + ((r4[j] + r5[j]) + (r6[j] + r7[j]))
        else:
            for j in range(COLUMNS):
                field[j] += ((r0[j] + r1[j]) + (r2[j] + r3[j])) + ((r4[j] + r5[j]) + (r6[j] + r7[j]))


@kernel()
def fields_by_rung(W: Any, biases: Any, of_rung: Any, nibbles: Any, rows: Any, tables: Any, fields: Any) -> None:
    """Write the fields of all chains, each with the couplings of its rung; see `fields_of_rows`."""
    for k in range(len(of_rung)):
        for start in range(0, W.shape[2], COLUMNS):
            for group in range(0, nibbles.shape[1], PASS):
                make_tables(W[of_rung[k]], biases[of_rung[k]], group, start, tables)
                add_rows_at(tables, nibbles, rows[k], group, start, fields)


@kernel()
def steps_by_rung(W: Any, biases: Any, nibbles: Any, rows: Any, tables: Any, ups: Any, downs: Any) -> None:
    """Write the growth of fields between adjacent rungs: `ups` for chains on the lower, `downs` on the upper."""
    for k in range(len(W)):
        for start in range(0, W.shape[2], COLUMNS):
            for group in range(0, nibbles.shape[1], PASS):
                make_tables(W[k], biases[k], group, start, tables)
                add_rows_at(tables, nibbles, rows[k], group, start, ups)
                add_rows_at(tables, nibbles, rows[k + 1], group, start, downs)


@kernel()
def kept_steps(bits: Any, steps: Any, rung: Any, ahead: Any, back: Any) -> None:
    """Write the kept units' part of the growth of log p to the next rung, and from the previous rung."""
    for c in range(len(bits)):
        k = rung[c]
        ahead[c] = dot_bits(bits[c], steps[k, : bits.shape[1]]) if k < len(steps) else 0.0
        back[c] = dot_bits(bits[c], steps[k - 1, : bits.shape[1]]) if k > 0 else 0.0


@kernel(reassoc=True)
def growth(field: Any, step: Any, base: Any) -> Any:
    """Return the sum of softplus(x + step) - softplus(x), x = base + field."""
    inner = 0.0
    product, product_up = 1.0, 1.0
    width = len(base)
    for start in range(0, width, SHORT_PRODUCT):
        base_row = base[start : start + SHORT_PRODUCT]
        row, step_row = field[start : start + len(base_row)], step[start : start + len(base_row)]
        p, p_up, linear = f32(1), f32(1), f32(0)
        for j in range(len(base_row)):
            x, s = base_row[j] + row[j], step_row[j]
            # max(x + step, 0) - max(x, 0), without losing digits of the step.
            linear += max(s + min(x, f32(0)), -max(x, f32(0)))
            p *= f32(1) + exp_minus(abs(x))
            p_up *= f32(1) + exp_minus(abs(x + s))
        inner += f64(linear)
        product, product_up = product * f64(p), product_up * f64(p_up)
        if (start + SHORT_PRODUCT) % LONG_PRODUCT == 0 or start + SHORT_PRODUCT >= width:
            inner += np.log(product_up / product)
            product, product_up = 1.0, 1.0
    return inner


@kernel()
def works_along(
    fields: Any, ups: Any, downs: Any, base: Any, rung: Any, sizes: Any, slope: Any, rise: Any, fall: Any
) -> None:
    """Write the works and the energy of every chain; on entry `rise` and `fall` hold the kept units' part.

    The energy is the difference quotient over the neighbouring rungs, whose distances are `sizes`.  `downs`
    changes its sign: on exit it holds the steps down.
    """
    for c in range(len(fields)):
        k, ahead, back, distance = rung[c], 0.0, 0.0, 0.0
        if k < len(sizes):
            ahead = rise[c] + growth(fields[c], ups[c], base)
            distance += f64(sizes[k])
        if k > 0:
            for j in range(downs.shape[1]):
                downs[c, j] = -downs[c, j]
            back = growth(fields[c], downs[c], base) - fall[c]
            distance += f64(sizes[k - 1])
        slope[c], rise[c], fall[c] = (ahead - back) / distance, -ahead, -back


@kernel()
def follow(rungs: Any, rung: Any, ups: Any, downs: Any, fields: Any) -> None:
    """Update the fields of exchanged chains to the couplings of their new rung."""
    n_rungs = rungs.shape[1]
    for c in range(len(rung)):
        k = rungs[c // n_rungs, c % n_rungs]
        if k > rung[c]:
            for j in range(fields.shape[1]):
                fields[c, j] += ups[c, j]
        elif k < rung[c]:
            for j in range(fields.shape[1]):
                fields[c, j] += downs[c, j]


@kernel(cache=True)
def temper_trajectory(
    n: Any,
    mode: Any,
    joint: Any,
    start: Any,
    betas: Any,
    tables: Any,
    words_v: Any,
    random: Any,
    replicates: Any,
    works: Any,
) -> None:
    """Run n iterations of some replicates of an RBM in place, on the path along its training.

    Potentials are those of v alone.  Parameters are those of `temper_dense`, with `TrajectoryTables`.
    """
    W, own, base, W_v, own_v, base_v, step_W, step_own, step_v, sizes, of_rung = tables
    coins, rungs, last_end, trips = replicates
    n_chains, n_rungs = len(words_v), len(of_rung)
    forward, reverse, energies = works[0], works[1], works[2]
    fields, fields_v = np.empty((n_chains, own.shape[1]), f32), np.empty((n_chains, own_v.shape[1]), f32)
    ups, downs = np.zeros(fields.shape, f32), np.zeros(fields.shape, f32)
    tables = np.empty((PASS, 16, COLUMNS), f32)
    words = np.empty((n_chains, len(base) // 4), u32)
    bits, bits_v = words.view(np.uint8), words_v.view(np.uint8)
    nibbles, nibbles_v = np.empty(words.shape, np.uint8), np.empty(words_v.shape, np.uint8)
    rung, rows = np.empty(n_chains, np.int64), np.empty((n_rungs, len(rungs)), np.int64)
    ones, slopes = np.ones(n_chains, f32), np.empty((3, n_chains))
    slope, rise, fall = slopes[0], slopes[1], slopes[2]
    sort_by_rung(rungs, rung, rows)
    pack(words_v.reshape(-1), nibbles_v.reshape(-1))
    fields_by_rung(W, own, of_rung, nibbles_v, rows, tables, fields)
    for i in range(n):
        draw_rows(random, ones, fields, base, bits)
        pack(words.reshape(-1), nibbles.reshape(-1))
        fields_by_rung(W_v, own_v, of_rung, nibbles, rows, tables, fields_v)
        draw_rows(random, ones, fields_v, base_v, bits_v)
        pack(words_v.reshape(-1), nibbles_v.reshape(-1))
        fields_by_rung(W, own, of_rung, nibbles_v, rows, tables, fields)
        if mode == GIBBS_ONLY:
            continue
        steps_by_rung(step_W, step_own, nibbles_v, rows, tables, ups, downs)
        kept_steps(bits_v, step_v, rung, rise, fall)
        works_along(fields, ups, downs, base, rung, sizes, slope, rise, fall)
        record(rungs, rise, fall, slope, forward[i], reverse[i], energies[i])
        exchange(start + i, mode, forward[i], reverse[i], rungs, last_end, trips, coins)
        follow(rungs, rung, ups, downs, fields)
        sort_by_rung(rungs, rung, rows)


# --- sparse or general machines: a unit's chains are contiguous -----------------------------------------------


@kernel()
def add_neighbours(states: Any, indices: Any, couplings: Any, start: Any, stop: Any, field: Any) -> None:
    """Add the states of neighbours times their couplings to the field of one unit in every chain.

    Four or eight neighbours at a time, because every pass reads and writes the field; stop - start is a multiple
    of 4.  Two loops, or slices of couplings, take twice as long for few chains.
    """
    inlined()
    n, k = len(field), start
    while k < stop:
        w0, w1, w2, w3 = couplings[k], couplings[k + 1], couplings[k + 2], couplings[k + 3]
        s0, s1 = states[indices[k]], states[indices[k + 1]]
        s2, s3 = states[indices[k + 2]], states[indices[k + 3]]
        if k + 8 <= stop:
            w4, w5, w6, w7 = couplings[k + 4], couplings[k + 5], couplings[k + 6], couplings[k + 7]
            s4, s5 = states[indices[k + 4]], states[indices[k + 5]]
            s6, s7 = states[indices[k + 6]], states[indices[k + 7]]
            for c in range(n):
                half = (w0 * f32(s0[c]) + w1 * f32(s1[c])) + (w2 * f32(s2[c]) + w3 * f32(s3[c]))
                rest = (w4 * f32(s4[c]) + w5 * f32(s5[c])) + (w6 * f32(s6[c]) + w7 * f32(s7[c]))
                field[c] += half + rest
            k += 8
        else:
            for c in range(n):
                field[c] += (w0 * f32(s0[c]) + w1 * f32(s1[c])) + (w2 * f32(s2[c]) + w3 * f32(s3[c]))
            k += 4


@kernel()
def draw_chains(s0: Any, s1: Any, s2: Any, s3: Any, beta: Any, field: Any, base: Any, state: Any) -> None:
    """Draw one unit in every chain; every chain has its own xoshiro128++, whose words are s0 to s3."""
    inlined()
    for j in range(len(state)):
        a, b, c, d = s0[j], s1[j], s2[j], s3[j]
        number = u32(rotated(u32(a + d), 7) + a)
        shifted = u32(b << u32(9))
        c, d = u32(c ^ a), u32(d ^ b)
        s0[j], s1[j], s2[j], s3[j] = u32(a ^ d), u32(b ^ c), u32(c ^ shifted), rotated(d, 11)
        state[j] = bernoulli(base + beta[j] * field[j], number)


@kernel()
def draw_summed(s0: Any, s1: Any, s2: Any, s3: Any, beta: Any, fields: Any, base: Any, states: Any) -> None:
    """Draw the summed-out units, one after another."""
    inner_loop()
    for j in range(len(fields)):
        draw_chains(s0, s1, s2, s3, beta, fields[j], base[j], states[j])


@kernel()
def fill(value: Any, field: Any) -> None:
    """Set all elements to one value."""
    inlined()
    for c in range(len(field)):
        field[c] = value


@kernel()
def add_where_on(state: Any, field: Any, slope: Any) -> None:
    """Add a unit's field to `slope` in the chains where it is on."""
    inlined()
    for c in range(len(state)):
        slope[c] += f64(f32(state[c]) * field[c])


@kernel()
def sweep_kept(
    s0: Any,
    s1: Any,
    s2: Any,
    s3: Any,
    beta: Any,
    states: Any,
    n_summed: Any,
    own: Any,
    base: Any,
    starts: Any,
    middles: Any,
    indices: Any,
    couplings: Any,
    earlier: Any,
    field: Any,
    slope: Any,
) -> None:
    """Draw the kept units one after another, and write their part of d log p / dβ into `slope`.

    A unit's earlier kept neighbours are listed before `middles`: v'Jv / 2 + b'v is the sum, over the units that
    are on, of these neighbours' part of their fields.
    """
    inner_loop()
    fill(0.0, slope)
    for i in range(n_summed, len(states)):
        fill(own[i], earlier)
        add_neighbours(states, indices, couplings, starts[i], middles[i], earlier)
        for c in range(len(field)):
            field[c] = earlier[c]
        add_neighbours(states, indices, couplings, middles[i], starts[i + 1], field)
        draw_chains(s0, s1, s2, s3, beta, field, base[i], states[i])
        add_where_on(states[i], earlier, slope)


@kernel()
def reduced_unit(
    beta: Any,
    up: Any,
    down: Any,
    field: Any,
    base: Any,
    linear: Any,
    linear_up: Any,
    linear_down: Any,
    product: Any,
    product_up: Any,
    product_down: Any,
) -> None:
    """Add one summed-out unit to the works of every chain; see `reduced_rows`."""
    inlined()
    for c in range(len(field)):
        g = field[c]
        x = base + beta[c] * g
        step_up, step_down = up[c] * g, -down[c] * g
        t = exp_minus(abs(x))
        above, below = max(x, f32(0)), min(x, f32(0))
        linear_up[c] += max(step_up + below, -above)
        linear_down[c] += max(step_down + below, -above)
        linear[c] += (f32(1) if x > f32(0) else t) / (f32(1) + t) * g
        product[c] *= f32(1) + t
        product_up[c] *= f32(1) + exp_minus(abs(x + step_up))
        product_down[c] *= f32(1) + exp_minus(abs(x + step_down))


@kernel()
def reduced_chains(
    beta: Any, up: Any, down: Any, fields: Any, base: Any, slope: Any, rise: Any, fall: Any
) -> None:
    """Write the works of every chain; on entry `slope` holds the kept units' part of d log p / dβ, on exit all."""
    n_summed, n_chains = fields.shape
    linear, linear_up, linear_down = np.zeros(n_chains, f32), np.zeros(n_chains, f32), np.zeros(n_chains, f32)
    product, product_up, product_down = np.ones(n_chains, f32), np.ones(n_chains, f32), np.ones(n_chains, f32)
    for c in range(n_chains):
        rise[c], fall[c] = -slope[c] * f64(up[c]), slope[c] * f64(down[c])
    for j in range(n_summed):
        reduced_unit(
            beta, up, down, fields[j], base[j], linear, linear_up, linear_down, product, product_up, product_down
        )
        if (j + 1) % SHORT_PRODUCT == 0 or j + 1 == n_summed:
            for c in range(n_chains):
                slope[c] += f64(linear[c])
                rise[c] -= f64(linear_up[c]) + np.log(f64(product_up[c]) / f64(product[c]))
                fall[c] -= f64(linear_down[c]) + np.log(f64(product_down[c]) / f64(product[c]))
                linear[c], linear_up[c], linear_down[c] = f32(0), f32(0), f32(0)
                product[c], product_up[c], product_down[c] = f32(1), f32(1), f32(1)


@kernel()
def joint_chains(fields: Any, states: Any, slope: Any) -> None:
    """Add the summed-out units' part of d log p(v, h) / dβ."""
    inner_loop()
    for j in range(len(fields)):
        add_where_on(states[j], fields[j], slope)


@kernel()
def summed_fields(states: Any, own: Any, starts: Any, indices: Any, couplings: Any, fields: Any) -> None:
    """Write the fields of the summed-out units in every chain, shape (n_summed, n_chains)."""
    inner_loop()
    for j in range(len(fields)):
        fill(own[j], fields[j])
        add_neighbours(states, indices, couplings, starts[j], starts[j + 1], fields[j])


@kernel(cache=True)
def temper_sparse(
    n: Any,
    mode: Any,
    joint: Any,
    start: Any,
    betas: Any,
    graph: Any,
    states: Any,
    random: Any,
    replicates: Any,
    works: Any,
) -> None:
    """Run n iterations of some replicates of any machine in place.

    Parameters not described here are those of `temper_dense`.

    Parameters
    ----------
    graph : Neighbours
    states : uint8, shape (n_summed + n_kept, n_chains)
        0 or 1; bytes, because memory bandwidth limits the speed.  n_chains may exceed the number of replicas: the
        additional chains are drawn at β = 0 and ignored.
    random : uint32, shape (4, n_chains)
    """
    n_summed, own, base, starts, middles, indices, couplings = graph
    coins, rungs, last_end, trips = replicates
    n_chains = states.shape[1]
    forward, reverse, energies = works[0], works[1], works[2]
    fields, field, earlier = np.empty((n_summed, n_chains), f32), np.empty(n_chains, f32), np.empty(n_chains, f32)
    s0, s1, s2, s3 = random[0], random[1], random[2], random[3]
    beta, up, down = np.zeros(n_chains, f32), np.zeros(n_chains, f32), np.zeros(n_chains, f32)
    slope, rise, fall = np.empty(n_chains), np.empty(n_chains), np.empty(n_chains)
    place(betas, rungs, beta, up, down)
    summed_fields(states, own, starts, indices, couplings, fields)
    for i in range(n):
        draw_summed(s0, s1, s2, s3, beta, fields, base, states)
        sweep_kept(
            *(s0, s1, s2, s3, beta, states, n_summed, own, base),
            *(starts, middles, indices, couplings, earlier, field, slope),
        )
        summed_fields(states, own, starts, indices, couplings, fields)
        if mode == GIBBS_ONLY:
            continue
        if joint:
            joint_chains(fields, states, slope)
            linear_works(up, down, slope, rise, fall)
        else:
            reduced_chains(beta, up, down, fields, base, slope, rise, fall)
        record(rungs, rise, fall, slope, forward[i], reverse[i], energies[i])
        exchange(start + i, mode, forward[i], reverse[i], rungs, last_end, trips, coins)
        place(betas, rungs, beta, up, down)
