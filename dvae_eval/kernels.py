"""Compiled parallel tempering of Boltzmann machines: block Gibbs, works and exchanges with no Python within.

Two layouts.  *Dense* RBMs keep a chain's units contiguous: states are bits, four at a time pick one of 16 rows of
a table of partial sums, and fields are sums of such rows.  *Sparse or general* machines keep a unit's chains
contiguous: fields are sums over neighbours, for many chains at once.  Either way a state never moves: an exchange
swaps the rungs of two replicas.

With x = base + β G the field of a unit on the way from independent units (β = 0) to the machine (β = 1), and
t = exp(-|x|) in (0, 1], a unit is drawn as [x > 0], flipped with probability t / (1 + t), and
softplus(x) = max(x, 0) + log(1 + t), where the logarithms of a row of units are that of one product.  Nothing here
overflows, whatever the field, and differences of softplus keep their digits.

All of the compiled code stands in one file, because numba's cache of a function sees its own file change only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numpy as np
from numba import njit, types
from numba.extending import intrinsic

__all__ = ["EVEN_ODD", "GIBBS_ONLY", "RANDOM", "temper_dense", "temper_sparse"]

F = TypeVar("F", bound=Callable[..., Any])

# What follows a sweep: nothing, or works and exchanges of alternating or of tossed parity.
GIBBS_ONLY, EVEN_ODD, RANDOM = 0, 1, 2

u32, i32, f32, u64, f64 = np.uint32, np.int32, np.float32, np.uint64, np.float64

# Factors 1 + t lie in (1, 2]: a product of so many is below 2^1023.
LONGEST_PRODUCT = 960


def kernel(fastmath: set[str] | None = None) -> Callable[[F], F]:
    """Compile on the first call, without the interpreter's lock, cached on disk where a folder can be written."""
    # 'contract' permits a * b + c in one rounding; nothing is reordered unless asked for.
    settings: dict[str, Any] = {
        "nogil": True,
        "error_model": "numpy",
        "fastmath": {"contract", "nsz"} | (fastmath or set()),
    }

    def decorate(function: F) -> F:
        try:
            return cast(F, njit(cache=True, **settings)(function))
        except RuntimeError:  # no folder for the cache can be written
            return cast(F, njit(**settings)(function))

    return decorate


def _wide_vectors(typingctx: Any) -> Any:
    """Let the compiler use the processor's widest vectors in the calling function, 1.4 times as fast with AVX-512.

    By default it keeps to half of them, because a few instructions of that width once slowed a processor down;
    here nearly all of them are.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        attributes = builder.function.attributes
        if isinstance(attributes, set):
            # llvmlite's own `add` refuses attributes that it does not know.
            set.add(attributes, '"prefer-vector-width"="512"')
        return context.get_dummy_value()

    return types.void(), generate


wide_vectors: Callable[[], None] = intrinsic(_wide_vectors)


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
    # numba promotes sums and shifts of uint32 to 64 bits: every one is cut back.
    return u32(u32(x << u32(n)) | u32(x >> u32(32 - n)))


@kernel()
def bernoulli(x: Any, bits: Any) -> Any:
    """Return whether a unit with field x is on, from 32 random bits."""
    t = exp_minus(abs(x))
    # 31 bits, in the middle of their interval: neither 0 nor 1 is certain before its time.
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
    """Swap neighbours of every ladder with probability min(1, exp(-w_f - w_r)), and count round trips.

    `rungs[l, q]` is the rung of replica q of ladder l, `last_end[l, q]` the end that it saw last (1 cold, -1 hot,
    0 neither); works are those of this iteration, shape (n_ladders, K).
    """
    n_ladders, n_rungs = rungs.shape
    replicas = np.empty(n_rungs, np.int64)
    for ladder in range(n_ladders):
        for q in range(n_rungs):
            replicas[rungs[ladder, q]] = q
        parity = start % 2 if mode == EVEN_ODD else i32(splitmix(coins, ladder) >> u64(63))
        for k in range(parity, n_rungs - 1, 2):
            uniform = f64(splitmix(coins, ladder) >> u64(11)) * 2.0**-53
            if np.log(uniform) < -forward[ladder, k] - reverse[ladder, k]:
                replicas[k], replicas[k + 1] = replicas[k + 1], replicas[k]
        for k in range(n_rungs):
            rungs[ladder, replicas[k]] = k
        hot, cold = replicas[0], replicas[n_rungs - 1]
        trips[ladder] += last_end[ladder, hot] == 1
        last_end[ladder, hot] = -1
        last_end[ladder, cold] = 1


@kernel()
def place(betas: Any, rungs: Any, beta: Any, up: Any, down: Any) -> None:
    """Write every replica's β and its distances to the neighbouring rungs, 0 where there is none."""
    n_ladders, n_rungs = rungs.shape
    for ladder in range(n_ladders):
        for q in range(n_rungs):
            k, c = rungs[ladder, q], ladder * n_rungs + q
            beta[c] = betas[k]
            up[c] = betas[k + 1] - betas[k] if k + 1 < n_rungs else f32(0)
            down[c] = betas[k] - betas[k - 1] if k > 0 else f32(0)


