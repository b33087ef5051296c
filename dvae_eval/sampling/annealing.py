"""Annealed importance sampling from independent units to a Boltzmann machine, and reverse annealing back.

A chain starts with a draw from the reference and follows the path with one block Gibbs sweep at every β.  Its
weight, the product of p~_{β_t}(v_{t-1}) / p~_{β_{t-1}}(v_{t-1}), has mean Z / Z_0 for any number of steps (Neal,
2001, Eq. 3-5; Salakhutdinov and Murray, 2008).  By Jensen's inequality, log Z is therefore underestimated on
average.  A chain from a sample of the machine back to the reference overestimates it (Burda, Grosse and
Salakhutdinov, 2015; Grosse, Ghahramani and Adams, 2015); together they are a sandwich.  Neither notices a mode
that no chain visits: if the samples miss it too, the sandwich closes around a wrong number.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from threading import Event, Lock

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.interpolate import PchipInterpolator
from torch import Tensor

from dvae_core.errors import ConfigError, NumericalError
from dvae_core.model.tempered import Tempered
from dvae_core.progress import Progress, Report, ignore
from dvae_core.rng import torch_generator
from dvae_core.types import Float

from ..machine import Machine
from ..numbers import effective_sample_size, log_mean_exp
from .mixture import AnyReference
from .reference import Reference, binary_states
from .schedule import Schedule

# Called with the steps done and the total number of steps, of all chains together.

# Values of the larger side per chunk of chains, chosen to stay in a processor's cache.  Each chunk has its own
# random stream, so results for a seed depend on these numbers.
CHUNK_VALUES = {"cpu": 1 << 16, "cuda": 1 << 24}
MIN_CHUNK, MAX_CHUNK = 16, {"cpu": 512, "cuda": 1 << 16}


@dataclass(frozen=True, slots=True)
class Annealing:
    """Weights of independent annealed chains, and the estimates of log Z from them.

    Attributes
    ----------
    log_w : float64, shape (n_chains,)
        Log weights in nats.  Their mean weight estimates Z / Z_0 without bias, or Z_0 / Z if `is_reverse`.
    log_z_0 : float
        log Z of the reference, nats.
    is_reverse : bool
        Whether the chains went from the machine to the reference.
    v : uint8, shape (n_chains, n_kept)
        States of the kept units at the last ratio, at the schedule's last β but one.  Weighted by `log_w` they are
        nearly samples of the machine: use them to fit a reference, or to search for deep basins.
    """

    log_w: Float
    log_z_0: float
    is_reverse: bool
    v: NDArray[np.uint8]

    @property
    def log_z(self) -> float:
        """The estimate of log Z: too low on average, or too high if `is_reverse`."""
        return self._estimate(self.log_w)

    @property
    def ess(self) -> float:
        """Effective number of chains, (Σ w)² / Σ w²."""
        return effective_sample_size(self.log_w)

    @property
    def std_err(self) -> float:
        """Standard error of `log_z` by the delta method, sd(w) / (mean(w) sqrt(n)); nan for one chain.

        It is at most 1, and means little where `ess` is small: heavy tails have then not been sampled.
        """
        w = np.exp(self.log_w - self.log_w.max())
        return float(w.std(ddof=1) / w.mean()) / math.sqrt(len(w)) if len(w) > 1 else math.nan

    def repeats(self, n_groups: int = 16) -> Float:
        """Return the estimates of `n_groups` groups of consecutive chains, shape (n_groups,).

        The mean of few chains is more biased than that of all: use groups for the spread, not for a better mean.

        Raises
        ------
        ConfigError
            If there are fewer chains than groups.
        """
        if not 1 <= n_groups <= len(self.log_w):
            raise ConfigError(f"{len(self.log_w)} chains cannot make {n_groups} groups; use more chains")
        return np.array([self._estimate(group) for group in np.array_split(self.log_w, n_groups)])

    def bound(self, level: float = 0.95, n_groups: int = 16) -> float:
        """Return a one-sided bound on log Z that holds with probability at least `level`, nats.

        A lower bound, or an upper one if `is_reverse`.  The product of the groups' estimates of Z / Z_0, divided
        by its true value, is positive with mean 1; it therefore exceeds 1 / (1 - level) with probability at most 1
        - level (Markov's inequality).  This assumes only that chains are independent and, if `is_reverse`, that
        they started with samples of the machine.  Use few groups for widely spread weights, many for narrow ones.
        """
        slack = -math.log(1 - level) / n_groups
        return float(self.repeats(n_groups).mean()) + (slack if self.is_reverse else -slack)

    def _estimate(self, log_w: Float) -> float:
        """Return log Z from the weights of a group of chains."""
        ratio = log_mean_exp(log_w)
        return self.log_z_0 - ratio if self.is_reverse else self.log_z_0 + ratio


# --- schedules ----------------------------------------------------------------------------------------------


def uniform_schedule(n_steps: int) -> Float:
    """Return `n_steps` equal steps from 0 to 1, shape (n_steps + 1,)."""
    return np.linspace(0, 1, n_steps + 1)


def betas_along(schedule: Schedule, n_steps: int, rejection_rates: ArrayLike | None = None) -> Float:
    """Return a schedule of `n_steps` steps that are equally spaced in a schedule's communication barrier.

    Parameters
    ----------
    rejection_rates : shape (K,), optional
        Rejection rates of exchanges between the schedule's neighbours; by default all equal, as on an equalised
        schedule.
    """
    rates = np.ones(schedule.n_steps) if rejection_rates is None else np.asarray(rejection_rates, np.float64)
    if rates.shape != (schedule.n_steps,):
        raise ConfigError(f"rejection rates have shape {rates.shape}; use ({schedule.n_steps},), one per step")
    # A floor keeps the barrier strictly increasing where every exchange is accepted.
    barrier = np.concatenate(([0.0], np.cumsum(np.maximum(rates, 1e-4))))
    return _ends(PchipInterpolator(barrier, schedule.betas)(np.linspace(0, barrier[-1], n_steps + 1)))


def _ends(betas: Float) -> Float:
    """Return a schedule whose ends are exactly 0 and 1."""
    betas[0], betas[-1] = 0.0, 1.0
    return betas


# --- estimates ----------------------------------------------------------------------------------------------


def annealed_importance_sampling(
    machine: Machine,
    betas: ArrayLike,
    n_chains: int,
    seed: int,
    *,
    reference: AnyReference | None = None,
    device: str = "cpu",
    threads: int = 1,
    report: Report = ignore,
) -> Annealing:
    """Estimate log Z by annealed importance sampling, from the reference to the machine.

    Parameters
    ----------
    machine : BipartiteMachine or GeneralMachine
    betas : shape (n_steps + 1,)
        Schedule, strictly increasing from 0 to 1.
    n_chains : int
        Number of independent chains.
    seed : int
        Determines the result on a kind of device, for any number of threads.
    reference : Reference, optional
        Start of the path; uniform by default.
    device : str
        Device of the chains.
    threads : int
        Number of chunks of chains processed at once; torch itself uses one thread meanwhile.
    report : callable
        Called with (steps done, total steps).

    Returns
    -------
    Annealing

    Raises
    ------
    ConfigError
        If the schedule does not increase from 0 to 1, or a count or the reference is invalid.
    NumericalError
        If a weight is nan or infinite.
    """
    if n_chains < 1:
        raise ConfigError(f"n_chains is {n_chains}; use 1 or more")
    reference = reference or Reference.uniform(machine)
    path = reference.path(machine.reduced(), device, torch.float32)

    def draw(chains: slice, generator: torch.Generator) -> Tensor:
        return path.start(chains.stop - chains.start, generator)

    chunks = _Chunks(path, reference.log_z, _schedule(betas), n_chains, False, report)
    return chunks.run(draw, seed, threads)


def reverse_ais(
    machine: Machine,
    samples: ArrayLike,
    betas: ArrayLike,
    seed: int,
    *,
    reference: AnyReference | None = None,
    device: str = "cpu",
    threads: int = 1,
    report: Report = ignore,
) -> Annealing:
    """Estimate log Z by annealing from samples of the machine back to the reference.

    The estimate is too high on average, and `Annealing.bound` is an upper bound, only if `samples` are independent
    samples of the machine: samples that miss a mode of probability m lower it by -log(1 - m), and correlated ones
    make the error and the bound too tight.

    The chains are those of `annealed_importance_sampling` on the same schedule in reverse, so that
    `bar(-forward.log_w, -reverse.log_w)` is Bennett's estimate of log Z_0 / Z from both (Crooks' theorem).

    Parameters
    ----------
    samples : {0, 1}, shape (n_chains, n_kept)
        States of the kept units, in the order of `Machine.reduced`; each of them starts one chain.
    machine, betas, seed, reference, device, threads, report
        As in `annealed_importance_sampling`; the schedule increases from 0 to 1 here, too.

    Raises
    ------
    ConfigError, DataError
        If the schedule does not increase from 0 to 1, or the samples are not binary states of the kept units.
    NumericalError
        If a weight is nan or infinite.
    """
    reduced, reference = machine.reduced(), reference or Reference.uniform(machine)
    states = torch.from_numpy(binary_states(reduced, samples))
    path = reference.path(reduced, device, torch.float32)

    def draw(chains: slice, generator: torch.Generator) -> Tensor:
        return states[chains].to(generator.device, torch.float32)

    chunks = _Chunks(path, reference.log_z, _schedule(betas)[::-1], len(states), True, report)
    return chunks.run(draw, seed, threads)


def _schedule(betas: ArrayLike) -> list[float]:
    """Return a valid schedule as a list of numbers."""
    rising: list[float] = Schedule(np.asarray(betas, np.float64)).betas.tolist()
    return rising


# --- chains -------------------------------------------------------------------------------------------------


class _Chunks:
    """All chains of one estimate, in chunks that are processed independently."""

    def __init__(
        self,
        path: Tempered,
        log_z_0: float,
        betas: list[float],
        n_chains: int,
        is_reverse: bool,
        report: Report,
    ) -> None:
        self.path, self.log_z_0, self.betas = path, log_z_0, betas
        self.n_chains, self.is_reverse = n_chains, is_reverse
        # The reverse kernel draws the same classes in the opposite order.
        self.classes = path.classes()[::-1] if is_reverse else path.classes()
        self.report, self.done, self.lock, self.cancelled = report, 0, Lock(), Event()

    def run(self, draw: Callable[[slice, torch.Generator], Tensor], seed: int, threads: int) -> Annealing:
        """Anneal all chains from the states that `draw` returns."""
        if threads < 1:
            raise ConfigError(f"threads is {threads}; use 1 or more")
        device, size = self.path.W.device, self._size()

        def chunk(i: int) -> tuple[Tensor, Tensor]:
            generator = torch_generator(seed, "annealing", int(self.is_reverse), i, device=device)
            chains = slice(i * size, min((i + 1) * size, self.n_chains))
            return self._anneal(draw(chains, generator), generator)

        n_chunks = math.ceil(self.n_chains / size)
        with _one_thread_each(), ThreadPoolExecutor(threads) as pool:
            try:
                parts = list(pool.map(chunk, range(n_chunks)))
            except BaseException:  # an interrupt must not wait for the chunks under way
                self.cancelled.set()
                raise
        log_w, v = (torch.cat(tensors).cpu().numpy() for tensors in zip(*parts, strict=True))
        if not np.isfinite(log_w).all():
            raise NumericalError("annealing: a weight is nan or infinite; check the machine for extreme couplings")
        return Annealing(log_w, self.log_z_0, self.is_reverse, v)

    def _size(self) -> int:
        """Return the number of chains per chunk: a power of two that suits the machine's size."""
        kind = "cpu" if self.path.W.device.type == "cpu" else "cuda"
        fitting = max(MIN_CHUNK, CHUNK_VALUES[kind] // max(1, int(max(self.path.W.shape))))
        return min(1 << (fitting.bit_length() - 1), MAX_CHUNK[kind])

    @torch.no_grad()
    def _anneal(self, v: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return the log weights, float64, and last states, uint8, of chains that start in states v."""
        log_w = torch.zeros(len(v), dtype=torch.float64, device=v.device)
        steps = list(pairwise(self.betas))
        report_every = max(1, len(steps) // 50)
        for i, (old, new) in enumerate(steps, 1):
            if self.cancelled.is_set():
                break
            field = self.path.field(v)
            log_w += self.path.log_ratio(v, field, old, new)
            if i < len(steps):
                v, _ = self.path.sweep(v, field, new, generator, self.classes)
            if i % report_every == 0 or i == len(steps):
                self._tick(len(v) * (i - (i - 1) // report_every * report_every))
        return log_w, v.byte()

    def _tick(self, n_steps: int) -> None:
        """Report `n_steps` further steps."""
        with self.lock:
            self.done += n_steps
            self.report(Progress("annealing", self.done, self.n_chains * (len(self.betas) - 1)))


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Keep torch from using more than one thread per operation."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
