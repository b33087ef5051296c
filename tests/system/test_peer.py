"""The peer's model in reproduce/peer is measured rightly: against every spin and every image there is."""

import json
import sys
from itertools import product

import numpy as np
import pytest
import torch

from dvae_core.errors import DataError
from dvae_eval.config import LikelihoodConfig
from dvae_eval.likelihood.estimate_log_likelihood import estimate_log_likelihood
from dvae_eval.likelihood.protocol import LatentVariableModel
from dvae_eval.log_z.estimate_log_z import estimate_log_z
from dvae_eval.readers import ReadConfig, read_machine
from tests.places import ROOT

PEER = ROOT / "reproduce" / "peer"
N_LEFT, N_RIGHT, N_PIXELS = 4, 4, 5
EDGES = list(product(range(N_LEFT), range(N_LEFT, N_LEFT + N_RIGHT)))


@pytest.fixture
def peer(monkeypatch):
    """The scripts' common module; nothing of it stays imported."""
    monkeypatch.syspath_prepend(str(PEER))
    import peer_model

    yield peer_model
    for name in ("peer_model", "train_peer", "evaluate_peer"):
        sys.modules.pop(name, None)


def make(peer, scale=0.5):
    """A random model with batch statistics of its own, and an edge that is written the other way round."""
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(1)
        i, j = torch.tensor(EDGES).T
        i[3], j[3] = j[3].item(), i[3].item()
        prior = {
            "_linear": scale * torch.randn(N_LEFT + N_RIGHT),
            "_quadratic": scale * torch.randn(len(EDGES)),
            "_edge_idx_i": i,
            "_edge_idx_j": j,
        }
        encoder = peer.encoder([N_PIXELS, 6, N_LEFT + N_RIGHT], 2.8)
        encoder[-2].weight *= 3  # a posterior that is far from uniform
        model = peer.PeerModel(encoder, peer.Decoder([N_LEFT + N_RIGHT, 7, N_PIXELS]), prior)
        for _ in range(20):  # so that running statistics are not those of the start
            model.encoder(torch.randint(2, (50, N_PIXELS)).float())
            model.decoder(2.0 * torch.randint(2, (50, 2, N_LEFT + N_RIGHT)) - 1)
    return model.eval().requires_grad_(False)


def spins():
    return torch.tensor(list(product((-1.0, 1.0), repeat=N_LEFT + N_RIGHT)))


def all_images():
    return np.array(list(product((0, 1), repeat=N_PIXELS)), np.uint8)


def log_joints(model):
    """log p(x, s) + log Z of all images and all spins, shape (32, 256)."""
    return torch.stack([model.log_joint(torch.from_numpy(x), spins()) for x in all_images()])


@pytest.fixture
def saved(peer, tmp_path):
    path = tmp_path / "peer.pt"
    peer.save_peer(path, make(peer))
    return path


def test_a_file_gives_the_same_model(peer, saved):
    model, again = make(peer), peer.load_peer(saved)
    assert isinstance(again, LatentVariableModel)
    assert torch.equal(log_joints(model), log_joints(again))
    assert {p.name for p in saved.parent.iterdir()} == {"peer.pt"}


def test_another_file_is_refused(peer, tmp_path):
    path = tmp_path / "other.pt"
    torch.save({"grbm._linear": torch.zeros(3)}, path)
    with pytest.raises(DataError, match="no model of train_peer"):
        peer.load_peer(path)


def test_probabilities_of_all_images_sum_to_one(peer, saved):
    """log Z is what dvae-eval says of the file, in the file's convention: exact, so 1 to rounding."""
    reading = read_machine(saved, ReadConfig())
    log_z = estimate_log_z(reading.machine, constant=reading.constant).log_z
    total = float(torch.logsumexp(log_joints(peer.load_peer(saved)).flatten(), 0))
    assert abs(total - log_z) < 1e-5
    # The log Z of {0,1} units is another one: to forget the constant would be seen.
    assert abs(estimate_log_z(reading.machine).log_z - log_z) > 1


def likelihood(model, reading, images):
    log_z = estimate_log_z(reading.machine, constant=reading.constant)
    return estimate_log_likelihood(model, images, log_z, LikelihoodConfig(n_samples=2000), prior=reading.machine)


def errors(result, exact):
    """(estimate - exact) / standard error for every image."""
    return (np.array(result.per_image["log_likelihood"]) - exact) * np.sqrt(result.per_image["ess"])


def test_the_estimate_is_the_exact_likelihood(peer, saved):
    """|z| < 4.5 for each of 32 images: false alarm 2e-4.  A wrong density of the draws must be seen."""
    model, reading = peer.load_peer(saved), read_machine(saved, ReadConfig())
    log_z = estimate_log_z(reading.machine, constant=reading.constant).log_z
    exact = torch.logsumexp(log_joints(model), 1).numpy() - log_z
    result = likelihood(model, reading, all_images())
    assert np.abs(errors(result, exact)).max() < 4.5
    assert result.trustworthy

    class Tempered(peer.PeerModel):
        def sample_latents(self, x, n_samples, generator):
            spins, log_q = super().sample_latents(x, n_samples, generator)
            return spins, 0.9 * log_q

    wrong = Tempered(model.encoder, model.decoder, dict(model.grbm.named_buffers()))
    assert np.abs(errors(likelihood(wrong, reading, all_images()), exact)).max() > 10


@pytest.mark.slow
def test_the_plugin_agrees(peer, tmp_path, monkeypatch):
    """Energies, logits and draws are the plugin's own, after a second of training by each recipe."""
    pytest.importorskip("dwave.plugins.torch", reason="dwave-pytorch-plugin is not installed")
    import train_peer

    for recipe in train_peer.RECIPES:
        made = []
        monkeypatch.setattr(train_peer.PeerTrainer, "model", _noting(train_peer.PeerTrainer.model, made))
        path, report = tmp_path / f"{recipe}.pt", tmp_path / f"{recipe}.json"
        argv = f"train_peer.py bars-and-stripes-3x3 --out {path} --minutes 0.02 --left 4 --right 4 --hidden 8"
        monkeypatch.setattr(sys, "argv", [*argv.split(), "--recipe", recipe, "--report", str(report)])
        with torch.random.fork_rng():
            train_peer.main()
        trainer, model = made[0], peer.load_peer(path)
        assert json.loads(report.read_text())["n_steps"] > 3
        with torch.no_grad():
            energies = trainer.grbm(spins()).double()
            assert torch.allclose(model.grbm(spins()), energies, atol=1e-5)
            x = torch.randint(2, (7, 9), generator=torch.Generator().manual_seed(0))
            logits, draws, decoded = trainer.dvae.eval()(x.float(), 4000)
            assert torch.allclose(model.encoder(x.float()), logits)
            # 56 means of 4000 spins; |z| < 5: false alarm 3e-5
            mean = 2 * logits.sigmoid() - 1
            z = (draws.mean(1) - mean) / ((1 - mean**2) / 4000).sqrt()
            assert z.abs().max() < 5
            assert torch.allclose(model.decoder(draws), decoded)


def _noting(method, made):
    def wrapped(self):
        made.append(self)
        return method(self)

    return wrapped
