"""Files that are damaged, absurd or hostile: one line, quickly, in little memory, and nothing runs."""

import gzip
import io
import os
import pickle
import resource
import struct
import sys
import tracemalloc
import zipfile
import zlib
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.sparse
import torch
from scipy.io import savemat

from dvae_core.errors import CheckpointError, ConfigError, DataError, DvaeError
from dvae_core.io import containers
from dvae_core.io.torch_files import read_torch
from dvae_core.training.checkpoint import load_model
from dvae_eval import couplings, machine
from dvae_eval.readers import ReadConfig, read_machine, sparse
from tests.places import FORMATS

SMALL = 64 << 20  # bytes that reading a small file may take, PyTorch's import aside
W, B, C = np.ones((3, 2)), np.zeros(3), np.zeros(2)


def refused(path, message=".", config=None, error=DvaeError):
    """Read a file that must be refused, in one line that names it and in little memory; return the line."""
    tracemalloc.start()
    with pytest.raises(error, match=message) as caught:
        read_machine(path, config)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < SMALL
    line = str(caught.value)
    assert "\n" not in line
    assert path.name in line
    assert len(line) < 1000
    return line


# --- arrays that are no machine -------------------------------------------------------------------------------

BAD_ARRAYS = {
    "only biases": ({"b_left": B, "b_right": C}, "no W"),
    "one bias": ({"W": W, "b_left": B}, "b_left but no b_right"),
    "no bias": ({"W": W}, "no b_left"),
    "two pairs": ({"W": W, "b_left": B, "b_right": C, "b": B, "c": C}, "keep one pair"),
    "two weights": ({"W": W, "weights": W, "b_left": B, "b_right": C}, "both W and weights"),
    "J and W": ({"J": np.zeros((3, 3)), "W": W, "b": B}, "both J and W"),
    "no shape fits": ({"W": W, "b_left": np.zeros(7), "b_right": C}, "b_left has shape"),
    "empty side": ({"W": np.zeros((3, 0)), "b_left": B, "b_right": np.zeros(0)}, "at least 1"),
    "nothing at all": ({"W": np.zeros((0, 0)), "b_left": np.zeros(0), "b_right": np.zeros(0)}, "at least 1"),
    "no axes": ({"W": np.float64(3), "b_left": B, "b_right": C}, "W has shape"),
    "three axes": ({"W": np.zeros((3, 2, 2)), "b_left": B, "b_right": C}, "W has shape"),
    "nan": ({"W": W * np.nan, "b_left": B, "b_right": C}, "nan or infinite"),
    "inf": ({"W": W, "b_left": B + np.inf, "b_right": C}, "nan or infinite"),
    "complex": ({"W": W * 1j, "b_left": B, "b_right": C}, "complex128"),
    "text": ({"W": W.astype("S3"), "b_left": B, "b_right": C}, "S3"),
    "dates": ({"W": W.astype("M8[s]"), "b_left": B, "b_right": C}, "datetime"),
    "wide floats that overflow": ({"W": W * np.longdouble("1e4000"), "b_left": B, "b_right": C}, "infinite"),
    "two constants": ({"W": W, "b_left": B, "b_right": C, "constant": np.zeros(2)}, "a single number"),
    "constant nan": ({"W": W, "b_left": B, "b_right": C, "constant": np.nan}, "nan or infinite"),
    "diagonal": ({"J": np.eye(3), "b": B}, "diagonal"),
    "not square": ({"J": np.zeros((3, 2)), "b": B}, "J has shape"),
    "J without axes": ({"J": np.zeros(3), "b": B}, "J has shape"),
    "long b": ({"J": np.zeros((3, 3)), "b": np.zeros(4)}, "b has shape"),
    "J without b": ({"J": np.zeros((3, 3))}, "no b"),
}


@pytest.mark.parametrize("name", BAD_ARRAYS)
def test_arrays_that_make_no_machine(tmp_path, name):
    arrays, message = BAD_ARRAYS[name]
    np.savez(tmp_path / "m.npz", **arrays)
    refused(tmp_path / "m.npz", message)


