"""The discrete VAE of the examples: it runs, learns, is exact where it says so, and stays small."""

import re
import runpy

import pytest
import torch

from dvae_eval.log_z.estimate_log_z import estimate_log_z
from tests.lines_of_code import lines_of_code
from tests.places import ROOT

EXAMPLE = ROOT / "examples" / "discrete_vae.py"
INDEPENDENT_PIXELS = -11.090  # log p(x) of 16 independent pixels, nats per image: 16 log 1/2
ENTROPY = 3.379  # of the images, nats: no model exceeds minus this


@pytest.fixture
def example():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield runpy.run_path(str(EXAMPLE))


def four_pixels():
    """All images of 2 x 2 pixels."""
    return ((torch.arange(16)[:, None] >> torch.arange(4)) & 1).float()


def end_of(example, capsys):
    """Run the example for a tenth of its steps; return its bounds, log p(x), the best and the baseline."""
    example["main"].__globals__["N_STEPS"] = 300
    example["main"]()
    text = capsys.readouterr().out
    ends = (re.search(rf"{word}.*? (-\d+\.\d+)", text)[1] for word in ("log p", "best", "independent"))
    return [float(bound) for bound in re.findall(r"bound +(-\d+\.\d+)", text)], *map(float, ends)


def test_it_learns_far_more_than_the_pixels_by_themselves(example, capsys):
    bounds, log_p, best, independent = end_of(example, capsys)
    assert len(bounds) == 11
    assert bounds[-1] > INDEPENDENT_PIXELS + 4
    assert bounds[-1] > bounds[0] + 4
    assert bounds[-1] < log_p < -ENTROPY
    assert (best, independent) == (pytest.approx(-ENTROPY, abs=1e-3), pytest.approx(INDEPENDENT_PIXELS, abs=1e-3))


def test_a_negative_phase_that_stands_still_learns_less(example, capsys):
    """The bound of the test above tells a broken training: chains that never move."""
    build = example["build"]

    def with_frozen_chains(images):
        model = build(images)
        model.prior.gibbs = lambda z, *_: z
        return model

    example["main"].__globals__["build"] = with_frozen_chains
    bounds, *_ = end_of(example, capsys)
    print(bounds)
    assert bounds[-1] < INDEPENDENT_PIXELS + 4


def test_its_exact_values_are_exact(example):
    model = example["build"](four_pixels()).eval()
    model.prior.W.data.normal_()
    log_z, log_p = example["log_z_and_log_p"](model, four_pixels())
    prior = [part.detach().numpy() for part in (model.prior.W, model.prior.b_left, model.prior.b_right)]
    assert float(log_z) == pytest.approx(estimate_log_z(prior, method="exact").log_z, abs=1e-4)
    assert float(log_p.exp().sum()) == pytest.approx(1, abs=1e-4)


def test_it_has_at_most_sixty_lines_of_code():
    assert lines_of_code(EXAMPLE) <= 60
