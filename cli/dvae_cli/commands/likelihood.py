"""dvae-eval ll: the importance-weighted log-likelihood of a data set under a trained model."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dvae_core.errors import DataError, ResultError
from dvae_eval.config import LikelihoodConfig, LogZConfig

from ..options import common_options, compute_options, config_options, output_options, output_path

if TYPE_CHECKING:
    from dvae_core.checkpoint import TrainedModel
    from dvae_eval.results import LikelihoodResult, LogZResult

__all__ = ["command"]

FILE = click.Path(path_type=Path, exists=True, dir_okay=False)


@click.command("ll")
@click.argument("model", type=FILE)
@click.option(
    "--log-z", type=FILE, help="A logz result of this model. [default: logz.json beside it, else estimated]"
)
@click.option("--data", help="Data set to measure on. [default: the one that MODEL was trained on]")
@config_options(LikelihoodConfig)
@output_options("ll.json beside a run's model.pt")
@compute_options
@common_options
def command(
    model: Path,
    log_z: Path | None,
    data: str | None,
    as_json: bool,
    output: Path | None,
    force: bool,
    device: str,
    threads: int | None,
    quiet: bool,
    debug: bool,
    **settings: Any,
) -> int:
    """Estimate the mean log-likelihood of the test set under MODEL, in nats an image.

    \b
    Example:
      dvae-eval ll runs/digits/model.pt
      dvae-eval ll runs/mnist/model.pt --samples 1000 --limit 500

    The estimate is a lower bound in expectation, but for the error of log Z. Its sampling error over images and
    the error of log Z, which shifts all images alike, are told apart.
    """
    config = LikelihoodConfig(**settings)
    from dvae_core.checkpoint import load_model
    from dvae_core.data import load
    from dvae_eval.likelihood import estimate_log_likelihood

    from ..console import EstimateProgress
    from ..devices import prepare_device
    from ..inputs import command_line, default_output, finish

    path = output_path(output, force, default_output(model, "ll.json", as_json))
    trained = load_model(model)
    prepare_device(device, threads, trained.config.model.width)
    trained.model.to(device)
    images = load(data or trained.config.dataset, quiet=quiet).fixed(config.split)
    if images.shape[1] != trained.model.n_pixels:
        raise DataError(
            f"--data: images of {images.shape[1]} pixels for a model of {trained.model.n_pixels}; give others"
        )
    log_z_result, source = _log_z(trained, log_z, device, quiet)
    with EstimateProgress("log p(x)", quiet) as progress:
        result = estimate_log_likelihood(
            trained, images, log_z_result, config, log_z_source=source, progress=progress
        )
    result = dataclasses.replace(result, command=command_line())
    return finish(result, path, as_json, quiet, lambda: _details(result))


def _log_z(trained: TrainedModel, given: Path | None, device: str, quiet: bool) -> tuple[LogZResult, str]:
    """Return log Z from the file that was given, else from logz.json beside the model, else estimate it."""
    from dvae_eval.likelihood import machine_of, model_description
    from dvae_eval.results import LogZResult, load_result

    from ..console import say
    from ..inputs import estimate_with_progress

    description = model_description(trained)
    beside = trained.path.with_name("logz.json")
    path = given or (beside if beside.exists() else None)
    if path:
        result = load_result(path)
        belongs = isinstance(result, LogZResult) and result.model["prior_sha256"] == description["prior_sha256"]
        if isinstance(result, LogZResult) and belongs:
            return result, str(path)
        if given:
            raise ResultError(f"--log-z: {given} is no logz result of {trained.path}; make it with dvae-eval logz")
        say(f"{path} is not of this model; log Z is estimated anew", quiet)
    return estimate_with_progress(
        machine_of(trained), LogZConfig(), description, device, quiet
    ), "estimated on the way"


def _details(result: LikelihoodResult) -> list[str]:
    """Return lines for people on what the number is made of."""
    parts = result.elbo_parts
    ess = sorted(result.per_image["ess"])
    return [
        f"bound at one sample (ELBO) {result.elbo:.2f} = reconstruction {parts['reconstruction']:.2f} "
        f"- KL of the RBM {-parts['kl_rbm']:.2f} - KL of the continuous layers {-parts['kl_continuous']:.2f}",
        f"effective samples of an image: median {ess[len(ess) // 2]:.0f}, least {ess[0]:.1f} "
        f"of {result.n_samples}; log Z {result.log_z:.4f} ({result.log_z_source})",
    ]
