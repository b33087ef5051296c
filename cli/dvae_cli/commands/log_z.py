"""dvae-eval logz: the log partition function of a Boltzmann machine."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from dvae_eval.config import LOG_Z_PRESETS, LogZConfig

from ..options import common_options, compute_options, config_options, output_options, output_path
from ..runner import CleanInterrupt

if TYPE_CHECKING:
    from dvae_eval.results import LogZResult

__all__ = ["command"]


@click.command("logz")
@click.argument("model", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option(
    "--preset",
    type=click.Choice(sorted(LOG_Z_PRESETS)),
    help="Settings by name: paper = joint energies, random exchange, burn-in 0.5. Options that are given win.",
)
@config_options(LogZConfig)
@output_options("logz.json beside a run's model.pt")
@compute_options
@common_options
def command(
    model: Path,
    preset: str | None,
    as_json: bool,
    output: Path | None,
    force: bool,
    device: str,
    threads: int | None,
    quiet: bool,
    debug: bool,
    **settings: Any,
) -> int:
    """Estimate log Z of MODEL's prior, in nats, with its error and a verdict.

    \b
    Example:
      dvae-eval logz runs/digits/model.pt
      dvae-eval logz rbm.npz --method pt-bar --precision 0.01 --json
      dvae-eval logz runs/digits/model.pt --method pt-bar --preset paper --repeats 16

    MODEL is the model.pt of a run, or an npz file: W (n_left x n_right), b_left and b_right, for
    p(v, h) ∝ exp(v'Wh + b_left'v + b_right'h) over {0,1}; or J and b for a general Boltzmann machine,
    p(z) ∝ exp(Σ_{i<j} J_ij z_i z_j + b'z), J strictly upper triangular, or symmetric with a zero diagonal.

    An estimate that is written to a file can be stopped at any time; the same command goes on with it.
    """
    config = LogZConfig(**{**settings, **_of_preset(preset)})
    from ..devices import prepare_device
    from ..inputs import command_line, default_output, estimate_with_progress, finish, read_machine

    path = output_path(output, force, default_output(model, "logz.json", as_json))
    machine, description = read_machine(model)
    prepare_device(device, threads, len(machine.reduced().b))
    partial = path.with_name(f".{path.name}.partial.npz") if path else None
    try:
        result = estimate_with_progress(
            machine, config, description, device, quiet, threads=threads, partial=partial
        )
    except KeyboardInterrupt:
        again = "the same command goes on with it" if partial and partial.exists() else "nothing was kept"
        raise CleanInterrupt(f"interrupted; {again}") from None
    result = dataclasses.replace(result, command=command_line())
    status = finish(result, path, as_json, quiet, lambda: _details(result))
    if partial:
        partial.unlink(missing_ok=True)
    return status


def _of_preset(preset: str | None) -> dict[str, Any]:
    """Return the preset's settings, but for the options that were given."""
    source = click.get_current_context().get_parameter_source
    settings = LOG_Z_PRESETS[preset] if preset else {}
    return {name: value for name, value in settings.items() if source(name) == ParameterSource.DEFAULT}


def _details(result: LogZResult) -> list[str]:
    """Return lines for people on how the estimate was made."""
    found = result.diagnostics
    lines = []
    if "exact" in found:
        difference = result.log_z - found["exact"]["log_z"]
        in_errors = f" = {difference / result.std_err:+.1f} standard errors" if result.std_err else ""
        lines.append(f"exact log Z = {found['exact']['log_z']:.6f}; difference {difference:+.5f}{in_errors}")
    if "ladder" in found:
        low, high = result.ci95
        kind = "repeats" if "repeats_std_err" in found else "ladders"
        lines.append(
            f"95% interval [{low:.4f}, {high:.4f}]; {len(result.repeats)} {kind} "
            f"of {len(found['ladder'])} rungs, {found['n_sweeps']} sweeps (ended by {found['stopped']}), "
            f"lowest exchange rate {min(found['exchange_rates']):.2f}; "
            f"{sum(c['passed'] for c in found['checks'])} of {len(found['checks'])} checks passed"
        )
    return lines
