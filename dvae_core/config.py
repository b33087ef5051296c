"""Settings of a model and of its training: frozen, validated, and the only source of the options of `dvae-train`.

Each field has its help text.  Checkpoints contain all settings, so that a run can be repeated from the file alone.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from numbers import Integral, Real
from typing import Any, TypeVar

from .errors import ConfigError
from .graphs import graph_edges, read_graph

C = TypeVar("C")

SMOOTHINGS = (
    "spike-and-exponential",
    "spike-and-slab",
    "spike-and-gaussian",
    "mixture-of-ramps",
    "overlapping-exponential",
    "power-function",
    "gumbolt",
    "none",
)


def option(default: Any, help: str, **limits: Any) -> Any:
    """Return a dataclass field with a help text and limits (`min`, `max`, `choices`) for its value.

    With integer limits the value must be an integer.  `parse`, a function, converts the text of the command line
    into the field's value.  `formerly` is the field's name in an earlier version, which the command line still
    accepts.
    """
    return field(default=default, metadata={"help": help, **limits})


def option_name(field_name: str) -> str:
    """Return the option of a setting: `n_samples` is `--samples`."""
    return "--" + field_name.removeprefix("n_").replace("_", "-")


def validate(config: Any) -> None:
    """Raise ConfigError for the first field of `config`, made by `option`, whose value is outside its limits."""
    for f in dataclasses.fields(config):
        values = getattr(config, f.name)
        for value in values if isinstance(values, tuple) else (values,):
            allowed = _allowed_instead(value, f.metadata, f.default)
            if allowed:
                raise ConfigError(f"{option_name(f.name)}: {value!r} is not allowed; give {allowed}")


def _allowed_instead(value: Any, limits: Mapping[str, Any], default: Any) -> str:
    """Return the allowed values, as text, if `value`, of any type, is not allowed; else an empty text."""
    low, high, choices = (limits.get(key) for key in ("min", "max", "choices"))
    if choices:
        return "" if value in choices else f"one of {', '.join(choices)}"
    if isinstance(default, bool):
        return "" if value in (True, False) else "True or False"
    if low is None:
        return ""
    if isinstance(low, int) and not isinstance(value, Integral):
        return f"a whole number between {low} and {high}"
    is_inside = isinstance(value, Real) and low <= value <= high  # NaN is not
    return "" if is_inside else f"a number between {low} and {high}"


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """The architecture: Sections 2-4 of the paper, with the sizes of a small model as defaults."""

    prior: str = option(
        "rbm",
        "Prior over the binary units: an RBM, a Boltzmann machine on the edges of --graph, or independent units.",
        choices=("rbm", "graph", "independent"),
    )
    graph: str = option(
        "",
        "Edges for --prior graph: complete, ring, grid-8x8, chimera-2x2x4, or a file with one edge 'i j' per "
        "line.",
        parse=read_graph,
    )
    n_left: int = option(32, "Units on the left side of the RBM prior.", min=1, max=100_000)
    n_right: int = option(32, "Units on the right side of the RBM prior.", min=1, max=100_000)
    n_groups: int = option(
        4, "Groups of the hierarchical posterior over the binary units (1 = factorial).", min=1, max=1000
    )
    smoothing: str = option(
        "spike-and-exponential",
        "Smoothing transformation from z to zeta.",
        choices=SMOOTHINGS,
    )
    sharpness: float = option(
        3.0, "Upper bound on the smoothing's exponent in the first epoch.", min=0.01, max=80.0
    )
    sharpness_growth: float = option(0.05, "Increase of that bound per epoch (Appendix H).", min=0.0, max=10.0)
    sharpness_max: float = option(20.0, "Largest value of that bound.", min=0.01, max=80.0)
    n_layers: int = option(2, "Layers of continuous latent variables.", min=0, max=1000)
    n_continuous: int = option(16, "Continuous latent variables in each layer.", min=1, max=100_000)
    encoder_hidden: tuple[int, ...] = option(
        (200, 200), "Widths of the hidden layers of every posterior network.", min=1, max=100_000
    )
    prior_hidden: tuple[int, ...] = option(
        (100,), "Widths of the hidden layers of every prior network.", min=1, max=100_000
    )
    n_sharing_groups: int = option(
        0,
        "Groups of continuous layers that share one prior network, whose inputs are summed: 0 = none, 1 = "
        "complete sharing (Appendix H).",
        min=0,
        max=1000,
    )
    decoder_hidden: tuple[int, ...] = option(
        (), "Widths of the hidden layers of the decoder; none = linear.", min=1, max=100_000
    )

    @property
    def width(self) -> int:
        """Number of units in the widest layer, pixels excluded."""
        return max(self.n_left, self.n_right, *self.encoder_hidden, *self.prior_hidden, *self.decoder_hidden)

    def __post_init__(self) -> None:
        """Validate."""
        validate(self)
        if self.n_sharing_groups > self.n_layers:
            raise ConfigError(
                f"--sharing-groups: {self.n_sharing_groups} is more than the {self.n_layers} continuous layers; "
                "give fewer, or 0"
            )
        if self.n_groups > self.n_left + self.n_right:
            raise ConfigError(
                f"--groups: {self.n_groups} is more than the {self.n_left + self.n_right} RBM units; give fewer"
            )
        if (self.prior == "graph") != bool(self.graph):
            raise ConfigError(
                "--graph: requires --prior graph, and --prior graph requires --graph; give both or neither"
            )
        if self.graph:
            graph_edges(self.graph, self.n_left + self.n_right)
        if self.smoothing == "power-function" and self.sharpness <= 1:
            raise ConfigError(f"--sharpness: power-function needs more than 1, not {self.sharpness:g}; raise it")


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """How the model is trained: Section 5 and Appendix H of the paper."""

    epochs: int = option(100, "Passes over the training set.", min=1, max=1_000_000)
    batch_size: int = option(100, "Images per minibatch.", min=2, max=1_000_000)
    learning_rate: float = option(3e-3, "Adam's step size at the first step.", min=1e-8, max=1.0)
    learning_rate_decay: float = option(
        0.05, "Ratio of the last step size to the first; the decay is geometric.", min=1e-6, max=1.0
    )
    n_chains: int = option(200, "Persistent Markov chains on the prior.", min=1, max=10_000_000)
    n_sweeps: int = option(20, "Block Gibbs sweeps of each chain per minibatch.", min=1, max=1_000_000)
    sampler: str = option(
        "gibbs",
        "Sampler of the chains: block Gibbs, or parallel tempering (Section 5).",
        choices=("gibbs", "tempering"),
    )
    n_rungs: int = option(
        8, "Number of inverse temperatures, from 0 to 1, for --sampler tempering.", min=2, max=1000
    )
    warmup_strength: float = option(
        20.0, "The weight of the KL terms starts at 1 divided by this number.", min=1.0, max=1e6
    )
    warmup_epochs: int = option(5, "Epochs over which the KL weight rises linearly to 1.", min=0, max=1_000_000)
    rbm_warmup_strength: float = option(
        2.0, "The weight of the RBM's KL term starts lower by this further factor.", min=1.0, max=1e6
    )
    rbm_warmup_epochs: int = option(
        20, "Epochs over which that further weight rises linearly to 1.", min=0, max=1_000_000
    )
    gradient_clip: float = option(
        10.0, "Largest norm of the gradient; larger gradients are scaled down to it.", min=1e-3, max=1e9
    )
    n_importance: int = option(
        1,
        "Samples per image for the importance-weighted objective; 1 = the evidence lower bound.",
        min=1,
        max=10_000,
    )
    ema_decay: float = option(
        0.0,
        "Decay of a moving average of the weights, which is saved as the model (0 = no average).",
        min=0.0,
        max=0.999999,
    )
    patience: int = option(
        0,
        "Stop training after this number of epochs without a better validation bound, counted after the warm-ups "
        "(0 = never).",
        min=0,
        max=1_000_000,
    )
    trajectory: bool = option(
        True, "Save the prior at intervals in prior-trajectory.npz, for dvae-eval logz --path trajectory."
    )
    amp: bool = option(
        False, "Compute the networks' matrix products in bfloat16; everything else stays in float32."
    )
    compile: bool = option(False, "Compile the bound with torch.compile: a slower start, then faster steps.")
    seed: int = option(
        0, "Random seed of the initial weights, minibatches, noise and chains.", min=0, max=2**63 - 1
    )

    def __post_init__(self) -> None:
        """Validate."""
        validate(self)


@dataclass(frozen=True, slots=True)
class Change:
    """Settings that changed during a training.

    Attributes
    ----------
    from_epoch : int
        The first epoch with the new values, counted from 1.
    settings : dict of str to (value before, value after)
        Keys are names of TrainConfig's fields.  If `learning_rate` is among them, the step size restarts from its
        new value, which may equal the old one; otherwise the step size continues from its last value.
    """

    from_epoch: int
    settings: dict[str, tuple[Any, Any]] = field(hash=False)

    def __str__(self) -> str:
        """Return the change as text: `learning rate 0.003 → 0.001 from epoch 3`."""
        parts = (
            f"{name.removeprefix('n_').replace('_', ' ')} {_short(old)} → {_short(new)}"
            for name, (old, new) in self.settings.items()
        )
        return f"{', '.join(parts)} from epoch {self.from_epoch}"

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Change:
        """Return the change that `data` describes; ConfigError if `data` has another form."""
        try:
            settings = {str(name): (old, new) for name, (old, new) in data["settings"].items()}
            return cls(int(data["from_epoch"]), settings)
        except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
            raise ConfigError(f"invalid change of settings: {error}") from error


def _short(value: Any) -> str:
    """Return the value of a setting as text for a label."""
    return f"{value:g}" if isinstance(value, float) else str(value)


@dataclass(frozen=True, slots=True)
class RunConfig:
    """Everything that is needed to repeat a training run: data set, model and training.

    Attributes
    ----------
    dataset : str
        Name or path of the data set.
    model, train : ModelConfig, TrainConfig
        The present settings.
    changes : tuple of Change
        Changes of the training settings, oldest first; the last one leads to `train`.
    init : str
        SHA-256 of the model file whose weights the run started from; empty for random initial weights.
    """

    dataset: str
    model: ModelConfig = field(default_factory=ModelConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    changes: tuple[Change, ...] = ()
    init: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values; `changes` and `init` only if they are not empty."""
        content: dict[str, Any] = {
            "dataset": self.dataset,
            "model": asdict(self.model),
            "train": asdict(self.train),
        }
        if self.changes:
            content["changes"] = [asdict(change) for change in self.changes]
        return content | ({"init": self.init} if self.init else {})

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> RunConfig:
        """Return the configuration that `data` describes; ConfigError if a field is missing or unknown."""
        try:
            return cls(
                data["dataset"],
                _build(ModelConfig, data["model"]),
                _build(TrainConfig, data["train"]),
                tuple(Change.from_dict(change) for change in data.get("changes", ())),
                str(data.get("init", "")),
            )
        except (AttributeError, KeyError, TypeError) as error:
            raise ConfigError(f"invalid configuration: {error}") from error

    def __post_init__(self) -> None:
        """Raise ConfigError unless the changes, in their order, lead to the present settings."""
        history = self.history()
        for (first, train), (following, _) in pairwise(history):
            if not first <= following <= train.epochs + 1 or (first == following > 1):
                raise ConfigError(f"changes from epochs {first} and {following} cannot follow one another")

    def history(self) -> list[tuple[int, TrainConfig]]:
        """Return the first epoch, counted from 1, and the settings of each stretch; a change begins a stretch."""
        train, found = self.train, []
        for change in reversed(self.changes):
            before, after = ({name: pair[i] for name, pair in change.settings.items()} for i in (0, 1))
            try:
                if dataclasses.replace(train, **after) != train:
                    raise ConfigError(f"the change from epoch {change.from_epoch} leads to other settings")
                found.append((change.from_epoch, train))
                train = dataclasses.replace(train, **before)
            except TypeError as error:
                raise ConfigError(f"invalid change of settings: {error}") from error
        return [(1, train), *reversed(found)]


def _build(cls: type[C], values: dict[str, Any]) -> C:
    """Return a dataclass from JSON values, with lists converted to tuples."""
    return cls(**{key: tuple(value) if isinstance(value, list) else value for key, value in values.items()})
