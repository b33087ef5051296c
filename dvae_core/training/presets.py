"""Settings by name: the paper's (Table 2), its ablations (App. J), and small ones that take minutes on two cores.

The paper does not state the number of epochs, the minibatch size, the learning rate or the depth of its "deep"
decoders; those of the `paper-` and `ablation-` presets are ours.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from ..config import ModelConfig, RunConfig, TrainConfig
from ..errors import ConfigError


@dataclass(frozen=True, slots=True)
class Preset:
    """Named settings, the data set that they are meant for, and a one-line summary."""

    summary: str
    dataset: str
    model: ModelConfig
    train: TrainConfig

    def config(self, dataset: str | None = None) -> RunConfig:
        """Return these settings for `dataset`, by default for the preset's own data set."""
        return RunConfig(dataset or self.dataset, self.model, self.train)


# --- the paper (Table 2, App. H) ----------------------------------------------------------------------------

_PAPER_MODEL = ModelConfig(n_left=64, n_right=64, n_groups=4, encoder_hidden=(2000, 2000))
_PAPER_TRAIN = TrainConfig(
    epochs=1000,
    batch_size=100,
    learning_rate=1e-3,
    n_chains=2000,  # 20 for each element of the minibatch
    n_sweeps=100,
    warmup_strength=20.0,
    warmup_epochs=5,
    rbm_warmup_strength=2.0,
    rbm_warmup_epochs=20,
)


def _table_2(
    dataset: str, log_likelihood: float, n_layers: int, n_continuous: int, prior_hidden: int, **changes: Any
) -> Preset:
    """Return a row of Table 2; `changes` are other fields of ModelConfig: parameter sharing and decoder."""
    model = replace(
        _PAPER_MODEL, n_layers=n_layers, n_continuous=n_continuous, prior_hidden=(prior_hidden,), **changes
    )
    return Preset(f"Table 2 of the paper, which reached {log_likelihood} nats", dataset, model, _PAPER_TRAIN)


_PAPER = {
    "paper-mnist": _table_2("mnist", -80.15, 18, 64, 1000),
    "paper-mnist-static": _table_2("mnist-static", -81.01, 20, 256, 2000, n_sharing_groups=2),
    # One hidden layer in the decoder; the paper does not state its width, so it has that of the prior networks.
    "paper-omniglot": _table_2("omniglot", -97.43, 16, 256, 800, n_sharing_groups=2, decoder_hidden=(800,)),
    "paper-caltech101": _table_2("caltech101", -97.6, 12, 80, 100, n_sharing_groups=1),
}

# --- small ones ---------------------------------------------------------------------------------------------

# With a hidden layer in the decoder the bound rises faster: -103.1 nats after 5 epochs on mnist-static, -107.5
# without it.  A minibatch of 200 costs 1.5 times as much as one of 100.
_SMALL_MODEL = ModelConfig(
    n_left=32,
    n_right=32,
    n_groups=4,
    n_layers=2,
    n_continuous=32,
    encoder_hidden=(200, 200),
    prior_hidden=(100,),
    decoder_hidden=(200,),
)
_SMALL_TRAIN = TrainConfig(
    epochs=40,
    batch_size=200,
    learning_rate=5e-3,
    n_chains=200,
    n_sweeps=20,
    warmup_epochs=3,
    rbm_warmup_epochs=6,
)

_SMALL = {
    "demo": Preset(
        "two minutes, and log Z exactly known",
        "digits",
        ModelConfig(
            n_left=16, n_right=16, n_groups=4, encoder_hidden=(100, 100), prior_hidden=(50,), n_continuous=8
        ),
        TrainConfig(epochs=150, batch_size=100, n_chains=200, n_sweeps=20),
    ),
    "digits-small": Preset(
        "8 x 8 images in minutes", "digits", ModelConfig(), TrainConfig(epochs=300, batch_size=100)
    ),
    "bars-and-stripes-small": Preset(
        "no continuous layers: small enough for exact enumeration",
        "bars-and-stripes",
        ModelConfig(n_left=8, n_right=8, n_groups=4, n_layers=0, encoder_hidden=(50, 50)),
        TrainConfig(epochs=300, batch_size=50),
    ),
    "mnist-small": Preset("ten minutes on two cores", "mnist", _SMALL_MODEL, _SMALL_TRAIN),
    "mnist-static-small": Preset(
        "ten minutes on two cores, to about -88 nats", "mnist-static", _SMALL_MODEL, _SMALL_TRAIN
    ),
    "omniglot-small": Preset(
        "ten minutes on two cores",
        "omniglot",
        _SMALL_MODEL,
        replace(_SMALL_TRAIN, epochs=80, warmup_epochs=5, rbm_warmup_epochs=10),
    ),
    "caltech101-small": Preset(
        "ten minutes on two cores; parameters shared completely, since the data are few",
        "caltech101",
        # With complete sharing and a linear decoder, the width of a layer is the rank of the decoder: the final
        # validation bound is -131.0 nats with 16 units per layer, -123.4 with the paper's 80.
        replace(
            _SMALL_MODEL, n_layers=4, n_continuous=80, prior_hidden=(100,), n_sharing_groups=1, decoder_hidden=()
        ),
        replace(
            _SMALL_TRAIN, epochs=200, batch_size=100, learning_rate=3e-3, warmup_epochs=5, rbm_warmup_epochs=20
        ),
    ),
}

