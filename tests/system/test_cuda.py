"""Training and estimates on a CUDA device agree with those on the CPU and with exact values.

Every test runs on the CPU as well, so that its own code is exercised where there is no GPU.
"""

import importlib.util
import json
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from dvae_core.config import ModelConfig, RunConfig
from dvae_core.data import load
from dvae_core.errors import NumericalError
from dvae_core.model.dvae import DVAE, without_smoothing
from dvae_core.rng import torch_generator
from dvae_core.training.checkpoint import load_model
from dvae_core.training.run_directory import write_config
from dvae_core.training.trainer import Interrupted, Trainer
from dvae_eval import estimate_log_likelihood, estimate_log_z
from dvae_eval.exact.plan import exact_log_z
from dvae_eval.gradients.comparison import exact_gradient
from dvae_eval.machine import machine_from_bonds
from dvae_eval.sampling.annealing import annealed_importance_sampling, reverse_ais, uniform_schedule
from dvae_eval.sampling.reference import Reference
from dvae_eval.sampling.replicas_torch import TorchReplicas
from dvae_eval.sampling.schedule import Schedule
from dvae_eval.test_machines import make
from dvae_eval.trained import machine_of
from tests.core.training.test_train import Silent, read_metrics, small
from tests.eval.sampling.test_kernels import SMALL
from tests.eval.sampling.test_sparse_machines import bonds
from tests.eval.sampling.test_sparse_machines import sparse as sparse  # a fixture
from tests.places import ROOT

