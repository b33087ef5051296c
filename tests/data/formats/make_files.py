"""Write the files in this folder, each with the library whose format it is, and that library's own energies.

    pip install rbms dimod dwave-pytorch-plugin scikit-learn skops pgmpy safetensors h5py hdf5storage scipy torch
    pip install --no-deps --target old dwave-pytorch-plugin==0.1.0
    PYTHONPATH=. python tests/data/formats/make_files.py [old]

`expected.json` gets, for every file, the versions, and log p(x) before normalising, as the library itself computes
it, of all states: sorted, since readers are free to number the units anew.
"""

import gzip
import importlib
import itertools
import json
import shutil
import sys
import tempfile
import warnings
from importlib.metadata import version
from pathlib import Path

import dimod
import h5py
import hdf5storage
import numpy as np
import rbms.io
import safetensors.torch
import scipy.io
import scipy.sparse
import skops.io
import torch
from dimod.serialization import coo
from pgmpy.factors.discrete import DiscreteFactor
from pgmpy.models import DiscreteMarkovNetwork
from pgmpy.readwrite import UAIWriter
from rbms.bernoulli_bernoulli.classes import BBRBM
from sklearn.neural_network import BernoulliRBM
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler

HERE = Path(__file__).resolve().parent
EXPECTED = {}


def states(n, values=(0, 1)):
    """All states of n units, shape (2^n, n), float64."""
    return np.array(list(itertools.product(values, repeat=n)), float)


def expect(name, log_p, *libraries, **more):
    """Note what the library says of a file."""
    versions = {library: version(library) for library in libraries}
    EXPECTED[name] = {
        "versions": versions,
        "log_p": sorted(np.round(np.asarray(log_p, float), 9).tolist()),
        **more,
    }


def by_hand(W, b, c, values=(0, 1)):
    """log p of the definition, for formats of arrays that know no energies."""
    x = states(len(b) + len(c), values)
    v, h = x[:, : len(b)], x[:, len(b) :]
    return np.einsum("ni,ij,nj->n", v, W, h) + v @ b + h @ c


def rbms_archive(rng):
    """Two updates of a Bernoulli-Bernoulli RBM; the file is packed, for it is full of generators' states."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rbms.h5"
        with h5py.File(path, "w") as file:
            file.create_group("hyperparameters")["seed"] = 0
        for update in (3, 12):
            parts = (torch.tensor(rng.normal(size=shape), dtype=torch.float32) for shape in ((4, 3), 4, 3))
            model = BBRBM(*parts)
            rbms.io.save_model(str(path), model, model.init_chains(2), update, 0.0)
            x = torch.tensor(states(7))
            model = model.clone(dtype=torch.float64)
            expect(f"rbms-{update}", -model.compute_energy(x[:, :4], x[:, 4:]).numpy(), "rbms", "h5py")
        with path.open("rb") as source, gzip.GzipFile(HERE / "rbms.h5.gz", "wb", mtime=0) as packed:
            shutil.copyfileobj(source, packed)


def graph_restricted(rng):
    """D-Wave's GraphRestrictedBoltzmannMachine, with a hidden node and names that are no numbers."""
    from dwave.plugins.torch.models import GraphRestrictedBoltzmannMachine

    nodes, edges = ["a", 1, 2, "d", 4], [("a", 1), (1, 2), ("a", 2), (2, "d"), (4, "d"), ("a", 4)]
    model = GraphRestrictedBoltzmannMachine(nodes, edges, hidden_nodes=["d"])
    model.set_linear(dict(zip(nodes, rng.normal(size=5), strict=True)))
    torch.save(model.state_dict(), HERE / "grbm.pt")
    with torch.no_grad():
        energies = model.double()(torch.tensor(states(5, (-1, 1))))
    expect("grbm.pt", -energies.numpy(), "dwave-pytorch-plugin", "torch")


def graph_restricted_01(rng, folder):
    """The same of version 0.1, which clips its parameters."""
    for name in [name for name in sys.modules if name.startswith("dwave.plugins")]:
        del sys.modules[name]
    import dwave.plugins

    dwave.plugins.__path__ = [str(Path(folder) / "dwave" / "plugins")]
    module = importlib.import_module("dwave.plugins.torch.boltzmann_machine")
    i, j = torch.tensor([[0, 1], [1, 2], [0, 2], [2, 3]]).T
    model = module.GraphRestrictedBoltzmannMachine(4, i, j, h_range=(-1, 1), j_range=(-0.5, 0.5))
    model.h.data[:], model.J.data[:] = torch.tensor(rng.normal(size=4)), torch.tensor(rng.normal(size=4))
    torch.save(model.state_dict(), HERE / "grbm-0.1.pt")
    with torch.no_grad():
        energies = model.double()(torch.tensor(states(4, (-1, 1))))
    expect("grbm-0.1.pt", -energies.numpy(), "torch", plugin="dwave-pytorch-plugin 0.1.0")


