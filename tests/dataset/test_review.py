"""A person's choices go out as a table and come back as decisions."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from iclora.dataset import open_dataset
from iclora.dataset.review import read_review, write_review
from iclora.errors import BadInput
from iclora.presets import load_config

CONFIG = load_config("miniature")
GOOD = (
    "[MOVIE-SHOTS] a day by the sea with <Ann>, [SCENE-1] <Ann> wakes up early, "
    "[SCENE-2] <Ann> walks to the beach, [SCENE-3] <Ann> swims far out."
)


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def write_rows(path: Path, rows: list[dict[str, str]]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def test_there_and_back(published, tmp_path: Path):
    dataset = open_dataset(published[0], "films")
    made = write_review(dataset, tmp_path / "review")
    assert made.samples == 7
    rows = rows_of(made.table)
    assert [row["key"] for row in rows] == sorted(s.record.key for s in dataset.samples())
    assert {row["choice"] for row in rows} == {"keep"}
    page = made.page.read_text(encoding="utf-8")
    assert page.count("<article") == page.count("data:image/jpeg;base64,") == 7
    assert "http" not in page, "a page that needs nothing from elsewhere"
    assert "&lt;Zoé0&gt;" in page

    untouched = read_review(made.table, CONFIG)
    assert all((line.choice, line.caption) == ("keep", "") for line in untouched)
    rows[0]["choice"], rows[1]["caption"], rows[1]["note"] = "drop", GOOD, "mine"
    lines = {line.key: line for line in read_review(write_rows(made.table, rows), CONFIG)}
    assert lines[rows[0]["key"]].choice == "drop"
    assert lines[rows[1]["key"]].caption == GOOD
    assert lines[rows[1]["key"]].note == "mine"


def test_work_that_was_done_is_kept(published, tmp_path: Path):
    dataset = open_dataset(published[0], "films")
    table = write_review(dataset, tmp_path).table
    rows = rows_of(table)
    rows[3]["choice"] = "drop"
    write_rows(table, [*rows[:4], {**rows[0], "key": "of-another-build"}])
    page = write_review(dataset, tmp_path).page.read_text(encoding="utf-8")
    assert page.count("<option selected>drop</option>") == 1
    now = {row["key"]: row for row in rows_of(table)}
    assert now[rows[3]["key"]]["choice"] == "drop"
    assert len(now) == 8


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,2\n", "has no column 'key'"),
        ("key,choice\nk1,maybe\n", "line 2: choice is keep or drop, not 'maybe'"),
        ("key,choice\nk1,keep\nk1,drop\n", "line 3: k1 has two rows"),
        ("key,choice\nnot a key,keep\n", "line 2: 'not a key' is not a sample's key"),
        ("key,choice,caption\nk1,keep,no markers at all\n", "line 2: prefix_missing"),
    ],
)
def test_tables_that_are_wrong(tmp_path: Path, text: str, message: str):
    path = tmp_path / "review.csv"
    path.write_text(text)
    with pytest.raises(BadInput, match=message):
        read_review(path, CONFIG)
    with pytest.raises(BadInput, match="cannot be read"):
        read_review(tmp_path / "none.csv", CONFIG)


def test_short_tables_will_do(tmp_path: Path):
    path = tmp_path / "review.csv"
    path.write_bytes(b"\xef\xbb\xbfkey,choice\nk1,DROP\nk2,\n")
    lines = read_review(path, CONFIG)
    assert [(line.key, line.choice) for line in lines] == [("k1", "drop"), ("k2", "keep")]
