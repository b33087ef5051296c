"""Options of training: averaged weights, importance weights, early stopping, precision, several processes."""

import math
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from torch.nn.functional import logsigmoid

from dvae_cli.train import main as dvae_train
from dvae_core.config import TrainConfig
from dvae_core.errors import ConfigError, NumericalError
from dvae_core.training.average import WeightAverage
from dvae_core.training.checkpoint import load_model
from dvae_core.training.objective import Objective
from dvae_core.training.trainer import Interrupted, Trainer
from tests.commands import status_of
from tests.core.training.test_train import Silent, read_metrics, resume, small, start
from tests.oracles import energy, exact_bound, grid, log_p_x_given, tiny_model
from tests.places import PACKAGE_ROOTS

X = torch.tensor([1.0, 0.0, 1.0], dtype=torch.float64)


def exact_two_sample_bound(model):
    """Return E[log (w_1 + w_2)/2] less log Z by quadrature over both draws: differentiable in θ."""
    g = grid(model)
    log_q = torch.zeros(len(g.z), dtype=torch.float64)
    for j, network in enumerate(model.posterior.networks):
        logits = network(X.expand(len(g.z), -1), g.zeta[:, :j])
        z = g.z[:, j : j + 1]
        log_q = log_q + (z * logsigmoid(logits) + (1 - z) * logsigmoid(-logits)).sum(-1)
    log_w = log_p_x_given(model, X, g.zeta, []) - energy(model, g.z) - log_q
    p = log_q.exp() * g.r
    pairs = torch.logaddexp(log_w[:, None], log_w[None]) - np.log(2)
    return (p[:, None] * p[None] * pairs).sum()


def test_the_importance_weighted_gradient_of_theta_is_exact():
    """θ's gradient of L_2 against quadrature over pairs of draws.

    40 blocks; the largest |z| of about 20 numbers is under 5.3 but for 1e-4 of seeds (Student's t).
    """
    model = tiny_model(n_left=1, n_right=1, n_groups=2, seed=3, scale=0.7)
    objective = Objective(model, n_importance=2)
    exact = torch.autograd.grad(-exact_two_sample_bound(model), objective.theta)
    exact = torch.cat([part.flatten() for part in exact])
    generator, n, rows = torch.Generator().manual_seed(0), 4000, []
    for _ in range(40):
        model.zero_grad(set_to_none=True)
        rho, eps = (noise.double() for noise in objective.noise(n, generator))
        objective.backward(X.expand(n, -1), (rho, eps), torch.zeros((), requires_grad=True), (1.0, 1.0), n)
        rows.append(torch.cat([p.grad.flatten() for p in objective.theta]))
    rows = torch.stack(rows)
    z = (rows.mean(0) - exact) / (rows.std(0) / 40**0.5).clamp_min(1e-12)
    assert float(z.abs().max()) < 5.3
    # The gradient of the ELBO would not do: the test tells the two apart.
    elbo = torch.autograd.grad(-exact_bound(model, X), objective.theta)
    other = (rows.mean(0) - torch.cat([part.flatten() for part in elbo])) / (rows.std(0) / 40**0.5)
    assert float(other.abs().max()) > 20


def test_one_sample_is_the_evidence_lower_bound():
    model = tiny_model(seed=1)
    generator = torch.Generator().manual_seed(0)
    rho, eps = (noise.double() for noise in Objective(model).noise(50, generator))
    zero = torch.zeros((), requires_grad=True)
    Objective(model).backward(X.expand(50, -1), (rho, eps), zero, (1.0, 1.0), 50)
    ours = [p.grad.clone() for p in model.parameters()]
    model.zero_grad(set_to_none=True)
    (-model.bound(X.expand(50, -1), rho, eps).elbo(0.0).mean()).backward()
    for a, b in zip(ours, model.parameters(), strict=True):
        assert torch.allclose(a, b.grad, atol=1e-12)


