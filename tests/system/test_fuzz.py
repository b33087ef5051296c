"""Every reader on files that were tampered with: it returns something sound, or says what is wrong in one line.

The inputs are mutations of small sound files: bits flipped, numbers replaced by awkward ones, pieces cut out,
doubled or taken from other files; inside archives and packed data as well, with their checksums mended.  Each
follows from its number.  The default tests give every reader a few, which hypothesis draws, the same each time;
`make fuzz` goes through the first 100 000, and `make fuzz FIRST=n FUZZ=1` repeats the one that an error names.  No
error but ours may come out, no reader may take much memory, and none may take long.
"""

import contextlib
import faulthandler
import gzip
import io
import json
import os
import random
import re
import resource
import struct
import tempfile
import time
import zipfile
import zlib
from collections import Counter
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path

import h5py
import hypothesis
import numpy as np
import pytest
import safetensors.numpy
import torch
from hypothesis import Phase
from hypothesis import strategies as st
from scipy.io import savemat
from scipy.sparse import coo_array

from dvae_core import data
from dvae_core.config import ModelConfig, RunConfig, TrainConfig
from dvae_core.errors import DvaeError
from dvae_core.graphs import read_graph
from dvae_core.io import containers
from dvae_core.model.dvae import DVAE
from dvae_core.training.checkpoint import load_model, save_model
from dvae_core.training.metrics import read_metrics
from dvae_core.training.run_directory import TRAJECTORY, read_config
from dvae_eval.exact.plan import exact_log_z
from dvae_eval.likelihood.images import LikelihoodImages
from dvae_eval.log_z.estimate_log_z import estimate_log_z
from dvae_eval.machine import BipartiteMachine
from dvae_eval.readers import ReadConfig, read_machine
from dvae_eval.readers.clamping import read_clamps
from dvae_eval.readers.data import read_rows
from dvae_eval.readers.graph_file import read_edges
from dvae_eval.readers.inspection import inspect_file
from dvae_eval.readers.samples import read_samples
from dvae_eval.readers.starts import read_starts
from dvae_eval.readers.trajectories import read_priors
from dvae_eval.results import GradientResult, LikelihoodResult, Result, load_result, load_result_lines
from dvae_eval.samples.grid import SampleGrid
from dvae_reports.results.run_directory import read_settings
from tests.places import FORMATS

N_INPUTS = int(os.environ.get("DVAE_FUZZ_INPUTS", "0"))  # of make fuzz
FIRST = int(os.environ.get("DVAE_FUZZ_FIRST", "0"))
N_SHORT = 20  # of the default tests
CASES = FORMATS.parent / "cases"
ROOM = 1 << 30  # bytes that reading a file of some kilobytes may take, at the very most
SECONDS = 10  # of CPU time that an input may take
# Three reads of three spins as dimod 0.12.23 serialises them, packed.
SAMPLE_SET = b"""{"type": "SampleSet", "version": {"sampleset_schema": "3.2.0"}, "num_variables": 3, "num_rows": 3,
"sample_data": {"type": "array", "data": [[5], [4], [7]], "data_type": "uint32", "shape": [3, 1],
"use_bytes": false},
"sample_type": "int8", "sample_packed": true, "vectors": {"num_occurrences": {"type": "array", "data": [2, 1, 4],
"data_type": "int64", "shape": [3], "use_bytes": false}}, "variable_labels": ["a", 2, ["c", 3]],
"variable_type": "SPIN", "info": {}}"""
PATIENCE = 600  # seconds after which the process is ended with a traceback of where it hangs

TOKENS = [
    *(b"nan -inf 1e999 -1 0 2147483648 99999999999999999999 null true NaN Infinity [[ {}".split()),
    *(b"", b"\xff"),
]
KINDS = ("flip", "flip", "number", "number", "token", "token", "cut", "truncate", "double", "splice")
WORD = re.compile(rb"[0-9A-Za-z_.+-]+")
PACKED = 15  # the type of a packed variable in a MATLAB file
NUMBERS = [0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 2**63 - 1, 2**64 - 1]


