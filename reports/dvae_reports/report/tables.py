"""The rows of the report's tables: settings, schedule, provenance, differences between runs."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from dvae_core.config import Change, ModelConfig, RunConfig, TrainConfig, option_name
from dvae_core.text import count, decimals, duration, estimate, fixed, short
from dvae_core.training.metrics import Epoch
from dvae_eval.results import LikelihoodResult, LogZResult, ObservablesResult, Result
from dvae_eval.states.sampled import SampledStates

from ..results.run_directory import RunRecord

Row = tuple[str, str, str]

# The suffix of the names of digests in a run's provenance.
DIGEST = "_sha256"


def last_epoch(epochs: Sequence[Epoch]) -> list[Row]:
    """Return statistics of the last epoch: name, value and meaning; none before the first epoch."""
    if not epochs:
        return []
    last = epochs[-1]
    bounds = f"{fixed(last.train.elbo, 2)} and {fixed(last.valid.elbo, 2)}"
    return [
        ("ELBO, training and validation", bounds, "nats per image"),
        ("log Z in training", fixed(last.log_z, 2), "nats, a rough estimate during training"),
        ("weight of the KL terms", short(last.kl_weight), "1 after the warm-up"),
        ("mean activation of the RBM", short(last.rbm.get("mean_activation")), "mean share of units with value 1"),
        ("largest weight of the RBM", short(last.rbm.get("weight_max")), "largest absolute value"),
        ("speed", count(round(last.images_per_s)) if last.images_per_s else "not measured", "images per second"),
    ]


def schedule(result: LogZResult) -> list[Row]:
    """Return statistics of the schedule that the result has: name, value and meaning."""
    found, digits, rows = result.diagnostics, decimals(result.std_err), []
    if found.get("barrier") is not None:
        meaning = (
            "Sum of the rejection rates of all neighbours; a schedule needs about this number of rungs or more."
        )
        rows.append(("communication barrier Λ", short(found["barrier"]), meaning))
    if trips := found.get("round_trips"):
        meaning = f"Trips of a replica from β = 0 to β = 1 and back, at least {count(min(trips))} per replicate."
        rows.append(("round trips", count(sum(trips)), meaning))
    if stones := found.get("stepping_stones"):
        both = f"{fixed(stones['forward'], digits)} and {fixed(stones['reverse'], digits)}"
        meaning = (
            "nats; estimates from one side of each bridge. If they differ, neighbours overlap too little: "
            "raise --exchange-rate."
        )
        rows.append(("stepping stones, up and down", both, meaning))
    if halves := found.get("halves"):
        meaning = (
            "nats; estimates from each half of the run. If they differ, the run is too short: give more --sweeps."
        )
        rows.append(("first and second half", " and ".join(fixed(half, digits) for half in halves), meaning))
    return rows


def route(result: LogZResult) -> list[Row]:
    """Return the reference, path and starts of an estimate: name, value and meaning; none for an exact value."""
    found, rows = result.diagnostics, []
    if reference := found.get("reference") or (result.method != "exact" and result.settings.get("reference")):
        rows.append(("reference distribution", str(reference), "the start of the path, β = 0, with known log Z"))
    if isinstance(first := found.get("uniform_run"), dict):
        value = estimate(first.get("log_z"), first.get("std_err"))
        failed = ", ".join(map(str, first.get("failed_checks") or [])) or "none"
        meaning = f"nats, after {count(first.get('n_sweeps') or 0)} sweeps; failed checks: {failed}"
        rows.append(("run from the uniform reference", value, meaning))
    if isinstance(path := found.get("path"), dict):
        what = {"beta": "all couplings scaled by β", "trajectory": "along the training"}
        barriers = f"{short(path.get('barrier_beta'))} and {short(path.get('barrier_trajectory'))}"
        meaning = (
            f"communication barriers in β and along the training: {barriers}; the path with the lower one is used"
        )
        rows.append(("path", what.get(str(path.get("chosen")), str(path.get("chosen"))), meaning))
    if isinstance(starts := result.settings.get("starts"), dict):
        source = starts.get("file") or starts.get("data") or starts.get("codes_of") or ""
        rows.append(("given initial states", count(starts.get("n_states") or 0), str(source)))
    return rows


# Names and meanings of the observables of a result.
OBSERVABLES = {
    "log_z": ("log Z", "nats"),
    "energy": ("mean energy <E>", "nats; E is minus the logarithm of the unnormalised probability"),
    "specific_heat": ("specific heat C", "β² (<E²> - <E>²), summed over all units"),
    "entropy": ("entropy S", "nats; log Z + β <E>"),
    "magnetisation": ("magnetisation", "mean of all units"),
}


def observables(result: ObservablesResult) -> list[Row]:
    """Return the averages at β = 1: name, value with its error, and meaning."""
    return [
        (words, estimate(getattr(result, name), getattr(result, f"{name}_std_err")), meaning)
        for name, (words, meaning) in OBSERVABLES.items()
    ]


def along_beta(result: ObservablesResult) -> dict[str, Any]:
    """Return the `columns` and `rows` of a table of averages against β; no rows for a single β."""
    table = result.along_beta
    names = [name for name in OBSERVABLES if name in table and f"{name}_std_err" in table]
    columns = ["β", *(OBSERVABLES[name][0] for name in names)]
    if len(table["beta"]) < 2:
        return {"columns": columns, "rows": []}
    errors = [table[f"{name}_std_err"] for name in names]
    rows = [
        [short(beta), *(estimate(table[name][i], error[i]) for name, error in zip(names, errors, strict=True))]
        for i, beta in enumerate(table["beta"])
    ]
    return {"columns": columns, "rows": rows}


def settings(record: RunRecord) -> dict[str, list[Row]]:
    """Return the tables of settings: model, training and each measurement."""
    training = _with_history(_fields(record.config.train), record.config.changes)
    tables = {"Model": _fields(record.config.model), "Training": training}
    for name, result in (("log Z", record.log_z), ("Log-likelihood", record.likelihood)):
        if result is not None:
            tables[name] = [(key, value_text(value), "") for key, value in result.settings.items()]
    return tables


def _with_history(rows: list[Row], changes: Sequence[Change]) -> list[Row]:
    """Return rows of settings, with earlier values of those that changed."""
    past: dict[str, list[str]] = {}
    for change in changes:
        for name, (old, _) in change.settings.items():
            past.setdefault(option_name(name), []).append(f"{value_text(old)} before epoch {change.from_epoch}")
    return [
        (name, f"{value} ({', '.join(past[name])})" if name in past else value, meaning)
        for name, value, meaning in rows
    ]


def bound_parts(result: LikelihoodResult) -> str:
    """Return the parts of the ELBO as a sentence."""
    parts = {name: fixed(value, 2) for name, value in result.elbo_parts.items()}
    if set(parts) != {"reconstruction", "kl_rbm", "kl_continuous"}:
        return f"The sum of {' and '.join(f'{_words(name)} {value}' for name, value in parts.items())}."
    binary, continuous = (fixed(-result.elbo_parts[name], 2) for name in ("kl_rbm", "kl_continuous"))
    return (
        f"Reconstruction {parts['reconstruction']}, minus the KL of the binary units {binary}, "
        f"minus the KL of the continuous layers {continuous}."
    )


def provenance_of(results: Mapping[str, Result | SampledStates]) -> dict[str, Any]:
    """Return the provenance of named results: commands, seeds, versions, times and settings."""
    return {
        "commands": {name: _command(found.command) for name, found in results.items()},
        "seeds": {name: found.seed for name, found in results.items()},
        "versions": _versions({name: found.versions for name, found in results.items()}),
        "details": [row for name, found in results.items() for row in _making(name, found)],
        "settings": {
            name: [(key, value_text(value), "") for key, value in found.settings.items()]
            for name, found in results.items()
        },
    }


def provenance(record: RunRecord) -> dict[str, Any]:
    """Return the provenance of a run: commands, seeds, versions and digests, by part of the run."""
    meta = record.samples.meta if record.samples else {}
    parts: dict[str, dict[str, Any]] = {"training": {"seed": record.config.train.seed, **record.provenance}}
    for entry in record.provenance.get("changes", []):
        parts[f"training from epoch {entry['from_epoch']}"] = entry
    for name, result in (("log Z", record.log_z), ("log-likelihood", record.likelihood)):
        if result is not None:
            parts[name] = {"seed": result.seed, "versions": result.versions, "command": result.command}
    if meta:
        parts["samples"] = meta
    return {
        "commands": {name: _command(part.get("command")) for name, part in parts.items()},
        "seeds": {name: part["seed"] for name, part in parts.items() if "seed" in part},
        "versions": _versions({name: part.get("versions", {}) for name, part in parts.items()}),
        "digests": _digests(record),
        "details": _details(record),
    }


def differences(records: Sequence[RunRecord]) -> list[tuple[str, list[str]]]:
    """Return the settings in which the runs differ, each with the value of every run."""
    tables = [_flat(_comparable(record.config)) for record in records]
    return [
        (_words(name), [table[name] for table in tables])
        for name in tables[0]
        if len({table[name] for table in tables}) > 1
    ]


def _comparable(config: RunConfig) -> dict[str, Any]:
    """Return a run's settings, under the same names for every run."""
    changes = "; ".join(map(str, config.changes)) or "none"
    content = {"changes during training": changes, "initial weights": config.init[:12] or "drawn"}
    return content | {name: value for name, value in config.to_dict().items() if name not in ("changes", "init")}