def test_the_average_follows_the_weights_and_is_what_is_kept(tmp_path):
    source = tiny_model(seed=0)
    average = WeightAverage(source, decay=0.99)
    expected = [p.detach().clone() for p in source.parameters()]
    for step in range(300):
        with torch.no_grad():
            for p in source.parameters():
                p.add_(0.01)
        average.update(step)
        weight = max(0.01, 9 / (step + 10))
        expected = [e + weight * (p.detach() - e) for e, p in zip(expected, source.parameters(), strict=True)]
    for e, p in zip(expected, average.model.parameters(), strict=True):
        assert torch.allclose(e, p, atol=1e-10)
    trainer = start(tmp_path / "run", small(epochs=2, ema_decay=0.9))
    trainer.train(Silent())
    kept = load_model(tmp_path / "run" / "model.pt").model.prior.W
    assert torch.equal(kept, trainer.best["state_dict"]["prior.W"])
    assert not torch.equal(trainer.average.model.prior.W, trainer.model.prior.W)


@pytest.mark.parametrize("name", ["learning_rate", "ema_decay", "warmup_strength"])
def test_a_setting_that_is_no_number_is_refused(name):
    with pytest.raises(ConfigError, match=f"--{name.replace('_', '-')}: nan is not allowed"):
        TrainConfig(**{name: math.nan})


