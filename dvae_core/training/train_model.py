"""From settings to the files of a run: what `dvae-train` does, and Python can do as well.

A plan says what is to be done and refuses what cannot be; nothing is written before `open_run` has the data and
the lock of the run directory.
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

# Settings of a training that stay as they are: what random numbers a run has, and that its priors are kept.
FIXED = ("seed", "trajectory")
# The images of a run that were given as arrays.
OWN_IMAGES = "data.npz"

Images: TypeAlias = "str | os.PathLike[str] | DataSet | Mapping[Any, Any] | Any"


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done in a run directory.

    Attributes
    ----------
    out : Path
        The run directory.
    config : RunConfig
        Settings: those of a new run, or those that the run in `out` has.
    resumes, ends : bool
        Whether to continue the run in `out`, or to end it as it is.
    changes : dict
        Training settings that change when the run continues.
    provenance : dict
        Where the settings came from.
    init : TrainedModel or None
        The model whose weights a new run starts from.
    data : str, DataSet or None
        The data, where they are not `config.dataset`.
    arrays : dict
        Images by split that the run is to keep in a file of its own.
    notes : tuple of str
        What a user should know, in words.
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
        """Whether the run was ended, and nothing asks to train it further."""
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
    """Train a discrete variational autoencoder, and leave a run directory as `dvae-train` does.

    Parameters
    ----------
    data : str, path, array, or dict of arrays, optional
        A data set's name or file, see `load_data`; or images, shape (n, height, width) or (n, d), or a dict of
        them by split (`train`, and perhaps `valid` and `test`), which are kept in the run directory as data.npz.
        By default the preset's data set.  With `resume`: where the data of the run lie now, if they have moved.
    out : path
        The run directory: model.pt, checkpoint.pt, config.json and metrics.jsonl.
    preset : str, optional
        Settings to start from; by default the data set's small ones.
    config : path, optional
        A run directory, or its config.json, whose settings and data set to take.
    init : path, optional
        A run directory, or a model.pt, whose weights a new run starts from.
    resume : bool
        Continue the run in `out`.  A finished one is trained further with more `epochs`.  Settings of the training
        may change; the new ones hold from the next epoch on.
    device : str
        Where to compute: cpu or cuda.
    callback : Callback or several
        Called for every step and every epoch.
    log : str or several
        Logs to write: tensorboard, into the run directory.
    **settings
        Fields of ModelConfig and TrainConfig, such as epochs=50.

    Returns
    -------
    Path
        The run directory; `load_model` reads the best model in it.

    Raises
    ------
    ConfigError
        If settings do not fit together, or `out` holds a run already.
    DataError, CheckpointError
        If data or files cannot be used.
    NumericalError
        If training leaves the finite numbers; the last good checkpoint stays.

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
    """Return the plan of a new run; the arguments are those of `train_model`."""
    settings = _known(settings)
    if config is not None and preset is not None:
        raise ConfigError("--config: takes the settings of a run; leave --preset out")
    dataset, whole, arrays = _described(data, out)
    like = None if config is None else _settings_file(Path(config))
    stored = read_provenance(like) if like else {}
    trained = _trained(init, like, stored)
    base = read_config(like) if like else _base(dataset, preset, trained)
    wanted = _with(base, settings)
    notes = [f"settings of {like}{_exceptions(base, wanted)}"] if like else []
    if base.changes and not wanted.changes:
        notes.append(f"the settings of {like} changed half-way; its last ones hold from the first epoch on")
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
    """Return the plan of a run that continues, or ends as it is; `data` is where its data lie now.

    Raises
    ------
    ConfigError
        If settings are asked for that cannot change.
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
    if values and "learning_rate" in settings:  # named again: the step size starts from there
        values["learning_rate"] = settings["learning_rate"]
    if values or "epochs" in settings:
        provenance.pop("ended", None)
    return Plan(
        out, stored, resumes=True, ends=ends, changes=values, provenance=provenance, data=_named_or_whole(data)
    )


def refuse_start(config: object, init: object) -> None:
    """Raise ConfigError if a run that continues is given what only a new one can begin with."""
    for name, value in (("--config", config), ("--init", init)):
        if value is not None:
            raise ConfigError(f"{name}: begins a new run; leave it out, or leave --resume out")


def refuse_existing(out: Path) -> None:
    """Raise ConfigError if a run would be written over."""
    if (out / "config.json").exists():
        raise ConfigError(f"--out: {out} holds a run already; give --resume to continue it, or another directory")
    if out.exists() and not out.is_dir():
        raise ConfigError(f"--out: {out} is a file; give a directory")


def _known(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that are given; ConfigError for one that there is not."""
    fields = {f.name: f for cls in (ModelConfig, TrainConfig) for f in dataclasses.fields(cls)}
    refuse_unknown(settings, fields, train_model)
    known = {}
    for name, value in settings.items():
        if value is not None:
            value = tuple(value) if isinstance(value, list) else value
            known[name] = parse(str(value)) if (parse := fields[name].metadata.get("parse")) else value
    return known