SPARSE = {
    "format": np.bytes_("csr"),
    "shape": np.array([3, 3]),
    "data": np.ones(2),
    "indices": np.array([1, 2]),
    "indptr": np.array([0, 1, 2, 2]),
}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": np.bytes_("dia")}, "tocsr"),
        ({"format": np.array([], "S3")}, "tocsr"),
        ({"format": np.int64(3)}, "tocsr"),
        ({"format": np.bytes_("coo")}, "without row"),
        ({"shape": np.array([10**12, 10**12])}, "J has shape"),
        ({"shape": np.array([10**9, 10**9])}, "an index that does not fit"),
        ({"shape": np.array([-3, 3])}, "J has shape"),
        ({"shape": np.array([3])}, "J has shape"),
        ({"shape": np.array([3.0, 3.0])}, "shape"),
        ({"indices": np.array([1, 3])}, "outside its shape"),
        ({"indices": np.array([1, -1])}, "outside its shape"),
        ({"indices": np.array([1.0, 2.0])}, "indices"),
        ({"indices": np.array([1])}, "does not fit"),
        ({"indptr": np.array([0, 2, 1, 2])}, "does not fit"),
        ({"indptr": np.array([0, 1, 2])}, "does not fit"),
        ({"indptr": np.array([], int)}, "does not fit"),
        ({"data": np.ones(5)}, "entries"),
        ({"data": np.ones(2) * 1j}, "complex"),
        ({"J": np.zeros((3, 3))}, "both J and a sparse matrix"),
        ({"b": np.zeros(2)}, "b has shape"),
        ({"format": np.bytes_("csc"), "indices": np.array([0, 0]), "indptr": np.array([0, 0, 2, 2])}, None),
    ],
)
def test_sparse_matrices_that_do_not_hold_together(tmp_path, change, message):
    np.savez(tmp_path / "m.npz", **SPARSE | change)
    if message is None:  # one place twice: added
        assert read_machine(tmp_path / "m.npz").machine.W.tolist() == [[2.0, 0.0]]
    else:
        refused(tmp_path / "m.npz", message)


# --- what is no model -----------------------------------------------------------------------------------------


