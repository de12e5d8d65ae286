"""What is fetched of a repository, from a small hub on this machine."""

from __future__ import annotations

import hashlib
import json
import shutil
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from iclora.errors import MissingModel
from iclora.models.loaded import unload_models
from iclora.models.locate import locate
from iclora.models.tokens import load_token_counter

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(BaseHTTPRequestHandler):
    """Serves ``server.files`` as the one repository ``some/base``, and notes what is asked for."""

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        if path == "/api/models/some/base/revision/main":
            self.answer(json.dumps({"id": "some/base", "sha": COMMIT, "siblings": []}).encode())
        elif path == f"/api/models/some/base/tree/{COMMIT}":
            self.answer(json.dumps([self.entry(name) for name in self.server.files]).encode())
        elif path.startswith(f"/some/base/resolve/{COMMIT}/"):
            name = path.removeprefix(f"/some/base/resolve/{COMMIT}/")
            if self.command == "GET":
                self.server.sent.append(name)
            self.answer(self.server.files[name])
        else:
            self.send_error(404)

    def entry(self, name):
        data = self.server.files[name]
        return {"type": "file", "path": name, "size": len(data), "oid": etag(data)}

    def answer(self, data: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("ETag", f'"{etag(data)}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data)

    def log_message(self, *_):
        pass


def etag(data):
    return hashlib.sha1(data, usedforsecurity=False).hexdigest()


def pipeline(folder: Path) -> dict[str, bytes]:
    """The miniature FLUX as it would lie on the hub, with its transformer once more in one file."""
    files = {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    return {**files, "whole-base.safetensors": b"the same again", "unsafe.bin": b"pickled"}


def point_at(address, monkeypatch):
    """Makes the client believe that the hub is there."""
    from huggingface_hub import constants

    template = "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + template)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty hub cache; nothing is listening where the hub would be."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    point_at("http://127.0.0.1:9", monkeypatch)
    unload_models()
    return tmp_path / "hub" / "models--some--base"


@pytest.fixture
def hub(cache, family, monkeypatch):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.files, server.sent = pipeline(family / "flux"), []
    point_at(f"http://127.0.0.1:{server.server_port}", monkeypatch)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def weights(names):
    return {name for name in names if name.endswith(".safetensors")}


def test_counting_tokens_fetches_no_weights_and_training_fetches_the_rest(hub):
    assert load_token_counter("some/base")("a story of waving") == 5
    assert not weights(hub.sent)
    first = set(hub.sent)
    assert "tokenizer_2/tokenizer.json" in first

    found = locate("some/base")  # what is here must not pass for the whole
    assert found.revision == COMMIT
    ours = weights(hub.files) - {"whole-base.safetensors"}
    assert set(hub.sent) == first | ours
    assert len(hub.sent) == len(set(hub.sent))  # nothing twice
    for name in ours:
        assert (found.folder / name).read_bytes() == hub.files[name]


def test_a_look_up_that_may_not_fetch_asks_for_nothing(hub):
    with pytest.raises(MissingModel, match="some/base is not on this machine"):
        locate("some/base", fetch=False)
    assert not hub.sent


def test_what_is_here_is_found_without_the_hub(hub, monkeypatch):
    locate("some/base")
    point_at("http://127.0.0.1:9", monkeypatch)
    assert locate("some/base").revision == COMMIT
    assert load_token_counter("some/base")("a story") == 3


def snapshot(cache: Path, source: Path) -> Path:
    """A cache as an older client leaves it: no list of what belongs to the repository."""
    folder = cache / "snapshots" / COMMIT
    shutil.copytree(source, folder)
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text(COMMIT)
    return folder


@pytest.mark.parametrize(
    ("lost", "said"),
    [
        ("transformer/*.safetensors", "transformer/\\*.safetensors"),
        ("text_encoder_2", "text_encoder_2/"),
        ("vae/*.safetensors", "vae/\\*.safetensors"),
    ],
)
def test_a_part_does_not_pass_for_the_whole_offline(cache, family, lost, said):
    folder = snapshot(cache, family / "flux")
    assert locate("some/base").folder == folder
    for path in folder.glob(lost):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(MissingModel, match=f"not whole on this machine \\({said}.*missing") as told:
        locate("some/base")
    assert "run `hf download some/base` where there is a network" in str(told.value)
    assert locate("some/base", weights=False).folder == folder
    assert load_token_counter("some/base")("a story") == 3


def test_every_file_of_divided_weights_is_looked_for(cache, tmp_path):
    source = tmp_path / "model"
    source.mkdir()
    (source / "config.json").write_text("{}")
    index = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    (source / "model.safetensors.index.json").write_text(json.dumps(index))
    for number in (1, 2):
        (source / f"model-{number}.safetensors").write_text("weights")
    folder = snapshot(cache, source)
    assert locate("some/base").folder == folder
    (folder / "model-2.safetensors").unlink()
    with pytest.raises(MissingModel, match="model-2.safetensors missing"):
        locate("some/base")


def test_a_missing_tokenizer_is_asked_for_without_the_weights(cache):
    with pytest.raises(MissingModel, match="hf download some/base --include"):
        load_token_counter("some/base")
