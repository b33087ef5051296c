"""The option --starts: states from a file, or codes of training images for a model of dvae-train."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from dvae_core.errors import DataError
from dvae_eval.readers.options import Reading
from dvae_eval.readers.starts import few_images, read_starts
from dvae_eval.starts import Starts, binary_states, check_units

from .console import say

if TYPE_CHECKING:
    from dvae_core.data.dataset import DataSet
    from dvae_core.training.checkpoint import TrainedModel

NONE = "none"
N_CODES = 256


def find_starts(option: str | None, model: Path, found: Reading) -> Starts | Callable[[], Starts | None] | None:
    """Return the states in which replicates start, or a function that computes them when needed; None for none.

    Parameters
    ----------
    option : str or None
        A file, the name of a data set, or `none`; None: codes of the training images of a model of dvae-train.
    model : Path
        The file of the machine.
    found : Reading
        The machine in it.

    Raises
    ------
    DataError
        If the file cannot be read, or its states do not fit the machine.
    """
    is_own = found.description["format"] == "dvae-model"
    if option == NONE or (option is None and not is_own):
        return None
    if option is None:
        return lambda: _codes_of_training_images(model)
    starts = read_starts(option)
    n = binary_states(starts.states).shape[1]
    try:
        check_units(found.machine, n)
    except DataError as error:
        coded = _codes_of(model, starts, n) if is_own else None
        if coded is None:
            raise DataError(f"{option}: {error}") from error
        return coded
    return starts


def _codes_of(model: Path, images: Starts, n_pixels: int) -> Starts | None:
    """Return codes of the images; None if they are not of the model's size."""
    from dvae_core.training.checkpoint import load_model
    from dvae_eval.codes import codes_of_images
    from dvae_eval.starts import spread

    trained = load_model(model)
    if n_pixels != trained.model.n_pixels:
        return None
    few = spread(binary_states(images.states), N_CODES)
    return Starts(codes_of_images(trained.model, few), {"codes_of": "images", **images.source})


def _codes_of_training_images(model: Path) -> Starts | None:
    """Return codes of training images of a model of dvae-train; None, with a message, if they are not here."""
    from dvae_core.training.checkpoint import load_model
    from dvae_eval.codes import codes_of_images

    trained = load_model(model)
    try:
        images = _training_images(trained)
    except DataError as error:
        say(
            f"no replicate starts from training images: {error}; give --starts FILE with images or states, or "
            "--starts none",
        )
        return None
    few = few_images(images, N_CODES)
    digest = trained.provenance.get("data_sha256") or images.digest()
    source = {"codes_of": trained.config.dataset, "data_sha256": digest}
    return Starts(codes_of_images(trained.model, few), source)


def _training_images(trained: TrainedModel) -> DataSet:
    """Return the training data, without downloading them; DataError if they are missing or of another size."""
    from dvae_core.data import is_here
    from dvae_core.data.own import load_own_data

    name = trained.config.dataset
    if not is_here(name):
        raise DataError(f"{name}: the training data are not on this computer")
    images = load_own_data(name, None, trained.provenance, quiet=True)
    if images.n_pixels != trained.model.n_pixels:
        raise DataError(f"{name}: its images have another size than the training data")
    return images
