"""Cards: what repr and notebooks show of results, samples, machines and models."""

import dataclasses
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch

from dvae_core.cards import COLOURS, Card
from dvae_core.config import ModelConfig, RunConfig
from dvae_core.model.dvae import DVAE
from dvae_core.training.checkpoint import TrainedModel
from dvae_eval import (
    BipartiteMachine,
    compare_samples,
    estimate_log_z,
    estimate_observables,
    load_result,
    machine_from_couplings,
    machine_from_spins,
    read_machine,
    sample_states,
)
from dvae_eval.readers.write import write_machine
from dvae_eval.results import GradientResult, LikelihoodResult, LogZResult
from dvae_eval.trajectory import Trajectory

RBM = (np.linspace(-0.5, 0.5, 12).reshape(4, 3), np.zeros(4), np.ones(3))
HOSTILE = "<script>alert(1)</script>\x1b[31m & \n\"'"
FRAME = {
    "settings": {},
    "seed": 0,
    "trustworthy": True,
    "reasons": [],
    "versions": {},
    "wall_seconds": 1.0,
    "model": {"file": "m.pt", "n_left": 4, "n_right": 3},
}


def likelihood():
    return LikelihoodResult(
        log_likelihood=-81.23, std_err_images=0.6, std_err_log_z=0.01, elbo=-84.0, elbo_parts={}, n_samples=10_000,
        n_images=500, log_z=12.0, log_z_source="logz.json", per_image={}, gap=0.2, diagnostics={}, **FRAME,
    )  # fmt: skip


def gradients():
    terms = {"elbo": {"variance": 2.0}}
    return GradientResult(
        estimators={"a": {"terms": terms}, "b": {"terms": terms}}, reference={"method": "exact"}, n_samples=100,
        n_images=10, n_units=7, diagnostics={}, **FRAME,
    )  # fmt: skip


def shown():
    """Something of everything that has a card."""
    states = sample_states(RBM, 50)
    J = np.triu(np.ones((4, 4)), 1)
    return [
        estimate_log_z(RBM),
        estimate_log_z(RBM, method="pt-bar", n_sweeps=100),
        estimate_observables(RBM, betas=(0.5, 1)),
        compare_samples(RBM, states.states, n_sweeps=100),
        likelihood(),
        gradients(),
        states,
        sample_states(RBM, 50, method="pt-bar", n_sweeps=100, best=True),
        machine_from_couplings(J, np.ones(4)),
        machine_from_spins(np.diag(np.ones(3), 1))[0],
        DVAE(ModelConfig(), 784),
    ]


@pytest.fixture(scope="module")
def everything():
    return shown()


def test_repr_is_a_few_lines_and_begins_with_the_class(everything):
    for value in everything:
        lines = repr(value).splitlines()
        assert lines[0].startswith(f"{type(value).__name__}: ")
        assert 2 < len(lines) <= 20
        assert max(map(len, lines)) <= 80, repr(value)


def test_cards_of_results_have_number_verdict_and_machine(everything):
    for value in everything[:8]:
        text = repr(value)
        assert re.search(r"\n  verdict +\w", text)
        assert re.search(r"\n  machine +RBM of 4 \+ 3 units", text)
        assert "\n" not in str(value)
    assert "LogZResult: log Z = " in repr(everything[1])
    assert "± " in repr(everything[1]).splitlines()[0]


def test_results_are_dataclasses_as_before(everything):
    result = everything[1]
    again = dataclasses.replace(result, seed=5)
    assert again != result
    assert dataclasses.replace(again, seed=result.seed) == result
    assert not hasattr(result, "__dict__")


