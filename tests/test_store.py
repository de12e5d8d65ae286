"""Files appear whole or not at all; a stage is done once."""

from __future__ import annotations

from pathlib import Path

import pytest

from iclora.cli.app import run
from iclora.dataset import open_dataset
from iclora.errors import BadInput, IcloraError, UserError
from iclora.ingest.result import UnreadableInput
from iclora.pipeline.stage import Stage, file_of, result_of, run_stage
from iclora.store import Store, _rename_folder, atomic_path
from schemas.base import Schema
from schemas.stage import StageRef
from schemas.verdict import Tally

STAGE = Stage("count", 1)


def counting(calls, value=3):
    def work(folder):
        calls.append(folder)
        (folder / "data.bin").write_bytes(b"x" * value)
        return Tally(seen=value, kept=value, rejected=0, failed=0)

    return work


def write_half(path):
    with atomic_path(path) as scratch:
        scratch.write_text("half")
        raise RuntimeError


def test_an_interrupted_file_leaves_the_old_one(tmp_path):
    path = tmp_path / "a" / "file.txt"
    with atomic_path(path) as scratch:
        scratch.write_text("old")
    with pytest.raises(RuntimeError):
        write_half(path)
    assert path.read_text() == "old"
    assert [entry.name for entry in path.parent.iterdir()] == ["file.txt"]


def test_a_stage_is_done_once_and_again_when_its_input_changes(store):
    calls = []
    first = run_stage(store, STAGE, Schema(), ["a"], counting(calls))
    again = run_stage(store, STAGE, Schema(), ["a"], counting(calls))
    other = run_stage(store, STAGE, Schema(), ["b"], counting(calls))
    assert first == again != other
    assert len(calls) == 2
    assert result_of(store, first, Tally).seen == 3
    assert file_of(store, first, "data.bin").read_bytes() == b"xxx"


def test_a_new_version_of_a_stage_is_a_new_place(store):
    first = run_stage(store, STAGE, Schema(), [], counting([]))
    second = run_stage(store, Stage("count", 2), Schema(), [], counting([]))
    assert first.digest != second.digest


def test_a_stage_that_fails_leaves_nothing(store):
    def work(folder):
        (folder / "half.bin").write_bytes(b"x")
        raise RuntimeError

    with pytest.raises(RuntimeError):
        run_stage(store, STAGE, Schema(), [], work)
    assert store.listdir("stages/count") == []
    assert list(store.work_folder.iterdir()) == []


def test_two_processes_doing_the_same_work_agree(store):
    with store.atomic_folder("stages/x/1") as one:
        (one / "manifest.json").write_text("{}")
        with store.atomic_folder("stages/x/1") as two:
            (two / "manifest.json").write_text("{}")
    assert store.listdir("stages/x") == ["1"]


def test_a_store_on_an_object_store_uploads_the_manifest_last(tmp_path, monkeypatch):
    monkeypatch.setenv("ICLORA_WORK", str(tmp_path / "work"))
    store = Store("memory://bucket/prefix")
    order = []
    put = store.fs.put_file
    monkeypatch.setattr(store.fs, "put_file", lambda a, b, **_: (order.append(b), put(a, b)))
    ref = run_stage(store, STAGE, Schema(), ["a"], counting([]))
    assert order[-1].endswith("manifest.json")
    assert len(order) == 2
    assert result_of(Store("memory://bucket/prefix"), ref, Tally).kept == 3
    assert file_of(store, ref, "data.bin").read_bytes() == b"xxx"


def test_reading_what_is_not_there_names_it(store):
    with pytest.raises(BadInput, match=r"datasets/none/LATEST does not exist"):
        store.read("datasets/none/LATEST")


def test_replacing_a_file_is_visible_to_another_reader(tmp_path):
    Store(str(tmp_path)).write("adapters/a/LATEST", b"one")
    Store(str(tmp_path)).write("adapters/a/LATEST", b"two")
    assert Store(str(tmp_path)).read("adapters/a/LATEST") == b"two"


@pytest.mark.parametrize(
    ("raised", "kind", "status"),
    [(PermissionError("Access Denied"), UserError, 2), (TimeoutError("gave up"), IcloraError, 1)],
)
def test_what_an_object_store_refuses_is_a_sentence(tmp_path, monkeypatch, raised, kind, status):
    monkeypatch.setenv("ICLORA_WORK", str(tmp_path / "work"))
    store = Store("memory://bucket/refused")

    def refuse(*_, **__):
        raise raised

    for action in ("pipe_file", "put", "exists", "cat_file"):
        monkeypatch.setattr(store.fs, action, refuse)
    for attempt in (
        lambda: store.write("datasets/a/LATEST", b"1"),
        lambda: store.read("datasets/a/LATEST"),
        lambda: run_stage(store, STAGE, Schema(), ["a"], counting([])),
    ):
        with pytest.raises(kind, match=r"memory://bucket/refused/.* cannot be reached") as caught:
            attempt()
        assert caught.value.exit_code == status


