"""States of a machine with their verdict, and their files: NPZ, CSV and dimod's SampleSet."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from dvae_core.cards import Card, HasCard, rows_of
from dvae_core.errors import ConfigError, DataError, ResultError
from dvae_core.io.containers import npz_names, packed, read_npz
from dvae_core.io.files import json_object, npz_bytes, write_bytes
from dvae_core.text import estimate, fixed, plain, short
from dvae_core.types import Float

from ..card_rows import COLOURS, per, rows_of_checks, rows_of_run
from ..frames import frame_of
from ..results import making_of
from ..verdict import MEANINGS, Check, Level, checks_of, claim_of, failures_of, level_of

SCHEMA = 1
VARTYPES = {"01": "BINARY", "pm1": "SPIN"}
SUFFIXES = {".npz": "npz", ".csv": "csv", ".json": "dimod"}
# What each level means for states, and what to do next.
CLAIMS: dict[Level, str] = {**MEANINGS, "exact": "independent states", "loose": "the states are autocorrelated"}
NEXT_STEPS: dict[Level, str] = {
    "exact": "use them as they are",
    "checked": "use them as samples of the machine",
    "loose": "use them, or do what the warning says",
    "doubtful": "do not use them; each failed check says what to do",
}


@dataclass(frozen=True, slots=True)
class BestState:
    """The most probable state of a machine, or the best one sampled.

    Attributes
    ----------
    state : int8, shape (n_units,)
        As in `SampledStates`.
    log_p : float
        Its log-probability, nats.
    is_exact : bool
        Whether it is certainly the most probable state; otherwise it is the best of those sampled.
    """

    state: NDArray[np.int8]
    log_p: float
    is_exact: bool


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class SampledStates(HasCard):
    """Samples of a Boltzmann machine, with a verdict on how far they can be trusted.

    Attributes
    ----------
    states : int8, shape (n, n_units)
        In the units' own values, 0 and 1 or -1 and +1, and in the order of the file or of the arrays; for an RBM,
        visible units come first.  Clamped units have their values.
    labels : tuple of str
        Names of the units; empty if they are numbered from 0.
    units : str
        `01` or `pm1`.
    log_p : float64, shape (n,)
        Log-probability of every state given the clamped units, nats, using `log_z`.
    method : str
        `exact`, independent states; or `pt-bar`, from parallel tempering.
    log_z, std_err : float
        log Z in the machine's own convention, given its clamped units, and its standard error, nats.
    checks : tuple of Check
    best : BestState or None
        None unless requested.
    model, settings, diagnostics, versions : dict
        As in the result of `estimate_log_z`; JSON values.
    seed : int
    wall_seconds : float
    command : list of str
        The command line; empty for states from the library.
    energy_scale : float
        β in log p = -β E + constant, with E the energy of the file from which the machine was read.
    environment, estimator_version : dict, int
        As in the result of `estimate_log_z`.
    """

    states: NDArray[np.int8]
    labels: tuple[str, ...]
    units: str
    log_p: Float
    method: str
    log_z: float
    std_err: float
    checks: tuple[Check, ...]
    best: BestState | None
    model: dict[str, Any]
    settings: dict[str, Any]
    seed: int
    diagnostics: dict[str, Any]
    versions: dict[str, str]
    wall_seconds: float
    command: list[str] = field(default_factory=list)
    energy_scale: float = 1.0
    environment: dict[str, Any] = field(default_factory=dict, compare=False)
    estimator_version: int = 0

    kind: ClassVar[str] = "states"

    @property
    def n_states(self) -> int:
        """Number of states."""
        return len(self.states)

    @property
    def making(self) -> str:
        """Time, place and cost of the computation, in one line; empty if they were not recorded."""
        return making_of(self.environment)

    @property
    def reasons(self) -> list[str]:
        """The failed checks, in words."""
        return failures_of(self.checks)

    @property
    def warnings(self) -> list[str]:
        """The failed checks that are warnings, in words."""
        return [str(check) for check in self.checks if not check.passed and check.severity == "warning"]

    @property
    def trustworthy(self) -> bool:
        """False if the states may be from another distribution, for the given `reasons`."""
        return not self.reasons

    @property
    def verdict(self) -> Level:
        """How far the states can be trusted, see `dvae_eval.verdict`."""
        return level_of(self.checks, exact=self.method == "exact")

    @property
    def claim(self) -> str:
        """The verdict, what it means and what to do next, in one line."""
        return claim_of(self.verdict, CLAIMS, NEXT_STEPS[self.verdict])

    def __str__(self) -> str:
        """Return a summary in one line."""
        assumed = self.model.get("assumed")
        read = f", with {', '.join(map(str, assumed))}" if isinstance(assumed, list) and assumed else ""
        log_z = estimate(self.log_z, self.std_err)
        n_units = self.states.shape[1]
        return plain(f"{self.n_states} states of {n_units} units ({self.method}), log Z = {log_z} nats{read}")

    def _card(self) -> Card:
        """Return a summary, the verdict and what to do next."""
        n, n_units = self.states.shape
        effective = self.diagnostics.get("states", {}).get("effective_states")
        worth = "independent" if effective is None else f"worth {short(effective)} independent ones"
        units = "-1 and +1" if self.units == "pm1" else "0 and 1"
        rows = (
            *rows_of_checks(self.checks),
            *rows_of(
                (
                    "states",
                    f"{self.method}, {worth}, units of {units}",
                ),
                ("log Z", f"{estimate(self.log_z, self.std_err)} nats"),
                ("best", self.best_line()),
            ),
            *rows_of_run(self.model, self.seed, self.wall_seconds, self.settings.get("device")),
        )
        title = f"{per(n, 'state')} of {per(n_units, 'unit')}"
        return Card(type(self).__name__, title, rows, self.claim, COLOURS[self.verdict])

    @property
    def names(self) -> list[str]:
        """Labels of the units, or their numbers."""
        return list(self.labels) or [str(unit) for unit in range(self.states.shape[1])]

    def best_line(self) -> str:
        """Return the probability of the best state in one line; empty unless it was requested."""
        if self.best is None:
            return ""
        what = "most probable state" if self.best.is_exact else "best state seen"
        return plain(f"{what}: log p = {fixed(self.best.log_p, 4)}")

    def meta(self) -> dict[str, Any]:
        """Return everything but the arrays, as JSON values."""
        return {
            "kind": "states",
            "schema": SCHEMA,
            "verdict": self.verdict,
            "trustworthy": self.trustworthy,
            "reasons": self.reasons,
            "warnings": self.warnings,
            "units": self.units,
            "method": self.method,
            "log_z": self.log_z,
            "std_err": self.std_err,
            "seed": self.seed,
            "model": self.model,
            "settings": self.settings,
            "diagnostics": {**self.diagnostics, "checks": [asdict(check) for check in self.checks]},
            "versions": self.versions,
            "wall_seconds": self.wall_seconds,
            "command": self.command,
            "environment": self.environment,
            "estimator_version": self.estimator_version,
        } | ({"best": {"log_p": self.best.log_p, "is_exact": self.best.is_exact}} if self.best else {})

    def to_bytes(self, format: str) -> bytes:
        """Return the content of a file in a format: `npz`, `csv`, or `dimod` (a SampleSet as JSON).

        Raises
        ------
        ConfigError
            If dimod is requested and not installed.
        """
        writers: dict[str, Callable[[SampledStates], bytes]] = {"npz": _npz, "csv": _csv, "dimod": _dimod}
        return writers[format](self)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the states to `path`, atomically; the suffix npz, csv or json selects the format.

        Only the npz file holds everything; `load_states` reads it.

        Raises
        ------
        ConfigError
            If the suffix is another, or json is requested and dimod is not installed.
        """
        write_bytes(Path(path), self.to_bytes(format_of(Path(path))))

    def to_frame(self) -> Any:
        """Return a `pandas.DataFrame` with a row per state: its units by name, and `log_p`, nats.

        Raises
        ------
        ConfigError
            If pandas is not installed.
        """
        units = dict(zip(self.names, self.states.T, strict=True))
        return frame_of({**units, "log_p": self.log_p})

    def to_sample_set(self) -> Any:
        """Return the states as a SampleSet of dimod, with energies E = -log p̃ / β, log p̃ in the file's convention.

        Raises
        ------
        ConfigError
            If dimod is not installed.
        """
        dimod = dimod_module()
        energies = -(self.log_p + self.log_z) / self.energy_scale
        variables = [_variable(label) for label in self.labels] or list(range(self.states.shape[1]))
        return dimod.SampleSet.from_samples(
            (self.states, variables), VARTYPES[self.units], energy=energies, info={"verdict": self.claim}
        )