CUDA = pytest.param(
    "cuda",
    marks=[pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")],
)
on_devices = pytest.mark.parametrize("device", ["cpu", CUDA])
only_cuda = pytest.mark.parametrize("device", [CUDA])


def trainer_on(device, run, config):
    """Return the trainer of a new run with its first files."""
    run.mkdir()
    trainer = Trainer(run, config, load(config.dataset), device)
    trainer.save()
    write_config(run, config, {})
    return trainer


def resumed_on(device, run, config):
    """Return the trainer of a run where it was left."""
    trainer = Trainer(run, config, load(config.dataset), device)
    trainer.restore()
    return trainer


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Return a function from a device to the directory of a run that was trained on it."""
    made = {}

    def run_of(device):
        if device not in made:
            made[device] = tmp_path_factory.mktemp("runs") / device
            trainer_on(device, made[device], small(epochs=2)).train(Silent())
        return made[device]

    return run_of


# --- training -------------------------------------------------------------------------------------------------


@on_devices
@pytest.mark.parametrize("smoothing", ["spike-and-exponential", "spike-and-gaussian", "power-function"])
def test_the_bound_and_its_gradients_are_those_of_the_cpu(smoothing, device):
    """The same weights and noise: equal up to single precision, whose sums take another order on a GPU."""
    model = DVAE(ModelConfig(n_left=4, n_right=4, n_layers=1, smoothing=smoothing), 16)
    model.initialise(torch_generator(0, "weights"), torch.full((16,), 0.5))
    rng = torch_generator(1, "noise")
    x = (torch.rand(20, 16, generator=rng) < 0.5).float()
    noise = [f(20, n, generator=rng) for f, n in zip((torch.rand, torch.randn), model.n_noise, strict=True)]
    found = []
    for where in ("cpu", device):
        model.zero_grad()
        moved = model.to(where)
        bound = moved.bound(x.to(where), *(part.to(where) for part in noise))
        (-bound.elbo(0.0).mean()).backward()
        found.append([bound.elbo(0.0), *(p.grad for p in moved.parameters() if p.grad is not None)])
    for ours, theirs in zip(*found, strict=True):
        assert torch.allclose(ours.detach().cpu(), theirs.detach().cpu(), rtol=1e-3, atol=1e-4)


SETTINGS = {
    "gibbs": {},
    "tempering": {"sampler": "tempering", "n_rungs": 3},
    "importance and average": {"n_importance": 2, "ema_decay": 0.9},
    "graph": {"prior": "graph", "graph": "ring"},
    "bfloat16": {"amp": True},
}


@on_devices
@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_a_resumed_run_ends_as_an_undisturbed_one(settings, device, tmp_path, monkeypatch):
    monkeypatch.setattr(Trainer, "_time_to_look", lambda self: True)  # stop at once, on a GPU too
    config = small(epochs=2, **settings)
    whole = trainer_on(device, tmp_path / "whole", config)
    whole.train(Silent())
    parts = trainer_on(device, tmp_path / "parts", config)
    with pytest.raises(Interrupted):
        parts.train(Silent(parts, stop_after=3))
    again = resumed_on(device, tmp_path / "parts", config)
    assert 0 < again.step < again.n_steps
    again.train(Silent())
    assert all(torch.equal(a, b) for a, b in zip(whole.model.parameters(), again.model.parameters(), strict=True))
    lines = [read_metrics(tmp_path / name)[-1] for name in ("whole", "parts")]
    assert lines[0]["valid"] == lines[1]["valid"]


@on_devices
def test_a_model_and_a_checkpoint_can_be_used_on_another_device(device, trained):
    """Saved on a GPU, read on the CPU, and back."""
    run, config = trained(device), small(epochs=2)
    there, here = load_model(run, device).model, load_model(run).model
    assert here.groups.device.type == "cpu"
    assert all(torch.equal(a.cpu(), b) for a, b in zip(there.parameters(), here.parameters(), strict=True))
    for where in ("cpu", device):
        trainer = resumed_on(where, run, config)
        assert trainer.is_finished
        assert {p.device.type for p in trainer.model.parameters()} == {torch.device(where).type}
        trainer._one_step(*next(trainer._minibatches()))
        assert all(torch.isfinite(p).all() for p in trainer.model.parameters())


@on_devices
def test_a_bad_step_is_found_and_named(device, tmp_path):
    trainer = trainer_on(device, tmp_path / "run", small())
    with torch.no_grad():
        trainer.model.decoder.linears[0].weight[0, 0] = torch.inf
    with pytest.raises(NumericalError, match=r"first in the weight decoder\.linears\.0\.weight"):
        trainer.train(Silent())


@only_cuda
@pytest.mark.parametrize("amp", [False, True])
def test_a_step_is_replayed_as_a_cuda_graph(amp, device, tmp_path, monkeypatch):
    """The weights change in every replay, by other random numbers, and stay finite."""
    spec = importlib.util.spec_from_file_location("train_step", ROOT / "benchmarks/train_step.py")
    benchmark = sys.modules["train_step"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(benchmark)
    monkeypatch.setattr(torch.autograd, "backward", torch.autograd.backward)  # restored afterwards
    config = benchmark.ARCHITECTURES["bars-and-stripes-small"]
    config = replace(config, train=replace(config.train, amp=amp))
    trainer, watch = benchmark.timed_trainer(config, 4, device)
    x = torch.from_numpy(trainer.data.fixed("train")).to(trainer.device).float()
    replay = benchmark.captured(trainer, x, watch)
    seen = []
    for _ in range(3):
        replay()
        seen.append((trainer.model.decoder.linears[0].weight.detach().clone(), trainer.chains.z.clone()))
    for k in (0, 1):
        assert not torch.equal(seen[0][k], seen[1][k])
        assert not torch.equal(seen[1][k], seen[2][k])
    assert all(torch.isfinite(weight).all() for weight, _ in seen)


# --- estimates ------------------------------------------------------------------------------------------------


@on_devices
@pytest.mark.parametrize("settings", [{}, {"reference": "modes"}, {"reference": "fitted"}, {"energies": "joint"}])
@pytest.mark.parametrize("name", ["random-64x16-1.0", "glass-8x16-weak"])
def test_log_z_is_exact_within_its_error(name, settings, device):
    """|z| < 5 with 32 replicates: 2 in 100 000 runs of correct code fail."""
    if device == "cpu" and (settings or name != "random-64x16-1.0"):
        pytest.skip("the CPU has its own tests; one is enough to exercise this one")
    known = make(name)
    found = estimate_log_z(known.machine, method="pt-bar", n_sweeps=1000, device=device, **settings)
    assert abs(found.log_z - known.log_z) < 5 * found.std_err
    assert found.settings["device"] == device


@on_devices
@pytest.mark.parametrize("name", SMALL)
def test_annealing_brackets_log_z(name, device):
    """Forward and reverse; of 4096 chains the error is far below the half nat that is allowed."""
    machine, betas = SMALL[name], uniform_schedule(100)
    forward = annealed_importance_sampling(machine, betas, 4096, 0, device=device)
    reverse = reverse_ais(machine, forward.v, betas, 0, device=device)
    exact = exact_log_z(machine)
    assert abs(forward.log_z - exact) < 0.5
    assert abs(reverse.log_z - exact) < 0.5


@on_devices
@pytest.mark.parametrize("kind", ["triangles", "ladder"])
def test_compressed_rows_are_sampled_as_full_tables(kind, device, sparse):
    """The same random numbers: works are equal up to single precision."""
    full, few = (machine.reduced() for machine in (machine_from_bonds(*bonds(kind, 50)), sparse(*bonds(kind, 50))))
    reference = Reference(np.zeros_like(full.b), np.zeros_like(full.c))
    v = np.random.default_rng(0).integers(0, 2, (4, 3, len(full.b))).astype(np.uint8)
    runs = [
        TorchReplicas(reduced, reference, Schedule.uniform(2), v, 0, 0, "even-odd", False, device).run(5)
        for reduced in (full, few)
    ]
    np.testing.assert_allclose(runs[0].forward, runs[1].forward, atol=1e-4)


@on_devices
@pytest.mark.parametrize("as_trained", [True, False])
def test_log_likelihoods_are_those_of_the_cpu(as_trained, device, trained):
    """The same weights and the same noise, which is drawn on the CPU: equal up to single precision."""
    run, images = trained("cpu"), load("bars-and-stripes").fixed("test")[:20].reshape(20, -1)
    found = []
    for where in ("cpu", device):
        model = load_model(run, where)
        log_z = estimate_log_z(machine_of(model))
        settings = {"n_samples": 50, "n_simulated": 0, "as_trained": as_trained}
        result = estimate_log_likelihood(model, images, log_z, **settings)
        found.append(np.array(result.per_image["log_likelihood"]))
    assert np.abs(found[0] - found[1]).max() < 1e-3


@on_devices
@pytest.mark.parametrize(
    "settings",
    [{"method": "ais", "n_ais_chains": 20, "n_ais_steps": 20}, {"n_simulated": 5}],
    ids=["ais", "simulated"],
)
def test_other_estimates_of_the_likelihood_run(settings, device, trained):
    run, images = trained(device), load("bars-and-stripes").fixed("test")[:8].reshape(8, -1)
    model = load_model(run, device)
    log_z = estimate_log_z(machine_of(model))
    result = estimate_log_likelihood(model, images, log_z, n_samples=100, **settings)
    assert -16 < result.log_likelihood < 0


@only_cuda
@pytest.mark.parametrize("precision", ["tf32", "bf16"])
def test_low_precisions_change_little(precision, device, trained):
    run, images = trained(device), load("bars-and-stripes").fixed("test")[:8].reshape(8, -1)
    model = load_model(run, device)
    log_z = estimate_log_z(machine_of(model))
    result = estimate_log_likelihood(model, images, log_z, n_samples=200, precision=precision, n_simulated=0)
    assert abs(result.diagnostics["precision_effect"]["mean"]) < 0.1


@on_devices
def test_images_are_generated_and_encoded(device, trained):
    model = load_model(trained(device), device).model
    images = model.generate(4, binary=True)
    codes = model.encode(images.cpu().numpy(), n_samples=2)
    plain = without_smoothing(model)
    assert {t.device.type for t in (images, codes.z, plain.groups, plain.prior.W)} == {torch.device(device).type}
    assert torch.isfinite(model.log_likelihood(images, 0.0, n_samples=10)).all()


@on_devices
def test_exact_gradients_are_those_of_the_cpu(device, tmp_path):
    """By quadrature over all states of a model without continuous layers."""
    model = DVAE(ModelConfig(n_left=2, n_right=2, n_groups=2, n_layers=0, encoder_hidden=(8,)), 16)
    model.initialise(torch_generator(0, "weights"), torch.full((16,), 0.5))
    model.eval().requires_grad_(False)
    x = (torch.rand(3, 16, generator=torch_generator(1, "images")) < 0.5).float()
    found = [exact_gradient(model.to(where), x.to(where)) for where in ("cpu", device)]
    for term, reference in found[0].items():
        assert torch.allclose(reference.mean, found[1][term].mean.cpu(), atol=1e-5)


# --- commands -------------------------------------------------------------------------------------------------


@only_cuda
def test_commands_run_on_the_device(device, tmp_path):
    from dvae_cli.main import main as dvae_eval
    from dvae_cli.train import main as dvae_train

    run = tmp_path / "run"
    sizes = ("--left", "3", "--right", "3", "--groups", "2", "--encoder-hidden", "8", "--epochs", "2")
    model, where = str(run / "model.pt"), ("--device", device, "-q")
    for main, arguments in (
        (dvae_train, ["bars-and-stripes-2x2", *sizes, "--out", str(run)]),
        (dvae_eval, ["logz", model, "--method", "pt-bar", "--sweeps", "400", "--sandwich"]),
        (dvae_eval, ["ll", model, "--samples", "50", "--limit", "10"]),
        (dvae_eval, ["gradients", model]),
    ):
        with pytest.raises(SystemExit) as exit:
            main([*arguments, *where])
        assert exit.value.code in (0, 3), arguments
    assert json.loads((run / "logz.json").read_text())["settings"]["device"] == device
    assert RunConfig.from_dict(json.loads((run / "config.json").read_text())).train.epochs == 2


# --- last, since compiling takes long -------------------------------------------------------------------------


@only_cuda
@pytest.mark.parametrize("settings", [{"compile": True}, {"compile": True, "amp": True}])
def test_compiled_steps_learn_what_others_learn(settings, device, tmp_path):
    bounds = []
    for name, config in (("a", small(epochs=2)), ("b", small(epochs=2, **settings))):
        trainer_on(device, tmp_path / name, config).train(Silent())
        bounds.append(read_metrics(tmp_path / name)[-1]["train"]["elbo"])
    assert abs(bounds[1] / bounds[0] - 1) < (0.02 if settings.get("amp") else 1e-3)