@kernel()
def record(rungs: Any, rise: Any, fall: Any, slope: Any, forward: Any, reverse: Any, energies: Any) -> None:
    """Sort what was found for every replica by its rung."""
    n_ladders, n_rungs = rungs.shape
    for ladder in range(n_ladders):
        for q in range(n_rungs):
            k, c = rungs[ladder, q], ladder * n_rungs + q
            energies[ladder, k] = slope[c]
            if k + 1 < n_rungs:
                forward[ladder, k] = rise[c]
            if k > 0:
                reverse[ladder, k - 1] = fall[c]


# --- dense RBMs: a chain's units are contiguous ---------------------------------------------------------------


@kernel()
def add_rows(tables: Any, nibbles: Any, fields: Any) -> None:
    """Sum the rows of the tables that every chain's bits pick.

    `tables` has shape (n_blocks, n_groups, 16, width), `nibbles` (n_chains, n_groups), `fields` (n_chains,
    n_blocks * width); n_groups is a multiple of 4.  All chains use four groups' rows before the next four
    come, so that these stay in the fastest cache.
    """
    wide_vectors()
    n_blocks, n_groups, _, width = tables.shape
    for block in range(n_blocks):
        for g in range(0, n_groups, 4):
            for c in range(len(fields)):
                row = fields[c, block * width : (block + 1) * width]
                r0 = tables[block, g, nibbles[c, g]]
                r1 = tables[block, g + 1, nibbles[c, g + 1]]
                r2 = tables[block, g + 2, nibbles[c, g + 2]]
                r3 = tables[block, g + 3, nibbles[c, g + 3]]
                if g == 0:
                    for j in range(width):
                        row[j] = (r0[j] + r1[j]) + (r2[j] + r3[j])
                else:
                    for j in range(width):
                        row[j] += (r0[j] + r1[j]) + (r2[j] + r3[j])


@kernel()
def draw_rows(random: Any, beta: Any, fields: Any, base: Any, bits: Any) -> None:
    """Draw all units of all chains; every unit of a ladder has its own xoshiro128++ (Blackman and Vigna, 2021).

    `random` has shape (n_ladders, 4, width), `fields` and `bits` (n_chains, width), `base` (width,).
    """
    wide_vectors()
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
def pack_rows(words: Any, nibbles: Any) -> None:
    """Pack four bytes of 0 or 1, in one uint32, into four bits."""
    wide_vectors()
    for c in range(words.shape[0]):
        for g in range(words.shape[1]):
            nibbles[c, g] = (u32(words[c, g] * u32(0x01020408)) >> u32(24)) & u32(15)


@kernel({"reassoc"})
def kept_energy_rows(bits: Any, weights: Any, slope: Any) -> None:
    """Write what the kept units contribute to d log p / dβ: their biases above the base's, float64."""
    wide_vectors()
    for c in range(bits.shape[0]):
        total = 0.0
        for i in range(bits.shape[1]):
            total += bits[c, i] * weights[i]
        slope[c] = total


@kernel({"reassoc"})
def joint_rows(fields: Any, bits: Any, slope: Any) -> None:
    """Add what the summed-out units contribute to d log p(v, h) / dβ."""
    wide_vectors()
    for c in range(bits.shape[0]):
        total = 0.0
        for j in range(bits.shape[1]):
            total += bits[c, j] * fields[c, j]
        slope[c] += total


