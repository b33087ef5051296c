"""dvae-eval samples on a machine: read it, draw states, write them, and report their verdict."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dvae_core.errors import ConfigError
from dvae_core.io.files import remove_file
from dvae_eval.states.config import StatesConfig
from dvae_eval.states.sample_states import sample_states
from dvae_eval.states.sampled import SampledStates, dimod_module, format_of

from .console import EstimateProgress, say, show
from .inputs import command_line, open_machine, unfinished
from .options import given
from .outputs import STANDARD_OUTPUT, find_output
from .runner import NOT_TRUSTWORTHY, after_interrupt, ending_cleanly

if TYPE_CHECKING:
    from .outputs import Output


def draw_states(
    model: Path,
    output: Path | None,
    format: str | None,
    force: bool,
    device: str,
    threads: int | None,
    settings: dict[str, Any],
) -> int:
    """Draw states of the machine at `model` into a file; return the exit status for their verdict."""
    if output is None:
        raise ConfigError("--output: states are written to a file; give a name that ends in .npz, .csv or .json")
    kind = format_of(output, format or ("csv" if str(output) == "-" else None))
    if kind == "dimod":
        dimod_module()  # before any work
    place = find_output(output, force, text=kind != "npz")
    place.hold()
    config = StatesConfig(**given(StatesConfig, settings))
    reading = open_machine(model, settings, device, threads)
    partial = unfinished(place, config)
    with ending_cleanly(lambda: f"interrupted; {after_interrupt(partial)}"), EstimateProgress("log Z") as progress:
        found = sample_states(
            reading, config=config, device=device, threads=threads, progress=progress, partial=partial
        )
    found = dataclasses.replace(found, command=command_line())
    place.write(found.to_bytes(kind))
    if partial:
        remove_file(partial)
    return _report(found, place)


def _report(found: SampledStates, place: Output) -> int:
    """Print what was drawn, with its verdict; return the exit status."""
    line = str(found) if found.trustworthy else f"NOT TO BE TRUSTED: {found}"
    if place.stream == STANDARD_OUTPUT:
        say(line)
    else:
        show(line)
    if found.best:
        say(found.best_line())
    say(f"verdict: {found.claim}")
    for reason in [*found.reasons, *found.warnings]:
        say(f"  {reason}")
    if place.stream != STANDARD_OUTPUT:
        say(f"saved: {place}")
    return 0 if found.trustworthy else NOT_TRUSTWORTHY
