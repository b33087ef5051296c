"""Published numbers as data, compared with a second transcription of the papers' tables."""

import re
from decimal import Decimal

import pytest

from dvae_core.training.presets import PRESETS
from dvae_reports.results import published
from dvae_reports.tables.paper import paper_table

# Table 1 as it stands in the paper, read a second time: (data set, model, ELBO, LL).
TABLE_1 = """
mnist          | DBN                          |        | -84.55
mnist          | IWAE                         |        | -82.90
mnist          | Ladder VAE                   |        | -81.74
mnist          | Discrete VAE                 |        | -80.15
mnist-static   | HVI                          | -88.30 | -85.51
mnist-static   | DRAW                         | -87.40 |
mnist-static   | NAIS NADE                    |        | -83.67
mnist-static   | Normalizing flows            | -85.10 |
mnist-static   | Variational Gaussian process |        | -81.32
mnist-static   | Discrete VAE                 | -84.58 | -81.01
omniglot       | IWAE                         |        | -103.38
omniglot       | Ladder VAE                   |        | -102.11
omniglot       | RBM                          |        | -100.46
omniglot       | DBN                          |        | -100.45
omniglot       | Discrete VAE                 |        | -97.43
caltech101     | IWAE                         |        | -117.2
caltech101     | RWS SBN                      |        | -113.3
caltech101     | RBM                          |        | -107.8
caltech101     | NAIS NADE                    |        | -100.0
caltech101     | Discrete VAE                 |        | -97.6
"""

# Tables 1 to 4 of Chen et al. (2017), read a second time, as printed: negative log-likelihoods, "<" for a bound.
CHEN = """
Table 2 | mnist        | VLAE                     | 78.53   | autoregressive
Table 2 | mnist        | IAF VAE                  | 79.10   |
Table 2 | mnist        | DRAW + VGP               | < 79.88 |
Table 2 | mnist        | Convolutional VAE + HVI  | 81.94   |
Table 2 | mnist        | PixelCNN                 | 87.55   | autoregressive
Table 1 | mnist-static | VLAE                     | 79.03   | autoregressive
Table 1 | mnist-static | PixelRNN                 | 79.20   | autoregressive
Table 1 | mnist-static | AF VAE                   | 79.30   |
Table 1 | mnist-static | IAF VAE                  | 79.88   |
Table 1 | mnist-static | DRAW (as in Chen et al.) | < 80.97 |
Table 3 | omniglot     | VLAE                     | 90.98   | autoregressive
Table 3 | omniglot     | VLAE (fine-tuned)        | 89.83   | autoregressive
Table 3 | omniglot     | Conv DRAW                | < 91.00 |
Table 3 | omniglot     | DRAW                     | < 96.50 |
Table 3 | omniglot     | PixelCNN                 | 95.02   | autoregressive
Table 4 | caltech101   | VLAE                     | 77.36   | autoregressive
Table 4 | caltech101   | SpARN                    | 88.48   | autoregressive
Table 4 | caltech101   | PixelCNN                 | 89.26   | autoregressive
"""


def text(number):
    return number.text if number else ""


def test_table_1_is_the_papers():
    rows = [tuple(cell.strip() for cell in line.split("|")) for line in TABLE_1.strip().splitlines()]
    assert [(r.dataset, r.model, text(r.elbo), text(r.log_likelihood)) for r in published.table_1()] == rows


def test_the_discrete_vae_is_the_best_of_every_data_set_as_the_paper_prints_it_in_bold():
    for dataset in published.DATASETS:
        rows = [r for r in published.table_1() if r.dataset == dataset and r.log_likelihood]
        assert max(rows, key=lambda r: r.log_likelihood.value).model == "Discrete VAE"


def test_the_paragraph_before_table_1():
    own = [r for r in published.table_1() if r.model == "Discrete VAE"]
    assert [r.dataset for r in own] == list(published.DATASETS)
    assert [r.std_dev.text for r in own] == ["0.08", "0.04", "0.05", "0.11"]
    assert [r.without_rbm.text for r in own] == ["0.09", "0.37", "0.69", "0.66"]
    assert {r.n_runs for r in own} == {16}


