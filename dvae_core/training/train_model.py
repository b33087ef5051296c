"""Training from settings to the files of a run directory, for `dvae-train` and for Python.

A `Plan` is checked before anything is written; `open_run` first loads the data and locks the run directory.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from ..config import Change, ModelConfig, RunConfig, TrainConfig, option_name
from ..data import NAMES, DataSet
from ..data.own import load_own_data
from ..data.user import from_arrays
from ..errors import ConfigError, DataError
from ..io.files import write_npz
from ..keywords import refuse_unknown, with_settings
from .callbacks import Callback, Callbacks, new_log
from .presets import default_preset, find_preset
from .run_directory import locked, read_config, read_provenance, write_config

if TYPE_CHECKING:
    from .checkpoint import TrainedModel
    from .trainer import Trainer

# Settings of a training that cannot change: the seed, and whether priors are recorded.
FIXED = ("seed", "trajectory")
# File of the images of a run that were given as arrays.
OWN_IMAGES = "data.npz"

Images: TypeAlias = "str | os.PathLike[str] | DataSet | Mapping[Any, Any] | Any"


@dataclass(frozen=True, slots=True)
class Plan:
    """The work to be done in a run directory.

    Attributes
    ----------
    out : Path
        The run directory.
    config : RunConfig
        Settings of a new run, or the present settings of the run in `out`.
    resumes, ends : bool
        Whether to continue the run in `out`, or to end it at its present step.
    changes : dict
        Training settings that change when the run continues, by name.
    provenance : dict
        Origin of the settings, for config.json.
    init : TrainedModel or None
        The model whose weights a new run starts from.
    data : str, DataSet or None
        The data, or their location, if they are not found as `config.dataset`.
    arrays : dict
        Images by split that are saved in the run directory.
    notes : tuple of str
        Messages for the user.
    """

    out: Path
    config: RunConfig
    resumes: bool = False
    ends: bool = False
    changes: dict[str, Any] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)
    init: TrainedModel | None = None
    data: str | DataSet | None = None
    arrays: dict[Any, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def rests(self) -> bool:
        """Whether the run was ended, and no setting requests further training."""
        return "ended" in self.provenance


@with_settings(ModelConfig, TrainConfig, from_preset=True)
def train_model(
    data: Images | None = None,
    *,
    out: str | os.PathLike[str],
    preset: str | None = None,
    config: str | os.PathLike[str] | None = None,
    init: str | os.PathLike[str] | None = None,
    resume: bool = False,
    device: str = "cpu",
    callback: Callback | Iterable[Callback] = (),
    log: str | Sequence[str] = (),
    **settings: Any,
) -> Path:
    """Train a discrete variational autoencoder and write a run directory, as `dvae-train` does.

    Parameters
    ----------
    data : str, path, array, or dict of arrays, optional
        Name or file of a data set, see `load_data`; or images, shape (n, height, width) or (n, d), or a dict of
        images by split (`train`, optionally `valid` and `test`), which are saved in the run directory as data.npz.
        By default the preset's data set.  With `resume`: the present location of the data, if they have moved.
    out : path
        The run directory: model.pt, checkpoint.pt, config.json and metrics.jsonl.
    preset : str, optional
        Name of the settings to start from; by default the small preset of the data set.
    config : path, optional
        A run directory, or its config.json, whose settings and data set are used.
    init : path, optional
        A run directory, or a model.pt, whose weights a new run starts from.
    resume : bool
        Continue the run in `out`.  Give more `epochs` to train a finished run further.  Settings of the training
        may change; new values apply from the next epoch on.
    device : str
        Device to compute on: cpu or cuda.
    callback : Callback or several
        Called after each step and each epoch.
    log : str or several
        Logs to write into the run directory: tensorboard.
    **settings
        Fields of ModelConfig and TrainConfig, such as epochs=50.

    Returns
    -------
    Path
        The run directory; `load_model` reads the best model in it.

    Raises
    ------
    ConfigError
        If settings are inconsistent, or `out` already holds a run.
    DataError, CheckpointError
        If data or files are missing or invalid.
    NumericalError
        If the bound, a gradient or a weight becomes non-finite; the last good checkpoint is kept.

    Examples
    --------
    >>> run = train_model("digits", out="runs/digits", epochs=20)
    >>> train_model(out=run, resume=True, epochs=40, learning_rate=1e-3)
    """
    out = Path(out)
    if resume:
        refuse_start(config, init)
        plan = plan_resumed(out, settings, preset=preset, data=data)
    else:
        plan = plan_new(data, out, settings, preset=preset, config=config, init=init)
    members: list[Any] = [callback] if hasattr(callback, "epoch") else [*callback]
    members += [new_log(name, plan.out) for name in ([log] if isinstance(log, str) else log)]
    with open_run(plan, device) as trainer:
        carry_out(plan, trainer, Callbacks(members))
    return plan.out


# --- plans ----------------------------------------------------------------------------------------------------


def plan_new(
    data: Images | None,
    out: Path,
    settings: Mapping[str, Any],
    *,
    preset: str | None = None,
    config: str | os.PathLike[str] | None = None,
    init: str | os.PathLike[str] | None = None,
) -> Plan:
    """Return the plan of a new run; the arguments are those of `train_model`, and errors are raised as there."""
    settings = _known(settings)
    if config is not None and preset is not None:
        raise ConfigError("--config: uses the settings of a run; omit --preset")
    dataset, whole, arrays = _described(data, out)
    like = None if config is None else _settings_file(Path(config))
    stored = read_provenance(like) if like else {}
    trained = _trained(init, like, stored)
    base = read_config(like) if like else _base(dataset, preset, trained)
    wanted = _with(base, settings)
    notes = [f"settings of {like}{_exceptions(base, wanted)}"] if like else []
    if base.changes and not wanted.changes:
        notes.append(
            f"the settings of {like} changed during training; its final settings apply from the first epoch on"
        )
    provenance: dict[str, Any] = {"settings_of": str(like)} if like else {}
    if trained:
        provenance["init"] = {"file": str(trained.path), "sha256": trained.sha256}
    if like and data is None:
        provenance["data_sha256"] = stored.get("data_sha256")
    wanted = dataclasses.replace(wanted, dataset=dataset or base.dataset, init=trained.sha256 if trained else "")
    return Plan(out, wanted, provenance=provenance, init=trained, data=whole, arrays=arrays, notes=tuple(notes))


def plan_resumed(
    out: Path,
    settings: Mapping[str, Any],
    *,
    preset: str | None = None,
    data: Images | None = None,
    ends: bool = False,
) -> Plan:
    """Return the plan to continue a run, or to end it at its present step.

    `data` is the present location of its data, if they have moved.

    Raises
    ------
    ConfigError
        If a setting would change that cannot.
    CheckpointError
        If `out` holds no run.
    """
    stored, provenance = read_config(out), read_provenance(out)
    settings = _known(settings)
    if ends and (settings or preset):
        name = next(iter(settings), "preset")
        raise ConfigError(f"{option_name(name)}: --end changes no settings; leave it out")
    base = find_preset(preset).config(stored.dataset) if preset else stored
    wanted = _with(dataclasses.replace(base, changes=(), init=stored.init), settings)
    changes = _differences(stored.train, wanted.train)
    for name, (kept, other) in (_differences(stored.model, wanted.model) | changes).items():
        if name not in changes or name in FIXED:
            raise ConfigError(
                f"{option_name(name)}: the run in {out} has {kept}, not {other}, and keeps it; leave it out to "
                f"continue, or start a new run from its weights with --init {out}"
            )
    values = {name: pair[1] for name, pair in changes.items()}
    if values and "learning_rate" in settings:  # given explicitly: the step size restarts from its value
        values["learning_rate"] = settings["learning_rate"]
    if values or "epochs" in settings:
        provenance.pop("ended", None)
    return Plan(
        out, stored, resumes=True, ends=ends, changes=values, provenance=provenance, data=_named_or_whole(data)
    )


def refuse_start(config: object, init: object) -> None:
    """Raise ConfigError if a run is resumed with `config` or `init`, which only start a new run."""
    for name, value in (("--config", config), ("--init", init)):
        if value is not None:
            raise ConfigError(f"{name}: begins a new run; omit it, or omit --resume")


def refuse_existing(out: Path) -> None:
    """Raise ConfigError if `out` already holds a run, or is a file."""
    if (out / "config.json").exists():
        raise ConfigError(f"--out: {out} holds a run already; give --resume to continue it, or another directory")
    if out.exists() and not out.is_dir():
        raise ConfigError(f"--out: {out} is a file; give a directory")


def _known(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that are not None, parsed; ConfigError for an unknown name."""
    fields = {f.name: f for cls in (ModelConfig, TrainConfig) for f in dataclasses.fields(cls)}
    refuse_unknown(settings, fields, train_model)
    known = {}
    for name, value in settings.items():
        if value is not None:
            value = tuple(value) if isinstance(value, list) else value
            known[name] = parse(str(value)) if (parse := fields[name].metadata.get("parse")) else value
    return known