# --- medium ones --------------------------------------------------------------------------------------------

# The paper's RBM, six continuous layers instead of its twenty, and networks of 300 units.  reproduce/medium.sh
# trains them, and docs/results.md compares them with the small ones.
_MEDIUM_MODEL = ModelConfig(
    n_left=64,
    n_right=64,
    n_groups=4,
    n_layers=6,
    n_continuous=64,
    encoder_hidden=(300, 300),
    prior_hidden=(200,),
    decoder_hidden=(300,),
)
_MEDIUM_TRAIN = TrainConfig(
    epochs=120,
    batch_size=100,
    learning_rate=3e-3,
    learning_rate_decay=0.03,
    n_chains=100,
    n_sweeps=20,
    warmup_epochs=3,
    rbm_warmup_epochs=6,
    ema_decay=0.999,
)

_MEDIUM = {
    "mnist-medium": Preset("an hour on one core, to about -84 nats", "mnist", _MEDIUM_MODEL, _MEDIUM_TRAIN),
    "mnist-static-medium": Preset(
        "an hour on one core, to about -84.6 nats", "mnist-static", _MEDIUM_MODEL, _MEDIUM_TRAIN
    ),
    "omniglot-medium": Preset(
        "an hour on one core, to about -104 nats",
        "omniglot",
        _MEDIUM_MODEL,
        replace(_MEDIUM_TRAIN, epochs=240, warmup_epochs=5, rbm_warmup_epochs=10),
    ),
    "caltech101-medium": Preset(
        "an hour on one core, to about -103 nats; parameters shared completely, since the data are few",
        "caltech101",
        replace(_MEDIUM_MODEL, n_continuous=80, n_sharing_groups=1, prior_hidden=(100,), decoder_hidden=()),
        replace(_MEDIUM_TRAIN, epochs=1000, warmup_epochs=5, rbm_warmup_epochs=20),
    ),
}

# --- ablations (App. J) -------------------------------------------------------------------------------------


def _ablation(name: str, summary: str, n_units: int, *, deep: bool = False, **changes: Any) -> dict[str, Preset]:
    """Return two presets by name, of the paper's size and small, for a model of App. J without continuous layers.

    Parameters
    ----------
    n_units : int
        Units of the RBM, both sides together.
    deep : bool
        Give the decoder the posterior networks' hidden layers; else it is linear.
    **changes
        Other fields of ModelConfig that differ from the paper's model.
    """
    base = replace(_PAPER_MODEL, n_left=n_units // 2, n_right=n_units // 2, n_layers=0, **changes)

    def preset(suffix: str, hidden: tuple[int, ...], train: TrainConfig) -> dict[str, Preset]:
        model = replace(base, encoder_hidden=hidden, decoder_hidden=hidden if deep else ())
        return {f"ablation-{name}-{n_units}{suffix}": Preset(summary, "mnist-static", model, train)}

    return preset("", (2000, 2000), _PAPER_TRAIN) | preset("-small", (200, 200), _SMALL_TRAIN)


_ABLATIONS = {
    **_ablation("deep", "no continuous layers, deep decoder; -86.9 nats in the paper", 128, deep=True),
    **_ablation("deep", "no continuous layers, deep decoder; -85.2 nats in the paper", 200, deep=True),
    **_ablation("linear", "no continuous layers, linear decoder; -92.7 nats in the paper", 128),
    **_ablation("linear", "no continuous layers, linear decoder; -88.8 nats in the paper", 200),
    **_ablation(
        "sbn", "linear decoder, no lateral connections; -97.0 nats in the paper", 200, prior="independent"
    ),
    **_ablation(
        "flat",
        "the same with a factorial posterior; -102.9 nats in the paper",
        200,
        prior="independent",
        n_groups=1,
    ),
}

PRESETS: dict[str, Preset] = {**_SMALL, **_MEDIUM, **_PAPER, **_ABLATIONS}


def find_preset(name: str) -> Preset:
    """Return the preset called `name`; ConfigError with the known names if there is none."""
    if name not in PRESETS:
        raise ConfigError(f"--preset: {name!r} is not known; give one of {', '.join(PRESETS)}")
    return PRESETS[name]


def default_preset(dataset: str) -> str:
    """Return the name of the default preset for `dataset`."""
    if dataset.startswith("bars-and-stripes"):
        return "bars-and-stripes-small"
    return f"{dataset}-small" if f"{dataset}-small" in PRESETS else "mnist-small"
