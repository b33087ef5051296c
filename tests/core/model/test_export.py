"""The recipes of docs/how-to/export-a-model.md, for other models than the page's own."""

import ast
import copy
import re

import numpy as np
import pytest
import torch

from dvae_core import DVAE, ModelConfig, RunConfig, load_model
from dvae_core.config import SMOOTHINGS
from dvae_core.training.checkpoint import save_model
from dvae_core.training.presets import PRESETS
from tests.places import ROOT

PAGE = ROOT / "docs" / "how-to" / "export-a-model.md"
SMALL = {
    "n_left": 4,
    "n_right": 3,
    "n_groups": 2,
    "encoder_hidden": (16,),
    "prior_hidden": (8,),
    "n_continuous": 3,
}
N_PIXELS = 12


@pytest.fixture(scope="module")
def recipe():
    """Return the modules that the page defines."""
    first = re.search(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.S | re.M)[1]
    wanted = (ast.Import, ast.ImportFrom, ast.ClassDef)
    names = {}
    tree = ast.Module([node for node in ast.parse(first).body if isinstance(node, wanted)], [])
    exec(compile(tree, str(PAGE), "exec"), names)
    return names["Encoder"], names["Decoder"]


def make_model(**settings):
    """Return a model with weights, and running statistics, that make every part matter."""
    model = DVAE(ModelConfig(**{**SMALL, "n_layers": 2, **settings}), N_PIXELS)
    generator = torch.Generator().manual_seed(0)
    model.initialise(generator, torch.full((N_PIXELS,), 0.3))
    for _ in range(3):
        model.bound(*inputs(model, 50, generator))
    return model.eval().requires_grad_(False)


def inputs(model, n, generator, for_decoder=False):
    n_uniform, n_normal = model.n_noise
    n_units = model.prior.n_units
    first = torch.randint(0, 2, (n, n_units if for_decoder else model.n_pixels), generator=generator).float()
    rho = torch.rand(n, n_units if for_decoder else n_uniform, generator=generator)
    return first, rho, torch.randn(n, n_normal, generator=generator)


def exported(module, example):
    """Return a module as a program for any number of images."""
    return torch.export.export(module, example, dynamic_shapes=[{0: torch.export.Dim("n")}] * 3)


def forget_statistics(module):
    if hasattr(module, "running_mean"):
        module.running_mean.zero_()
        module.running_spread.fill_(1)


def as_tuple(outputs):
    return outputs if isinstance(outputs, tuple) else (outputs,)


@pytest.mark.parametrize("smoothing", SMOOTHINGS)
def test_programs_of_every_smoothing_agree(recipe, smoothing, tmp_path):
    model, generator = make_model(smoothing=smoothing, n_layers=1), torch.Generator().manual_seed(1)
    module = recipe[0](model)
    torch.export.save(exported(module, inputs(model, 3, generator)), tmp_path / "program.pt2")
    program = torch.export.load(tmp_path / "program.pt2").module()
    for n in (1, 64):
        given = inputs(model, n, generator)
        for found, wanted in zip(program(*given), module(*given), strict=True):
            torch.testing.assert_close(found, wanted, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    "settings",
    [
        {"smoothing": "mixture-of-ramps", "n_sharing_groups": 1},
        {"prior": "graph", "graph": "ring", "sharpness": 20.0, "decoder_hidden": (8,)},
    ],
    ids=str,
)
def test_onnx_agrees_for_any_number_of_images(recipe, settings, tmp_path):
    """To 1e-5 of each of thousands of draws: the encoder in float64, as the page says, the decoder in float32."""
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    for make, dtype, for_decoder in zip(recipe, (torch.float64, torch.float32), (False, True), strict=True):
        model, generator = make_model(**settings).to(dtype), torch.Generator().manual_seed(1)
        module, path = make(model), tmp_path / "graph.onnx"
        example = [one.to(dtype) for one in inputs(model, 3, generator, for_decoder)]
        torch.onnx.export(exported(module, tuple(example)), f=path, external_data=False, verbose=False)
        session = onnxruntime.InferenceSession(path)
        for n in (1, 5, 2000):
            given = [one.to(dtype) for one in inputs(model, n, generator, for_decoder)]
            named = zip(session.get_inputs(), given, strict=True)
            found = session.run(None, {put.name: value.numpy() for put, value in named})
            for one, wanted in zip(found, as_tuple(module(*given)), strict=True):
                np.testing.assert_allclose(one, wanted.numpy(), rtol=0, atol=1e-5)
        # Running statistics that were left out would be seen.
        model.apply(forget_statistics)
        pairs = zip(found, as_tuple(module(*given)), strict=True)
        assert any(np.abs(one - wanted.numpy()).max() > 1e-3 for one, wanted in pairs)


def test_what_the_page_says_onnx_cannot_do(recipe, tmp_path):
    pytest.importorskip("onnxscript")
    model, generator = make_model(smoothing="spike-and-gaussian"), torch.Generator().manual_seed(1)
    program = exported(recipe[1](model), inputs(model, 3, generator, for_decoder=True))
    with pytest.raises(torch.onnx.errors.OnnxExporterError, match="ndtri"):
        torch.onnx.export(program, f=tmp_path / "graph.onnx", external_data=False, verbose=False)


@pytest.mark.parametrize("name", PRESETS)
def test_state_dicts_are_taken_by_safetensors(name):
    safetensors = pytest.importorskip("safetensors.torch")
    with torch.device("meta"):
        model = DVAE(PRESETS[name].model, 4)
    # Without memory for the weights of the large ones: what is shared is one object under two names.
    state = model.state_dict()
    assert len({id(value) for value in model.state_dict(keep_vars=True).values()}) == len(state)
    assert all(value.is_contiguous() for value in state.values())
    if sum(value.numel() for value in state.values()) < 2e6:
        own = DVAE(PRESETS[name].model, 4)
        again = safetensors.load(safetensors.save(own.state_dict()))
        own.load_state_dict(again)
        assert set(again) == set(state)


def test_files_of_earlier_versions_with_a_second_copy_are_read(tmp_path):
    model, config = make_model(), RunConfig("digits", ModelConfig(**SMALL, n_layers=2))
    state = model.state_dict()
    assert not [name for name in state if name.startswith("posterior.smoothing.")]
    second = {f"posterior.{name}": value for name, value in state.items() if name.startswith("smoothing.")}
    assert second
    save_model(tmp_path / "model.pt", state | second, config, (3, 4), {})
    found = load_model(tmp_path / "model.pt").model
    again = make_model()
    again.load_state_dict(state | second)  # as a checkpoint does
    for name, value in state.items():
        assert torch.equal(found.state_dict()[name], value)
        assert torch.equal(again.state_dict()[name], value)


def test_posterior_and_prior_share_one_smoothing_in_copies_too():
    twin = copy.deepcopy(make_model()).double()
    assert twin.posterior.smoothing is twin.smoothing
    assert twin.posterior.smoothing.raw.dtype == torch.float64
