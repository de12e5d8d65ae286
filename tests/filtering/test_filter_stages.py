"""The stages on real pictures and a real (random) CLIP: ledgers, resuming, given sets, the page."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from iclora.filtering import (
    calibrate,
    calibration_page,
    choose_sets,
    form_sets,
    measure,
    score_frames,
)
from iclora.filtering.checks import quality_checks
from iclora.filtering.sets import _worst_scores
from iclora.filtering.similarity import cosine
from iclora.pipeline.stage import Stage, file_of, result_of, run_stage
from iclora.presets import load_config
from iclora.store import Store, file_sha256
from schemas.base import Schema
from schemas.frame import Frame, ImageSet
from schemas.source import Source
from schemas.stage import Chosen, Formed, Ingested, Scored, StageRef
from schemas.verdict import tally

OPEN = [
    "filter.sets.similarity.min_adjacent=-0.99",
    "filter.sets.similarity.near_duplicate=0.99999",
    "filter.sets.similarity.min_first_last=-1.0",
    "filter.sets.similarity.same_scene=-1.0",
    "filter.sets.max_hash_distance=0",
]


@pytest.fixture
def config(family: Path):
    return load_config("miniature", [f"filter.clip={family / 'clip'}", *OPEN])


def scenery(seed: int) -> Image.Image:
    rng = np.random.default_rng(seed)
    image = Image.new("RGB", (160, 120), tuple(int(c) for c in rng.integers(40, 200, 3)))
    draw = ImageDraw.Draw(image)
    for _ in range(60):
        x, y, r = rng.integers(0, 160), rng.integers(0, 120), rng.integers(3, 30)
        draw.ellipse((x - r, y - r, x + r, y + r), fill=tuple(rng.integers(0, 256, 3).tolist()))
    return image


def ingest(store: Store, name: str, images: list[Image.Image], given: int = 0) -> StageRef:
    """A source of these pictures; the first ``given`` of them are one given set."""

    def work(folder: Path) -> Ingested:
        frames: list[Frame] = []
        for number, image in enumerate(images):
            path = folder / f"{number}.png"
            image.save(path)
            frames.append(
                Frame(
                    id=f"{name[0]}-{number}",
                    source=name,
                    file=path.name,
                    content=file_sha256(path),
                    width=image.width,
                    height=image.height,
                    crop=(0, 0, image.width, image.height),
                    shot=number,
                    time=float(number),
                )
            )
        one = ImageSet(
            key=f"{name[0]}-given", source=name, frames=tuple(frames[:given]), caption="hi"
        )
        return Ingested(
            source=Source(url="", name=name, kind="pictures", content=name),
            frames=tuple(frames[given:]),
            given=(one,) if given else (),
            seen=len(frames),
            verdicts=(),
        )

    return run_stage(store, Stage("ingest", 1), Schema(), [name, str(given)], work)


def chain(store: Store, refs: list[StageRef], config):
    scored = [score_frames(store, ref, config) for ref in refs]
    bounds = calibrate(store, scored, config)
    formed = [form_sets(store, ref, bounds, config) for ref in scored]
    return scored, formed, choose_sets(store, formed, config)


def test_every_frame_is_accounted_for_in_every_stage(store, config):
    images = [scenery(seed) for seed in range(7)]
    images[2] = Image.new("RGB", (160, 120))
    scored, formed, chosen = chain(store, [ingest(store, "a", images)], config)
    quality = result_of(store, scored[0], Scored)
    assert tally(quality.verdicts, 7).kept == 6
    black = next(v for v in quality.verdicts if v.outcome != "kept")
    assert (black.id, black.reason, black.value, black.threshold) == ("a-2", "black", 0.0, 0.06)
    rows = np.load(file_of(store, scored[0], quality.embeddings), allow_pickle=False)
    assert rows.shape[0] == len(quality.frames) == 6
    assert np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
    sets = result_of(store, formed[0], Formed)
    assert tally(sets.verdicts, 6).kept == 3 * len(sets.sets) == 6
    final = result_of(store, chosen, Chosen)
    assert tally(final.verdicts, len(sets.sets)).kept == len(final.sets)


def test_all_sets_have_the_scores_of_their_worst_frame(store, config):
    refs = [
        ingest(store, "a", [scenery(seed) for seed in range(3)], given=3),
        ingest(store, "b", [scenery(seed) for seed in range(10, 16)]),
    ]
    scored, _, chosen = chain(store, refs, config)
    sets = result_of(store, chosen, Chosen).sets
    assert len({tuple(sorted(one.scores)) for one in sets}) == 1
    frames = {k: v for ref in scored for k, v in result_of(store, ref, Scored).scores.items()}
    for one in sets:
        for name in ("merit", "luma", "sharpness"):
            assert one.scores[name] == min(frames[frame.id][name] for frame in one.frames)


def test_the_worst_text_is_the_most(store):
    given = result_of(store, ingest(store, "a", [scenery(0), scenery(1)]), Ingested).frames
    scores = [{"luma": 0.2, "text": 0.1, "face": 0.5}, {"luma": 0.6, "text": 0.3, "face": 0.4}]
    worst = _worst_scores(given, {f.id: s for f, s in zip(given, scores, strict=True)})
    assert worst == {"luma": 0.2, "text": 0.3, "face": 0.5}


def test_a_broken_file_fails_alone(store, config):
    ref = ingest(store, "a", [scenery(seed) for seed in range(4)])
    file_of(store, ref, "1.png").write_bytes(b"not a picture")
    scored = result_of(store, score_frames(store, ref, config), Scored)
    counted = tally(scored.verdicts, scored.seen)
    assert (counted.kept, counted.failed) == (3, 1)
    assert scored.verdicts[1].reason == "unreadable"


def test_a_given_set_keeps_its_composition_and_caption(store, config):
    images = [scenery(5)] * 3 + [scenery(seed) for seed in range(3)]
    _, formed, _ = chain(store, [ingest(store, "a", images, given=3)], config)
    sets = {one.key: one for one in result_of(store, formed[0], Formed).sets}
    assert [frame.id for frame in sets["a-given"].frames] == ["a-0", "a-1", "a-2"]
    assert sets["a-given"].caption == "hi"
    others = [one for key, one in sets.items() if key != "a-given"]
    assert [frame.id for one in others for frame in one.frames] == ["a-3", "a-4", "a-5"]


def test_a_given_set_that_loses_a_panel_is_gone_with_a_reason(store, config):
    images = [scenery(1), Image.new("RGB", (160, 120)), scenery(2)]
    _, formed, _ = chain(store, [ingest(store, "a", images, given=3)], config)
    result = result_of(store, formed[0], Formed)
    assert result.sets == ()
    assert [(v.id, v.reason, v.value, v.threshold) for v in result.verdicts] == [
        ("a-0", "set_broken", 2.0, 3.0),
        ("a-2", "set_broken", 2.0, 3.0),
    ]


def test_a_changed_threshold_measures_nothing_again(store, config):
    ref = ingest(store, "a", [scenery(seed) for seed in range(4)])
    score_frames(store, ref, config)
    for number in range(4):
        file_of(store, ref, f"{number}.png").unlink()
    stricter = config.model_copy(
        update={
            "filter": config.filter.model_copy(
                update={"quality": config.filter.quality.model_copy(update={"min_entropy": 8.0})}
            )
        }
    )
    again = result_of(store, score_frames(store, ref, stricter), Scored)
    assert {v.reason for v in again.verdicts} == {"low_information"}


def test_a_moved_model_measures_nothing_again(store, config, tmp_path):
    ref = ingest(store, "a", [scenery(seed) for seed in range(4)])
    shutil.copytree(config.filter.clip, tmp_path / "clip")
    moved = load_config("miniature", [f"filter.clip={tmp_path / 'clip'}", *OPEN])
    assert score_frames(store, ref, moved) == score_frames(store, ref, config)


def test_a_check_of_a_new_version_measures_again(store, config, monkeypatch):
    ref = ingest(store, "a", [scenery(seed) for seed in range(4)])
    before = score_frames(store, ref, config)
    newer = [check._replace(version=2) for check in quality_checks()]
    monkeypatch.setattr(measure, "quality_checks", lambda: newer)
    assert score_frames(store, ref, config) != before
    assert len(store.listdir("stages/measure")) == 2


def test_a_finished_stage_is_not_done_again(store, config):
    ref = ingest(store, "a", [scenery(seed) for seed in range(6)])
    first = chain(store, [ref], config)
    manifest = store.local_path(f"{first[0][0].path}/manifest.json")
    before = manifest.stat().st_mtime_ns
    assert chain(store, [ref], config) == first
    assert manifest.stat().st_mtime_ns == before


def test_the_order_of_sources_changes_nothing(store, config):
    refs = [ingest(store, n, [scenery(s + ord(n)) for s in range(6)]) for n in "abc"]
    assert chain(store, refs, config)[2] == chain(store, refs[::-1], config)[2]


def test_a_frame_is_embedded_alike_in_any_company(store, config):
    alone = ingest(store, "a", [scenery(3)])
    among = ingest(store, "b", [scenery(seed) for seed in range(20)])
    rows = []
    for ref, number in ((alone, 0), (among, 3)):
        scored = score_frames(store, ref, config)
        result = result_of(store, scored, Scored)
        rows.append(np.load(file_of(store, scored, result.embeddings))[number])
    assert cosine(rows[0], rows[1]) == 1.0


def test_percentile_bounds_come_from_all_sources(store, config):
    config = load_config(
        "miniature",
        [
            f"filter.clip={config.filter.clip}",
            "filter.sets.similarity.unit=percentile",
            "filter.sets.similarity.min_adjacent=0.1",
            "filter.sets.similarity.near_duplicate=0.9",
        ],
    )
    refs = [ingest(store, n, [scenery(s + ord(n)) for s in range(6)]) for n in "ab"]
    scored = [score_frames(store, ref, config) for ref in refs]
    bounds = calibrate(store, scored, config)
    assert bounds.unit == "absolute"
    assert bounds.min_adjacent < bounds.near_duplicate
    assert calibrate(store, scored[::-1], config) == bounds


def test_the_calibration_page_stands_alone(store, config):
    images = [scenery(seed) for seed in range(6)] + [Image.new("RGB", (160, 120))]
    scored = [score_frames(store, ingest(store, "a<b", images), config)]
    page = calibration_page(store, scored, calibrate(store, scored, config), config)
    assert page == calibration_page(store, scored, calibrate(store, scored, config), config)
    assert page.count("<svg") == 8  # two similarities, six measurements
    assert "just inside floor = -0.99 (5 of 5)" in page
    assert "just outside min_luma = 0.06 (1 of 7)" in page
    assert "data:image/jpeg;base64," in page
    assert "a&lt;b" in page
    assert "http" not in page
    assert "a<b" not in page