def _with(base: RunConfig, settings: Mapping[str, Any]) -> RunConfig:
    """Return a configuration with other settings; its changes are dropped if training settings differ."""
    parts = {
        part: dataclasses.replace(
            getattr(base, part),
            **{f.name: settings[f.name] for f in dataclasses.fields(cls) if f.name in settings},
        )
        for part, cls in (("model", ModelConfig), ("train", TrainConfig))
    }
    changes = base.changes if parts["train"] == base.train else ()
    return dataclasses.replace(base, changes=changes, **parts)


def _differences(a: Any, b: Any) -> dict[str, tuple[Any, Any]]:
    """Return the fields in which two configurations differ, with both values."""
    pairs = {f.name: (getattr(a, f.name), getattr(b, f.name)) for f in dataclasses.fields(a)}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def _exceptions(base: RunConfig, wanted: RunConfig) -> str:
    """Return, as text, the differences from the run whose settings are used."""
    found = _differences(base.model, wanted.model) | _differences(base.train, wanted.train)
    said = ", ".join(f"{option_name(name)} {_text(new)} (was {_text(old)})" for name, (old, new) in found.items())
    return f", but {said}" if said else ""


def _text(value: Any) -> str:
    """Return a setting as it is typed on the command line."""
    return ",".join(map(str, value)) or "none" if isinstance(value, tuple) else str(value)


