"""The report on a machine from a file: how it was read, its log Z, observables and samples, from result files."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dvae_eval.results import ObservablesResult
from dvae_eval.states.sampled import SampledStates

from ..page import page_template
from ..results.machine_record import MachineRecord
from . import pictures, tables
from .contents import machine_contents
from .render import log_z_of
from .verdict import LABELS, Judged, Reason, command_on, judge

COMMANDS = {"logz": "logz", "observables": "observables", "states": "samples"}
UNITS = {"01": "0 and 1", "pm1": "-1 and +1"}
# Facts of a file with their words, in the order of the page; other facts follow.
READ = {
    "file": "file",
    "format": "format",
    "units": "values of the units",
    "assumed": "assumed, because the file does not say",
    "left_aside": "ignored",
    "beta": "inverse temperature β",
    "n_units": "free units",
    "n_edges": "couplings",
    "constant": "constant in log p, nats",
    "sha256": "SHA-256 of the file",
    "prior_sha256": "SHA-256 of the parameters",
}


def render_machine_report(record: MachineRecord | Sequence[str | os.PathLike[str]]) -> str:
    """Return the report on a machine from a file as a self-contained HTML page.

    Parameters
    ----------
    record : MachineRecord, or the paths of result files
        See `MachineRecord.load`.

    Raises
    ------
    ResultError
        If the files are not results of one machine, or one lacks the numbers that its figures need.
    """
    if not isinstance(record, MachineRecord):
        record = MachineRecord.load([Path(path) for path in record])
    missing = [_measure(record, kind, said) for kind, said in _absent(record).items()]
    log_z, observables = record.log_z, record.observables
    run = {
        "id": "machine",
        "label": record.name,
        "verdict": judge(record.results, [reason for reason in missing if log_z is None]),
        "notes": [],
        "log_z": log_z_of(log_z, "machine"),
        "makers": {"logz.json": _measure(record, "logz", "").command},
    }
    return page_template("machine.html.j2").render(
        title=record.name,
        contents=json.dumps(machine_contents(record)),
        run=run,
        level=2,
        single=True,
        comparison=None,
        facts=_sizes(record.model),
        read=_read(record.model),
        steps=[*_remedies(record.results), *_assumptions(record), *missing],
        observables=_observables(observables) if observables else None,
        samples=_samples(record.samples) if record.samples else None,
        provenance=tables.provenance_of({LABELS[r.kind]: r for r in record.results}),
    )


def _absent(record: MachineRecord) -> dict[str, str]:
    """Return a sentence for each kind of result that is missing."""
    said = {
        "logz": "log Z has not been estimated.",
        "observables": "Mean energy, specific heat, entropy and magnetisation have not been measured.",
        "states": "No samples have been drawn.",
    }
    return {kind: text for kind, text in said.items() if kind not in {found.kind for found in record.results}}


def _measure(record: MachineRecord, kind: str, said: str) -> Reason:
    """Return a missing result with the command that measures it."""
    output = {"states": "samples.npz"}.get(kind, f"{kind}.json")
    command = command_on(str(record.model.get("file") or "FILE"), record.results[0].command, COMMANDS[kind])
    return Reason(said, f"{command} -o {output}")


def _remedies(results: Sequence[Judged]) -> list[Reason]:
    """Return the remedies of the failed checks without repetition, those of errors first."""
    failed = [check for result in results for check in result.checks if not check.passed and check.remedy]
    failed.sort(key=lambda check: check.severity == "warning")
    said = dict.fromkeys(check.remedy for check in failed)
    return [Reason(f"{remedy[:1].upper()}{remedy[1:]}.") for remedy in said]


def _assumptions(record: MachineRecord) -> list[Reason]:
    """Return the assumptions to confirm where the file is ambiguous."""
    assumed = record.model.get("assumed") or []
    return [Reason(f"Confirm the assumption: {text}.") for text in assumed]


def _sizes(model: dict[str, Any]) -> list[str]:
    """Return the machine's format and size in a few words each."""
    facts = [str(model["format"])] if model.get("format") else []
    if {"n_left", "n_right"} <= set(model):
        facts.append(f"{model['n_left']} + {model['n_right']} units")
    elif "n_units" in model:
        facts.append(f"{model['n_units']} units, {model.get('n_edges')} couplings")
    if isinstance(clamped := model.get("clamped"), dict):
        facts.append(f"{clamped.get('units')} clamped")
    return facts


def _read(model: dict[str, Any]) -> list[tuple[str, str]]:
    """Return how the file was read: names and values."""
    rest = {key: key.replace("_", " ") for key in model if key not in READ and key not in ("n_left", "n_right")}
    rows = [(words, _value(key, model[key])) for key, words in {**READ, **rest}.items() if _says(model, key)]
    if {"n_left", "n_right"} <= set(model):
        rows.insert(3, ("units on the two sides", f"{model['n_left']} and {model['n_right']}"))
    sign = "p ∝ exp(-β E): the file has energies" if "beta" in model else "p ∝ exp(the terms of the file)"
    return [*rows[:3], ("sign", sign), *rows[3:]]


def _says(model: dict[str, Any], key: str) -> bool:
    """Return whether the fact is known and not trivial."""
    return model.get(key) not in (None, [], {}, "") and not (key == "constant" and model[key] == 0)


def _value(key: str, value: Any) -> str:
    """Return a fact as text."""
    if key == "units":
        return UNITS.get(str(value), str(value))
    return tables.value_text(value)


def _observables(result: ObservablesResult) -> dict[str, Any]:
    """Return the values that the page shows for observables."""
    return {
        "result": result,
        "method": "exactly" if result.method == "exact" else "by parallel tempering",
        "rows": tables.observables(result),
        "along": tables.along_beta(result),
        "plots": pictures.observables_plots(result, "machine"),
        "checks": result.checks,
    }


def _samples(found: SampledStates) -> dict[str, Any]:
    """Return the values that the page shows for samples."""
    n_left = found.model.get("n_left")
    return {
        "found": found,
        "method": "independent, drawn exactly" if found.method == "exact" else "drawn by parallel tempering",
        "plots": pictures.states_plots(found, "machine"),
        "pictures": pictures.states_pictures(found, n_left if isinstance(n_left, int) else None),
        "checks": found.checks,
    }
