"""dvae-eval inspect: show what a file contains."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from dvae_eval.readers import ReadConfig

from ..options import Place, common_options, config_options, given
from ..sections import Command
from ..standard_input import as_named

LISTS = {"assumed": "assumed", "left_aside": "ignored", "masks": "masks", "notes": "notes"}


@click.command("inspect", cls=Command)
@click.argument("file", type=Place("a file or a run", directory=True))
@click.option("--json", "as_json", is_flag=True, help="Print all facts as one JSON object.")
@config_options(ReadConfig)
@common_options
def command(file: Path, as_json: bool, **settings: Any) -> None:
    """Show what a file contains.

    FILE is a run, a model, a checkpoint, a result, a Boltzmann machine of any format that dvae-eval logz reads, or
    images.

    \b
    Example:
      dvae-eval inspect runs/digits
      dvae-eval inspect rbm.mat --units pm1
    """
    from dvae_eval.readers.inspection import inspect_file

    facts = inspect_file(file, ReadConfig(**given(ReadConfig, settings)))
    facts["file"] = as_named(facts["file"])
    if as_json:
        click.echo(json.dumps(facts, allow_nan=False, ensure_ascii=False))
    else:
        from ..console import show

        show(f"{facts.pop('file')}: {facts.pop('is')}")
        for line in _lines(facts):
            show(line)


def _lines(facts: dict[str, Any], indent: str = "  ") -> Iterator[str]:
    """Yield one line per fact; nested facts are indented."""
    for name, value in facts.items():
        if isinstance(value, dict) and value and any(isinstance(inner, dict) for inner in value.values()):
            yield f"{indent}{name}:"
            yield from _lines(value, indent + "  ")
        elif isinstance(value, dict):
            yield f"{indent}{name}: " + ", ".join(f"{key} {_short(inner)}" for key, inner in value.items())
        elif name in LISTS and value:
            yield f"{indent}{LISTS[name]}: {', '.join(map(str, value))}"
        elif value not in (None, [], ""):
            yield f"{indent}{name}: {_short(value)}"


def _short(value: Any) -> str:
    """Return a value as short text."""
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list) and len(value) == 2 and all(isinstance(part, float) for part in value):
        return f"{value[0]:z.4g} to {value[1]:z.4g}"
    return " ".join(map(str, value)) if isinstance(value, list) else " ".join(str(value).split())