def _settings_file(path: Path) -> Path:
    """Return the config.json of a run directory, or the given file; ConfigError if it does not exist."""
    found = path / "config.json" if path.is_dir() else path
    if not found.is_file():
        raise ConfigError(f"--config: {found}: no such file; give a run directory, or its config.json")
    return found


def _base(dataset: str | None, preset: str | None, trained: TrainedModel | None) -> RunConfig:
    """Return the settings of a preset; without a named preset, the architecture is that of the initial weights."""
    if dataset is None and preset is None:
        if trained is None:
            raise ConfigError(f"DATASET is missing; give one of {', '.join(NAMES)}, or an .npz or .npy file")
        dataset = trained.config.dataset
    base = find_preset(preset or default_preset(dataset or "")).config(dataset)
    return dataclasses.replace(base, model=trained.config.model) if trained and preset is None else base


def _trained(
    init: str | os.PathLike[str] | None, like: Path | None, stored: Mapping[str, Any]
) -> TrainedModel | None:
    """Return the model to start from: `init`, or the initial model of the run whose settings are used."""
    from .checkpoint import load_model

    if init is not None:
        return load_model(init)
    if not (known := stored.get("init")):
        return None
    path = Path(known["file"])
    trained = load_model(path) if path.exists() else None
    if trained is None or trained.sha256 != known["sha256"]:
        raise ConfigError(
            f"--config: {like} started from the weights of {path}, which no longer exists; give --init"
        )
    return trained


def _described(data: Images | None, out: Path) -> tuple[str | None, str | DataSet | None, dict[Any, Any]]:
    """Return the data set's name for the settings, the data if not loadable by that name, and arrays to save."""
    if data is None or isinstance(data, str | os.PathLike):
        return (None if data is None else os.fspath(data)), None, {}
    if isinstance(data, DataSet):
        return data.name, data, {}
    name, arrays = str(out / OWN_IMAGES), _as_arrays(data)
    return name, from_arrays(name, arrays), arrays


def _as_arrays(images: Mapping[Any, Any] | Any) -> dict[Any, Any]:
    """Return images by split as NumPy arrays; a single array is the training split."""
    import numpy as np

    splits = images if isinstance(images, Mapping) else {"train": images}
    return {split: np.asanyarray(array) for split, array in splits.items()}


def _named_or_whole(data: Images | None) -> str | DataSet | None:
    """Return the data of a resumed run: their location, or a data set."""
    if data is None:
        return None
    if isinstance(data, str | os.PathLike):
        return os.fspath(data)
    if isinstance(data, DataSet):
        return data
    return from_arrays("data", _as_arrays(data))


# --- runs -----------------------------------------------------------------------------------------------------


@contextmanager
def open_run(
    plan: Plan, device: str = "cpu", *, command: Sequence[str] = (), quiet: bool = True
) -> Iterator[Trainer]:
    """Yield the trainer of a planned run; its directory is locked within the block.

    Parameters
    ----------
    plan : Plan
    device : str
        Device to compute on, as torch names it.
    command : sequence of str
        The command line, to be recorded in the files of the run.
    quiet : bool
        Do not show the progress of downloads.
    """
    from .. import distributed
    from .trainer import Trainer

    if not plan.resumes:
        refuse_existing(plan.out)
    with distributed.first_process_first():
        data = _load(plan, quiet)
    if plan.init:
        _refuse_other_shapes(plan.init, plan.config.model, data.n_pixels)
    with locked(plan.out) if distributed.rank() == 0 else nullcontext():
        with distributed.first_process_first():
            trainer = Trainer(plan.out, plan.config, data, device)
            (_resume if plan.resumes else _begin)(plan, trainer, command)
        yield trainer


