"""Somebody else's dataset is read; it writes nowhere, asks nobody and fills no memory."""

from __future__ import annotations

import json
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from iclora.cli.app import run
from iclora.dataset import open_dataset
from iclora.dataset.lint_path import lint_path
from iclora.dataset.review import write_review
from iclora.dataset.verify import verify_dataset, verify_named
from iclora.errors import BadInput
from iclora.presets import load_config
from iclora.store import Store
from schemas.base import path_fault
from schemas.dataset import DatasetManifest

CONFIG = load_config()


class Server(ThreadingHTTPServer):
    """Serves files by their path, and bytes of its own under every other one."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.asked: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_HEAD(self) -> None:
        self.server.asked.append(self.path)
        data = self.server.files.get(self.path, b"attacker bytes\n")
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data)

    do_GET = do_HEAD  # noqa: N815 - http.server's name

    def log_message(self, *_) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    served = Server()
    threading.Thread(target=served.serve_forever, daemon=True).start()
    yield served
    served.shutdown()
    served.server_close()


def manifest_with(folder: Path, change) -> bytes:
    """The manifest after a change of its JSON."""
    value = json.loads((folder / "manifest.json").read_bytes())
    change(value)
    return json.dumps(value).encode()


def in_digests(name: str):
    return lambda value: value["digests"].update({name: "0" * 64})


def in_shards(name: str):
    return lambda value: value["shards"][0].update(file=name)


def as_version(name: str):
    return lambda value: value.update(version=name)


@pytest.mark.parametrize(
    "name",
    [
        "", "/a", "../a", "a/../../b", "a/..", "./a", "a//b", "a/", "/", "..", "C:/a", "c:a",
        "..\\a", "http://127.0.0.1/a", "pipe:touch a", "a\0b", "a\nb", "\x1b[2Ja", "a\u202eb",
        "a\ud800b", "a" * 600,
    ],
    ids=ascii,
)  # fmt: skip
def test_a_name_that_leads_elsewhere_has_a_fault(store, name):
    assert path_fault(name)
    for place in (in_digests, in_shards):
        with pytest.raises(ValidationError, match="leads elsewhere"):
            DatasetManifest.model_validate(changed(place(name)), strict=False)
    if name:
        assert not store.exists(name)
        assert store.listdir(name) == []
        for use in (store.path, store.read, store.local_path):
            with pytest.raises(BadInput, match="leads out of") as caught:
                use(name)
            assert str(caught.value).isprintable()


def changed(change) -> dict:
    value = {"digests": {}, "shards": [{"file": "train-000000.tar"}]}
    change(value)
    return value


@pytest.mark.parametrize("name", ["a/b", "..", "/", "a\n", "\ufffd", "a b", "-a", ".a"])
def test_a_version_is_a_plain_word(name):
    with pytest.raises(ValidationError, match="is no version"):
        DatasetManifest.model_validate({"version": name})


@pytest.mark.parametrize(
    ("place", "name"),
    [
        (in_digests, "{victim}"),
        (in_digests, "../../../../../../../..{victim}"),
        (in_shards, "{victim}"),
        (in_shards, "\x1b[2Ja\u202e"),
        (as_version, "../{victim}"),
    ],
)
def test_a_manifest_that_names_files_elsewhere_is_a_problem(
    folder, server, tmp_path, capsys, place, name
):
    victim = tmp_path / "victim"
    server.files["/manifest.json"] = manifest_with(folder, place(name.format(victim=victim)))
    found_as, found = verify_named(Store(str(tmp_path)), server.url)
    assert not found.ok
    assert [problem.shard for problem in found.problems] == ["manifest.json"]
    assert found_as == server.url
    with pytest.raises(BadInput, match="is not safe"):
        open_dataset(Store(str(tmp_path)), server.url)
    assert run(["verify", server.url]) == 1
    assert run(["inspect", server.url]) == 2
    said = capsys.readouterr()
    assert (said.out + said.err).replace("\n", "").isprintable()
    assert not victim.exists()
    assert set(server.asked) == {"/manifest.json"}


def test_the_names_that_datasets_have_are_no_fault(folder):
    for path in folder.iterdir():
        assert path_fault(path.name) == ""
    assert path_fault("checkpoints/step 10/ä.safetensors") == ""


@pytest.mark.parametrize(
    "line", [b"../../elsewhere", b"/elsewhere", b"\xff\xfe\n", b"\x1b[2J", b""]
)
def test_a_latest_that_names_no_version_is_one_sentence(published, line):
    store, _ = published
    (Path(store.root) / "datasets/films/LATEST").write_bytes(line)
    with pytest.raises(BadInput, match="LATEST names no version") as caught:
        open_dataset(store, "films")
    assert str(caught.value).isprintable()


def test_a_remote_dataset_is_verified(folder, server):
    for path in folder.iterdir():
        server.files[f"/{path.name}"] = path.read_bytes()
    found = verify_dataset(open_dataset(Store("memory://nothing"), server.url))
    assert found.ok
    assert found.samples == 7


def files_of_a_server(head, url):
    head["configs"][0]["data_files"][0]["path"] = f"{url}/evil.tar"


def files_of_this_machine(head, _):
    head["configs"][0]["data_files"][0]["path"] = "/etc/*.tar"


def files_above(head, _):
    head["configs"][0]["data_files"][0]["path"] = "../*/train-*.tar"


def folder_of_a_server(head, url):
    head["configs"][0]["data_dir"] = url


def another_configuration(head, url):
    head["configs"].insert(
        0, {"config_name": "a", "data_files": f"{url}/evil.tar", "default": True}
    )


def another_column(head, _):
    head["dataset_info"]["features"][2]["dtype"] = "audio"


@pytest.mark.parametrize(
    "change",
    [
        files_of_a_server, files_of_this_machine, files_above, folder_of_a_server,
        another_configuration, another_column,
    ],
)  # fmt: skip
def test_a_card_that_names_other_files_is_a_problem_and_is_not_followed(
    folder, server, change, republish
):
    card = folder / "README.md"
    _, head, body = card.read_text(encoding="utf-8").split("---\n", maxsplit=2)
    tree = yaml.safe_load(head)
    change(tree, server.url)
    card.write_text(f"---\n{yaml.safe_dump(tree)}---\n{body}", encoding="utf-8")
    republish("README.md")
    problems = verify_named(Store(str(folder)), str(folder))[1].problems
    assert [(problem.shard, problem.problem) for problem in problems] == [
        ("README.md", "does not name the shards and their features as the manifest does")
    ]
    assert server.asked == []


@pytest.mark.parametrize("head", ["", "[" * 2_000, "a: &a [*a]", "configs: 3", "- 1", "{}", "\0"])
def test_a_card_whose_head_makes_no_sense_is_a_problem(folder, head, republish):
    (folder / "README.md").write_text(f"---\n{head}\n---\n", encoding="utf-8")
    republish("README.md")
    (problem,) = verify_named(Store(str(folder)), str(folder))[1].problems
    assert problem.shard == "README.md"


@pytest.mark.parametrize("name", ["dataset_infos.json", ".huggingface.yaml", "train-000009.tar"])
def test_a_file_beside_the_card_is_not_followed(folder, server, name):
    (folder / name).write_text(json.dumps({"configs": f"{server.url}/evil.tar"}))
    (problem,) = verify_named(Store(str(folder)), str(folder))[1].problems
    assert (problem.shard, problem.problem) == (name, "does not belong to the dataset")
    assert server.asked == []


def sparse(size: int) -> bytes:
    """The header of an old GNU sparse member: one byte of data and holes up to the size."""
    info = tarfile.TarInfo("hole.jpg")
    info.size = 512
    info.type = tarfile.GNUTYPE_SPARSE
    block = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    block[386:398] = b"%011o\0" % 0
    block[398:410] = b"%011o\0" % 512
    block[483:495] = b"\x80" + size.to_bytes(11, "big")
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block) + bytes(512)


def claimed(size: int) -> bytes:
    """The header of a member that claims a size and has nothing."""
    info = tarfile.TarInfo("hole.jpg")
    info.size = size
    return info.tobuf(tarfile.GNU_FORMAT)


def many(_: int) -> bytes:
    """More members of one sample than a sample has."""
    info = tarfile.TarInfo("many.jpg")
    return info.tobuf(tarfile.USTAR_FORMAT) * 100


@pytest.mark.parametrize("made", [sparse, claimed, many])
def test_a_member_that_would_fill_the_memory_is_one_sentence(
    published, folder, tmp_path, made, republish
):
    store, _ = published
    path = folder / "train-000000.tar"
    path.write_bytes(made(1 << 40) + path.read_bytes())
    republish(path.name)
    found = verify_named(store, "films")[1]
    assert any("the tar breaks off" in problem.problem for problem in found.problems)
    assert found.samples == 2  # of the other shard
    assert not any("datasets" in problem.problem for problem in found.problems)
    dataset = open_dataset(store, "films")
    for read in (
        lambda: list(dataset.samples()),
        lambda: write_review(dataset, tmp_path / "review"),
        lambda: lint_path("films", CONFIG.layout, CONFIG.caption, store=store),
    ):
        with pytest.raises(BadInput, match="is damaged"):
            read()


def test_a_name_in_a_tar_is_printed_and_not_obeyed(folder, capsys, republish):
    path = folder / "train-000000.tar"
    info = tarfile.TarInfo("\x1b[2Jkey\n.jpg")
    path.write_bytes(info.tobuf(tarfile.USTAR_FORMAT) + path.read_bytes())
    republish(path.name)
    assert run(["verify", str(folder)]) == 1
    said = capsys.readouterr().err
    assert "\x1b" not in said
    assert r"\x1b[2Jkey\n" in said


def test_a_manifest_is_printed_and_not_obeyed(folder, capsys):
    evil = "film\x1b[2J\x9b31m\u202e\nforged\x7f"
    known = DatasetManifest.from_text((folder / "manifest.json").read_bytes())
    sources = tuple(source.model_copy(update={"name": evil}) for source in known.sources)
    known = known.model_copy(update={"sources": sources, "models": {evil: evil}})
    (folder / "manifest.json").write_text(known.to_text(), encoding="utf-8")
    assert run(["inspect", str(folder)]) == 0
    text = capsys.readouterr().out
    assert text.replace("\n", "").isprintable()
    assert not [line for line in text.split("\n") if line.startswith("forged")]
    assert run(["inspect", str(folder), "--json"]) == 0
    told = capsys.readouterr().out
    assert told.rstrip("\n").isprintable()
    assert json.loads(told)["dataset"]["sources"][0]["name"] == evil


@pytest.mark.parametrize("name", ["index.json", "rejects.parquet", "samples.parquet", "README.md"])
def test_a_pipe_in_place_of_a_file_is_a_problem(folder, name, make_pipe):
    make_pipe(folder / name)
    found = verify_named(Store(str(folder)), str(folder))[1]
    assert name in {problem.shard for problem in found.problems}


@pytest.mark.parametrize("name", ["manifest.json", "train-000000.tar"])
def test_a_pipe_is_not_read(folder, name, make_pipe):
    make_pipe(folder / name)
    with pytest.raises(BadInput, match="is not a file"):
        list(open_dataset(Store(str(folder)), str(folder)).samples())


@pytest.fixture
def make_pipe():
    import os

    def make(path: Path) -> None:
        path.unlink()
        os.mkfifo(path)

    return make


@pytest.mark.parametrize("url", ["foo://x", "zip://x::/etc/passwd", "gs://bucket/films"])
def test_a_url_that_cannot_be_opened_is_one_sentence(url):
    with pytest.raises(BadInput, match=f"^{url}: "):
        open_dataset(Store("memory://nothing"), url)


def test_an_index_too_deep_to_read_is_a_problem(folder, republish):
    (folder / "index.json").write_text("[" * 100_000)
    republish("index.json")
    found = verify_named(Store(str(folder)), str(folder))[1]
    problems = [one for one in found.problems if "its folder is" not in one.problem]
    assert {problem.shard for problem in problems} == {"index.json"}


def test_what_a_manifest_does_not_digest_is_a_problem(folder):
    data = manifest_with(folder, lambda value: value["digests"].pop("index.json"))
    (folder / "manifest.json").write_bytes(data)
    found = verify_named(Store(str(folder)), str(folder))[1]
    assert not found.ok


def test_a_table_with_columns_of_its_own_is_a_problem(folder, republish):
    import pyarrow.parquet as pq

    table = pq.read_table(folder / "samples.parquet")
    pq.write_table(table.append_column("odd", [["x"] * len(table)]), folder / "samples.parquet")
    republish("samples.parquet")
    problems = verify_named(Store(str(folder)), str(folder))[1].problems
    assert any("something else of its odd" in problem.problem for problem in problems)