def _with(base: RunConfig, settings: Mapping[str, Any]) -> RunConfig:
    """Return a configuration with other settings, and without the changes of its own if the training's differ."""
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
    """Return in words what differs from a run whose settings are taken."""
    found = _differences(base.model, wanted.model) | _differences(base.train, wanted.train)
    said = ", ".join(f"{option_name(name)} {_text(new)} (was {_text(old)})" for name, (old, new) in found.items())
    return f", but {said}" if said else ""


def _text(value: Any) -> str:
    """Return a setting as one types it."""
    return ",".join(map(str, value)) or "none" if isinstance(value, tuple) else str(value)


def _settings_file(path: Path) -> Path:
    """Return the config.json of a run directory, or the file itself; ConfigError if there is none."""
    found = path / "config.json" if path.is_dir() else path
    if not found.is_file():
        raise ConfigError(f"--config: {found}: no such file; give a run directory, or its config.json")
    return found


def _base(dataset: str | None, preset: str | None, trained: TrainedModel | None) -> RunConfig:
    """Return a preset's settings; unless it is named, the model's are those of the weights to start from."""
    if dataset is None and preset is None:
        if trained is None:
            raise ConfigError(f"DATASET is missing; give one of {', '.join(NAMES)}, or an .npz or .npy file")
        dataset = trained.config.dataset
    base = find_preset(preset or default_preset(dataset or "")).config(dataset)
    return dataclasses.replace(base, model=trained.config.model) if trained and preset is None else base


def _trained(
    init: str | os.PathLike[str] | None, like: Path | None, stored: Mapping[str, Any]
) -> TrainedModel | None:
    """Return the model to start from: the one that is given, or that of the run whose settings are taken."""
    from .checkpoint import load_model

    if init is not None:
        return load_model(init)
    if not (known := stored.get("init")):
        return None
    path = Path(known["file"])
    trained = load_model(path) if path.exists() else None
    if trained is None or trained.sha256 != known["sha256"]:
        raise ConfigError(
            f"--config: {like} started from the weights of {path}, which is not there any more; give --init"
        )
    return trained


def _described(data: Images | None, out: Path) -> tuple[str | None, str | DataSet | None, dict[Any, Any]]:
    """Return the name of data for the settings, the data themselves unless that says all, and arrays to keep."""
    if data is None or isinstance(data, str | os.PathLike):
        return (None if data is None else os.fspath(data)), None, {}
    if isinstance(data, DataSet):
        return data.name, data, {}
    name, arrays = str(out / OWN_IMAGES), _as_arrays(data)
    return name, from_arrays(name, arrays), arrays


def _as_arrays(images: Mapping[Any, Any] | Any) -> dict[Any, Any]:
    """Return images by split, those of an array being for training, as arrays of NumPy."""
    import numpy as np

    splits = images if isinstance(images, Mapping) else {"train": images}
    return {split: np.asanyarray(array) for split, array in splits.items()}


def _named_or_whole(data: Images | None) -> str | DataSet | None:
    """Return data of a run that continues: where they lie, or themselves."""
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
    """Yield the trainer of a planned run, whose directory is held against other processes.

    Parameters
    ----------
    plan : Plan
    device : str
        As torch names it.
    command : sequence of str
        The command line that asks for it, for the files of the run.
    quiet : bool
        Show no progress of a download.
    """
    from .. import distributed

    if not plan.resumes:
        refuse_existing(plan.out)
    with distributed.first_process_first():
        data = _load(plan, quiet)
    if plan.init:
        _refuse_other_shapes(plan.init, plan.config.model, data.n_pixels)
    with locked(plan.out) if distributed.rank() == 0 else nullcontext():
        with distributed.first_process_first():
            trainer = (
                _resumed(plan, data, device, command) if plan.resumes else _begun(plan, data, device, command)
            )
        yield trainer