# --- inputs ---------------------------------------------------------------------------------------------------


def tampered(rng, seeds):
    """Return a sound file's bytes after a few edits, in its archive's members or in the bytes themselves."""
    content = rng.choice(seeds)
    for _ in range(rng.randint(1, 3)):
        content = edited_inside(rng, content, seeds) if rng.random() < 0.5 else edited(rng, content, seeds)
    return content


def edited_inside(rng, content, seeds):
    """Return an archive with one member edited, and checksums that fit; of other files the file itself edited."""
    with contextlib.suppress(Exception):  # it was tampered with before
        if content.startswith(b"\x1f\x8b"):
            return gzip.compress(edited(rng, gzip.decompress(content), seeds), 1, mtime=0)
        if content.startswith(b"MATLAB") and content[128] == PACKED:
            return with_variable(
                content, edited(rng, zlib.decompress(content[136 : 136 + packed_bytes(content)]), seeds)
            )
        if content.startswith(b"PK"):
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                members = {entry.filename: archive.read(entry) for entry in archive.infolist()}
            name = rng.choice(sorted(members))
            members[name] = edited(rng, members[name], seeds)
            return zipped(members)
    return edited(rng, content, seeds)


def packed_bytes(content):
    """How many bytes the first variable of a MATLAB file takes, packed."""
    return int.from_bytes(content[132:136], "little")


def with_variable(content, variable):
    """Return a MATLAB file with its first variable packed anew."""
    packed = zlib.compress(variable, 1)
    rest = content[136 + packed_bytes(content) :]
    return content[:128] + struct.pack("<2I", PACKED, len(packed)) + packed + rest


def zipped(members):
    """Return an archive."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name), content)
    return buffer.getvalue()


def edited(rng, content, seeds):
    """Return bytes after one edit; half of the edits are near the beginning, where headers are."""
    n = len(content)
    at = rng.randint(0, min(n, 200) if rng.random() < 0.5 else n)
    kind = rng.choice(KINDS)
    if kind == "flip" and at < n:
        return content[:at] + bytes([content[at] ^ (1 << rng.randrange(8))]) + content[at + 1 :]
    if kind == "number":
        width = rng.choice((1, 2, 4, 8))
        number = (rng.choice(NUMBERS) & (256**width - 1)).to_bytes(width, rng.choice(("little", "big")))
        return content[:at] + number + content[at + width :]
    if kind == "token" and (word := WORD.search(content, at)):
        return content[: word.start()] + rng.choice(TOKENS) + content[word.end() :]
    length = rng.randint(1, 64 if rng.random() < 0.5 else max(n, 1))
    if kind == "truncate":
        return content[:at]
    if kind == "double":
        return content[: at + length] + content[at:]
    if kind == "splice":
        other = rng.choice(seeds)
        start = rng.randint(0, len(other))
        return content[:at] + other[start : start + length] + content[at:]
    return content[:at] + content[at + length :]


# --- readers --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Target:
    """A reader, what its files are called, the sound files to begin with, and what to ask of what it returns."""

    read: object
    name: str
    seeds: tuple
    check: object = lambda found: None


def saved(save, *arrays, **named):
    """The bytes that a function writes into a file."""
    buffer = io.BytesIO()
    save(buffer, *arrays, **named)
    return buffer.getvalue()


def originals(*names):
    """Files that other libraries wrote."""
    return tuple((FORMATS / name).read_bytes() for name in names)


def cases(*names):
    """Files in other people's layouts."""
    return tuple((CASES / name).read_bytes() for name in names)


