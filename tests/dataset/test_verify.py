"""Every kind of damage is found, and the first broken sample is named."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from iclora.dataset import open_dataset
from iclora.dataset.verify import verify_dataset
from iclora.store import Store
from schemas.dataset import DatasetManifest, Verification

Members = list[tuple[str, bytes]]


def verified(url: str) -> Verification:
    return verify_dataset(open_dataset(Store(url), url))


def members(path: Path) -> Members:
    with tarfile.open(path) as tar:
        return [(info.name, tar.extractfile(info).read()) for info in tar]


@pytest.fixture
def rewrite(folder: Path, republish: Callable[[str], None]) -> Callable[..., None]:
    """``rewrite(change)``: rewrites the first shard and makes the manifest agree with its bytes."""

    def write(change: Callable[[Members], Members]) -> None:
        path = folder / "train-000000.tar"
        changed = change(members(path))
        with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
            for name, data in changed:
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
        republish(path.name)

    return write


def manifest_of(folder: Path) -> DatasetManifest:
    return DatasetManifest.from_text((folder / "manifest.json").read_bytes())


def edit_json(number: int, edit: Callable[[dict], None]) -> Callable[[Members], Members]:
    """A change of one sample's record."""

    def change(found: Members) -> Members:
        name, data = found[number * 3 + 1]
        value = json.loads(data)
        edit(value)
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
        found[number * 3 + 1] = (name, text.encode())
        return found

    return change


def keys(folder: Path) -> list[str]:
    names = [name for name, _ in members(folder / "train-000000.tar")]
    return [name.partition(".")[0] for name in names[::3]]


def test_a_sound_dataset(folder: Path):
    found = verified(str(folder))
    assert found == Verification(ok=True, samples=7, problems=())


@pytest.mark.parametrize(
    ("member", "problem"),
    [("jpg", "image_sha256"), ("txt", "its txt and the caption"), ("json", "")],
)
@pytest.mark.parametrize("number", [0, 3])
def test_one_flipped_byte_names_its_sample(folder: Path, member: str, number: int, problem: str):
    path = folder / "train-000000.tar"
    key = keys(folder)[number]
    with tarfile.open(path) as tar:
        info = tar.getmember(f"{key}.{member}")
    data = bytearray(path.read_bytes())
    data[info.offset_data + info.size // 2] ^= 1
    path.write_bytes(data)
    found = verified(str(folder))
    assert not found.ok
    assert found.problems[0].key == key
    assert problem in found.problems[0].problem
    assert any("sha256 is not the manifest's" in p.problem for p in found.problems)


@pytest.mark.parametrize(("table", "column"), [("samples", "split"), ("rejects", "outcome")])
def test_a_table_whose_names_are_no_text_is_a_problem(folder: Path, table: str, column: str):
    path = folder / f"{table}.parquet"
    damaged = path.read_bytes().replace(column.encode(), b"\xe5" + column.encode()[1:])
    assert damaged != path.read_bytes()
    path.write_bytes(damaged)
    found = verified(str(folder))
    assert any(p.shard == path.name and "cannot be read" in p.problem for p in found.problems), (
        found.problems
    )


def test_a_flipped_byte_in_a_header_names_its_sample(folder: Path):
    path = folder / "train-000000.tar"
    key = keys(folder)[2]
    with tarfile.open(path) as tar:
        offset = tar.getmember(f"{key}.jpg").offset
    data = bytearray(path.read_bytes())
    data[offset + 3] ^= 1
    path.write_bytes(data)
    found = verified(str(folder))
    assert key in {problem.key for problem in found.problems[:3]}
    assert found.problems[0].key == key


def test_a_truncated_tar_names_the_sample_it_breaks_in(folder: Path):
    path = folder / "train-000000.tar"
    key = keys(folder)[3]
    with tarfile.open(path) as tar:
        info = tar.getmember(f"{key}.jpg")
    path.write_bytes(path.read_bytes()[: info.offset_data + 10])
    found = verified(str(folder))
    assert found.problems[0].key == key
    assert found.samples == 5


def drop_member(found: Members) -> Members:
    return [one for number, one in enumerate(found) if number != 5]  # the second sample's txt


def drop_sample(found: Members) -> Members:
    return found[:3] + found[6:]


def double_member(found: Members) -> Members:
    return [*found[:4], found[3], *found[4:]]


def scattered(found: Members) -> Members:
    return [*found[:3], *found[4:], found[3]]


def renamed(found: Members) -> Members:
    return [(name.replace(".jpg", ".JPG"), data) for name, data in found]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (drop_member, "has the members jpg, json"),
        (drop_sample, "is missing from its shard"),
        (double_member, "has two members jpg"),
        (scattered, "has the members"),
        (renamed, "has the members JPG"),
    ],
)
def test_broken_members(folder: Path, rewrite, change, problem: str):
    names = keys(folder)
    rewrite(change)
    found = verified(str(folder))
    assert problem in found.problems[0].problem
    assert found.problems[0].key in names


def wrong_box(value: dict) -> None:
    value["panels"][1]["box"][1] += 1


def wrong_hash(value: dict) -> None:
    value["image_sha256"] = "0" * 64


def wrong_caption(value: dict) -> None:
    value["caption"]["image_sha256"] = "0" * 64


def wrong_split(value: dict) -> None:
    value["split"] = "val"


def wrong_marker(value: dict) -> None:
    value["panels"][0]["marker"] = "[SCENE-9]"