def test_table_2_is_the_papers_and_the_presets():
    """The presets of the paper's models were typed from the same table by other hands."""
    rows = published.architectures()
    assert [(r.n_layers, r.n_continuous, r.prior_hidden, r.sharing) for r in rows] == [
        (18, 64, (1000,), "none"),
        (20, 256, (2000,), "2 groups"),
        (16, 256, (800,), "2 groups"),
        (12, 80, (100,), "complete"),
    ]
    for row in rows:
        model = PRESETS[f"paper-{row.dataset}"].model
        shared = {0: "none", 1: "complete"}.get(model.n_sharing_groups, f"{model.n_sharing_groups} groups")
        assert shared == row.sharing
        for name in (
            "n_layers",
            "n_continuous",
            "prior_hidden",
            "n_left",
            "n_right",
            "n_groups",
            "encoder_hidden",
        ):
            assert getattr(model, name) == getattr(row, name)


def test_the_ladder_of_appendix_j_is_the_papers_and_the_presets():
    variants = published.ablations()
    assert [(r.variant, r.n_units, r.log_likelihood.text) for r in variants] == [
        ("deep", 128, "-86.9"),
        ("deep", 200, "-85.2"),
        ("linear", 128, "-92.7"),
        ("linear", 200, "-88.8"),
        ("sbn", 200, "-97.0"),
        ("flat", 200, "-102.9"),
    ]
    for variant in variants:
        preset = PRESETS[f"ablation-{variant.variant}-{variant.n_units}"]
        assert preset.dataset == "mnist-static"
        assert variant.log_likelihood.text in preset.summary


@pytest.mark.parametrize("row", [*published.table_1(), *published.later()], ids=lambda r: f"{r.dataset} {r.model}")
def test_every_number_has_a_source_and_a_plausible_value(row):
    sources = published.bibliography()
    assert {row.source, row.reported_by} <= set(sources)
    assert row.dataset in published.DATASETS
    for number in filter(None, (row.log_likelihood, row.elbo)):
        assert re.fullmatch(r"-\d{2,3}\.\d{1,2}", number.text)
        assert -120 < number.value < -70
        assert Decimal(number.text) == Decimal(str(number.value))
    if row.elbo and row.log_likelihood:
        assert row.elbo.value < row.log_likelihood.value


def test_later_rows_and_their_data_sets_are_those_of_the_source():
    """Static and dynamic binarization are different tables there; what has "<" is a bound."""

    def printed(row):
        bound = f"< {row.elbo.text[1:]}" if row.elbo else row.log_likelihood.text[1:]
        return row.read_in, row.dataset, row.model, bound, "autoregressive" * row.is_autoregressive

    rows = [tuple(cell.strip() for cell in line.split("|")) for line in CHEN.strip().splitlines()]
    assert [printed(row) for row in published.later() if row.reported_by == "chen2017"] == rows
    assert {row.reported_by for row in published.later()} == {"chen2017", "vahdat2018"}


def test_numbers_that_two_sources_print_differently_are_explained():
    table = paper_table([], with_later=True)
    assert any("-80.04" in note and "-80.15" in note for note in table.notes)
    rows = [row[0].text for section in table.sections for row in section.rows if row[0].text.startswith("DRAW")]
    assert rows == ["DRAW + VGP", "DRAW", "DRAW (as in Chen et al.)", "DRAW"]
    assert any(note.startswith("DRAW (as in Chen et al.)") and "-87.40" in note for note in table.notes)


def test_a_heading_that_contradicts_its_source_is_no_number():
    assert any("SeRe-VAE" in note and "contradicts" in note for note in paper_table([], with_later=True).notes)
    assert not [row for row in published.later() if row.log_likelihood and row.log_likelihood.text == "-79.50"]


def test_autoregressive_models_are_marked_and_the_mark_explained():
    table = paper_table([], with_later=True)
    marked = {row[0].text for section in table.sections for row in section.rows if "‖" in row[0].mark}
    assert marked == {"VLAE", "VLAE (fine-tuned)", "PixelRNN", "PixelCNN", "SpARN"}
    (note,) = [note for note in table.notes if note.startswith("‖")]
    assert all(name in note for name in marked)
    assert not [note for note in paper_table([]).notes if note.startswith("‖")]


def test_every_source_is_used_and_every_later_number_that_was_not_read_says_so():
    used = {key for row in [*published.table_1(), *published.later()] for key in (row.source, row.reported_by)}
    assert used == set(published.bibliography())
    assert all(bool(row.unverified) != bool(row.read_in) for row in published.later())
    assert not any(row.unverified for row in published.table_1())
