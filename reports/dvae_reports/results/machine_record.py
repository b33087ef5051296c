"""A machine from a file as a value: its measurements, read from result files and checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import Any

from dvae_core.errors import ResultError
from dvae_eval.results import LogZResult, ObservablesResult, Result, load_result, load_result_lines
from dvae_eval.states.sampled import SampledStates, load_states

from .loaded import LINES


@dataclass(frozen=True, slots=True)
class MachineRecord:
    """The measurements of one machine; missing ones are None, and at least one is present.

    Attributes
    ----------
    log_z, observables, samples : LogZResult, ObservablesResult, SampledStates, or None
        All of the same machine with the same clamped units.
    """

    log_z: LogZResult | None
    observables: ObservablesResult | None
    samples: SampledStates | None

    @classmethod
    def load(cls, paths: Sequence[Path]) -> MachineRecord:
        """Read files of `dvae-eval logz`, `observables` and `samples`, at most one of each, all of one machine.

        A .jsonl may have several of them, one per line.

        Raises
        ------
        ResultError
            If a file is missing, damaged or of another kind, or if two are of one kind or of different machines.
        """
        found: dict[str, tuple[Path, Result | SampledStates]] = {}
        for path, result in ((place, one) for place in paths for one in _load(place)):
            if result.kind in found:
                raise ResultError(
                    f"{path}: of the same kind as {found[result.kind][0]}, {result.kind!r}; give only one; "
                    "dvae-eval table shows several"
                )
            found[result.kind] = (path, result)
        _check_machines([(path, result.model) for path, result in found.values()])
        kept: dict[str, Any] = {kind: result for kind, (_, result) in found.items()}
        return cls(kept.get("logz"), kept.get("observables"), kept.get("states"))

    @property
    def results(self) -> list[Result | SampledStates]:
        """The measurements that are present."""
        return [found for found in (self.log_z, self.observables, self.samples) if found is not None]

    @property
    def model(self) -> dict[str, Any]:
        """The facts about the machine and its file in the results."""
        return self.results[0].model

    @property
    def name(self) -> str:
        """The name of the machine's file, or a phrase for a machine without one."""
        return PureWindowsPath(str(self.model.get("file", ""))).name or "a machine from Python"


def _load(path: Path) -> Sequence[Result | SampledStates]:
    """Return the result in a file, or those in the lines of a .jsonl."""
    try:
        with path.open("rb") as stream:
            is_archive = stream.read(2) == b"PK"
    except OSError as error:
        raise ResultError(f"{path}: cannot be read ({error.strerror})") from error
    if is_archive:
        return [load_states(path)]
    results = load_result_lines(path) if path.suffix == LINES else [load_result(path)]
    for result in results:
        if not isinstance(result, LogZResult | ObservablesResult):
            raise ResultError(f"{path}: of kind {result.kind!r}, which belongs to a run; give the run directory")
    return results


def _check_machines(models: Sequence[tuple[Path, dict[str, Any]]]) -> None:
    """Raise ResultError for results of different machines: a wrong number is worse than none."""
    first, reference = models[0]
    for path, model in models[1:]:
        if any(model.get(key) != reference.get(key) for key in ("prior_sha256", "units", "constant")):
            raise ResultError(
                f"{path}: made from another machine than {first}, or the file was read with other options; "
                "make both with the same file and options"
            )