def wrong_mask(value: dict) -> None:
    value["masks"] = [[0, 0, 65, 8]]


def empty_source_box(value: dict) -> None:
    value["panels"][2]["source_box"] = [5, 5, 5, 9]


def whole_float(value: dict) -> None:
    value["scores"]["sharpness"] = int(value["scores"]["sharpness"])


def null(value: dict) -> None:
    value["panels"][0]["time"] = None


def extra(value: dict) -> None:
    value["extra"] = ""


def other_score(value: dict) -> None:
    value["scores"]["new"] = 1.0


def other_licence(value: dict) -> None:
    value["licence"] = "CC0-1.0"


def other_source(value: dict) -> None:
    value["panels"][0]["source"] = "elsewhere.mp4@0"


def other_role(value: dict) -> None:
    value["caption"]["roles"] = ["Nobody"]


def other_key(value: dict) -> None:
    value["key"] = "another"


@pytest.mark.parametrize(
    ("edit", "problem"),
    [
        (wrong_box, "panel boxes are not the layout's, first that of panel 2"),
        (wrong_hash, "image_sha256 is not the sha256 of its canvas"),
        (wrong_caption, "the caption is of another"),
        (wrong_split, "says it is in val, but lies in a shard of train"),
        (wrong_marker, "txt and the caption in its json differ"),
        (wrong_mask, "mask [0, 0, 65, 8] is not inside its canvas"),
        (empty_source_box, "source_box of panel 3 is empty"),
        (whole_float, "not written as it should be"),
        (null, "panels.0.time"),
        (extra, "extra"),
        (other_score, "its scores are not those"),
        (other_licence, "its licence is CC0-1.0, its source's is CC-BY-4.0"),
        (other_source, "its source elsewhere.mp4@0 is not among the dataset's"),
        (other_role, "its role 'Nobody' is not in its caption"),
        (other_key, "its json says it is another"),
    ],
)
def test_wrong_records(folder: Path, rewrite, edit, problem: str):
    key = keys(folder)[1]
    rewrite(edit_json(1, edit))
    found = verified(str(folder))
    of_it = [one.problem for one in found.problems if one.key == key]
    assert any(problem in one for one in of_it), of_it
    assert found.problems[0].key == key


def test_a_wrong_count(folder: Path, edit_manifest):
    shards = manifest_of(folder).shards
    edit_manifest(shards=(shards[0].model_copy(update={"samples": 6}), *shards[1:]))
    problems = [problem.problem for problem in verified(str(folder)).problems]
    assert "holds 5 samples, not 6" in problems
    assert "its counts of samples do not add up" in problems


def test_a_changed_manifest(folder: Path):
    text = (folder / "manifest.json").read_text(encoding="utf-8")
    (folder / "manifest.json").write_text(text.replace("CC-BY-4.0", "CC-BY-3.0"))
    problems = [one.problem for one in verified(str(folder)).problems]
    assert "its version is not the digest of its content" in problems


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("\n", "\r\n"),
        lambda text: text + " ",
        lambda text: text.replace('{\n "', '{\n "samples": 3,\n "', 1),
        lambda text: text.replace(': "films"', ': "\\u0066ilms"'),
    ],
    ids=["CRLF", "trailing blank", "a key twice", "escaped"],
)
def test_a_manifest_in_another_form(folder: Path, change):
    path = folder / "manifest.json"
    changed = change(path.read_text(encoding="utf-8"))
    assert changed != path.read_text(encoding="utf-8")
    path.write_bytes(changed.encode())
    (problem,) = verified(str(folder)).problems
    assert problem.shard == "manifest.json"
    assert "is not written as it should be" in problem.problem


def test_a_renamed_manifest(folder: Path, edit_manifest, tmp_path: Path):
    edit_manifest(name="others")
    (problem,) = verified(str(folder)).problems
    assert "says it is others@" in problem.problem
    assert f"its folder is films/{folder.name}" in problem.problem
    copy = folder.rename(tmp_path / "copy")  # in a folder of any name, its name is its own
    assert verified(str(copy)).ok


def test_a_wrong_ledger(folder: Path, edit_manifest):
    ledger = manifest_of(folder).ledger
    quality = ledger["quality"].model_copy(update={"rejected": 2, "kept": 22})
    edit_manifest(ledger={**ledger, "quality": quality})
    renamed, problem = verified(str(folder)).problems
    assert "its folder is" in renamed.problem
    assert (problem.shard, problem.problem) == (
        "rejects.parquet",
        "does not list what the ledger counts",
    )


@pytest.mark.parametrize(
    "name", ["samples.parquet", "rejects.parquet", "index.json", "README.md", "preview.jpg"]
)
def test_other_files(folder: Path, name: str):
    (folder / name).write_bytes(b"not what it was")
    found = verified(str(folder))
    assert name in {one.shard for one in found.problems}
    (folder / name).unlink()
    assert ("is missing", name) in {(p.problem, p.shard) for p in verified(str(folder)).problems}


def test_a_file_too_many(folder: Path):
    (folder / "notes.txt").write_text("mine")
    (problem,) = verified(str(folder)).problems
    assert (problem.shard, problem.problem) == ("notes.txt", "does not belong to the dataset")


def test_a_shard_too_few(folder: Path):
    (folder / "val-000000.tar").unlink()
    problems = {(p.shard, p.problem) for p in verified(str(folder)).problems}
    assert ("val-000000.tar", "is missing") in problems
