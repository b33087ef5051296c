"""Published numbers as data, read from `published.toml` in this directory.

A number keeps the text that the paper prints (`Number.text`); `Number.value` is a float.
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
    """A printed number, nats."""

    text: str

    @property
    def value(self) -> float:
        """The number as a float."""
        return float(self.text)

    @property
    def decimals(self) -> int:
        """Number of printed decimals."""
        return len(self.text.partition(".")[2])


@dataclass(frozen=True, slots=True)
class Source:
    """A publication: its citation in tables and its reference; `arxiv` is its number there, or empty."""

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
        """The full reference in one line, without a full stop at the end."""
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
        The data set by its name here; the model as the paper abbreviates it, and in full.
    log_likelihood, elbo : Number or None
        The reported ones.
    std_dev, n_runs : Number or None, int
        Standard deviation of the log-likelihood over runs, if reported, and the number of runs.
    source, reported_by : str
        Keys of `bibliography`: the publications that proposed the model and that report the number.
    unverified : str
        Why the number was read in no paper's table; empty if it was.
    read_in : str
        The table of `reported_by` in which a later number was read.
    is_autoregressive : bool
        Whether the pixels depend on one another given the latents, or the model has no latents.
    note : str
        What a reader must know to compare the number.
    without_rbm : Number or None
        Decrease of the log-likelihood without the RBM.
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
        """The citation of the publication that reports the number."""
        return bibliography()[self.reported_by].cite


@dataclass(frozen=True, slots=True)
class Architecture:
    """A row of Table 2, with the sizes that App. H gives for all data sets; names as in `ModelConfig`."""

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
    """A variant of App. J: short and full name, units of its RBM, log-likelihood."""

    variant: str
    name: str
    n_units: int
    log_likelihood: Number


def table_1() -> list[Published]:
    """Return Table 1 in the paper's order."""
    return [_published(row) for row in _data()["table1"]]


def discrete_vae(dataset: str) -> Number | None:
    """Return the log-likelihood of the paper on a data set; None for other data sets."""
    return next((row.log_likelihood for row in _own_rows() if row.dataset == dataset), None)


def without_rbm(dataset: str) -> Number | None:
    """Return the decrease of the paper's log-likelihood without the RBM, nats; None if it gives none."""
    return next((row.without_rbm for row in _own_rows() if row.dataset == dataset), None)


def later() -> list[Published]:
    """Return results that were published after the paper."""
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
    """Return the ablations of App. J, on statically binarized MNIST, from the fullest model to the simplest."""
    return [Variant(**{**row, "log_likelihood": Number(row["log_likelihood"])}) for row in _data()["ablation"]]


def bibliography() -> dict[str, Source]:
    """Return the publications, by key."""
    return {key: Source(**source) for key, source in _data()["sources"].items()}


def _own_rows() -> list[Published]:
    """Return the paper's own results, one per data set."""
    return [row for row in table_1() if row.source == "rolfe2017"]


@cache
def _data() -> dict[str, Any]:
    """Return the content of the file."""
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