@kernel({"reassoc"})
def reduced_rows(beta: Any, up: Any, down: Any, fields: Any, base: Any, slope: Any, rise: Any, fall: Any) -> None:
    """Write the works of every chain, given the kept units' part of d log p / dβ in `slope`, and complete that."""
    wide_vectors()
    n_chains, width = fields.shape
    for c in range(n_chains):
        own, to_up, to_down = beta[c], up[c], -down[c]
        ahead, back, energy = slope[c] * f64(to_up), slope[c] * f64(to_down), slope[c]
        for start in range(0, width, LONGEST_PRODUCT):
            product, product_up, product_down = 1.0, 1.0, 1.0
            for j in range(start, min(start + LONGEST_PRODUCT, width)):
                g = fields[c, j]
                x = base[j] + own * g
                step_up, step_down = to_up * g, to_down * g
                t = exp_minus(abs(x))
                above, below = max(x, f32(0)), min(x, f32(0))
                # max(x + step, 0) - max(x, 0), without the digits of x.
                ahead += f64(max(step_up + below, -above))
                back += f64(max(step_down + below, -above))
                energy += f64((f32(1) if x > f32(0) else t) / (f32(1) + t) * g)
                product *= f64(f32(1) + t)
                product_up *= f64(f32(1) + exp_minus(abs(x + step_up)))
                product_down *= f64(f32(1) + exp_minus(abs(x + step_down)))
            ahead += np.log(product_up / product)
            back += np.log(product_down / product)
        slope[c], rise[c], fall[c] = energy, -ahead, -back


@kernel()
def linear_works(up: Any, down: Any, slope: Any, rise: Any, fall: Any) -> None:
    """Write the works of potentials that are linear in β."""
    for c in range(len(slope)):
        rise[c], fall[c] = -f64(up[c]) * slope[c], f64(down[c]) * slope[c]