def load_states(path: str | os.PathLike[str]) -> SampledStates:
    """Return the states in an NPZ file of `dvae-eval samples` for a machine.

    Raises
    ------
    ResultError
        If the file is missing, damaged, or of another kind.
    """
    path = Path(path)
    try:
        names = [name for name in ("states", "log_p", "labels", "best", "meta") if name in npz_names(path)]
        if "meta" not in names:
            raise DataError("no array meta, which dvae-eval samples writes")
        arrays = read_npz(path, names, kinds="buifU")
        meta = json_object(arrays["meta"].astype(np.uint8).tobytes())
        if meta.get("kind") != "states" or meta.get("schema") != SCHEMA:
            raise ResultError(f"{path}: no states of a machine, schema {SCHEMA}; make them with dvae-eval samples")
        found = _of_arrays(arrays, meta)
        str(found), repr(found)  # they read entries whose types were not checked above
    except ResultError:
        raise
    except (DataError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        text = str(error).removeprefix(f"{path}: ")[:120]
        raise ResultError(f"{path}: cannot be read as states of a machine ({text}); make them again") from error
    return found


def _of_arrays(arrays: dict[str, NDArray[Any]], meta: dict[str, Any]) -> SampledStates:
    """Return the states from a file's arrays."""
    states, log_p = arrays["states"], arrays["log_p"].astype(np.float64)
    labels, best = arrays.get("labels", np.empty(0, np.str_)), meta.get("best")
    allowed = {"01": (0, 1), "pm1": (-1, 1)}[meta["units"]]
    if (
        states.ndim != 2
        or not states.size
        or log_p.shape != states.shape[:1]
        or not np.isin(states, allowed).all()
    ):
        raise ValueError("states and log_p do not fit")
    if len(labels) not in (0, states.shape[1]):
        raise ValueError("labels do not fit")
    fields = ("units", "method", "log_z", "std_err", "model", "settings", "seed", "versions", "wall_seconds")
    kept = {name: meta[name] for name in fields}
    if not isinstance(kept["model"], dict) or not isinstance(meta["diagnostics"], dict):
        raise TypeError("no model")
    return SampledStates(
        states=states.astype(np.int8),
        labels=tuple(map(str, labels.tolist())),
        log_p=log_p,
        checks=tuple(checks_of(meta["diagnostics"])),
        best=BestState(arrays["best"].astype(np.int8), best["log_p"], best["is_exact"]) if best else None,
        diagnostics=meta["diagnostics"],
        command=meta["command"],
        environment=dict(meta.get("environment", {})),
        estimator_version=int(meta.get("estimator_version", 0)),
        energy_scale=float(kept["model"].get("beta", 1.0)),
        **kept,
    )


def dimod_module() -> Any:
    """Return the module dimod; ConfigError if it is not installed."""
    try:
        return import_module("dimod")
    except ImportError as error:
        raise ConfigError("--format dimod: needs dimod; install it with: pip install dimod") from error


def _variable(label: str) -> Any:
    """Return a label as dimod had it: a label that is valid JSON was not a string there."""
    try:
        found = json.loads(label)
    except ValueError:
        return label
    return tuple(found) if isinstance(found, list) else found


def format_of(path: Path | None, format: str | None = None) -> str:
    """Return the given format, or the one of a file's suffix; ConfigError if there is neither."""
    if format:
        return format
    suffix = path.suffix.lower() if path else ""
    if suffix not in SUFFIXES:
        raise ConfigError(
            f"--output: {path} has no known suffix; end it with {', '.join(SUFFIXES)}, or give --format"
        )
    return SUFFIXES[suffix]


def _npz(found: SampledStates) -> bytes:
    """Return states, log-probabilities, labels and metadata."""
    arrays: dict[str, Any] = {"states": found.states, "log_p": found.log_p}
    if found.labels:
        arrays["labels"] = np.array(found.labels)
    if found.best:
        arrays["best"] = found.best.state
    arrays["meta"] = packed(found.meta())
    return npz_bytes(arrays)


def _csv(found: SampledStates) -> bytes:
    """Return a line of labels and a line per state."""
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerow(found.names)
    np.savetxt(buffer, found.states, fmt="%d", delimiter=",")
    return buffer.getvalue().encode()


def _dimod(found: SampledStates) -> bytes:
    """Return the SampleSet as dimod serialises it to JSON."""
    return json.dumps(found.to_sample_set().to_serializable()).encode()
