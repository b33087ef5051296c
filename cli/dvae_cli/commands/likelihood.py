"""dvae-eval ll: the importance-weighted log-likelihood of a data set under a trained model."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dvae_core.errors import ConfigError, ResultError
from dvae_core.io.files import remove_file
from dvae_core.text import decimals, error_text, estimate, fixed, plain
from dvae_eval.config import LikelihoodConfig, LogZConfig

from ..options import (
    OUTPUT,
    ModelFile,
    Place,
    common_options,
    compute_options,
    config_options,
    output_options,
    refuse_both,
    scheduler_option,
)
from ..runner import CONTINUE, CleanInterrupt, after_interrupt
from ..sections import Command

if TYPE_CHECKING:
    from dvae_core.training.checkpoint import TrainedModel
    from dvae_eval.likelihood.images import LikelihoodImages
    from dvae_eval.results import LikelihoodResult, LogZResult
    from dvae_eval.runtime.resume import ResumeDirectory

    from ..console import LikelihoodProgress


@click.command("ll", cls=Command)
@click.argument("model", type=ModelFile())
@click.option(
    "--log-z",
    type=Place("a result file"),
    help="Result of dvae-eval logz for this model. [default: logz.json beside the model, else estimated first]",
)
@click.option("--data", help="Data set to evaluate. [default: the one that MODEL was trained on]")
@config_options(LikelihoodConfig)
@click.option(
    "--workers",
    "n_workers",
    type=click.IntRange(1),
    help="Number of processes, which share the images; the result does not depend on it. [default: one per core "
    "for long work]",
)
@click.option(
    "--memory", help="Memory limit for all processes together, such as 4GB. [default: half of the free memory]"
)
@click.option(
    "--plot",
    type=OUTPUT,
    help="Draw bound, weights, classes and the worst images to this .png, .svg or .pdf file.",
)
@click.option("--bits", is_flag=True, help="Also print bits per dimension.")
@output_options(
    "ll.json beside a run's model.pt; ll-ais.json for --method ais, ll-NAME.json for other --data, ll-valid.json "
    "for --split valid"
)
@compute_options("CPU threads per process. [default: one; all cores while log Z is estimated first]")
@scheduler_option("images")
@common_options
def command(
    model: Path,
    log_z: Path | None,
    data: str | None,
    n_workers: int | None,
    memory: str | None,
    plot: Path | None,
    bits: bool,
    as_json: bool,
    output: Path | None,
    force: bool,
    device: str,
    threads: int | None,
    scheduler: str | None,
    quiet: bool,
    debug: bool,
    **settings: Any,
) -> int:
    """Estimate the test log-likelihood of a model, in nats.

    The result is the mean over the images of the test set under MODEL, a run or its model.pt.

    \b
    Example:
      dvae-eval ll runs/digits/model.pt
      dvae-eval ll runs/mnist/model.pt --samples 1000 --limit 500 --bits
      dvae-eval ll runs/mnist/model.pt --method ais --limit 20
      dvae-eval ll runs/mnist/model.pt --scheduler tcp://head:8786

    The estimate is a lower bound in expectation, apart from the error of log Z. Three uncertainties are reported
    separately: the error over images, the error of log Z (which shifts every image equally), and the remaining gap
    of the bound. The gap is also bracketed from both sides on images simulated from the model.

    Finished images are saved beside the result: after Ctrl-C or a crash, run the same command again to continue. A
    later command with a larger --limit or more --samples continues from the existing result; if --output names it,
    add --force.
    """
    config = LikelihoodConfig(**settings)
    refuse_both(n_workers, scheduler)
    from dvae_eval.likelihood.estimate_log_likelihood import estimate_log_likelihood
    from dvae_eval.likelihood.images import images_path, picture_images
    from dvae_eval.runtime.compute import Resources, parse_memory
    from dvae_eval.runtime.dask_cluster import cluster
    from dvae_eval.runtime.resume import ResumeDirectory

    from ..devices import prepare_device
    from ..inputs import (
        STATE,
        command_line,
        default_output,
        finish,
        keep_state,
        load_own_model,
        measured_data,
        other_data,
        say_unused_state,
        settle,
        state_path,
    )
    from ..outputs import find_output

    resources = Resources(n_workers or 0, parse_memory(memory) if memory else 0, threads or 1)
    trained = load_own_model(model)
    data_set = measured_data(trained, data, quiet)
    images, labels = data_set.fixed(config.split), data_set.split(config.split).labels
    elsewhere = other_data(data, data_set, trained)
    place = find_output(output, force, default_output(model, _file_name(elsewhere, config), as_json))
    if plot and plot.suffix not in (".png", ".svg", ".pdf"):
        raise ConfigError(f"--plot: {plot} does not end in .png, .svg or .pdf; give a name that does")
    plot = find_output(plot, force, option="--plot", text=False).path
    place.hold()
    path = place.path
    prepare_device(device, threads, trained.config.model.width)
    trained.model.to(device)
    partial = path.with_name(f".{path.stem}.log_z.partial.npz") if path else None
    resume = ResumeDirectory(path.with_name(f"{path.stem}.shards")) if path else None
    earlier = state_path(path) if path else None
    with cluster(scheduler):
        log_z_result, source = _log_z(trained, log_z, config, device, quiet, partial)
        with _progress(resume, quiet) as progress:
            result = estimate_log_likelihood(
                trained,
                images,
                log_z_result,
                config,
                labels=labels,
                log_z_source=source,
                resources=resources,
                resume=resume,
                finished=earlier,
                announce=progress.begin,
                progress=progress,
            )
    settings = {**result.settings, **elsewhere}
    result = dataclasses.replace(result, settings=settings, command=command_line())
    say_unused_state(path, result, quiet)
    place = settle(place, result, quiet, (".images.npz", STATE))
    if place.path or plot:
        pictured = picture_images(result, trained, images)
        if place.path:
            pictured.save(images_path(place.path))
        if plot:
            _draw(result, pictured, plot)

    def saved() -> None:
        if partial and resume:
            remove_file(partial)
            keep_state(resume.state, place, quiet)
            resume.remove()

    return finish(result, place, as_json, quiet, lambda: _details(result, bits), saved)


def _file_name(elsewhere: dict[str, str], config: LikelihoodConfig) -> str:
    """Return the default name of the result: `ll.json` for the test set of the training data."""
    split = [] if config.split == "test" else [config.split]
    method = [] if config.method == "importance" else [config.method]
    other = [Path(elsewhere["data"]).stem] if elsewhere else []
    return "-".join(["ll", *method, *other, *split]) + ".json"


@contextmanager
def _progress(resume: ResumeDirectory | None, quiet: bool) -> Iterator[LikelihoodProgress]:
    """Yield progress over images; after Ctrl-C, report what is saved."""
    from ..console import LikelihoodProgress

    with LikelihoodProgress("log p(x)", quiet) as progress:
        try:
            yield progress
        except KeyboardInterrupt as error:
            n_kept = sum(progress.kept.values())
            kept = (
                f"{n_kept} images are saved in {resume.directory}; {CONTINUE}" if resume else after_interrupt(None)
            )
            raise CleanInterrupt(f"interrupted; {kept}") from error


def _log_z(
    trained: TrainedModel,
    given: Path | None,
    config: LikelihoodConfig,
    device: str,
    quiet: bool,
    partial: Path | None,
) -> tuple[LogZResult, str]:
    """Return (log Z, its source): from the given file, else logz.json beside the model, else estimated here."""
    from dvae_eval.results import LogZResult, load_result
    from dvae_eval.trained import model_description

    from ..console import say

    description = model_description(trained)
    beside = trained.path.with_name("logz.json")
    path = given or (beside if beside.exists() else None)
    if path:
        result = load_result(path)
        belongs = isinstance(result, LogZResult) and result.model["prior_sha256"] == description["prior_sha256"]
        if isinstance(result, LogZResult) and belongs:
            return result, str(path)
        if given:
            raise ResultError(
                f"--log-z: {given} is not a logz result for {trained.path}; run dvae-eval logz {trained.path} "
                "first"
            )
        say(f"{path} is for another model; log Z is estimated again", quiet)
    estimated = _estimated_log_z(trained, description, config, device, quiet, partial)
    return estimated, "estimated on the way"


def _estimated_log_z(
    trained: TrainedModel,
    description: dict[str, Any],
    config: LikelihoodConfig,
    device: str,
    quiet: bool,
    partial: Path | None,
) -> LogZResult:
    """Estimate log Z of the prior, exactly or to --log-z-error; unfinished work is saved in `partial`."""
    from dvae_eval.trained import machine_of

    from ..inputs import estimate_with_progress

    log_z_config = LogZConfig(precision=config.log_z_error)
    machine = machine_of(trained)
    return estimate_with_progress(machine, log_z_config, description, device, quiet, partial=partial)


def _draw(result: LikelihoodResult, images: LikelihoodImages, path: Path) -> None:
    """Write the page of figures to `path`, completely or not at all."""
    from dvae_core.io.files import write_bytes
    from dvae_reports.figures.likelihood_page import plot_likelihood
    from dvae_reports.figures.registry import figure_bytes

    write_bytes(path, figure_bytes(plot_likelihood(result, images), path.suffix[1:]))


def _details(result: LikelihoodResult, bits: bool) -> list[str]:
    """Return lines to print: the parts of the number, and how far off it may be."""
    parts = result.elbo_parts
    ess = sorted(result.per_image["ess"])
    lines = [
        f"bound with one sample (ELBO) {result.elbo:.2f} = reconstruction {parts['reconstruction']:.2f} "
        f"- KL of the binary units {-parts['kl_rbm']:z.2f} "
        f"- KL of the continuous layers {0.0 - parts['kl_continuous']:.2f}",
        f"effective samples per image: median {ess[len(ess) // 2]:.0f}, smallest {ess[0]:.1f} "
        f"of {result.n_samples}; log Z {estimate(result.log_z, result.std_err_log_z)} "
        f"({result.log_z_source})",
    ]
    more = "--ais-chains" if result.settings["method"] == "ais" else "--samples"
    if result.gap is None:
        lines.append(
            f"{result.n_samples} samples are too few to estimate how far the bound lies below log p(x); "
            f"give more {more}"
        )
    else:
        lines.append(
            f"estimated gap of the bound below log p(x): {error_text(result.gap)} nats, within a factor of two; "
            f"the weights of {result.n_suspect} of {result.n_images} images have heavy tails (Pareto k)"
            + (f"; more {more} reduce the gap" if result.n_suspect and not result.warnings else "")
        )
    lines.append(_simulated(result.diagnostics["simulated"]))
    if beside := result.diagnostics.get("importance"):
        digits = decimals(result.std_err_images, result.std_err_log_z)
        lines.append(
            f"importance weighting on the same images: {fixed(beside['log_likelihood'], digits)} "
            f"({beside['n_samples']} samples); annealing differs by "
            f"{estimate(beside['difference'], beside['difference_std_err'])}"
        )
    if effect := result.diagnostics.get("precision_effect"):
        lines.append(
            f"{result.settings['precision']} shifts the estimate by {estimate(effect['mean'], effect['std_err'])} "
            f"nats per image (compared with float32 on {effect['n_images']} images, with the same noise)"
        )
    for part in result.diagnostics.get("continued_from", [])[-1:]:
        shift = result.log_z - part.get("log_z", result.log_z)  # earlier versions did not record it
        lines.append(
            f"continued from {part['n_images']} images and {part['n_samples']} samples ({part['date'][:10]})"
            + (f"; log Z has changed by {shift:+.2g} nats since" if shift else "")
        )
    if bits:
        lines.append(f"{result.bits_per_dim:.4f} bits per dimension")
    return [plain(line) for line in lines]


def _simulated(found: dict[str, Any]) -> str:
    """Return the line about the gap on simulated images."""
    if why_not := found.get("not_done"):
        return f"the gap was not estimated on simulated images: {why_not}"
    alone = found["gap_from_proposals"]
    from_samples = "" if alone is None else f"; from q's samples alone {error_text(alone)}"
    images = f"{found['n_images']} simulated {'image' if found['n_images'] == 1 else 'images'}"
    return (
        f"gap on {images}: {estimate(found['gap'], found['std_err'])} nats "
        f"(upper bound {estimate(found['bound'], found['bound_std_err'])})"
        f"{from_samples} (prior states: {found['states']})"
    )
