"""dvae-eval ll: the importance-weighted log-likelihood of a data set under a trained model."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dvae_core.errors import ResultError
from dvae_core.io.files import remove_file
from dvae_eval.config import LikelihoodConfig, LogZConfig

from ..options import (
    PICTURE,
    ModelFile,
    Place,
    common_options,
    compute_options,
    config_options,
    output_options,
    refuse_both,
    scheduler_option,
)
from ..runner import CONTINUE, after_interrupt, ending_cleanly
from ..sections import Command

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from dvae_core.training.checkpoint import TrainedModel
    from dvae_eval.results import LikelihoodResult, LogZResult
    from dvae_eval.runtime.resume import ResumeDirectory

    from ..console import LikelihoodProgress
    from ..outputs import Output


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
    type=PICTURE,
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
    from dvae_eval.runtime.compute import Resources, parse_memory
    from dvae_eval.runtime.dask_cluster import cluster
    from dvae_eval.runtime.resume import ResumeDirectory

    from .. import inputs
    from ..details.likelihood import details
    from ..outputs import find_output

    resources = Resources(n_workers or 0, parse_memory(memory) if memory else 0, threads or 1)
    trained, data_set, elsewhere = inputs.open_run_with_data(model, data, device, threads)
    images, labels = data_set.fixed(config.split), data_set.split(config.split).labels
    place = find_output(output, force, inputs.default_output(model, _file_name(elsewhere, config), as_json))
    plot = find_output(plot, force, option="--plot", text=False).path
    place.hold()
    path = place.path
    partial = path.with_name(f".{path.stem}.log_z.partial.npz") if path else None
    resume = ResumeDirectory(path.with_name(f"{path.stem}.shards")) if path else None
    earlier = inputs.state_path(path) if path else None
    with cluster(scheduler):
        log_z_result, source = _log_z(trained, log_z, config, device, partial)
        with _progress(resume) as progress:
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
    result = dataclasses.replace(result, settings={**result.settings, **elsewhere})
    inputs.say_unused_state(path, result)
    return inputs.finish(
        result,
        place,
        as_json,
        lambda: details(result, bits),
        satellites=(".images.npz", inputs.STATE),
        beside=lambda place: _picture(result, trained, images, place, plot),
        saved=lambda place: _remove_work(partial, resume, place),
    )


def _file_name(elsewhere: dict[str, str], config: LikelihoodConfig) -> str:
    """Return the default name of the result: `ll.json` for the test set of the training data."""
    split = [] if config.split == "test" else [config.split]
    method = [] if config.method == "importance" else [config.method]
    other = [Path(elsewhere["data"]).stem] if elsewhere else []
    return "-".join(["ll", *method, *other, *split]) + ".json"


@contextmanager
def _progress(resume: ResumeDirectory | None) -> Iterator[LikelihoodProgress]:
    """Yield progress over images; after Ctrl-C, report what is saved."""
    from ..console import LikelihoodProgress

    with LikelihoodProgress("log p(x)") as progress, ending_cleanly(lambda: _interrupted(resume, progress)):
        yield progress


def _interrupted(resume: ResumeDirectory | None, progress: LikelihoodProgress) -> str:
    """Return the message after Ctrl-C: what is saved, and what to do."""
    if resume is None:
        return f"interrupted; {after_interrupt(None)}"
    return f"interrupted; {sum(progress.kept.values())} images are saved in {resume.directory}; {CONTINUE}"


def _log_z(
    trained: TrainedModel,
    given: Path | None,
    config: LikelihoodConfig,
    device: str,
    partial: Path | None,
) -> tuple[LogZResult, str]:
    """Return (log Z, its source): from the given file, else logz.json beside the model, else estimated here.

    The estimate is exact or reaches --log-z-error; its unfinished work is saved in `partial`.
    """
    from dvae_eval.results import LogZResult, load_result
    from dvae_eval.trained import machine_of, model_description

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
            raise ResultError(
                f"--log-z: {given} is not a logz result for {trained.path}; run dvae-eval logz {trained.path} "
                "first"
            )
        say(f"{path} is for another model; log Z is estimated again")
    wanted = LogZConfig(precision=config.log_z_error)
    estimated = estimate_with_progress(machine_of(trained), wanted, description, device, partial=partial)
    return estimated, "estimated on the way"


def _remove_work(partial: Path | None, resume: ResumeDirectory | None, place: Output) -> None:
    """Remove the files of finished work, but keep the state of the images beside the result."""
    from ..inputs import keep_state

    if partial and resume:
        remove_file(partial)
        keep_state(resume.state, place)
        resume.remove()


def _picture(
    result: LikelihoodResult, trained: TrainedModel, images: NDArray[np.uint8], place: Output, plot: Path | None
) -> None:
    """Save the images of a result beside it, and write its page of figures to `plot`, if these are wanted."""
    from dvae_core.io.files import write_bytes
    from dvae_eval.likelihood.images import images_path, picture_images

    if not (place.path or plot):
        return
    pictured = picture_images(result, trained, images)
    if place.path:
        pictured.save(images_path(place.path))
    if plot:
        from dvae_reports.figures.likelihood_page import plot_likelihood
        from dvae_reports.figures.registry import figure_bytes

        write_bytes(plot, figure_bytes(plot_likelihood(result, pictured), plot.suffix[1:]))