def dimod_models(rng):
    """BQMs of either type of variable, versions 1 and 2, with offset and labels, and as text."""
    for vartype, values in (("SPIN", (-1, 1)), ("BINARY", (0, 1))):
        model = dimod.BinaryQuadraticModel(vartype, dtype=np.float32 if vartype == "SPIN" else np.float64)
        labels = [0, "one", ("a", 2), 3, 4.5, 7]
        model.add_linear_from(zip(labels, rng.normal(size=6), strict=True))
        model.add_quadratic_from(
            (labels[i], labels[j], rng.normal())
            for i, j in itertools.combinations(range(6), 2)
            if (i * j) % 3 != 1
        )
        model.offset = 1.25
        energies = model.energies((states(6, values), labels))
        for number in (1, 2):
            name = f"{vartype.lower()}-{number}.bqm"
            with (HERE / name).open("wb") as file:
                shutil.copyfileobj(model.to_file(version=number), file)
            expect(name, -energies, "dimod")
        text = coo.dumps(
            model.relabel_variables(dict(zip(labels, (0, 1, 2, 30, 5, 4), strict=True)), inplace=False), True
        )
        (HERE / f"{vartype.lower()}.coo").write_text(text + "\n")
        read = coo.loads(text)
        expect(f"{vartype.lower()}.coo", -read.energies((states(6, values), list(read.variables))), "dimod")


def scikit_learn(rng):
    """A BernoulliRBM by itself and in a pipeline; scikit-learn knows the free energy of visible states only."""
    x = (rng.random((40, 5)) < 0.4).astype(float)
    model = BernoulliRBM(3, n_iter=20, learning_rate=0.5, random_state=0).fit(x)
    skops.io.dump(model, HERE / "rbm.skops")
    skops.io.dump(make_pipeline(MinMaxScaler(), model), HERE / "pipeline.skops")
    for name in ("rbm.skops", "pipeline.skops"):
        expect(name, -model._free_energy(states(5)), "scikit-learn", "skops", marginal="visible")


def arrays(rng):
    """Files of arrays under several names, orientations and types."""
    W, b, c = rng.normal(size=(4, 3)), rng.normal(size=4), rng.normal(size=3)
    scipy.io.savemat(HERE / "rbm-v5.mat", {"W": W, "b": b, "c": c}, do_compression=True)
    expect("rbm-v5.mat", by_hand(W, b, c), "scipy")
    (HERE / "rbm-v73.mat").unlink(missing_ok=True)
    hdf5storage.write(
        {"W": W, "bv": b[:, None], "bh": c[None]}, filename=str(HERE / "rbm-v73.mat"), matlab_compatible=True
    )
    expect("rbm-v73.mat", by_hand(W, b, c), "hdf5storage", "h5py")
    half = {
        "W": torch.tensor(W.T).bfloat16(),
        "v_bias": torch.tensor(b).bfloat16(),
        "h_bias": torch.tensor(c).bfloat16(),
    }
    safetensors.torch.save_file({k: v.contiguous() for k, v in half.items()}, HERE / "rbm.safetensors")
    rounded = [half[name].double().numpy() for name in ("W", "v_bias", "h_bias")]
    expect("rbm.safetensors", by_hand(rounded[0].T, *rounded[1:]), "safetensors", "torch")
    module = torch.nn.ModuleDict({"rbm": torch.nn.Module(), "decoder": torch.nn.Linear(3, 2)})
    for name, value in (("weights", W), ("visible_bias", b[None]), ("hidden_bias", c[None])):
        setattr(module["rbm"], name, torch.nn.Parameter(torch.tensor(value)))
    torch.save({"epoch": 3, "state_dict": module.state_dict()}, HERE / "rbm.pt")
    expect("rbm.pt", by_hand(W, b, c), "torch")


def sparse(rng):
    """Couplings of a general machine as scipy.sparse saves them, in every format that has such a file."""
    J = np.triu(rng.normal(size=(6, 6)) * (rng.random((6, 6)) < 0.6), 1)
    x = states(6)
    for name, matrix in (("csr", J), ("csc", J), ("coo", J + J.T)):
        scipy.sparse.save_npz(HERE / f"sparse-{name}.npz", getattr(scipy.sparse, f"{name}_array")(matrix))
        expect(f"sparse-{name}.npz", np.einsum("ni,ij,nj->n", x, J, x), "scipy")


def uai(rng):
    """A Markov network of pgmpy: every pair's and every variable's factor, one factor twice."""
    names, pairs = ["v0", "v1", "v2", "v3"], [(0, 1), (1, 2), (3, 0), (2, 3), (0, 2)]
    model = DiscreteMarkovNetwork([(names[i], names[j]) for i, j in pairs])
    factors = [([names[i], names[j]], rng.lognormal(size=4)) for i, j in pairs]
    factors += [([name], rng.lognormal(size=2)) for name in [*names, "v0"]]
    model.add_factors(*(DiscreteFactor(scope, [2] * len(scope), values) for scope, values in factors))
    UAIWriter(model, round_values=12).write(str(HERE / "markov.uai"))
    log_p = [
        sum(np.log(f.values[tuple(int(state[names.index(v)]) for v in f.variables)]) for f in model.factors)
        for state in states(4)
    ]
    expect("markov.uai", log_p, "pgmpy", log_z=float(np.log(model.get_partition_function())))


def main():
    warnings.simplefilter("ignore")
    rng = np.random.default_rng(2016)
    torch.manual_seed(0)
    for write in (rbms_archive, graph_restricted, dimod_models, scikit_learn, arrays, sparse, uai):
        write(rng)
    if len(sys.argv) > 1:
        graph_restricted_01(rng, sys.argv[1])
    lines = (f"{json.dumps(name)}: {json.dumps(found)}" for name, found in EXPECTED.items())
    (HERE / "expected.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")
    (HERE / "rbm.safetensors").chmod(0o644)


if __name__ == "__main__":
    main()
