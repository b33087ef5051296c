"""Presets: the paper's values, models that can be built, and the table of them."""

import pytest
import torch
from click.testing import CliRunner

from dvae_cli import train as train_cli
from dvae_core.config import RunConfig
from dvae_core.data import NAMES, load
from dvae_core.errors import ConfigError
from dvae_core.model.dvae import DVAE
from dvae_core.training.presets import PRESETS, default_preset, find_preset
from dvae_core.training.train_model import plan_new

# Table 2: layers, variables in each, hidden units in each prior network, groups that share parameters.
TABLE_2 = {
    "mnist": (18, 64, 1000, 0),
    "mnist-static": (20, 256, 2000, 2),
    "omniglot": (16, 256, 800, 2),
    "caltech101": (12, 80, 100, 1),
}
# Appendix J: RBM units, log-likelihood.
APPENDIX_J = {"deep-128": -86.9, "deep-200": -85.2, "linear-128": -92.7, "linear-200": -88.8}
APPENDIX_J |= {"sbn-200": -97.0, "flat-200": -102.9}


@pytest.mark.parametrize("dataset", TABLE_2)
def test_the_papers_values(dataset):
    preset = PRESETS[f"paper-{dataset}"]
    model, train = preset.model, preset.train
    assert preset.dataset == dataset
    sharing = model.n_sharing_groups
    assert (model.n_layers, model.n_continuous, *model.prior_hidden, sharing) == TABLE_2[dataset]
    assert (model.n_left, model.n_right, model.n_groups, model.encoder_hidden) == (64, 64, 4, (2000, 2000))
    assert len(model.decoder_hidden) == (1 if dataset == "omniglot" else 0)
    assert (train.n_sweeps, train.n_chains) == (100, 20 * train.batch_size)
    assert (train.warmup_strength, train.warmup_epochs) == (20, 5)
    assert (train.rbm_warmup_strength, train.rbm_warmup_epochs) == (2, 20)


@pytest.mark.parametrize(("name", "log_likelihood"), APPENDIX_J.items())
@pytest.mark.parametrize("size", ["", "-small"])
def test_ablations_are_those_of_appendix_j(name, log_likelihood, size):
    preset = PRESETS[f"ablation-{name}{size}"]
    kind, units = name.split("-")
    assert preset.dataset == "mnist-static"
    assert preset.model.n_layers == 0
    assert preset.model.n_left + preset.model.n_right == int(units)
    assert bool(preset.model.decoder_hidden) == (kind == "deep")
    assert (preset.model.prior == "independent") == (kind in ("sbn", "flat"))
    assert preset.model.n_groups == (1 if kind == "flat" else 4)
    assert f"{log_likelihood} nats in the paper" in preset.summary


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_a_model_of_a_known_data_set(name):
    """Built without memory, on PyTorch's meta device; the settings survive the way through JSON values."""
    preset = PRESETS[name]
    assert preset.dataset in NAMES
    pixels = 784 if preset.dataset not in ("digits", "bars-and-stripes") else load(preset.dataset).n_pixels
    with torch.device("meta"):
        model = DVAE(preset.model, pixels)
    assert model.decoder.linears[-1].out_features == pixels
    assert RunConfig.from_dict(preset.config().to_dict()) == preset.config()


def test_every_data_set_has_a_small_preset_of_its_own():
    for dataset in NAMES:
        assert PRESETS[default_preset(dataset)].dataset == dataset
    assert default_preset("bars-and-stripes-3x5") == "bars-and-stripes-small"
    assert default_preset("my-images.npy") == "mnist-small"
    with pytest.raises(ConfigError, match="--preset: 'small' is not known; give one of demo, "):
        find_preset("small")


def test_the_table_fits_its_columns():
    lines = CliRunner().invoke(train_cli.command, ["--list-presets"]).stdout.splitlines()
    assert max(map(len, lines)) <= 120
    at = next(i for i, line in enumerate(lines) if line.startswith("paper-omniglot"))
    row, words = lines[at : at + 2]
    assert row.split(None, 7)[:7] == ["paper-omniglot", "omniglot", "64+64", "4", "16x256", "2000,2000", "800"]
    assert row.split("800", 1)[1].split() == ["2", "groups", "800", "1000"]
    assert words.strip() == PRESETS["paper-omniglot"].summary
    for name in PRESETS:
        assert sum(line.split()[0] == name for line in lines if line.strip()) == 1


def test_a_preset_brings_its_data_set(tmp_path):
    """A data set on the command line goes before the preset's."""
    preset = "ablation-linear-128-small"
    assert plan_new(None, tmp_path / "run", {}, preset=preset).config.dataset == "mnist-static"
    assert plan_new("mnist", tmp_path / "run", {}, preset=preset).config.dataset == "mnist"