def carry_out(plan: Plan, trainer: Trainer, callback: Callback) -> None:
    """Train, or end the training, as planned; do nothing for a run that was ended.

    Raises
    ------
    Interrupted
        After `trainer.stop_requested` was set; the state is saved first.
    NumericalError
        If the bound, a gradient or a weight is not finite; the last good checkpoint is kept.
    """
    from .. import distributed

    callback = callback if distributed.rank() == 0 else Callbacks(())
    if plan.ends and not trainer.is_finished:
        trainer.end(callback)
        _write_ended(plan, trainer)
    elif not plan.rests:
        trainer.train(callback)


def _load(plan: Plan, quiet: bool) -> DataSet:
    """Return the data of a plan; DataError if they differ from the recorded digest."""
    from ..data import load

    if plan.resumes and not isinstance(plan.data, DataSet):
        return load_own_data(plan.config.dataset, plan.data, plan.provenance, quiet)
    data = plan.data if isinstance(plan.data, DataSet) else load(plan.config.dataset, quiet=quiet)
    if plan.provenance.get("data_sha256") not in (None, data.digest()):
        of = "the run" if plan.resumes else plan.provenance["settings_of"]
        raise DataError(
            f"DATASET: {data.name} holds other images than those of the training of {of}; give DATASET"
        )
    return data


def _refuse_other_shapes(trained: TrainedModel, config: ModelConfig, n_pixels: int) -> None:
    """Raise ConfigError if the shapes or the graph of the initial weights differ from those of the new run."""
    from .checkpoint import expected_shapes

    ours = expected_shapes(config, n_pixels)
    theirs = {name: value.shape for name, value in trained.model.state_dict().items()}
    for name in {**ours, **theirs}:
        there, here = (str(tuple(shapes[name])) if name in shapes else "absent" for shapes in (theirs, ours))
        if there != here:
            raise ConfigError(
                f"--init: {name} is {there} in {trained.path} and {here} in the new run; give settings and "
                "images of the same sizes, or omit --init"
            )
    its = trained.config.model
    if (its.prior, its.graph) != (config.prior, config.graph):
        raise ConfigError(f"--init: the prior of {trained.path} has another graph; give the same --graph")


def _begin(plan: Plan, trainer: Trainer, command: Sequence[str]) -> None:
    """Prepare the trainer of a new run, and write its first files."""
    from ..distributed import rank

    if plan.init:
        trainer.start_from(plan.init)
    if rank() == 0:
        # Checked again: another process may have started a run while the data were loaded.
        refuse_existing(plan.out)
        if plan.arrays:
            write_npz(plan.out / OWN_IMAGES, plan.arrays, compressed=True)
    # The checkpoint is written first, so that a directory with settings can always be resumed.
    trainer.save()
    if rank() == 0:
        write_config(plan.out, plan.config, plan.provenance | _given(command) | trainer.origin)


def _resume(plan: Plan, trainer: Trainer, command: Sequence[str]) -> None:
    """Restore the saved state of a run, and record changes of settings."""
    from ..distributed import rank

    trainer.restore()
    provenance = dict(plan.provenance)
    if plan.changes:
        trainer.change(plan.changes)
        entry = {"date": _now(), **_given(command), "versions": trainer.origin["versions"]}
        provenance["changes"] = _with_entry(provenance.get("changes", []), entry, trainer.config.changes)
    if rank() == 0 and (trainer.config, provenance) != (plan.config, read_provenance(plan.out)):
        write_config(plan.out, trainer.config, provenance)


def _with_entry(entries: list[dict[str, Any]], entry: dict[str, Any], changes: Sequence[Change]) -> list[Any]:
    """Return the recorded entry of each change; `entry` is that of the last one."""
    known = {e["from_epoch"]: e for e in entries}
    epochs = [change.from_epoch for change in changes]
    return [{"from_epoch": epoch, **(entry if epoch == epochs[-1] else known.get(epoch, {}))} for epoch in epochs]


def _write_ended(plan: Plan, trainer: Trainer) -> None:
    """Record that the training was ended, and at which step."""
    from ..distributed import rank

    place = {"epoch": trainer.epoch + (trainer.step > 0), "step": trainer.step, "date": _now()}
    if rank() == 0:
        write_config(plan.out, trainer.config, read_provenance(plan.out) | {"ended": place})


def _given(command: Sequence[str]) -> dict[str, Any]:
    """Return the entry of a command line; an empty dict without one."""
    return {"command": list(command)} if command else {}


def _now() -> str:
    """Return the time, in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