def _fields(config: ModelConfig | TrainConfig) -> list[Row]:
    """Return all settings: option, value and meaning."""
    return [
        (option_name(f.name), value_text(getattr(config, f.name)), f.metadata["help"])
        for f in dataclasses.fields(config)
    ]


def _words(name: str) -> str:
    """Return a field's name as words."""
    return name.replace("_", " ").replace("kl ", "KL ").replace("rbm", "RBM")


def value_text(value: Any) -> str:
    """Return a setting as text."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {value_text(item)}" for key, item in value.items())
    if isinstance(value, tuple | list):
        return ", ".join(map(value_text, value)) or "none"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    return f"{value:.10g}"


def _command(command: Any) -> str:
    """Return a command line quoted for a shell; empty for a result made from Python."""
    return shlex.join(map(str, command)) if isinstance(command, list | tuple) else str(command or "")


def _versions(parts: dict[str, dict[str, str]]) -> list[tuple[str, str]]:
    """Return the versions of packages, per part of the run if they differ."""
    rows = []
    for package in sorted({package for versions in parts.values() for package in versions}):
        found = {name: versions[package] for name, versions in parts.items() if package in versions}
        same = len(set(found.values())) == 1
        text = next(iter(found.values())) if same else ", ".join(f"{v} ({name})" for name, v in found.items())
        rows.append((package, str(text)))
    return rows


def _digests(record: RunRecord) -> list[tuple[str, str]]:
    """Return the SHA-256 of the model, of its prior's parameters and of the files that the provenance names."""
    rows = {"model.pt": record.model_sha256}
    for result in filter(None, (record.log_z, record.likelihood)):
        rows["model.pt"] = rows["model.pt"] or result.model.get("sha256")
        rows["prior's parameters"] = result.model.get("prior_sha256")
    rows |= {_words(key.removesuffix(DIGEST)): value for key, value in record.provenance.items() if DIGEST in key}
    return [(name, str(digest)) for name, digest in rows.items() if digest]


