"""Building as a flow: what overlaps, what a person sees of it, and what a person decides."""

from __future__ import annotations

import csv
import re
from typing import Any

import pytest
from fake_captioner import parrot

from iclora.dataset.reader import open_dataset
from iclora.dataset.review import write_review
from iclora.miniature.film import encode_film
from iclora.miniature.script import film_script

CAPTION = (
    "[MOVIE-SHOTS] a day by the sea with <Ann>, [SCENE-1] <Ann> wakes up early, "
    "[SCENE-2] <Ann> walks to the beach, [SCENE-3] <Ann> swims far out."
)
SHOTS = 9


@pytest.fixture
def films(tmp_path):
    paths = [tmp_path / f"film-{seed}.mp4" for seed in (1, 2)]
    for seed, path in enumerate(paths, 1):
        film = film_script(seed)
        encode_film(film.model_copy(update={"shots": film.shots[:SHOTS]}), path)
    return [str(path) for path in paths]


@pytest.fixture
def captioner(store):
    """An address, and for every question whether it was known which sets were chosen."""
    known: list[bool] = []
    with parrot(CAPTION, lambda: known.append(bool(store.listdir("stages/choose")))) as address:
        yield address, known


def artifacts() -> dict[str, Any]:
    """Key to what it shows, of the latest of each key."""
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        found = client.read_artifacts(limit=200)
    return {one.key: f"{one.data} {one.description}" for one in reversed(found) if one.key}


@pytest.mark.usefixtures("prefect")
def test_captions_overlap_and_a_person_sees_and_decides(store, films, captioner, tmp_path):
    from flows.build_dataset import build_dataset

    url, known = captioner
    server = {"kind": "server", "model": "same", "url": url, "json_output": False}
    overrides: dict[str, Any] = {
        "filter.max_sets": 0,
        "filter.max_set_similarity": 1.0,
        "filter.sets.similarity": {
            "min_adjacent": -0.9,
            "near_duplicate": 0.99999,
            "min_first_last": -1.0,
        },
        "caption.mode": "canvas",
        "caption.tokenizer": "",
        "caption.max_tokens": 512,
    } | {f"caption.captioner.{name}": value for name, value in server.items()}
    ref = build_dataset(films, "miniature", "", "seen", str(store.root), overrides)
    assert not known[0], "a caption was asked for before the sets of all films were chosen"
    assert len(known) == ref.samples

    shown = artifacts()
    assert {"ledger-seen", "preview-seen"} <= set(shown)
    stages = ("ingest", "quality", "sets", "choose", "stitch", "caption")
    for stage in stages:
        assert any(stage in key for key in shown), f"a table for {stage}"
    assert "data:image/jpeg" in shown["preview-seen"]
    page = f"pages/seen/{ref.version}/calibration.html"
    assert store.exists(page)
    assert any(re.search(page, text) for text in shown.values()), "the calibration is linked"

    review = write_review(open_dataset(store, "seen"), tmp_path / "review")
    with review.table.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    rows[0]["choice"] = "drop"
    with review.table.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    less = build_dataset(
        films, "miniature", "", "seen", str(store.root), overrides, str(review.table)
    )
    assert less.samples == ref.samples - 1
    assert len(known) == ref.samples, "nothing is captioned again"
