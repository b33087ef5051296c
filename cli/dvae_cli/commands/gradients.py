"""dvae-eval gradients: bias and variance of estimators of the gradient of the bound."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dvae_eval.config import GradientConfig

from ..options import (
    PICTURE,
    THREADS_BY_WIDTH,
    ModelFile,
    common_options,
    compute_options,
    config_options,
    output_options,
)
from ..sections import Command

if TYPE_CHECKING:
    from dvae_eval.results import GradientResult


@click.command("gradients", cls=Command)
@click.argument("model", type=ModelFile())
@click.option("--data", help="Data set to measure on. [default: the one that MODEL was trained on]")
@click.option("--plot", type=PICTURE, help="Draw the variances to this .png, .svg or .pdf file.")
@config_options(GradientConfig)
@output_options("gradients.json beside a run's model.pt")
@compute_options(THREADS_BY_WIDTH)
@common_options
def command(
    model: Path,
    data: str | None,
    plot: Path | None,
    as_json: bool,
    output: Path | None,
    force: bool,
    device: str,
    threads: int | None,
    **settings: Any,
) -> int:
    """Measure bias and variance of gradient estimators.

    The estimators are the paper's, NVIL and REINFORCE, which are unbiased, and the paper's without its factor,
    straight-through and ReinMax, which are biased. All of them are applied to the same images under MODEL.

    \b
    Example:
      dvae-eval gradients runs/digits/model.pt
      dvae-eval gradients runs/mnist/model.pt --limit 20 --samples 10000 --plot variances.png

    The gradient is that of the bound with respect to the logits of the posterior over the RBM's units, for each
    image separately. The reference is the exact gradient for a tiny model, else a long average of the paper's
    estimator. A significant bias of an estimator that is unbiased in theory is a defect: exit status 3.
    """
    config = GradientConfig(**settings)
    from dvae_eval.gradients.comparison import measure_gradients

    from ..console import EstimateProgress
    from ..inputs import default_output, finish, open_run_with_data
    from ..outputs import find_output

    place = find_output(output, force, default_output(model, "gradients.json", as_json))
    plot = find_output(plot, force, option="--plot", text=False).path
    place.hold()
    trained, data_set, elsewhere = open_run_with_data(model, data, device, threads)
    images = data_set.fixed(config.split)
    with EstimateProgress("gradients") as progress:
        result = measure_gradients(trained, images, config, progress=progress)
    result = dataclasses.replace(result, settings={**result.settings, **elsewhere})
    if plot:
        _draw(result, plot)
    return finish(result, place, as_json, lambda: _details(result))


def _draw(result: GradientResult, path: Path) -> None:
    """Write the figure of the variances to `path`, completely or not at all."""
    from matplotlib.figure import Figure

    from dvae_core.io.files import write_bytes
    from dvae_reports.figures.gradients import plot_gradient_variance
    from dvae_reports.figures.registry import figure_bytes

    figure = plot_gradient_variance(result).figure
    assert isinstance(figure, Figure)  # the axes were made in one
    figure.set_dpi(200)
    write_bytes(path, figure_bytes(figure, path.suffix[1:]))


def _details(result: GradientResult) -> list[str]:
    """Return a table with one line per estimator and term."""
    head = f"{'estimator':16} {'term':4} {'variance':>8} {'SNR':>7} {'bias':>8} {'± noise':>8} "
    lines = [head + f"{'z':>5} {'cosine':>7} {'µs/draw':>7}"]
    for name, estimator in result.estimators.items():
        label, seconds = name, f"{1e6 * estimator['seconds']:7.1f}"
        for term, found in estimator["terms"].items():
            lines.append(f"{label:16} {term:4} {_row(found)} {seconds}".rstrip())
            label = seconds = ""
    method, n = result.reference["method"], result.reference["n_samples"]
    held = "the exact gradient" if method == "exact" else f"the {method} over {n} draws"
    return [
        *lines,
        f"compared with {held}; {result.n_samples} draws of {result.n_images} images; SNR: signal-to-noise ratio "
        "per draw",
    ]


def _row(found: dict[str, Any]) -> str:
    """Return the numbers of one estimator and term, in columns."""
    z = "" if found["z"] is None else f"{found['z']:.1f}"
    return (
        f"{found['variance']:8.3g} {found['snr']:7.3g} {found['bias']:8.2g} {found['bias_std_err']:8.2g} "
        f"{z:>5} {found['cosine']:7.4f}"
    )