def _details(record: RunRecord) -> list[tuple[str, str]]:
    """Return the other facts of the provenance, and times."""
    known = {"seed", "versions", "command", "changes"}
    others = {key: value for key, value in record.provenance.items() if key not in known and DIGEST not in key}
    rows = [(_words(key), value_text(value)) for key, value in others.items()]
    changes = record.provenance.get("changes", [])
    rows += [(f"settings changed from epoch {entry['from_epoch']}", str(entry["date"])) for entry in changes]
    if record.epochs:
        rows.append(("training time", duration(record.epochs[-1].seconds)))
    for name, result in (("log Z", record.log_z), ("the log-likelihood", record.likelihood)):
        if result is not None:
            rows += _making(name, result)
    return rows


def _making(name: str, result: Result | SampledStates) -> list[tuple[str, str]]:
    """Return the time that a result took, and when, where and at what cost it was made, if recorded."""
    rows = [(f"time for {name}", duration(result.wall_seconds))]
    return [*rows, (f"{name} made", result.making)] if result.making else rows


def _flat(config: dict[str, Any]) -> dict[str, str]:
    """Return nested settings as a flat table of texts."""
    groups = {key: value for key, value in config.items() if isinstance(value, dict)}
    flat = {key: value_text(value) for key, value in config.items() if key not in groups}
    return flat | {name: value_text(value) for group in groups.values() for name, value in group.items()}
