"""Downloads, from a server on this machine: what arrives is checked, and what fails is told in one line."""

import dataclasses
import hashlib
import os
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pooch
import pytest

from dvae_core import data
from dvae_core.data import caltech, fetch, public
from dvae_core.errors import DataError

CONTENT = bytes(range(256)) * 1000
SIZE = len(CONTENT)


class Handler(BaseHTTPRequestHandler):
    """Serves /good, /altered, /short (fewer bytes than announced), /long; anything else is not found."""

    def do_GET(self):
        pages = {"/good": CONTENT, "/altered": CONTENT[:-1] + b"x", "/short": CONTENT[:-500], "/long": CONTENT * 2}
        pages |= getattr(self.server, "pages", {})
        self.server.requests.append((self.path, self.headers["Accept-Encoding"]))
        if self.path not in pages:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT) if self.path == "/short" else len(pages[self.path])))
        self.end_headers()
        self.wfile.write(pages[self.path])

    def log_message(self, *args):
        pass


@pytest.fixture
def server(monkeypatch):
    for variable in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.requests = []
        server.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def remote(*urls, n_bytes=SIZE, algorithm="sha256"):
    return fetch.Remote("images.bin", urls, f"{algorithm}:{hashlib.new(algorithm, CONTENT).hexdigest()}", n_bytes)


def refused(folder, *urls, n_bytes=SIZE):
    """Return the message of a download that must fail and leave nothing behind."""
    with pytest.raises(DataError) as caught:
        fetch.fetch(remote(*urls, n_bytes=n_bytes), folder, quiet=True)
    assert list(folder.iterdir()) == []
    message = str(caught.value)
    assert "\n" not in message
    assert all(part in message for part in ("images.bin", *urls, str(folder), "DVAE_DATA_DIR"))
    return message


@pytest.mark.parametrize("algorithm", ["sha256", "md5"])
@pytest.mark.parametrize("n_bytes", [SIZE, None])
def test_a_good_file_arrives_whole(server, tmp_path, algorithm, n_bytes):
    folder = tmp_path / "made" / "on demand"
    path = fetch.fetch(remote(f"{server.url}/good", n_bytes=n_bytes, algorithm=algorithm), folder, quiet=True)
    assert path == folder / "images.bin"
    assert path.read_bytes() == CONTENT
    assert list(folder.iterdir()) == [path]
    assert server.requests == [("/good", "identity")]


def test_mirrors_are_tried_in_order(server, tmp_path):
    urls = [f"{server.url}/{page}" for page in ("none", "altered", "short", "long", "good", "never")]
    path = fetch.fetch(remote(*urls), tmp_path, quiet=True)
    assert path.read_bytes() == CONTENT
    assert [page for page, _ in server.requests] == ["/none", "/altered", "/short", "/long", "/good"]


def test_an_altered_file_is_refused_with_both_digests(server, tmp_path):
    message = refused(tmp_path, f"{server.url}/altered")
    assert hashlib.sha256(CONTENT).hexdigest() in message
    assert hashlib.sha256(CONTENT[:-1] + b"x").hexdigest() in message


@pytest.mark.parametrize(
    ("page", "reason"),
    [("none", "HTTP 404"), ("short", "(ChunkedEncodingError)"), ("long", "more than 256000 bytes")],
)
def test_reasons_are_told(server, tmp_path, page, reason):
    assert reason in refused(tmp_path, f"{server.url}/{page}")


def test_a_short_file_of_the_announced_length(server, tmp_path):
    server.pages = {"/brief": CONTENT[:7]}
    assert "7 bytes, expected 256000" in refused(tmp_path, f"{server.url}/brief")


def test_a_file_of_unknown_size_has_a_limit(server, tmp_path, monkeypatch):
    monkeypatch.setattr(fetch, "LIMIT_BYTES", 1000)
    assert "more than 1000 bytes" in refused(tmp_path, f"{server.url}/good", n_bytes=None)


def test_no_network_names_every_address(server, tmp_path):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        closed = f"http://127.0.0.1:{unused.getsockname()[1]}/x"
        message = refused(tmp_path, f"{server.url}/none", closed)
    assert "(ConnectionError)" in message
    assert "save it in" in message


def test_a_folder_that_cannot_be_written_is_not_blamed_on_the_network(server, tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    with pytest.raises(DataError, match=r"cannot be written .* set DVAE_DATA_DIR"):
        fetch.fetch(remote(f"{server.url}/good"), blocked, quiet=True)
    assert server.requests == []


def test_progress_goes_to_standard_error_unless_quiet(server, tmp_path, capsys):
    fetch.fetch(remote(f"{server.url}/good"), tmp_path, quiet=True)
    assert capsys.readouterr() == ("", "")
    fetch.fetch(remote(f"{server.url}/good"), tmp_path)
    out, err = capsys.readouterr()
    assert out == ""
    assert "images.bin" in err


def test_the_cache_is_used_where_no_folder_is_set(monkeypatch):
    monkeypatch.delenv("DVAE_DATA_DIR", raising=False)
    assert fetch.data_folder() == pooch.os_cache("dvae-toolkit")


@pytest.mark.skipif(os.environ.get("DVAE_DATA_DIR") is None, reason="DVAE_DATA_DIR is not set: no file to serve")
def test_a_public_data_set_is_downloaded_once(server, tmp_path, monkeypatch):
    name = caltech.CALTECH_MAT.name
    server.pages = {f"/{name}": (Path(os.environ["DVAE_DATA_DIR"]) / "raw" / name).read_bytes()}
    here = dataclasses.replace(caltech.CALTECH_MAT, urls=(f"{server.url}/none", f"{server.url}/{name}"))
    local = dataclasses.replace(caltech.CALTECH101, remotes=(here,))
    expected = data.load("caltech101").digest()
    monkeypatch.setenv("DVAE_DATA_DIR", str(tmp_path))
    for _ in range(2):
        assert public.load_public(local, quiet=True).digest() == expected
    assert [page for page, _ in server.requests] == ["/none", f"/{name}"]