def check_reading(found):
    """What a reader returns is a machine of finite numbers, with a finite constant."""
    machine = found.machine
    arrays = (machine.W, machine.b_left, machine.b_right) if hasattr(machine, "W") else (machine.J, machine.b)
    assert all(array.dtype == np.float64 and np.isfinite(array).all() for array in arrays)
    assert np.isfinite(found.constant)
    json.dumps(found.description, allow_nan=False)


def machine_target(name, *seeds, config=None):
    """A target of the readers of machines."""
    return Target(lambda path: read_machine(path, config), name, seeds, check_reading)


def idx(array):
    """An IDX file."""
    return struct.pack(f">4B{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


@cache
def targets():
    rng = np.random.default_rng(0)
    images = (rng.random((12, 3, 3)) < 0.5).astype(np.uint8)
    W, b, c = rng.normal(size=(3, 2)), rng.normal(size=3), rng.normal(size=2)
    amat = b"".join(b" ".join(b"%d" % x for x in row.ravel()) + b"\n" for row in images)
    rbms = gzip.decompress((FORMATS / "rbms.h5.gz").read_bytes())
    machines = {
        "npz": machine_target(
            "x.npz",
            saved(np.savez, W=W, b_left=b, b_right=c),
            saved(np.savez_compressed, J=np.triu(np.ones((3, 3)), 1), b=b),
            *originals("sparse-csr.npz", "sparse-csc.npz", "sparse-coo.npz"),
        ),
        "pytorch": machine_target("x.pt", *originals("rbm.pt", "grbm.pt", "grbm-0.1.pt")),
        "safetensors": machine_target(
            "x.safetensors",
            *originals("rbm.safetensors"),
            safetensors.numpy.save({"J": np.triu(W.T @ W, 1), "b": c}),
        ),
        "hdf5": machine_target("x.h5", rbms, *originals("rbm-v73.mat"), hdf5(W=W, b=b, c=c)),
        "matlab": machine_target(
            "x.mat", *originals("rbm-v5.mat"), mat(W=W, b=b, c=c), mat(J=coo_array(np.triu(W.T @ W, 1)), b=c)
        ),
        "structures": machine_target(
            "x.mat",
            mat(dbn={"rbm": {"W": W, "b": b, "c": c, "type": "binary"}}),
            mat(rbm=np.array([[{"W": W, "b": b, "c": c}]], object)),
        ),
        "matlab 4": machine_target(
            "x.mat",
            saved(savemat, {"W": W, "b": b, "c": c}, format="4"),
            saved(savemat, {"J": coo_array(np.triu(W.T @ W, 1)), "b": c}, format="4"),
        ),
        "json": machine_target(
            "x.json",
            (CASES / "14_bqm.json").read_bytes(),
            json.dumps({"rbm": {"W": W.tolist(), "b": b.tolist(), "c": c.tolist(), "units": "spin"}}).encode(),
        ),
        "checkpoints": machine_target(
            "x.h5", *cases("calo_training_checkpoint_epoch_00100.h5", "rbms_ii.h5", "13_group.h5")
        ),
        "state dicts": machine_target("x.pt", *cases("calo_4p.pth", "kaiwu_bm.pth", "kaiwu_qvae.pth")),
        "centred, masked": machine_target(
            "x.npz",
            *cases("03_centred.npz", "06_masked.npz", "10_dotted.npz"),
            saved(np.savez, W=W, b=b, c=c, units="spin", beta=1.0, strange=b),
        ),
        "skops": machine_target("x.skops", *originals("rbm.skops", "pipeline.skops")),
        "bqm": machine_target("x.bqm", *originals("spin-1.bqm", "spin-2.bqm", "binary-1.bqm", "binary-2.bqm")),
        "coo": machine_target("x.coo", *originals("spin.coo", "binary.coo")),
        "uai": machine_target("x.uai", *originals("markov.uai"), b"MARKOV\n2\n2 2\n1\n2 0 1\n\n4\n1 2 3 4\n"),
    }
    everything = tuple(seed for target in machines.values() for seed in target.seeds)
    own = {
        "npy": Target(containers.read_npy, "x.npy", (saved(np.save, images), saved(np.save, W.T))),
        "images": Target(
            lambda path: data.load(str(path)),
            "x.npz",
            (
                saved(np.savez, train=images, y_train=images[:, 0, 0]),
                saved(np.savez, train_images=images, val_images=images[:3], test_images=images[3:6], mean=b),
            ),
        ),
        "starts": Target(
            lambda path: read_starts(str(path)),
            "x.npz",
            (
                saved(np.savez, v=images[:, 0], h_samples=2 * images[:, 0].astype(np.int8) - 1),
                saved(np.savez, train=images, y_train=images[:, 0, 0]),
                saved(np.save, images[:, 0]),
                b"1,0,1\n0 1 1 # remark\n",
            ),
            lambda found: found.description(),
        ),
        "rows": Target(
            lambda path: read_rows(str(path)),
            "x.npz",
            (
                saved(np.savez, train=images, y_train=images[:, 0, 0]),
                saved(np.save, images[:, 0]),
                b"1,0,1\n0 1 1 # remark\n",
            ),
            lambda found: found.n_pixels,
        ),
        "reads": Target(
            read_samples,
            "x.npz",
            (
                saved(np.savez, states=images[:, 0], labels=["a", "b", "c"], occurrences=np.arange(12)),
                saved(np.savez, v_samples=images[:, 0], h_samples=images[:, 1], beta=b),
                saved(np.save, images[:, 0]),
                b"a,b,num_occurrences\n1,0,3\n0,1,2\n",
                SAMPLE_SET,
            ),
        ),
        "idx": Target(lambda path: containers.read_idx(path, 3), "x-ubyte", (idx(images),)),
        "packed idx": Target(
            lambda path: containers.read_idx(path, 3), "x.gz", (gzip.compress(idx(images), mtime=0),)
        ),
        "amat": Target(lambda path: containers.read_amat(path, 9), "x.amat", (amat,)),
        "graph": Target(lambda path: read_graph(str(path)), "x.txt", (b"0 1\n1 2 # a bond\n\n2 30\n",)),
        "model": Target(load_model, "model.pt", (small_model(),), check_model),
        "result": Target(load_result, "x.json", small_results(), lambda found: found.to_json()),
        "result lines": Target(
            load_result_lines,
            "x.jsonl",
            (b"\n".join(small_results()),),
            lambda found: [one.to_json() for one in found],
        ),
        "settings": Target(
            lambda path: (read_config(path.parent), read_settings(path)), "config.json", settings()
        ),
        "metrics": Target(read_metrics, "metrics.jsonl", (metrics(),)),
        "priors": Target(lambda path: read_priors(path, priors()[1], 2), TRAJECTORY, (priors()[0],), check_priors),
        "pictures": Target(LikelihoodImages.load, "ll.images.npz", (pictures(),)),
        "held units": Target(
            read_clamps,
            "x",
            (b"0 1\nb = -1\n# c\n", b'{"0": 1, "b": -1}', saved(np.savez, units=["a", "b"], values=[0, 1])),
        ),
        "edges of couplings": Target(
            read_edges,
            "x",
            (
                b"0 1\n1 2 {}\n# c\n",
                b'{"nodes": ["a", 1], "edges": [["a", 1]]}',
                saved(np.savez, edges=[["a", "b"]]),
            ),
            lambda found: found.labels,
        ),
        "samples": Target(SampleGrid.load, "samples.npz", (samples(),)),
        "any": machine_target("x", *everything, config=ReadConfig(units="auto")),
        "inspect": Target(
            inspect_file, "x", (*everything, small_model(), *small_results(), idx(images), amat), json.dumps
        ),
    }
    return machines | own


def mat(**arrays):
    """A MATLAB file that is not packed."""
    return saved(savemat, arrays)


def hdf5(**arrays):
    """An HDF5 file whose arrays are packed in chunks."""
    buffer = io.BytesIO()
    with h5py.File(buffer, "w", libver="latest") as file:
        for name, array in arrays.items():
            file.create_dataset(name, data=array, chunks=(1,) * array.ndim, compression="gzip", shuffle=True)
    return buffer.getvalue()


def small_config():
    """Settings of a model as small as can be."""
    model = ModelConfig(n_left=2, n_right=2, n_groups=1, encoder_hidden=(), n_layers=0, decoder_hidden=())
    return RunConfig("digits", model, TrainConfig())


@cache
def small_model():
    """A model file, as small as can be."""
    config = small_config()
    torch.manual_seed(0)
    state = DVAE(config.model, 4).state_dict()
    path = Path(os.devnull)
    with pytest.MonkeyPatch.context() as patch:
        written = []
        patch.setattr(
            "dvae_core.training.checkpoint.write_bytes", lambda path, content: written.append(bytes(content))
        )
        save_model(path, state, config, (2, 2), {"command": []})
    return written[0]


def check_model(found):
    assert all(torch.isfinite(value).all() for value in found.model.state_dict().values())


def settings():
    """The settings of a run, as its directory holds them."""
    return (json.dumps({**small_config().to_dict(), "provenance": {"command": []}}, indent=2).encode(),)


def metrics():
    """Two epochs of a run."""
    bound = {"elbo": -3.0, "reconstruction": -2.0, "kl_rbm": 1.0, "kl_continuous": []}
    names = ("seconds", "images_per_s", "learning_rate", "kl_weight", "log_z")
    epoch = {"step": 7, **dict.fromkeys(names, 1.0), "train": bound, "valid": bound, "rbm": {"max_weight": 1.0}}
    return b"".join(json.dumps({"epoch": n, **epoch}).encode() + b"\n" for n in (1, 2))


def pictures():
    """The images of a likelihood."""
    image = np.zeros((1, 2, 2), np.uint8)
    columns = {"index": np.zeros(1), "log_likelihood": np.ones(1)}
    found = LikelihoodImages(columns, np.zeros(1, np.int64), 1, image, image, image, {"seed": 0, "model": {}})
    return written(found)


def samples():
    """Samples of a model's prior."""
    return written(
        SampleGrid(
            *(np.zeros(shape, np.uint8) for shape in ((1, 1, 1, 2, 2), (1, 2, 2), (1, 2, 2))),
            {"model": {"sha256": "5e"}},
        )
    )


def written(thing):
    """The bytes of what saves itself into a file."""
    with tempfile.TemporaryDirectory() as folder:
        thing.save(Path(folder) / "x")
        return (Path(folder) / "x").read_bytes()


@cache
def small_results():
    """A result file of every kind."""
    log_z = estimate_log_z(BipartiteMachine.from_arrays([[1.0]], [0.0], [0.5]))
    shared = {f.name: getattr(log_z, f.name) for f in fields(Result)}
    numbers = {"log_likelihood": -1.0, "std_err_images": 0.1, "std_err_log_z": 0.0, "elbo": -2.0, "log_z": 1.0}
    parts = {"elbo_parts": {"kl": 1.0}, "per_image": {"index": [0.0], "log_likelihood": [-1.0], "ess": [2.0]}}
    sizes = {"n_samples": 2, "n_images": 1}
    estimators = {"dvae": {"terms": {"elbo": {"variance": 1.0, "snr": 2.0}}}}
    results = (
        log_z,
        LikelihoodResult(**shared, **numbers, **parts, **sizes, log_z_source="here"),
        GradientResult(**shared, **sizes, estimators=estimators, reference={}, n_units=2),
    )
    return tuple(result.to_json().encode() for result in results)


def priors():
    """Return a file of priors along a training, and the machine at its end."""
    shapes = {"W": (3, 3, 2), "b_left": (3, 3), "b_right": (3, 2)}
    arrays = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
    buffer = io.BytesIO()
    np.savez(buffer, steps=np.array([0, 10, 30]), steps_per_epoch=np.array(12), **arrays)
    return buffer.getvalue(), BipartiteMachine.from_arrays(np.ones((3, 2)), np.zeros(3), np.zeros(2))


def check_priors(found):
    """Machines of one shape, and steps that rise."""
    assert all(np.isfinite(exact_log_z(machine)) for machine in found.machines)
    assert list(found.steps) == sorted(set(found.steps))


# --- the test -------------------------------------------------------------------------------------------------


@pytest.fixture
def bounded():
    """Let nothing take more than ROOM of address space, or hang for ever."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    statm = Path("/proc/self/statm")
    used = int(statm.read_text().split()[0]) * resource.getpagesize() if statm.exists() else 0
    if used:
        resource.setrlimit(resource.RLIMIT_AS, (used + ROOM, hard))
    yield
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
    faulthandler.cancel_dump_traceback_later()


def give(target, number, path):
    """Give a reader the input of that number; return what became of it."""
    path.write_bytes(tampered(random.Random(number), target.seeds))
    before = time.process_time()
    refusal = None
    try:
        found = target.read(path)
    except DvaeError as error:
        refusal = error
    if refusal is None:
        target.check(found)
    else:
        assert str(refusal).splitlines() == [str(refusal)]
        assert len(str(refusal)) < 1500
        assert not isinstance(refusal.__cause__, MemoryError)
    assert os.listdir(path.parent) == [path.name]
    assert time.process_time() - before < SECONDS
    return "read" if refusal is None else "refused"


def fuzz(target, numbers, path):
    """Give a reader the inputs of these numbers; return how often what became of them."""
    counts = Counter()
    for n, number in enumerate(numbers):
        if n % 100 == 0:
            faulthandler.dump_traceback_later(PATIENCE, exit=True)
        try:
            counts[give(target, number, path)] += 1
        except Exception as error:
            error.add_note(f"input {number}; to repeat it: make fuzz FIRST={number} FUZZ=1")
            raise
    return counts


@pytest.mark.parametrize("name", targets())
def test_tampered_files_are_read_soundly_or_refused_in_one_line(name, tmp_path, bounded):
    target = targets()[name]
    path = tmp_path / target.name
    for seed in target.seeds:  # sound to begin with
        path.write_bytes(seed)
        target.check(target.read(path))
    if N_INPUTS:
        counts = fuzz(target, range(FIRST, FIRST + N_INPUTS), path)
        print(f"{name}: {counts.total()} inputs, {counts['read']} read, {counts['refused']} refused")
        return

    @hypothesis.settings(
        max_examples=N_SHORT, deadline=None, database=None, derandomize=True, phases=[Phase.generate]
    )
    @hypothesis.given(st.integers(0, 2**32 - 1))
    def tamper(number):
        give(target, number, path)

    tamper()


def test_a_reader_that_trusts_its_input_is_found_out(tmp_path):
    """The harness at work: a reader that takes a length at its word."""

    def trusting(path):
        content = path.read_bytes()
        return np.frombuffer(content[4:], "<f8", int.from_bytes(content[:4], "little"))

    target = Target(trusting, "x", (struct.pack("<I2d", 2, 1.0, 2.0),))
    with pytest.raises(ValueError, match=r"buffer|bytes|size") as caught:
        fuzz(target, range(200), tmp_path / "x")
    assert re.fullmatch(r"input \d+; to repeat it: make fuzz FIRST=\d+ FUZZ=1", *caught.value.__notes__)


def test_seeds_are_models_whose_log_z_is_known():
    """The corpus is not made of files that are refused anyway."""
    assert len(targets()["any"].seeds) > 15
    reading = read_machine(FORMATS / "spin-1.bqm")
    assert np.isfinite(exact_log_z(reading.machine) + reading.constant)
