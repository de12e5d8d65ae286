"""A source that somebody else made opens regular files of its own and nothing else."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from iclora.ingest import ingest_source, resolve_sources
from iclora.ingest.inside import list_files
from iclora.pipeline.stage import result_of
from iclora.presets import load_config
from iclora.store import Store
from schemas.stage import Ingested


@pytest.fixture
def picture(texture):
    def save(path, seed=1):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(texture(seed)).save(path)
        return path

    return save


@pytest.fixture
def read(tmp_path):
    """Resolves and ingests; the verdicts on sources, and what was found in each."""

    def run(*places, preset="movie-shots"):
        config = load_config(preset)
        store = Store(str(tmp_path / "store"))
        sources, judged = resolve_sources(
            [str(place) for place in places], config.ingest, store.work_folder
        )
        refs = [ingest_source(store, source, config) for source in sources]
        return judged, [result_of(store, ref, Ingested) for ref in refs]

    return run


def reasons(verdicts):
    return {v.source.split("@")[0]: (v.outcome, v.reason) for v in verdicts if v.reason}


def taken(tmp_path, secret):
    """Copies of a file that are in the store."""
    data = secret.read_bytes()
    return [p for p in (tmp_path / "store").rglob("*") if p.is_file() and p.read_bytes() == data]


def test_links_out_of_a_folder_are_refused_and_links_inside_are_read(tmp_path, picture, read):
    secret = picture(tmp_path / "private/secret.png", 9)
    folder = tmp_path / "set"
    picture(folder / "a.png", 1)
    picture(folder / "deep/b.png", 2)
    (folder / "c.png").symlink_to("deep/b.png")
    (folder / "linked").symlink_to("deep")
    (folder / "out.png").symlink_to(secret)
    (folder / "relative.png").symlink_to("../private/secret.png")
    (folder / "private").symlink_to(secret.parent)
    (folder / "twice.png").symlink_to("out.png")
    judged, (found,) = read(folder)
    assert reasons(judged) == dict.fromkeys(
        ("out.png", "relative.png", "private", "twice.png"), ("rejected", "link")
    )
    assert [v.outcome for v in judged].count("kept") == 1
    assert [v.reason for v in found.verdicts] == ["", "", "duplicate_picture"]
    assert not taken(tmp_path, secret)
    assert str(tmp_path) not in str(judged)


def test_films_archives_and_sidecars_are_links_too(tmp_path, write_film, shots, read, picture):
    film = write_film(shots(1), "elsewhere/film.mp4")
    picture(tmp_path / "elsewhere/x/a.png")
    archive = shutil.make_archive(str(tmp_path / "elsewhere/x"), "zip", tmp_path / "elsewhere/x")
    sidecar = tmp_path / "elsewhere/secret.toml"
    sidecar.write_text('title = "secret"')
    folder = tmp_path / "mix"
    write_film(shots(2), "mix/own.mp4")
    (folder / "film.mp4").symlink_to(film)
    (folder / "x.zip").symlink_to(archive)
    (folder / "own.toml").symlink_to(sidecar)
    judged, found = read(folder)
    assert reasons(judged) == {
        "film.mp4": ("rejected", "link"),
        "x.zip": ("rejected", "link"),
        "own.toml": ("rejected", "link"),
        "own.mp4": ("failed", "link"),  # its sidecar might reserve it
    }
    assert found == []
    assert "secret" not in str(judged)


def test_a_link_that_is_named_is_read(tmp_path, picture, read):
    target = picture(tmp_path / "private/a.png").parent
    (tmp_path / "named").symlink_to(target)
    (tmp_path / "b.png").symlink_to(target / "a.png")
    _, found = read(tmp_path / "named", tmp_path / "b.png")
    assert [len(one.frames) for one in found] == [1, 1]


def test_links_of_the_hubs_cache_are_read(tmp_path, picture, read):
    repository = tmp_path / "hub/datasets--owner--name"
    blob = picture(repository / "blobs/a.png", 1).rename(repository / "blobs/0a1b")
    snapshot = repository / "snapshots/c0ffee"
    snapshot.mkdir(parents=True)
    (snapshot / "a.png").symlink_to("../../blobs/0a1b")
    (snapshot / "b.png").symlink_to(picture(tmp_path / "private.png", 2))
    judged, (found,) = read(snapshot)
    assert reasons(judged) == {"b.png": ("rejected", "link")}
    assert len(found.frames) == 1
    assert blob.exists()


@pytest.mark.parametrize("name", ["b.png", "film.mp4", "a.txt", "x.zip", "x-000000.tar", "n.md"])
@pytest.mark.parametrize("kind", ["fifo", "socket", "device"])
def test_what_is_no_regular_file_is_never_opened(tmp_path, picture, read, monkeypatch, kind, name):
    folder = tmp_path / "set"
    picture(folder / "a.png")
    monkeypatch.chdir(folder)  # the path of a socket is short
    if kind == "fifo":
        os.mkfifo(name)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(name)
    else:
        (folder / name).symlink_to("/dev/zero")
    judged, (found,) = read(folder)
    assert reasons(judged) == {name: ("rejected", "link" if kind == "device" else "special_file")}
    assert [v.outcome for v in found.verdicts] == ["kept"]


def test_what_stands_beside_a_canvas_is_not_opened_either(tmp_path, texture, read):
    import numpy as np

    folder = tmp_path / "set"
    folder.mkdir()
    (tmp_path / "secret.txt").write_text("a secret")
    (tmp_path / "secret.json").write_text('{"panels": [{"box": [0, 0, 1, 1]}]}')
    canvas = np.vstack([texture(n, 240, 96) for n in range(3)])
    for name in ("a", "b", "c"):
        Image.fromarray(np.roll(canvas, ord(name), 1)).save(folder / f"{name}.png")
    (folder / "a.txt").write_text("[SCENE-1] own")
    (folder / "b.txt").symlink_to(tmp_path / "secret.txt")
    os.mkfifo(folder / "c.txt")
    os.mkfifo(folder / "a.json")
    judged, (found,) = read(folder)
    assert reasons(judged) == {
        "a.json": ("rejected", "special_file"),
        "b.txt": ("rejected", "link"),
        "c.txt": ("rejected", "special_file"),
    }
    assert [v.reason for v in found.verdicts] == ["", "link", "special_file"]
    assert [one.caption for one in found.given] == ["[SCENE-1] own"]


@pytest.mark.parametrize("place", ["/dev/zero", "fifo.mp4"])
def test_a_device_that_is_named_is_a_verdict(tmp_path, read, place):
    if place == "fifo.mp4":
        os.mkfifo(tmp_path / place)
    (verdict,), found = read(tmp_path / place)
    assert (verdict.outcome, verdict.reason) == ("failed", "special_file")
    assert found == []


def test_a_folder_by_its_url_is_no_way_around(tmp_path, picture, read):
    secret = picture(tmp_path / "private/secret.png", 9)
    picture(tmp_path / "set/a.png")
    (tmp_path / "set/out.png").symlink_to(secret)
    judged, (found,) = read(f"file://{tmp_path}/set")
    assert reasons(judged) == {"out.png": ("rejected", "link")}
    assert len(found.frames) == 1
    assert not taken(tmp_path, secret)


@pytest.mark.parametrize("name", ["bad\n.png", "bad\x1b[31m.png", b"bad\xff.png", "bad\x7f.mp4"])
def test_names_that_cannot_be_printed_are_refused(tmp_path, picture, read, name):
    good = picture(tmp_path / "set/a.png")
    shutil.copy(good, os.fsencode(good.parent) + b"/" + os.fsencode(name))
    judged, (found,) = read(good.parent)
    refused = [v for v in judged if v.outcome == "rejected"]
    assert [v.reason for v in refused] == ["unsafe_path"]
    assert refused[0].id.isprintable()
    assert refused[0].detail.isprintable()
    assert refused[0].to_text().encode()
    assert len(found.frames) == 1


def test_odd_links_stop_nothing(tmp_path, picture, read):
    folder = tmp_path / "set"
    picture(folder / "a.png")
    (folder / "loop.png").symlink_to("loop.png")
    (folder / "gone.png").symlink_to("nowhere.png")
    judged, (found,) = read(folder)
    assert reasons(judged) == {}
    assert sorted(v.reason for v in found.verdicts) == ["", "unreadable", "unreadable"]


def test_a_listing_has_every_name_once(tmp_path, picture):
    picture(tmp_path / "a.png")
    os.mkfifo(tmp_path / "pipe")
    files, refused = list_files(tmp_path)
    assert (files, [name for name, _ in refused]) == (["a.png"], ["pipe"])


def test_a_build_counts_what_it_refuses(tmp_path, write_film, shots, film):
    folder = tmp_path / "films"
    folder.mkdir()
    shutil.copy(film, folder / "film.mp4")
    os.mkfifo(folder / "pipe.mp4")
    (folder / "passwd.png").symlink_to("/etc/passwd")
    command = [sys.executable, "-m", "iclora", "build", str(folder), "--json"]
    command += ["--store", str(tmp_path / "store"), "--name", "films", "--preset", "miniature"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    ledger = json.loads(ended.stdout)["ledger"]["sources"]
    assert ledger == {"in": 3, "kept": 1, "rejected": 2, "failed": 0}


@pytest.fixture
def rows(texture):
    """A dataset of pictures that are stored, or only named."""
    import io

    def make(*paths, columns=("image",)):
        buffer = io.BytesIO()
        Image.fromarray(texture(1)).save(buffer, "PNG")
        pictures = [{"bytes": buffer.getvalue(), "path": "stored.png"}]
        pictures += [{"bytes": None, "path": str(path)} for path in paths]
        features = datasets.Features(dict.fromkeys(columns, datasets.Image()))
        return datasets.Dataset.from_dict(dict.fromkeys(columns, pictures), features=features)

    return make


def write_table(data, place):
    """Writes the rows as they are; ``to_parquet`` would store the files that they name."""
    place.parent.mkdir(parents=True, exist_ok=True)
    table = data.data.table.replace_schema_metadata(data.features.arrow_schema.metadata)
    if place.suffix == ".parquet":
        pq.write_table(table, place)
        return
    with pa.OSFile(str(place), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)


def save(data, empty, place):
    """Saves a dataset; ``save_to_disk`` too would store the files that rows name."""
    empty.save_to_disk(str(place))
    write_table(data, next(place.glob("data-*.arrow")))


@pytest.mark.parametrize("form", ["file", "folder", "saved"])
@pytest.mark.parametrize("path", ["{}", "../private/secret.png", "/dev/zero", "/proc/kmsg", "big"])
def test_rows_that_name_files_outside_are_refused(tmp_path, picture, rows, read, form, path):
    secret = picture(tmp_path / "private/secret.png", 9)
    with (tmp_path / "private/big").open("wb") as file:
        file.truncate(1 << 40)
    path = path.format(secret).replace("big", str(tmp_path / "private/big"))
    place = tmp_path / "data"
    if form == "saved":
        save(rows(path), rows(), place)
    else:
        write_table(rows(path), place / "a.parquet")
    judged, (found,) = read(place / "a.parquet" if form == "file" else place)
    assert reasons(judged) == {}
    assert [(v.outcome, v.reason) for v in found.verdicts] == [
        ("kept", ""),
        ("rejected", "unsafe_path"),
    ]
    assert len(found.frames) == 1
    assert not taken(tmp_path, secret)
    assert str(tmp_path) not in found.to_text()


def test_rows_may_name_files_of_their_own_folder(tmp_path, picture, rows, read):
    place = tmp_path / "data"
    own = picture(place / "pictures/a.png", 5)
    secret = picture(tmp_path / "secret.png", 9)
    (place / "link.png").symlink_to(secret)
    os.mkfifo(place / "pipe.png")
    named = ["pictures/a.png", own, "link.png", "pipe.png", "none.png", "x" * 5000, "a\0.png", "."]
    write_table(rows(*named), place / "a.parquet")
    judged, (found,) = read(place)
    assert reasons(judged) == {
        "link.png": ("rejected", "link"),
        "pipe.png": ("rejected", "special_file"),
    }
    assert sorted(v.reason for v in found.verdicts) == sorted(
        ["", "", "duplicate_picture", "link", "special_file", "unsafe_path", *["no_picture"] * 3]
    )
    assert own.exists()
    assert len({v.id for v in found.verdicts}) == found.seen == len(named) + 1
    assert not taken(tmp_path, secret)


def test_columns_that_are_not_asked_for_are_not_decoded(tmp_path, rows, ingest):
    write_table(rows("/dev/zero", columns=("image", "film")), tmp_path / "a.parquet")
    found = ingest(tmp_path / "a.parquet", "ingest.group_column=film")
    assert [v.reason for v in found.verdicts] == ["", "unsafe_path"]


@pytest.mark.parametrize("named", ["../other/{}", "{abs}/{}", "../other"])
def test_a_saved_dataset_consists_of_its_own_files(tmp_path, rows, read, named):
    rows().save_to_disk(str(tmp_path / "other"))
    place = tmp_path / "data"
    if named == "../other":
        datasets.DatasetDict(train=rows()).save_to_disk(str(place))
        (place / "dataset_dict.json").write_text(json.dumps({"splits": [named]}))
    else:
        rows().save_to_disk(str(place))
        state = json.loads((place / "state.json").read_text())
        file = state["_data_files"][0]["filename"]
        abroad = named.format(file, abs=tmp_path / "other")
        state["_data_files"] = [{"filename": abroad}]
        (place / "state.json").write_text(json.dumps(state))
    _, (found,) = read(place)
    (verdict,) = found.verdicts
    assert (verdict.outcome, verdict.reason) == ("failed", "unsafe_path")
    assert found.frames == ()


@pytest.mark.parametrize("text", ["[]", "5", "null", '{"_data_files": 5}', "[" * 100_000])
@pytest.mark.parametrize("name", ["state.json", "dataset_info.json"])
def test_a_saved_dataset_with_nonsense_in_it_is_a_verdict(tmp_path, rows, read, name, text):
    rows().save_to_disk(str(tmp_path / "data"))
    (tmp_path / "data" / name).write_text(text)
    _, (found,) = read(tmp_path / "data")
    if found.frames:  # what it says there does not matter
        assert name == "dataset_info.json"
    else:
        assert [v.reason for v in found.verdicts] == ["unreadable_dataset"]


@pytest.mark.parametrize(
    ("features", "outcome"),
    [
        ("[]", "unreadable_dataset"),
        ('"x"', "unreadable_dataset"),
        ("5", "unreadable_dataset"),
        ("[" * 100_000, "unreadable_dataset"),
        ('{"image": {"_type": "Audio"}}', "unsafe_path"),
        ('{"image": {"_type": "Video"}}', "unsafe_path"),
        ('{"image": {"_type": "Pdf"}}', "unsafe_path"),
    ],
)
def test_a_table_whose_features_are_nonsense_is_a_verdict(tmp_path, rows, read, features, outcome):
    table = rows("/dev/zero").data.table
    said = f'{{"info": {{"features": {features}}}}}'
    named = table.replace_schema_metadata({"huggingface": said})
    pq.write_table(named, tmp_path / "a.parquet")
    _, (found,) = read(tmp_path / "a.parquet")
    assert outcome in [v.reason for v in found.verdicts]


def test_a_format_that_a_dataset_was_saved_with_decodes_nothing(tmp_path, rows, read):
    save(rows("/dev/zero"), rows().with_format("numpy"), tmp_path / "data")
    _, (found,) = read(tmp_path / "data")
    assert [v.reason for v in found.verdicts] == ["", "unsafe_path"]


def test_pictures_inside_of_structures_are_not_decoded(tmp_path, rows, read):
    features = datasets.Features({"image": {"inner": datasets.Image()}})
    named = [{"inner": {"bytes": None, "path": "/dev/zero"}}]
    write_table(
        datasets.Dataset.from_dict({"image": named}, features=features), tmp_path / "a.parquet"
    )
    _, (found,) = read(tmp_path / "a.parquet")
    assert [v.reason for v in found.verdicts] == ["no_picture"]