def carry_out(plan: Plan, trainer: Trainer, callback: Callback) -> None:
    """Train, or end the training, as planned; a run that was ended rests.

    Raises
    ------
    Interrupted
        After `trainer.stop_requested` was set; what was done is saved.
    NumericalError
        If the bound, a gradient or a weight is not finite; the last good checkpoint stays.
    """
    from .. import distributed

    callback = callback if distributed.rank() == 0 else Callbacks(())
    if plan.ends and not trainer.is_finished:
        trainer.end(callback)
        _write_ended(plan, trainer)
    elif not plan.rests:
        trainer.train(callback)


def _load(plan: Plan, quiet: bool) -> DataSet:
    """Return the data of a plan; DataError if they are not those that it says."""
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
    """Raise ConfigError if a model's weights are not those of the new run's shapes, or of another graph."""
    from .checkpoint import expected_shapes

    ours = expected_shapes(config, n_pixels)
    theirs = {name: value.shape for name, value in trained.model.state_dict().items()}
    for name in {**ours, **theirs}:
        there, here = (str(tuple(shapes[name])) if name in shapes else "absent" for shapes in (theirs, ours))
        if there != here:
            raise ConfigError(
                f"--init: {name} is {there} in {trained.path} and {here} in the new run; give the settings and "
                "images of the same sizes, or leave --init out"
            )
    its = trained.config.model
    if (its.prior, its.graph) != (config.prior, config.graph):
        raise ConfigError(f"--init: the prior of {trained.path} has another graph; give --graph as it has it")


def _begun(plan: Plan, data: DataSet, device: str, command: Sequence[str]) -> Trainer:
    """Return the trainer of a new run, and write its first files."""
    from ..distributed import rank
    from ..versions import package_versions
    from .trainer import Trainer

    trainer = Trainer(plan.out, plan.config, data, device)
    if plan.init:
        trainer.start_from(plan.init)
    if rank() == 0:
        refuse_existing(plan.out)  # again: another process may have made a run while the data were loaded
        if plan.arrays:
            write_npz(plan.out / OWN_IMAGES, plan.arrays, compressed=True)
    # The checkpoint first: a directory with settings can always be resumed.
    trainer.save()
    provenance = {
        **({"command": list(command)} if command else {}),
        "data": data.provenance,
        "data_sha256": data.digest(),
        "versions": package_versions("torch", "numpy"),
    }
    if rank() == 0:
        write_config(plan.out, plan.config, plan.provenance | provenance)
    return trainer


def _resumed(plan: Plan, data: DataSet, device: str, command: Sequence[str]) -> Trainer:
    """Return the trainer of a run where it was left, and write down what changes."""
    from ..distributed import rank
    from ..versions import package_versions
    from .trainer import Trainer

    trainer = Trainer(plan.out, plan.config, data, device)
    trainer.restore()
    provenance = dict(plan.provenance)
    if plan.changes:
        trainer.change(plan.changes)
        entry = {"date": _now(), **_given(command), "versions": package_versions("torch", "numpy")}
        provenance["changes"] = _with_entry(provenance.get("changes", []), entry, trainer.config.changes)
    if rank() == 0 and (trainer.config, provenance) != (plan.config, read_provenance(plan.out)):
        write_config(plan.out, trainer.config, provenance)
    return trainer


def _with_entry(entries: list[dict[str, Any]], entry: dict[str, Any], changes: Sequence[Change]) -> list[Any]:
    """Return what is known of each change, `entry` being about the last one."""
    known = {e["from_epoch"]: e for e in entries}
    epochs = [change.from_epoch for change in changes]
    return [{"from_epoch": epoch, **(entry if epoch == epochs[-1] else known.get(epoch, {}))} for epoch in epochs]


def _write_ended(plan: Plan, trainer: Trainer) -> None:
    """Write down that the training was ended as it is."""
    from ..distributed import rank

    place = {"epoch": trainer.epoch + (trainer.step > 0), "step": trainer.step, "date": _now()}
    if rank() == 0:
        write_config(plan.out, trainer.config, read_provenance(plan.out) | {"ended": place})


def _given(command: Sequence[str]) -> dict[str, Any]:
    """Return the entry of a command line, if there is one."""
    return {"command": list(command)} if command else {}


def _now() -> str:
    """Return the time, in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