def test_of_two_that_did_the_same_work_one_stays(store):
    """A reader that saw the manifest sees it ever after."""
    first = Path(store.path("stages/quality/1"))
    with store.scratch_folder("slow") as slow:
        (slow / "manifest.json").write_text("{}")
        with store.atomic_folder("stages/quality/1") as folder:
            (folder / "manifest.json").write_text("{}")
        was = (first / "manifest.json").stat().st_ino
        _rename_folder(slow, first)
    assert (first / "manifest.json").stat().st_ino == was


def test_what_was_left_without_a_manifest_is_replaced(store):
    left = Path(store.path("stages/quality/1"))
    left.mkdir(parents=True)
    (left / "half.bin").write_bytes(b"half")
    with store.atomic_folder("stages/quality/1") as folder:
        (folder / "manifest.json").write_text("{}")
    assert store.listdir("stages/quality/1") == ["manifest.json"]


@pytest.mark.parametrize("name", ["../outside", "/outside", "a/../../outside", "a\x1bb", "a\\b"])
def test_a_path_that_leads_out_of_the_root_is_refused(tmp_path, monkeypatch, name):
    monkeypatch.setenv("ICLORA_WORK", str(tmp_path / "work"))
    (tmp_path / "outside").write_text("not the store's")
    for store in (Store(str(tmp_path / "store")), Store("memory://bucket/inside")):
        for use in (store.path, store.read, store.local_path, store.files):
            with pytest.raises(BadInput, match="leads out of"):
                use(name)
        with pytest.raises(BadInput, match="leads out of"):
            store.write(name, b"changed")
        with pytest.raises(BadInput, match="leads out of"):
            file_of(store, StageRef(stage="count", digest="1"), name)
        assert not store.exists(name)
        assert store.listdir(name) == []
    assert (tmp_path / "outside").read_text() == "not the store's"
    assert not (tmp_path / "work").exists()


def test_a_listing_that_names_files_elsewhere_is_refused(tmp_path):
    store = Store("memory://bucket/listed")
    store.write("datasets/a/one.tar", b"1")
    store.write("datasets/a/deep/two.tar", b"2")
    assert store.files("datasets/a") == ["deep/two.tar", "one.tar"]
    store.fs.store[store.path("datasets/a") + "/../../../../outside"] = store.fs.store[
        store.path("datasets/a/one.tar")
    ]  # as an object store may have it
    with pytest.raises(BadInput, match="leads out of"):
        store.files("datasets/a")


def test_names_that_a_terminal_would_obey_are_not_listed():
    store = Store("memory://bucket/names")
    store.write("datasets/a/LATEST", b"1")
    store.fs.store[store.path("datasets") + "/x\x1b[2J"] = store.fs.store[
        store.path("datasets/a/LATEST")
    ]
    assert store.listdir("datasets") == ["a"]


@pytest.mark.parametrize(
    "url", ["http://me:hunter2@127.0.0.1:9/films", "http://127.0.0.1:9/films?sig=hunter2"]
)
def test_no_sentence_has_a_secret_of_the_stores_url(url, capsys):
    store = Store(url)
    for attempt in (
        lambda: store.read("datasets/a/LATEST"),
        lambda: open_dataset(store, "films"),
        lambda: open_dataset(store, url),
    ):
        with pytest.raises(IcloraError, match=r"127\.0\.0\.1") as caught:
            attempt()
        assert "hunter2" not in str(caught.value)
    for command in (
        ["verify", url],
        ["inspect", "films", "--store", url],
        ["verify", url, "--json"],
    ):
        assert run(command) in {1, 2}
        said = capsys.readouterr()
        assert "127.0.0.1" in said.err
        assert "hunter2" not in said.out + said.err


def test_every_error_hides_the_secrets_of_its_sentence():
    for kind in (IcloraError, UserError, BadInput):
        assert (
            str(kind("https://me:hunter2@host/a?sig=1 is gone")) == "https://***@host/a?*** is gone"
        )
    assert str(UnreadableInput("missing", "ftp://me:hunter2@host/a")) == "ftp://***@host/a"
