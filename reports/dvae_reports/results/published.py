"""The numbers that papers print, as data: `published.toml` beside this file, read into values.

A number is kept as the text that the paper prints (`Number.text`), and computed with as a float.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

# The paper's data sets in the order of its Table 1, by this project's names, with the paper's.
DATASETS = {
    "mnist": "MNIST (dynamic binarization)",
    "mnist-static": "MNIST (static binarization)",
    "omniglot": "Omniglot",
    "caltech101": "Caltech-101 Silhouettes",
}


@dataclass(frozen=True, slots=True)
class Number:
    """A number as it was printed, nats."""

    text: str

    @property
    def value(self) -> float:
        """The number to compute with."""
        return float(self.text)

    @property
    def decimals(self) -> int:
        """How many decimals were printed."""
        return len(self.text.partition(".")[2])


@dataclass(frozen=True, slots=True)
class Source:
    """A publication: how it is cited in a table, and where it stands; `arxiv` is its number there, or empty."""

    cite: str
    authors: list[str]
    title: str
    year: int
    journal: str = ""
    booktitle: str = ""
    volume: int | None = None
    number: int | None = None
    pages: str = ""
    arxiv: str = ""

    @property
    def reference(self) -> str:
        """The full reference in one line, without the last full stop."""
        *others, last = self.authors
        authors = f"{', '.join(others)} and {last}" if others else last
        volume = "" if self.volume is None else f" {self.volume}"
        volume += f"({self.number})" if self.number is not None else ""
        pages = f":{self.pages}" if self.pages else ""
        place = f"{self.journal or self.booktitle}{volume}{pages}{',' if volume else ''}".strip()
        where = (
            [f"{place} {self.year}", f"arXiv:{self.arxiv}"] if place else [f"arXiv:{self.arxiv}", str(self.year)]
        )
        return f"{authors}. {self.title}. {', '.join(where if self.arxiv else where[:1])}"


@dataclass(frozen=True, slots=True)
class Published:
    """A published result on one data set.

    Attributes
    ----------
    dataset, model, name : str
        The data set by this project's name; the model as the paper abbreviates it, and in full.
    log_likelihood, elbo : Number or None
        What was reported of the two.
    std_dev, n_runs : Number or None, int
        Standard deviation of the log-likelihood over runs, where it was given.
    source, reported_by : str
        Keys of `bibliography`: who proposed the model, and who gave the number (often the same).
    unverified : str
        Why the number was read in no paper's table; empty if it was.
    read_in : str
        The table of `reported_by` in which a later number was read.
    is_autoregressive : bool
        Whether the pixels depend on one another given the latents, or the model has no latents.
    note : str
        What a reader must know to compare the number.
    without_rbm : Number or None
        By how much the log-likelihood falls without the RBM.
    """

    dataset: str
    model: str
    name: str
    source: str
    reported_by: str
    log_likelihood: Number | None = None
    elbo: Number | None = None
    std_dev: Number | None = None
    without_rbm: Number | None = None
    n_runs: int = 1
    unverified: str = ""
    read_in: str = ""
    is_autoregressive: bool = False
    note: str = ""

    @property
    def cite(self) -> str:
        """Who gave the number."""
        return bibliography()[self.reported_by].cite


@dataclass(frozen=True, slots=True)
class Architecture:
    """A row of Table 2, with the sizes that App. H gives for all data sets alike; names as in `ModelConfig`."""

    dataset: str
    n_layers: int
    n_continuous: int
    prior_hidden: tuple[int, ...]
    sharing: str
    decoder: str
    n_left: int
    n_right: int
    n_groups: int
    encoder_hidden: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Variant:
    """A simplified model of App. J: its short and its full name, the units of its RBM, its log-likelihood."""

    variant: str
    name: str
    n_units: int
    log_likelihood: Number


def table_1() -> list[Published]:
    """Return Table 1 in the paper's order."""
    return [_published(row) for row in _data()["table1"]]


def discrete_vae(dataset: str) -> Number | None:
    """Return the log-likelihood that the paper reached on a data set, None where it has not tried."""
    return next((row.log_likelihood for row in _own_rows() if row.dataset == dataset), None)


def without_rbm(dataset: str) -> Number | None:
    """Return by how much the paper's log-likelihood falls without the RBM, nats; None where it does not say."""
    return next((row.without_rbm for row in _own_rows() if row.dataset == dataset), None)


def later() -> list[Published]:
    """Return results of the same family of models that were published after the paper."""
    return [_published(row) for row in _data()["later"]]


def absent() -> dict[str, list[str]]:
    """Return the later models that have no row, each with its reference in brackets, by the reason."""
    reasons: dict[str, list[str]] = {}
    for row in _data()["absent"]:
        reasons.setdefault(row["reason"], []).append(f"{row['model']} ({row['reference']})")
    return reasons


def architectures() -> list[Architecture]:
    """Return Table 2 in the paper's order."""
    common = _data()["architecture"]
    return [Architecture(**{key: _plain(value) for key, value in {**common, **row}.items()}) for row in _rows(2)]


def ablations() -> list[Variant]:
    """Return the ablations of App. J, on statically binarized MNIST, from the richest model to the poorest."""
    return [Variant(**{**row, "log_likelihood": Number(row["log_likelihood"])}) for row in _data()["ablation"]]


def bibliography() -> dict[str, Source]:
    """Return the publications, by key."""
    return {key: Source(**source) for key, source in _data()["sources"].items()}


def _own_rows() -> list[Published]:
    """Return the paper's own results, one for each data set."""
    return [row for row in table_1() if row.source == "rolfe2017"]


@cache
def _data() -> dict[str, Any]:
    """Return what the file holds."""
    return tomllib.loads(files("dvae_reports.results").joinpath("published.toml").read_text(encoding="utf-8"))


def _rows(table: int) -> list[dict[str, Any]]:
    """Return the rows of a table."""
    rows: list[dict[str, Any]] = _data()[f"table{table}"]
    return rows


def _published(row: dict[str, Any]) -> Published:
    """Return a row of results as a value."""
    numbers = ("log_likelihood", "elbo", "std_dev", "without_rbm")
    values = {key: Number(value) if key in numbers else value for key, value in row.items()}
    return Published(**{"reported_by": row["source"], **values})


def _plain(value: Any) -> Any:
    """Return lists as tuples."""
    return tuple(value) if isinstance(value, list) else value
