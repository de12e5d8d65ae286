"""A rendered film whose every shot is known: what is bad goes, what is good stays, sets cohere."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from iclora.filtering import calibrate, form_sets, score_frames
from iclora.ingest import ingest_source, resolve_sources
from iclora.models.locate import locate
from iclora.pipeline.stage import result_of
from iclora.presets import load_config
from iclora.store import Store
from schemas.stage import Formed, Ingested, Scored


class Truth:
    """What the renderer knows of its film."""

    def __init__(self, film: Path) -> None:
        facts = json.loads(film.with_suffix(".truth.json").read_text(encoding="utf-8"))
        self.fps = facts["fps"]
        self.shots = facts["film"]["shots"]

    def shot(self, seconds: float) -> dict[str, object]:
        return [one for one in self.shots if one["start"] <= seconds * self.fps + 0.01][-1]


@pytest.fixture(scope="module")
def sifted(film: Path, tmp_path_factory: pytest.TempPathFactory):
    assert not locate("miniature/clip").revision.startswith("random-")
    store = Store(str(tmp_path_factory.mktemp("sifted")))
    config = load_config("miniature")
    sources, _ = resolve_sources([str(film)], config.ingest)
    ref = ingest_source(store, sources[0], config)
    scored = score_frames(store, ref, config)
    formed = form_sets(store, scored, calibrate(store, [scored], config), config)
    return (
        result_of(store, ref, Ingested),
        result_of(store, scored, Scored),
        result_of(store, formed, Formed),
        Truth(film),
    )


def test_rubbish_goes_and_scenes_stay(sifted):
    ingested, scored, _, truth = sifted
    times = {frame.id: frame.time for frame in ingested.frames}
    seen: Counter[tuple[str, str]] = Counter()
    for verdict in scored.verdicts:
        kind = truth.shot(times[verdict.id])["kind"]
        seen[kind, verdict.reason or "kept"] += 1
    scenes = sum(count for (kind, _), count in seen.items() if kind in {"scene", "duplicate"})
    assert scenes > 15
    # The dark end of a fade belongs to its scene and is black all the same.
    faded = seen["scene", "black"] + seen["duplicate", "black"]
    assert seen["scene", "kept"] + seen["duplicate", "kept"] + faded >= scenes - 1
    bad = {pair: count for pair, count in seen.items() if pair[0] not in {"scene", "duplicate"}}
    assert sum(bad.values()) >= 3
    assert sum(count for (_, reason), count in bad.items() if reason == "kept") <= 1


def test_sets_are_of_one_scene_and_show_nothing_twice(sifted):
    *_, formed, truth = sifted
    assert len(formed.sets) >= 3
    mixed = 0
    for one in formed.sets:
        shots = [truth.shot(frame.time) for frame in one.frames]
        mixed += len({shot["scene"] for shot in shots}) > 1
        starts = [shot["start"] for shot in shots]
        copies = [truth.shots[shot["copy_of"]]["start"] for shot in shots if shot["copy_of"] >= 0]
        assert not set(copies) & set(starts)
    assert mixed <= len(formed.sets) // 10
