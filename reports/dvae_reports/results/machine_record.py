"""A machine from elsewhere as a value: what was measured of it, read from result files and checked."""

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
    """What is known about one machine; what was not measured is None, and one thing at least was.

    Attributes
    ----------
    log_z, observables, samples : LogZResult, ObservablesResult, SampledStates, or None
        All of this one machine, its held units included.
    """

    log_z: LogZResult | None
    observables: ObservablesResult | None
    samples: SampledStates | None

    @classmethod
    def load(cls, paths: Sequence[Path]) -> MachineRecord:
        """Read files of `dvae-eval logz`, `observables` and `samples`, one of each at most, all of one machine.

        A .jsonl holds several of them, a line each.

        Raises
        ------
        ResultError
            If one is missing, damaged or of another kind, if there are two of a kind, or of different machines.
        """
        found: dict[str, tuple[Path, Result | SampledStates]] = {}
        for path, result in ((place, one) for place in paths for one in _load(place)):
            if result.kind in found:
                raise ResultError(
                    f"{path}: as {found[result.kind][0]}, of kind {result.kind!r}; give one of them; "
                    "dvae-eval table shows several"
                )
            found[result.kind] = (path, result)
        _check_machines([(path, result.model) for path, result in found.values()])
        kept: dict[str, Any] = {kind: result for kind, (_, result) in found.items()}
        return cls(kept.get("logz"), kept.get("observables"), kept.get("states"))

    @property
    def results(self) -> list[Result | SampledStates]:
        """What was measured."""
        return [found for found in (self.log_z, self.observables, self.samples) if found is not None]

    @property
    def model(self) -> dict[str, Any]:
        """What the results say of the machine and its file."""
        return self.results[0].model

    @property
    def name(self) -> str:
        """The name of the machine's file, or what else there is."""
        return PureWindowsPath(str(self.model.get("file", ""))).name or "a machine of the library"


def _load(path: Path) -> Sequence[Result | SampledStates]:
    """Return the result in a file by its content, or the results in its lines."""
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
            raise ResultError(f"{path}: of kind {result.kind!r}, a result of a run; give the directory of the run")
    return results


def _check_machines(models: Sequence[tuple[Path, dict[str, Any]]]) -> None:
    """Refuse results of different machines: a number beside another machine is worse than no number."""
    first, reference = models[0]
    for path, model in models[1:]:
        if any(model.get(key) != reference.get(key) for key in ("prior_sha256", "units", "constant")):
            raise ResultError(
                f"{path}: made of another machine than {first}, or of one that was read in another way; "
                "make both with the same file and options"
            )
