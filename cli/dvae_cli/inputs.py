"""Reading models and data, estimating with progress, and saving and printing results: for all commands."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np
from numpy.typing import NDArray

from dvae_core.errors import DataError, ResultError
from dvae_core.io.files import remove_file
from dvae_eval.config import LogZConfig
from dvae_eval.log_z.estimate_log_z import estimate_log_z
from dvae_eval.log_z.of_data import check_pixels, with_log_likelihood
from dvae_eval.machine import Machine
from dvae_eval.results import LogZResult, Result, load_result

from .console import EstimateProgress, say, show
from .options import given
from .outputs import STANDARD_OUTPUT, Found, Output, judge_by_model
from .runner import NOT_TRUSTWORTHY
from .standard_input import as_named, named

if TYPE_CHECKING:
    from dvae_core.data.dataset import DataSet
    from dvae_core.training.checkpoint import TrainedModel
    from dvae_eval.readers import ReadConfig, Reading
    from dvae_eval.readers.data import Rows
    from dvae_eval.trajectory import Trajectory

# Suffix and largest size of the file of state from which a later command continues a result.
STATE, STATE_BYTES = ".state.npz", 100_000_000


def command_line() -> list[str]:
    """Return the command line of this process, which results record."""
    return ["dvae-eval", *sys.argv[1:]]


def load_own_model(path: Path, device: str = "cpu") -> TrainedModel:
    """Return the model of dvae-train in a file; DataError if the file is of another kind."""
    from dvae_core.training.checkpoint import load_model
    from dvae_eval.readers.registry import recognise

    try:
        kind = recognise(path)
    except DataError:
        kind = ""
    if kind != "torch":
        raise DataError(
            f"{path} is not a model of dvae-train, which this command needs; "
            "give a run (dvae-eval inspect shows what the file is)"
        )
    return load_model(path, device)


def is_own_model(path: Path) -> bool:
    """Return whether dvae-train wrote a file; DataError if it is damaged."""
    from dvae_core.io.torch_files import read_torch
    from dvae_eval.readers.registry import recognise

    if recognise(path) != "torch":
        return False
    content = read_torch(path)
    return isinstance(content, dict) and str(content.get("format", "")).startswith("dvae-")


def default_output(model: Path, name: str, as_json: bool) -> Path | None:
    """Return RUN/name if `model` is in a run directory and the result does not go to standard output."""
    in_run = (model.parent / "config.json").exists()
    return model.parent / name if in_run and not as_json else None


def read_model(path: Path, how: ReadConfig) -> Reading:
    """Return `read_machine(path, how)`; its description names standard input, not the temporary file."""
    from dvae_eval.readers import read_machine

    found = read_machine(path, how)
    found.description["file"] = as_named(found.description["file"])
    return found


def say_left_aside(description: dict[str, Any]) -> None:
    """Print the parts of a file that the machine read from it does not use."""
    if names := description.get("left_aside"):
        say(f"ignored: {', '.join(names)}")


def open_machine(path: Path, settings: dict[str, Any], device: str, threads: int | None) -> Reading:
    """Return the machine in a file, read by the options in `settings`, and prepare `device` for it."""
    from dvae_eval.readers import ReadConfig

    from .devices import prepare_device

    found = read_model(path, ReadConfig(**given(ReadConfig, settings)))
    say_left_aside(found.description)
    prepare_device(device, threads, len(found.machine.reduced().b))
    return found


def settle(place: Output, result: Result, satellites: tuple[str, ...] = ()) -> Output:
    """Return the destination of a result, which replaces no better result; `satellites` as in `Output.settle`."""
    return place.settle(lambda path: _found(path, result), satellites)


def _found(path: Path, result: Result) -> Found:
    """Return the decision about an existing result file."""
    try:
        old = load_result(path)
    except ResultError:
        return Found("moved", "cannot be read as a result")
    same_work = (old.kind, _settings(old.settings), old.seed, _without_place(old.model)) == (
        result.kind,
        _settings(json.loads(result.to_json())["settings"]),
        result.seed,
        _without_place(result.model),
    )
    if result.supersedes(old):
        same = same_work and _timeless(old) == _timeless(result)
        return Found("replaced", "already holds the same result, and is written again" if same else "", same_work)
    why = "holds a better result" if result.measures_as(old) else "is for another model or other images"
    return replace(judge_by_model(path, old.model, result.model, why), is_repeat=same_work)


def _timeless(result: Result) -> dict[str, Any]:
    """Return the numbers of a result, without its origin and without values per image, which a file may round."""
    found = json.loads(result.to_json())
    found["diagnostics"].pop("continued_from", None)
    others = ("wall_seconds", "environment", "versions", "command", "model", "settings", "per_image")
    return {name: value for name, value in found.items() if name not in others}


def _settings(settings: dict[str, Any]) -> dict[str, Any]:
    """Return settings without the path of a file of starts, which its digest identifies."""
    starts = settings.get("starts")
    return {**settings, "starts": _without_place(starts)} if isinstance(starts, dict) else settings


def _without_place(model: dict[str, Any]) -> dict[str, Any]:
    """Return a description of a file without its path: the file may have moved, and its digest identifies it."""
    return {name: value for name, value in model.items() if name != "file"}


def unfinished(place: Output, config: Any) -> Path | None:
    """Return the file for the unfinished work of an estimate with these settings; None without an output file."""
    if place.path is None:
        return None
    digest = hashlib.sha256(repr(config).encode()).hexdigest()[:8]
    return place.path.with_name(f".{place.path.name}.{digest}.partial.npz")


def state_path(result: Path) -> Path:
    """Return the file for the state of a finished estimate, from which a later command continues."""
    return result.with_suffix(STATE)


def say_unused_state(path: Path | None, result: Result) -> None:
    """Report that a result did not continue the finished estimate whose state is beside `path`."""
    is_sampled = not (isinstance(result, LogZResult) and result.method == "exact")
    if path is None or not is_sampled or result.diagnostics.get("continued_from"):
        return
    if (state := state_path(path)).exists():
        reasons = "another model, other settings, or too short a run"
        say(f"{state.name} could not be continued ({reasons}): this estimate started from the beginning")


def keep_state(partial: Path | None, place: Output) -> None:
    """Rename the file of an estimate's work to the state beside its result; remove it if it is too large."""
    if partial is None or place.path is None:
        return
    state = state_path(place.path)
    if not partial.exists():  # such as for an exact value, which needs no continuation
        remove_file(state)
    elif (size := partial.stat().st_size) <= STATE_BYTES:
        os.replace(partial, state)
    else:
        say(f"the state of the run ({size >> 20} MB) is too large to save: no later command can continue it")
        remove_file(partial)
        remove_file(state)