class Hostile:
    """Runs a command when it is unpickled."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return os.mkdir, (str(self.trace),)


def test_hostile_pickles_do_not_run(tmp_path):
    trace = tmp_path / "ran"
    (tmp_path / "m.pkl").write_bytes(pickle.dumps({"W": Hostile(trace)}))
    refused(tmp_path / "m.pkl", "can run anything")
    torch.save({"W": torch.ones(2, 2), "b": Hostile(trace)}, tmp_path / "m.pt")
    refused(tmp_path / "m.pt", "more than tensors and plain values")
    torch.save({"W": Hostile(trace)}, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    refused(tmp_path / "old.pt", "can run anything")
    np.savez(tmp_path / "m.npz", W=np.array([[Hostile(trace)]]), b_left=B, b_right=C)
    refused(tmp_path / "m.npz", "object")
    with pytest.raises(CheckpointError, match=r"m\.pt"):
        load_model(tmp_path / "m.pt")
    assert not trace.exists()
    # The files do run when they are loaded the way that is refused.
    pickle.loads((tmp_path / "m.pkl").read_bytes())
    assert trace.exists()


def test_what_is_recognised_and_refused(tmp_path):
    for content, message in (
        (b"", "empty"),
        (b"\x93NUMPY\1\0", "a single array"),
        (b"\x1f\x8b" + bytes(20), "gzip"),
        (b"{}", "JSON"),
        (b"\xff" * 100, "no known format"),
        (b"PK\3\4" + bytes(100), "has no end"),
        (b"0 1 0 1 1\n1 0 0 0 1\n", "images"),
        (b"\0\0\x08\3" + bytes(12), "images"),
    ):
        (tmp_path / "file").write_bytes(content)
        refused(tmp_path / "file", message, error=DataError)
    refused(tmp_path / "nowhere", "no such file")
    (tmp_path / "folder.npz").mkdir()
    refused(tmp_path / "folder.npz", "not a regular file")
    os.mkfifo(tmp_path / "pipe.npz")
    refused(tmp_path / "pipe.npz", "not a regular file")  # and does not wait for a writer
    with zipfile.ZipFile(tmp_path / "file", "w") as archive:
        archive.writestr("readme.txt", "hello")
    refused(tmp_path / "file", "archive of unknown kind")


def test_every_truncation_of_every_format_is_refused_or_the_same(tmp_path):
    """Cut anywhere, a file must not be read as another model: labels at its end are all that may be lost."""
    for original in sorted(FORMATS.iterdir()):
        if original.suffix in (".json", ".py", ".md", ".gz") or original.name == "pipeline.skops":
            continue
        content, path = original.read_bytes(), tmp_path / original.name
        whole = read_machine(original)
        cuts = sorted({len(content) * part // 24 for part in range(24)} | {len(content) - 1})
        for cut in cuts:
            path.write_bytes(content[:cut])
            try:
                found = read_machine(path)
            except DvaeError as error:
                lines = str(error).splitlines()
            else:
                lines = [""]
                # Text has no end but its last number, which may be cut, and a BQM's labels come last.
                assert original.suffix in (".coo", ".bqm", ".uai")
                assert original.suffix != ".bqm" or found.machine.sha256 == whole.machine.sha256
            assert len(lines) == 1


# --- archives -------------------------------------------------------------------------------------------------


def npy_header(shape, dtype="<f8"):
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": dtype, "fortran_order": False, "shape": shape})
    return buffer.getvalue()


def bomb(path, members, n_bytes, block=1 << 20):
    """Write an archive whose members are zeros without end, packed to a thousandth."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, head in members.items():
            with archive.open(name, "w", force_zip64=True) as stream:
                stream.write(head)
                for _ in range((n_bytes - len(head)) // block):
                    stream.write(bytes(block))


def test_zip_bombs_are_refused_before_they_unpack(tmp_path, monkeypatch):
    monkeypatch.setattr(containers, "LIMIT_BYTES", SMALL // 2)
    n = SMALL // 4  # float64 values: four times what is allowed
    bomb(tmp_path / "m.npz", {"W.npy": npy_header((n, 1))}, 8 * n)
    assert (tmp_path / "m.npz").stat().st_size < n // 50
    refused(tmp_path / "m.npz", f"more than {SMALL // 2} bytes")


def test_headers_that_claim_more_than_there_is(tmp_path):
    for shape in [(2**40, 2**40), (2**62, 4), (-1, -8), (0, 2**70), (10**400, 0)]:
        with zipfile.ZipFile(tmp_path / "m.npz", "w") as archive:
            archive.writestr("W.npy", npy_header(shape) + bytes(64))
            archive.writestr("b_left.npy", npy_header((0,)))
            archive.writestr("b_right.npy", npy_header((0,)))
        refused(tmp_path / "m.npz")
    head = b"\x93NUMPY\2\0" + struct.pack("<I", 10**9)
    bomb(tmp_path / "m.npz", {"W.npy": head, "b_left.npy": npy_header((0,)), "b_right.npy": npy_header((0,))}, 999)
    refused(tmp_path / "m.npz", "header claims")


@pytest.fixture
def bounded():
    """Let nothing take more than 1 GiB of address space beside what is there."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + (1 << 30), hard))
    yield
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


needs_proc = pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="Linux tells the size of a process")


@needs_proc
def test_small_files_that_would_become_large_arrays(tmp_path, bounded, monkeypatch):
    """Units that have neither bond nor bias, and bytes that would become float64."""
    for n in (2**31 - 1, 1 << 23):
        shape, one = np.array([n, n]), np.ones(1, int)
        np.savez(tmp_path / "m.npz", format=np.bytes_("coo"), shape=shape, row=0 * one, col=one, data=1.0 * one)
        refused(tmp_path / "m.npz", f"{n} units, which are too many")
    monkeypatch.setattr(machine, "MAX_UNITS", 1000)
    (tmp_path / "m.uai").write_text("MARKOV\n2000\n" + "2 " * 2000 + "\n0\n")
    refused(tmp_path / "m.uai", "2000 units, which are too many")
    monkeypatch.setattr(containers, "LIMIT_VALUES", 1000)
    np.savez_compressed(
        tmp_path / "m.npz", W=np.zeros((2000, 1), np.uint8), b_left=np.zeros(2), b_right=np.zeros(1)
    )
    refused(tmp_path / "m.npz", "more than 1000 values")
    hdf5(tmp_path / "m.h5", W=np.zeros((2000, 1), np.uint8))
    refused(tmp_path / "m.h5", "more than 1000 values")


def test_complex_and_sparse_matlab_matrices_take_no_more_room_than_they_have(tmp_path, monkeypatch):
    savemat(tmp_path / "m.mat", {"W": 1j * np.ones((300, 300)), "b": np.zeros(300), "c": np.zeros(300)})
    refused(tmp_path / "m.mat", "complex")
    monkeypatch.setattr(sparse, "LIMIT_ENTRIES", 3)
    savemat(tmp_path / "m.mat", {"J": scipy.sparse.csc_array(np.triu(np.ones((4, 4)), 1)), "b": np.zeros(4)})
    refused(tmp_path / "m.mat", "sparse matrix of more than 3 entries")


def test_archives_with_paths_that_lead_out_are_refused_and_write_nothing(tmp_path):
    (tmp_path / "in").mkdir()
    for name in ("../W.npy", "/W.npy", "a/../../W.npy"):
        path = tmp_path / "in" / "m.npz"
        np.savez(path, W=W, b_left=B, b_right=C)
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr(name, b"outside")
        refused(path, "leads outside the archive")
    assert {p.name for p in tmp_path.rglob("*")} == {"in", "m.npz"}


def test_names_that_are_no_unicode(tmp_path):
    np.savez(tmp_path / "m.npz", W=W, b_left=B, b_right=C, other=C)
    content = (tmp_path / "m.npz").read_bytes().replace(b"other", b"oth\xff\xfe")
    (tmp_path / "m.npz").write_bytes(content)
    assert read_machine(tmp_path / "m.npz").machine.n_units == 5
    strange = tmp_path / os.fsdecode(b"m\xff.npz")
    strange.write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError):
        read_machine(strange)


def test_an_archive_with_two_entries_of_one_name(tmp_path):
    np.savez(tmp_path / "m.npz", W=W, b_left=B, b_right=C)
    with zipfile.ZipFile(tmp_path / "m.npz", "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("W.npy", npy_header((3, 2)) + bytes(48))
    refused(tmp_path / "m.npz", "two entries with the same name")


# --- PyTorch --------------------------------------------------------------------------------------------------


def rewritten(path, change, compress=zipfile.ZIP_STORED):
    """Write a file of torch.save again with the content of an entry changed."""
    with zipfile.ZipFile(path) as archive:
        entries = {entry.filename: archive.read(entry) for entry in archive.infolist()}
    with zipfile.ZipFile(path, "w", compress) as archive:
        for name, content in entries.items():
            archive.writestr(name, change(name, content))


@pytest.fixture
def state(tmp_path):
    path = tmp_path / "m.pt"
    torch.save({"W": torch.ones(3, 2), "b": torch.zeros(3), "c": torch.zeros(2)}, path)
    return path


def test_a_tensor_that_claims_more_than_the_file_has(state):
    # A view of 2^20 x 2 numbers of six: the storage, its size and the strides are 6, (3, 2) and (2, 1).
    shape = b"K\x03K\x02\x86"
    rewritten(state, lambda name, x: x.replace(shape, b"J\0\0\x10\0K\x02\x86") if "pkl" in name else x)
    refused(state, "more than tensors")


def test_a_view_larger_than_the_file(state):
    torch.save({"W": torch.ones(1).expand(10**6, 10**6), "b": torch.zeros(3), "c": torch.zeros(2)}, state)
    refused(state, r"a tensor of \(1000000, 1000000\) in")


def test_packed_entries_and_flipped_bits(state):
    content = bytearray(state.read_bytes())
    place = content.index(np.ones(6, "<f4").tobytes())
    content[place + 2] ^= 1
    state.write_bytes(content)
    refused(state, "checksum")
    content[place + 2] ^= 1
    state.write_bytes(content)
    rewritten(state, lambda name, x: x, zipfile.ZIP_DEFLATED)
    refused(state, "compressed entry")


def test_a_billion_lists_in_a_few_bytes(state):
    """Lists within lists, each twice: plain data that takes for ever to walk through twice."""
    double = (b"](h" + bytes([i]) + b"h" + bytes([i]) + b"eq" + bytes([i + 1]) for i in range(60))
    laughs = b"\x80\x02]q\0" + b"".join(double) + b"."
    rewritten(state, lambda name, x: laughs if name.endswith("data.pkl") else x)
    assert isinstance(read_torch(state), list)
    refused(state, "contains a list")


def test_tensors_that_are_no_plain_numbers(state):
    for tensor in (torch.eye(3).to_sparse(), torch.empty(3, 3, device="meta")):
        torch.save({"W": tensor, "b": torch.zeros(3), "c": torch.zeros(3)}, state)
        refused(state)
    torch.save([1, 2], state)
    refused(state, "contains a list")
    torch.save({"a": {"W": torch.ones(2)}}, state)
    refused(state, "no machine")
    two = {f"{part}.{name}": x for part in "xy" for name, x in torch.load(FORMATS / "grbm.pt").items()}
    torch.save(two, state)
    refused(state, "contains 2 machines")


# --- MATLAB, HDF5 and safetensors -----------------------------------------------------------------------------


def test_matlab_variables_that_unpack_without_end(tmp_path, monkeypatch):
    savemat(tmp_path / "m.mat", {"W": W, "b": B, "c": C})
    content = (tmp_path / "m.mat").read_bytes()
    n_bytes = struct.unpack_from("<I", content, 132)[0] + (200 << 20)
    packed = zlib.compress(content[128:132] + struct.pack("<I", n_bytes) + content[136:] + bytes(200 << 20), 9)
    (tmp_path / "m.mat").write_bytes(content[:128] + struct.pack("<2I", 15, len(packed)) + packed)
    monkeypatch.setattr(containers, "LIMIT_BYTES", 1 << 20)
    refused(tmp_path / "m.mat", "limit of 1048576")


@pytest.mark.parametrize(("place", "value"), [(132, 2**32 - 1), (132, 7), (136, 9), (152, 77), (164, 2**31 - 1)])
def test_matlab_lengths_that_do_not_fit(tmp_path, place, value):
    """The lengths of a variable, of its flags and shape, and the shape itself."""
    savemat(tmp_path / "m.mat", {"W": W, "b": B, "c": C})
    content = bytearray((tmp_path / "m.mat").read_bytes())
    struct.pack_into("<I", content, place, value)
    (tmp_path / "m.mat").write_bytes(content)
    refused(tmp_path / "m.mat", "no MATLAB file")


def test_matlab_values_that_are_no_numbers(tmp_path):
    for bad, message in (("text", "no W"), ({"x": 1}, "no W"), (W * 1j, "complex")):
        savemat(tmp_path / "m.mat", {"W": bad, "b": B, "c": C})
        refused(tmp_path / "m.mat", message)


def hdf5(path, **arrays):
    with h5py.File(path, "w") as file:
        for name, array in ({"W": W, "b": B, "c": C} | arrays).items():
            if array is not None:
                file[name] = array
    return path


def test_hdf5_links_into_other_files_are_not_followed(tmp_path):
    secret = hdf5(tmp_path / "secret.h5")
    for link in (h5py.ExternalLink(str(secret), "/W"), h5py.SoftLink("/b")):
        path = hdf5(tmp_path / "m.h5", W=link)
        refused(path, "no W")
    layout = h5py.VirtualLayout((3, 2), "f8")
    layout[:] = h5py.VirtualSource(str(secret), "W", (3, 2))
    path = hdf5(tmp_path / "m.h5", W=None)
    with h5py.File(path, "a") as file:
        file.create_virtual_dataset("W", layout)
    refused(path, "is stored in another file")
    path = hdf5(tmp_path / "m.h5", W=None)
    with h5py.File(path, "a") as file:
        file.create_dataset("W", (3, 2), "f8", external=[(str(secret), 0, 48)])
    refused(path, "is stored in another file")


def test_hdf5_arrays_that_claim_more_than_there_is(tmp_path):
    path = hdf5(tmp_path / "m.h5", W=None)
    with h5py.File(path, "a") as file:
        file.create_dataset("W", (2**20, 2**20), "f8", chunks=(64, 64), compression="gzip")
    refused(path, "more than 2147483648 bytes")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"W": np.array([b"text"] * 3)}, "array of numbers"),
        ({"W": h5py.Empty("f8")}, "array of numbers"),
        ({"W": W * np.nan}, "nan"),
        ({"update_3": np.zeros(2)}, "is not a group"),
    ],
)
def test_hdf5_values_that_are_no_arrays(tmp_path, change, message):
    refused(hdf5(tmp_path / "m.h5", **change), message)


def test_archives_of_rbms_of_another_kind(tmp_path):
    path = tmp_path / "rbms.h5"
    for kind, message in (("PBRBM", "type 'PBRBM'"), (3, "type '3'"), (np.zeros(3), "is not a text")):
        path.write_bytes(gzip.decompress((FORMATS / "rbms.h5.gz").read_bytes()))
        with h5py.File(path, "a") as file:
            del file["model_type"]
            file["model_type"] = kind
        refused(path, message)


def test_safetensors_headers(tmp_path):
    claim = b'{"W":{"dtype":"F64","shape":[99999999,999],"data_offsets":[0,8]}}'
    for header in (b"{}", claim, b"[" * 1000, b'{"W":3}'):
        path = tmp_path / "m.safetensors"
        path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(8))
        refused(path)
    path.write_bytes(struct.pack("<Q", 2**60) + b"{" + bytes(100))
    refused(path, "not a safetensors file")


# --- dimod ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ((b"DIMODBQM\1", b"DIMODBQM\3"), "version 1 or 2"),
        ((b'"SPIN"', b'"SPUN"'), "vartype 'SPUN'"),
        ((b"float32", b"complex"), "dtype 'complex'"),
        ((b"[6, 13]", b"[6, 14]"), "truncated"),
        ((b"[6, 13]", b"[6, -3]"), "truncated"),
        ((b"[6, 13]", b"[9e9,1]"), "shape"),
        ((b"[6, 13]", b"[6, 12]"), "do not fit|differs|bond"),
    ],
)
def test_damaged_bqm_files(tmp_path, change, message):
    content = (FORMATS / "spin-1.bqm").read_bytes()
    assert change[0] in content
    (tmp_path / "m.bqm").write_bytes(content.replace(*change, 1))
    refused(tmp_path / "m.bqm", message)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("# vartype=SPIN\n0 1 x\n", "is not a number"),
        ("# vartype=SPIN\n0 1\n", "not 'i j bias'"),
        ("# vartype=SPIN\n-1 1 2\n", "not 'i j bias'"),
        ("# vartype=SPIN\n", "no line"),
        ("# vartype=SPIN\n# vartype=BINARY\n0 1 2\n", "once"),
        ("# vartype=DISCRETE\n0 1 2\n", "give SPIN or BINARY"),
        ("# vartype=SPIN\n0 1 nan\n", "nan"),
        ("# vartype=SPIN\n0 1 1e999\n", "infinite"),
        ("# vartype=SPIN\n0 99999999999999999999 1\n", "not 'i j bias'"),
    ],
)
def test_bad_coordinates(tmp_path, text, message):
    (tmp_path / "m.coo").write_text(text)
    refused(tmp_path / "m.coo", message)


# --- machines that are too large, and libraries that are not there --------------------------------------------


def test_machines_too_large_for_a_table_are_read_as_bonds_and_need_be_sparse(tmp_path, monkeypatch):
    n = 40_000  # a star of three arms and a triangle: not bipartite
    lines = ["# vartype=SPIN", "0 1 1", "1 2 1", "0 2 1", *(f"{i} {i} 0.5" for i in range(3, n))]
    (tmp_path / "m.coo").write_text("\n".join(lines))
    assert read_machine(tmp_path / "m.coo").machine.J.shape == (n, n)
    monkeypatch.setattr(couplings, "SPARSE_FILL", 0.0)
    refused(tmp_path / "m.coo", "too large")


@pytest.mark.parametrize(("library", "name"), [("h5py", "rbm-v73.mat"), ("safetensors", "rbm.safetensors")])
def test_a_missing_library_is_named_with_its_extra(monkeypatch, library, name):
    monkeypatch.setitem(sys.modules, library, None)
    refused(FORMATS / name, rf"needs {library}; .*pip install {library}", error=ConfigError)


def test_options_outside_their_limits():
    for bad in ({"units": "±1"}, {"rows": "up"}, {"beta": 0.0}, {"beta": float("nan")}, {"update": -1}):
        with pytest.raises(ConfigError):
            ReadConfig(**bad)