def test_a_failed_check_says_what_to_do(everything):
    result = everything[1]
    check = {"name": "x <b>", "value": 2.0, "threshold": 1.0, "passed": False, "remedy": "use more --sweeps"}
    checks = [check, {**check, "name": "y", "severity": "warning", "remedy": "relax", "side": "at most"}]
    bad = dataclasses.replace(result, trustworthy=False, diagnostics={"checks": checks})
    assert re.search(r"verdict +may be wrong; do not use it[^\n]*\n  failed +x <b>: 2 \(limit", repr(bad))
    assert re.search(r"\n  next +use more --sweeps; relax\n", repr(bad))
    assert COLOURS["bad"] in bad._repr_html_()
    assert "<b>" not in bad._repr_html_()
    loose = dataclasses.replace(result, diagnostics={"checks": checks[1:]})
    assert re.search(r"verdict +loose.*\n  warning +y: 2", repr(loose))
    assert COLOURS["open"] in loose._repr_html_()
    assert COLOURS["good"] in everything[0]._repr_html_()


class Tags(HTMLParser):
    """The tags of a text, and that all of them are closed."""

    def __init__(self):
        super().__init__()
        self.open, self.seen = [], set()

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)
        self.seen.add(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_html_is_one_table_whatever_a_file_is_called(everything):
    hostile = [
        dataclasses.replace(everything[1], model={"file": HOSTILE}),
        dataclasses.replace(everything[6], model={"file": HOSTILE}),
        Card(HOSTILE, HOSTILE, ((HOSTILE, HOSTILE),), HOSTILE, "bad"),
    ]
    for value in [*everything, *hostile]:
        text = value.html() if isinstance(value, Card) else value._repr_html_()
        tags = Tags()
        tags.feed(text)
        assert not tags.open
        assert tags.seen <= {"table", "tr", "th", "td", "span"}
        assert "<script" not in text
        assert "\x1b" not in text
        assert "\x1b" not in (value.text() if isinstance(value, Card) else repr(value))


def luminance(colour):
    parts = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    return float(linear @ (0.2126, 0.7152, 0.0722))


def test_the_verdict_can_be_read_in_both_themes():
    for colour in COLOURS.values():  # white letters on their own ground, so that the page's does not matter
        assert 1.05 / (luminance(colour) + 0.05) >= 4.5


def test_a_long_text_is_cut():
    lines = Card("K", "x", (("name", "word " * 500), ("other", "y" * 500))).text().splitlines()
    assert len(lines) == 1 + 3 + 3
    assert lines[3].endswith(" ...")
    assert max(map(len, lines)) <= 80


def test_numbers_that_are_not_finite_and_files_do_no_harm(tmp_path, everything):
    path = tmp_path / "logz.json"
    broken = dataclasses.replace(everything[1], log_z=float("nan"), std_err=float("inf"), ci95=[float("nan")] * 2)
    broken.save(str(path))  # a text is a path, too
    loaded = load_result(path)
    assert isinstance(loaded, LogZResult)
    assert repr(loaded).startswith("LogZResult: log Z = not finite")


def test_what_was_read_says_how(tmp_path):
    path = tmp_path / "rbm.npz"
    write_machine(path, machine_from_couplings(np.triu(np.ones((3, 3)), 1), np.zeros(3)), 1.5)
    text = repr(read_machine(path))
    assert text.startswith("Reading: Boltzmann machine of 3 units")
    assert re.search(r"\n  file +.*rbm\.npz", text.replace("\n" + " " * 13, ""))
    assert "1.5 nats" in text


def test_a_training_and_a_trained_model_have_cards():
    machine = BipartiteMachine.from_arrays(*RBM)
    assert repr(Trajectory.of([machine, machine], [10, 20])).splitlines()[:3] == [
        "Trajectory: 2 machines of one training",
        "  steps      10 ... 20",
        "  last       RBM of 4 + 3 units over {0,1}",
    ]
    config = RunConfig("digits")
    trained = TrainedModel(DVAE(config.model, 64), config, (8, 8), {}, Path("runs/a/model.pt"), "")
    lines = repr(trained).splitlines()
    assert lines[0] == "TrainedModel: discrete VAE, rbm prior of 64 units (32 + 32)"
    assert [line.split()[0] for line in lines[1:4]] == ["file", "data", "pixels"]


def test_print_of_a_model_is_torch_s(everything):
    model = everything[-1]
    assert isinstance(model, torch.nn.Module)
    assert "(prior): RBM()" in str(model)
    assert repr(model).startswith("DVAE: discrete VAE, rbm prior of 64 units (32 + 32)\n")