def measured_data(trained: TrainedModel, data: str | None) -> DataSet:
    """Return the data set to measure on; DataError if it does not fit, or the training data have changed."""
    from .own_data import find_data

    data_set = find_data(trained.config.dataset, data)
    if data_set.n_pixels != trained.model.n_pixels:
        raise DataError(
            f"--data: its images have {data_set.n_pixels} pixels, but the model has {trained.model.n_pixels}; "
            "give images of that size"
        )
    if data is None and trained.provenance.get("data_sha256") not in (None, data_set.digest()):
        name = trained.config.dataset
        raise DataError(
            f"{name}: changed since the training; restore it, or give --data {name} to measure on the new images"
        )
    return data_set


def open_run_with_data(
    path: Path, data: str | None, device: str, threads: int | None
) -> tuple[TrainedModel, DataSet, dict[str, str]]:
    """Return a model of dvae-train on `device`, the data set to measure on, and `other_data` of the two."""
    from .devices import prepare_device

    trained = load_own_model(path)
    data_set = measured_data(trained, data)
    prepare_device(device, threads, trained.config.model.width)
    trained.model.to(device)
    return trained, data_set, other_data(data, data_set, trained)


def other_data(data: str | None, data_set: DataSet, trained: TrainedModel) -> dict[str, str]:
    """Return the description of data other than the training data, for the result; empty for the training data."""
    digest = data_set.digest()
    is_own = data is None or digest == trained.provenance.get("data_sha256")
    return {} if data is None or is_own else {"data": data, "data_sha256": digest}


