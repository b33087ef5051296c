"""Numbers that are not finite: found without waiting for the device, named with their layer, and never saved."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from dvae_core.errors import NumericalError
from dvae_core.model.networks import MLP
from dvae_core.training.non_finite import NonFiniteMonitor, locate_non_finite
from dvae_core.training.trainer import Trainer
from tests.core.training.test_train import Silent, small, start

# What the host must wait for: a number out of a tensor, or a shape that depends on numbers.
WAITING = ("_local_scalar_dense", "is_nonzero", "equal", "nonzero", "masked_select", "unique")


class NoWaiting(TorchDispatchMode):
    """Raises where the host would have to wait for a device, on whatever device."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__.split(".")[-1]
        if name in WAITING:
            raise AssertionError(f"{name} waits for the device")
        return func(*args, **(kwargs or {}))


def look_at_the_epochs_end(monkeypatch):
    """Look as rarely as on a GPU."""
    monkeypatch.setattr(Trainer, "_time_to_look", lambda self: self.step == self.n_steps)


@pytest.mark.parametrize(
    "settings", [{}, {"ema_decay": 0.9, "n_importance": 2}, {"amp": True}, {"sampler": "tempering", "n_rungs": 3}]
)
def test_a_step_reads_nothing_from_the_device(tmp_path, settings):
    trainer = start(tmp_path / "run", small(**settings))
    batches = trainer._minibatches()
    trainer._one_step(*next(batches))  # Adam makes its state at the first step
    x, n = next(batches)
    with NoWaiting():
        trainer._one_step(x, n)
        with pytest.raises(AssertionError, match="waits"):
            trainer.non_finite.first_step()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_step_on_cuda_does_not_synchronise(tmp_path):
    (tmp_path / "run").mkdir()
    config = small(ema_decay=0.9)
    from dvae_core.data import load

    trainer = Trainer(tmp_path / "run", config, load(config.dataset), "cuda")
    batches = trainer._minibatches()
    trainer._one_step(*next(batches))
    x, n = next(batches)
    torch.cuda.set_sync_debug_mode("error")
    try:
        trainer._one_step(x, n)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    trainer.train(Silent())
    assert trainer.best


def test_the_watch_keeps_the_first_bad_step():
    monitor = NonFiniteMonitor(torch.device("cpu"))
    good, bad = torch.ones(3), torch.tensor([1.0, torch.inf])
    assert [
        float(monitor.record(step, good, value)) for step, value in enumerate((good, good, bad, good, bad))
    ] == [
        *(0.0, 0.0),
        *(1.0, 1.0, 1.0),
    ]
    assert monitor.first_step() == 2


def poisoned(monkeypatch, trainer, step):
    """Make the decoder's output infinite at a step of the first epoch, and whenever that step is run again."""
    forward = trainer.model.decoder.forward

    def wrong(*inputs, **more):
        output = forward(*inputs, **more)
        return output * torch.inf if trainer.step == step else output

    monkeypatch.setattr(trainer.model.decoder, "forward", wrong)


def test_a_bad_step_that_is_found_late_is_named_and_leaves_the_weights(tmp_path, monkeypatch):
    """As on a GPU: steps go on after the bad one, but the optimiser does not."""
    trainer, other = (start(tmp_path / name, small()) for name in "ab")
    before = (tmp_path / "a" / "checkpoint.pt").read_bytes()
    batches = other._minibatches()
    for _ in range(4):
        other._one_step(*next(batches))
        other.step += 1
    look_at_the_epochs_end(monkeypatch)
    poisoned(monkeypatch, trainer, step=4)
    with pytest.raises(NumericalError, match=r"reconstruction is not finite at epoch 1, step 5, .* decoder;"):
        trainer.train(Silent())
    for kept, expected in zip(trainer.model.parameters(), other.model.parameters(), strict=True):
        assert torch.equal(kept, expected)
    assert (tmp_path / "a" / "checkpoint.pt").read_bytes() == before


def test_a_gradient_that_overflows_is_named(tmp_path, monkeypatch):
    trainer = start(tmp_path / "run", small())
    trainer.model.prior.b_right.register_hook(lambda gradient: gradient * torch.inf)
    with pytest.raises(NumericalError, match=r"the gradient of prior.b_right is not finite at epoch 1, step 1;"):
        trainer.train(Silent())


def test_bad_weights_are_not_saved(tmp_path):
    trainer = start(tmp_path / "run", small())
    before = (tmp_path / "run" / "checkpoint.pt").read_bytes()
    with torch.no_grad():
        trainer.model.prior.W[0, 0] = torch.inf
    with pytest.raises(NumericalError, match=r"prior.W is not finite"):
        trainer.save()
    assert (tmp_path / "run" / "checkpoint.pt").read_bytes() == before


def test_the_innermost_module_is_named_first():
    network = MLP((2,), (3,), 1)
    x = torch.tensor([[1.0, 2.0], [3.0, torch.nan]])
    assert locate_non_finite(network, lambda: network(x)) == "the output of norms.0"
    assert locate_non_finite(network, lambda: network(torch.ones(2, 2))) == ""
    assert not network.norms[0]._forward_hooks