@kernel()
def temper_dense(
    n: Any,
    mode: Any,
    joint: Any,
    start: Any,
    betas: Any,
    tables: Any,
    base: Any,
    weights: Any,
    tables_v: Any,
    base_v: Any,
    bits_v: Any,
    words_v: Any,
    random: Any,
    coins: Any,
    rungs: Any,
    last_end: Any,
    trips: Any,
) -> Any:
    """Run n iterations of some ladders of an RBM in place, and return their works and energies.

    Parameters
    ----------
    n, mode, joint, start : int, int, bool, int
        Iterations; what follows a sweep; whether potentials are joint; how many iterations there were before.
    betas : float32, shape (n_rungs,)
    tables, tables_v : float32
        See `add_rows`: to the summed-out units, and to the kept ones.
    base, base_v : float32
        Fields at β = 0.
    weights : float64
        Biases of the kept units above the base's.
    bits_v, words_v : uint8, uint32
        States, shape (n_chains, width_v), and the same memory in words.
    random, coins : uint32, uint64
        Generators of units and of exchanges.
    rungs, last_end, trips : int64
        See `exchange`.
    """
    n_ladders, n_rungs = rungs.shape
    n_chains, kept_too = len(bits_v), n if mode != GIBBS_ONLY else 0
    forward = np.empty((kept_too, n_ladders, n_rungs - 1))
    reverse = np.empty((kept_too, n_ladders, n_rungs - 1))
    energies = np.empty((kept_too, n_ladders, n_rungs))
    fields, fields_v = np.empty((n_chains, len(base)), f32), np.empty((n_chains, len(base_v)), f32)
    words = np.empty((n_chains, len(base) // 4), u32)
    bits = words.view(np.uint8)
    nibbles = np.empty(words.shape, np.uint8)
    nibbles_v = np.empty(words_v.shape, np.uint8)
    beta, up, down = np.empty(n_chains, f32), np.empty(n_chains, f32), np.empty(n_chains, f32)
    slope, rise, fall = np.empty(n_chains), np.empty(n_chains), np.empty(n_chains)
    pack_rows(words_v, nibbles_v)
    add_rows(tables, nibbles_v, fields)
    place(betas, rungs, beta, up, down)
    for i in range(n):
        draw_rows(random, beta, fields, base, bits)
        pack_rows(words, nibbles)
        add_rows(tables_v, nibbles, fields_v)
        draw_rows(random, beta, fields_v, base_v, bits_v)
        pack_rows(words_v, nibbles_v)
        add_rows(tables, nibbles_v, fields)
        if mode == GIBBS_ONLY:
            continue
        kept_energy_rows(bits_v, weights, slope)
        if joint:
            joint_rows(fields, bits, slope)
            linear_works(up, down, slope, rise, fall)
        else:
            reduced_rows(beta, up, down, fields, base, slope, rise, fall)
        record(rungs, rise, fall, slope, forward[i], reverse[i], energies[i])
        exchange(start + i, mode, forward[i], reverse[i], rungs, last_end, trips, coins)
        place(betas, rungs, beta, up, down)
    return forward, reverse, energies


# --- sparse or general machines: a unit's chains are contiguous -----------------------------------------------


@kernel()
def add_neighbours(states: Any, indices: Any, couplings: Any, start: Any, stop: Any, field: Any) -> None:
    """Add the states of neighbours times their couplings to the field of one unit in every chain."""
    wide_vectors()
    n = len(field)
    k = start
    while k + 4 <= stop:
        w0, w1, w2, w3 = couplings[k], couplings[k + 1], couplings[k + 2], couplings[k + 3]
        s0, s1, s2, s3 = states[indices[k]], states[indices[k + 1]], states[indices[k + 2]], states[indices[k + 3]]
        for c in range(n):
            field[c] += (w0 * s0[c] + w1 * s1[c]) + (w2 * s2[c] + w3 * s3[c])
        k += 4
    while k < stop:
        w, s = couplings[k], states[indices[k]]
        for c in range(n):
            field[c] += w * s[c]
        k += 1


@kernel()
def draw_chains(random: Any, beta: Any, field: Any, base: Any, state: Any) -> None:
    """Draw one unit in every chain; every chain has its own xoshiro128++, `random` has shape (4, n_chains)."""
    wide_vectors()
    for j in range(len(state)):
        a, b, c, d = random[0, j], random[1, j], random[2, j], random[3, j]
        number = u32(rotated(u32(a + d), 7) + a)
        shifted = u32(b << u32(9))
        c, d = u32(c ^ a), u32(d ^ b)
        random[0, j], random[1, j] = u32(a ^ d), u32(b ^ c)
        random[2, j], random[3, j] = u32(c ^ shifted), rotated(d, 11)
        state[j] = f32(1) if bernoulli(base + beta[j] * field[j], number) else f32(0)


@kernel()
def sweep_kept(
    random: Any,
    beta: Any,
    states: Any,
    n_summed: Any,
    own: Any,
    base: Any,
    starts: Any,
    middles: Any,
    indices: Any,
    couplings: Any,
    field: Any,
    slope: Any,
) -> None:
    """Draw the kept units one after another, and write what they contribute to d log p / dβ into `slope`.

    A unit's earlier kept neighbours stand before `middles`: v'Jv / 2 + b'v is the sum of their part of the fields
    of the units that are on.
    """
    wide_vectors()
    slope[:] = 0.0
    earlier = np.empty_like(field)
    for i in range(n_summed, len(states)):
        field[:] = own[i]
        add_neighbours(states, indices, couplings, starts[i], middles[i], field)
        earlier[:] = field
        add_neighbours(states, indices, couplings, middles[i], starts[i + 1], field)
        draw_chains(random, beta, field, base[i], states[i])
        state = states[i]
        for c in range(len(field)):
            slope[c] += f64(state[c]) * f64(earlier[c])


@kernel()
def reduced_unit(
    beta: Any,
    up: Any,
    down: Any,
    field: Any,
    base: Any,
    slope: Any,
    ahead: Any,
    back: Any,
    product: Any,
    product_up: Any,
    product_down: Any,
) -> None:
    """Add one summed-out unit to the works of every chain; see `reduced_rows`."""
    wide_vectors()
    for c in range(len(field)):
        g = field[c]
        x = base + beta[c] * g
        step_up, step_down = up[c] * g, -down[c] * g
        t = exp_minus(abs(x))
        above, below = max(x, f32(0)), min(x, f32(0))
        ahead[c] += f64(max(step_up + below, -above))
        back[c] += f64(max(step_down + below, -above))
        slope[c] += f64((f32(1) if x > f32(0) else t) / (f32(1) + t) * g)
        product[c] *= f64(f32(1) + t)
        product_up[c] *= f64(f32(1) + exp_minus(abs(x + step_up)))
        product_down[c] *= f64(f32(1) + exp_minus(abs(x + step_down)))


@kernel()
def reduced_chains(
    beta: Any, up: Any, down: Any, fields: Any, base: Any, slope: Any, rise: Any, fall: Any
) -> None:
    """Write the works of every chain, given the kept units' part of d log p / dβ in `slope`, and complete that."""
    n_summed, n_chains = fields.shape
    product, product_up, product_down = np.ones(n_chains), np.ones(n_chains), np.ones(n_chains)
    for c in range(n_chains):
        rise[c], fall[c] = slope[c] * f64(up[c]), -slope[c] * f64(down[c])
    for j in range(n_summed):
        reduced_unit(beta, up, down, fields[j], base[j], slope, rise, fall, product, product_up, product_down)
        if (j + 1) % LONGEST_PRODUCT == 0 or j + 1 == n_summed:
            for c in range(n_chains):
                rise[c] += np.log(product_up[c] / product[c])
                fall[c] += np.log(product_down[c] / product[c])
            product[:], product_up[:], product_down[:] = 1.0, 1.0, 1.0
    for c in range(n_chains):
        rise[c], fall[c] = -rise[c], -fall[c]


@kernel()
def joint_chains(fields: Any, states: Any, slope: Any) -> None:
    """Add what the summed-out units contribute to d log p(v, h) / dβ."""
    wide_vectors()
    for j in range(len(fields)):
        field, state = fields[j], states[j]
        for c in range(len(slope)):
            slope[c] += f64(field[c] * state[c])


@kernel()
def summed_fields(states: Any, own: Any, starts: Any, indices: Any, couplings: Any, fields: Any) -> None:
    """Write the fields of the summed-out units in every chain, shape (n_summed, n_chains)."""
    for j in range(len(fields)):
        fields[j] = own[j]
        add_neighbours(states, indices, couplings, starts[j], starts[j + 1], fields[j])


@kernel()
def temper_sparse(
    n: Any,
    mode: Any,
    joint: Any,
    start: Any,
    betas: Any,
    n_summed: Any,
    own: Any,
    base: Any,
    starts: Any,
    middles: Any,
    indices: Any,
    couplings: Any,
    states: Any,
    random: Any,
    coins: Any,
    rungs: Any,
    last_end: Any,
    trips: Any,
) -> Any:
    """Run n iterations of some ladders of any machine in place, and return their works and energies.

    Parameters
    ----------
    own, base : float32, shape (n_summed + n_kept,)
        Biases above the base's, and the base's; the summed-out units come first.
    starts, middles, indices, couplings : int64, int64, int64, float32
        Neighbours of unit i are `indices[starts[i] : starts[i + 1]]`; see `sweep_kept` for `middles`.
    states : float32, shape (n_summed + n_kept, n_chains)
        n_chains may exceed the number of replicas: what is left over is drawn at β = 0 and counts for nothing.
    random : uint32, shape (4, n_chains)

    The others are those of `temper_dense`.
    """
    n_ladders, n_rungs = rungs.shape
    n_chains, kept_too = states.shape[1], n if mode != GIBBS_ONLY else 0
    forward = np.empty((kept_too, n_ladders, n_rungs - 1))
    reverse = np.empty((kept_too, n_ladders, n_rungs - 1))
    energies = np.empty((kept_too, n_ladders, n_rungs))
    fields, field = np.empty((n_summed, n_chains), f32), np.empty(n_chains, f32)
    beta, up, down = np.zeros(n_chains, f32), np.zeros(n_chains, f32), np.zeros(n_chains, f32)
    slope, rise, fall = np.empty(n_chains), np.empty(n_chains), np.empty(n_chains)
    place(betas, rungs, beta, up, down)
    summed_fields(states, own, starts, indices, couplings, fields)
    for i in range(n):
        for j in range(n_summed):
            draw_chains(random, beta, fields[j], base[j], states[j])
        sweep_kept(random, beta, states, n_summed, own, base, starts, middles, indices, couplings, field, slope)
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
    return forward, reverse, energies