def check_data(data: Rows | None, found: Reading) -> None:
    """Raise DataError unless the machine is an RBM over pixels, of the size of the images of --data."""
    if data is None:
        return
    path = found.description["file"]
    if found.description["format"] == "dvae-model":
        raise DataError(f"--data: the prior of {path} is not over pixels; use dvae-eval ll for this model")
    try:
        check_pixels(found.machine, data.n_pixels)
    except DataError as error:
        raise DataError(f"--data: {path} {error}") from error


def with_data(
    result: LogZResult, found: Reading, data: Rows | None, trajectory: Trajectory | None = None
) -> LogZResult:
    """Return the result with the log-likelihood of the data added, if any are given."""
    if data is None:
        return result
    return with_log_likelihood(result, found.machine, found.constant, data.splits, data.source, trajectory)


def estimate_with_progress(
    machine: Machine,
    config: LogZConfig,
    description: dict[str, Any],
    device: str,
    *,
    threads: int | None = None,
    partial: Path | None = None,
    finished: Path | None = None,
    constant: float = 0.0,
    starts: Any = None,
    trajectory: Trajectory | None = None,
    final_states: Callable[[NDArray[np.uint8]], None] | None = None,
) -> LogZResult:
    """Return `estimate_log_z(...)` for `machine`, with progress on standard error.

    `partial` is the file for unfinished work: an existing one is continued, and the caller keeps or removes it.
    `finished` is the state of a finished estimate; for both see `estimate_log_z`.
    """
    with EstimateProgress("log Z") as progress:
        return estimate_log_z(
            machine,
            config,
            description=description,
            device=device,
            threads=threads,
            progress=progress,
            partial=partial,
            finished=finished,
            constant=constant,
            starts=starts,
            trajectory=trajectory,
            final_states=final_states,
        )


def finish(
    result: Result,
    place: Output,
    as_json: bool,
    details: Callable[[], list[str]],
    *,
    satellites: tuple[str, ...] = (),
    beside: Callable[[Output], None] = lambda place: None,
    saved: Callable[[Output], None] = lambda place: None,
) -> int:
    """Save and print the result of this command; return the exit status for its verdict.

    The result replaces no better one, see `settle`.  With its destination, `beside` is called before it is saved,
    to write what belongs to it, and `saved` once it is saved, to remove the files of unfinished work.
    """
    result = replace(result, command=command_line())
    place = settle(place, result, satellites)
    beside(place)
    result = _with_names(result)
    try:
        if place.path:
            result.save(place.path)
        elif place.stream != STANDARD_OUTPUT:
            place.write(result.to_json() + "\n")
        saved(place)
    finally:
        # Printed even if it cannot be saved: the number may have taken hours.
        if as_json or place.stream == STANDARD_OUTPUT:
            click.echo(result.to_json())
        else:
            show(str(result) if result.trustworthy else f"NOT TO BE TRUSTED: {result}")
    say(f"verdict: {result.claim}")
    failed = [f"failed check: {reason}" for reason in result.reasons]
    for line in [*details(), *failed, *(f"warning: {warning}" for warning in result.warnings)]:
        say(line)
    if place and place.stream != STANDARD_OUTPUT:
        say(f"saved: {place}")
    return 0 if result.trustworthy else NOT_TRUSTWORTHY


def _with_names(result: Result) -> Result:
    """Return a result that names standard input, not its temporary file."""
    parts = {field.name: getattr(result, field.name) for field in fields(result)}
    return replace(result, **{name: named(part) for name, part in parts.items() if isinstance(part, dict)})