@pytest.mark.parametrize("settings", [{"ema_decay": 0.9}, {"n_importance": 3}, {"amp": True}, {"patience": 1}])
def test_every_option_resumes_bit_for_bit(tmp_path, settings):
    config = small(epochs=3, warmup_epochs=0, rbm_warmup_epochs=0, **settings)
    start(tmp_path / "a", config).train(Silent())
    stopped = start(tmp_path / "b", config)
    with pytest.raises(Interrupted):
        stopped.train(Silent(stopped, 13))
    resume(tmp_path / "b").train(Silent())
    for name in ("model.pt", "checkpoint.pt"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_training_stops_when_the_validation_bound_no_longer_rises(tmp_path, monkeypatch):
    trainer = start(tmp_path / "run", small(epochs=50, patience=3, warmup_epochs=1, rbm_warmup_epochs=2))
    bounds = iter([-9.0, -8.0, -7.0, -7.5, -7.2, -7.1, -1.0])

    def validation(self):
        return torch.tensor([next(bounds), 0.0, 0.0, 1.0], dtype=torch.float64)

    monkeypatch.setattr(Trainer, "_validation_sums", validation)
    monkeypatch.setattr("dvae_core.training.trainer.annealed_log_z", lambda *_: 0.0)
    trainer.train(Silent())
    assert trainer.epoch == 6
    assert trainer.best["epoch"] == 3
    again = resume(tmp_path / "run")
    assert again.stopped_early
    again.train(Silent())
    assert again.epoch == 6


def test_mixed_precision_changes_little(tmp_path):
    """bfloat16 has 8 bits: after two epochs the bound is within 2%, and not the same."""
    bounds = []
    for name, amp in (("a", False), ("b", True)):
        start(tmp_path / name, small(epochs=2, amp=amp)).train(Silent())
        bounds.append(read_metrics(tmp_path / name)[-1]["train"]["elbo"])
    assert bounds[0] != bounds[1]
    assert abs(bounds[1] / bounds[0] - 1) < 0.02


def test_mixed_precision_is_of_networks_in_training_alone(tmp_path):
    trainer = start(tmp_path / "run", small(amp=True))
    linear = trainer.model.decoder.linears[0]
    x, rho, eps = torch.ones(6, 16), torch.rand(6, 8), torch.randn(6, 2)
    for training in (True, False):
        bound = trainer.model.train(training).bound(x, rho, eps)
        for part in (bound.reconstruction, bound.kl_rbm, *bound.kl_continuous):
            assert part.dtype == torch.float32
    mixed = trainer.model.train().decoder(torch.ones(3, linear.in_features))
    plain = trainer.model.eval().decoder(torch.ones(3, linear.in_features))
    assert mixed.dtype == plain.dtype == torch.float32
    assert torch.equal(mixed, mixed.bfloat16().float())
    assert not torch.equal(plain, plain.bfloat16().float())
    for statistic in trainer.model.buffers():
        assert statistic.dtype in (torch.float32, torch.int64, torch.bool)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # torch's compiler warns about torch
def test_compiled_training_agrees(tmp_path):
    bounds = []
    for name, compile in (("a", False), ("b", True)):
        start(tmp_path / name, small(epochs=2, compile=compile)).train(Silent())
        bounds.append(read_metrics(tmp_path / name)[-1]["train"]["elbo"])
    assert abs(bounds[1] / bounds[0] - 1) < 1e-3


def test_the_first_bad_number_is_named_with_its_layer(tmp_path):
    trainer = start(tmp_path / "run", small())
    with torch.no_grad():
        trainer.model.posterior.networks[1].linears[0].weight[0, 0] = torch.inf
    with pytest.raises(
        NumericalError, match=r"epoch 1, step 1, first in the weight posterior\.networks\.1\.linears\.0"
    ):
        trainer.train(Silent())


OPTIONS = ["--left", "4", "--right", "4", "--groups", "2", "--layers", "1", "--continuous", "2", "--epochs", "2"]
OPTIONS += ["--encoder-hidden", "16", "--chains", "20", "--sweeps", "2", "--batch-size", "101", "--threads", "1"]


def launch(*command):
    """Run python with the checkout's packages on its path; return the finished process."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(PACKAGE_ROOTS), "OMP_NUM_THREADS": "1"}
    return subprocess.run([sys.executable, *command], env=environment, capture_output=True, text=True, timeout=120)


def test_two_processes_learn_what_one_learns(tmp_path):
    """The same seed and the same global minibatch (odd, so that shares are uneven): equal up to rounding."""
    assert status_of(dvae_train, "bars-and-stripes", *OPTIONS, "--out", tmp_path / "one", "--quiet") == 0
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "dvae_cli.train"]
    together = launch(*torchrun, "bars-and-stripes", *OPTIONS, "--out", str(tmp_path / "two"))
    assert together.returncode == 0, together.stderr
    for a, b in zip(read_metrics(tmp_path / "one"), read_metrics(tmp_path / "two"), strict=True):
        for part in ("train", "valid"):
            assert a[part]["elbo"] == pytest.approx(b[part]["elbo"], rel=1e-5)
    assert together.stderr.count("saved: ") == 1
    assert load_model(tmp_path / "two" / "model.pt").image_shape == (4, 4)


@pytest.mark.slow
def test_ctrl_c_on_several_processes_saves_once_and_one_process_can_go_on(tmp_path):
    run = tmp_path / "run"
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "dvae_cli.train"]
    command += ["bars-and-stripes", *OPTIONS, "--epochs", "100", "--out", str(run)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(PACKAGE_ROOTS), "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        [sys.executable, *command], env=environment, stderr=subprocess.PIPE, text=True
    ) as process:
        while not (run / "metrics.jsonl").exists():
            assert process.poll() is None
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        message = process.communicate(timeout=60)[1]
    assert message.count(f"dvae-train --resume --out {run}") == 1
    trainer = resume(run)
    assert 0 < trainer.epoch < 100
    with pytest.raises(Interrupted):
        trainer.train(Silent(trainer, 5))


def test_a_second_process_on_the_same_run_is_refused(tmp_path):
    run = tmp_path / "run"
    code = "import time\nfrom pathlib import Path\nfrom dvae_core.training.run_directory import locked\n"
    code += f"with locked(Path({str(run)!r})):\n    print('held', flush=True)\n    time.sleep(60)\n"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(PACKAGE_ROOTS)}
    with subprocess.Popen(
        [sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout.readline() == "held\n"
        second = launch("-m", "dvae_cli.train", "bars-and-stripes", *OPTIONS, "--out", str(run))
        holder.kill()
    assert second.returncode == 2
    assert "another process" in second.stderr
    assert second.stderr.count("\n") == 1
    assert not (run / "config.json").exists()
