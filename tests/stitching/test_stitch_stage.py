"""Chosen sets to canvases on disk: boxes, digests, masks, verdicts, resuming."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from iclora.pipeline.stage import Stage, file_of, result_of, run_stage
from iclora.presets import load_config
from iclora.stitching import stitch_source
from iclora.store import Store, file_sha256
from schemas.base import Box, Schema
from schemas.config import Config
from schemas.frame import Frame, ImageSet
from schemas.source import Source
from schemas.stage import Chosen, Ingested, StageRef, Stitched
from schemas.verdict import tally

LOSSLESS = load_config("miniature", ["stitch.format=png", "stitch.crop=center"])


def split(canvas: np.ndarray, boxes: list[Box]) -> list[np.ndarray]:
    return [canvas[y0:y1, x0:x1] for x0, y0, x1, y1 in boxes]


def picture(seed: int, width: int = 128, height: int = 64) -> Image.Image:
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 256, (height, width, 3)).astype(np.uint8))


def ingest(store: Store, name: str, images: list[Image.Image], **changes: object) -> StageRef:
    def work(folder: Path) -> Ingested:
        return Ingested(
            source=Source(url="", name=name, kind="pictures", content=name),
            frames=tuple(
                save(folder, name, number, image, **changes) for number, image in enumerate(images)
            ),
            seen=len(images),
            verdicts=(),
        )

    return run_stage(store, Stage("ingest", 1), Schema(), [name], work)


def save(folder: Path, name: str, number: int, image: Image.Image, **changes: object) -> Frame:
    path = folder / f"{number}.png"
    image.save(path)
    facts = {
        "id": f"{name}-{number}",
        "source": name,
        "file": path.name,
        "content": file_sha256(path),
        "width": image.width,
        "height": image.height,
        "crop": (0, 0, image.width, image.height),
        "shot": number,
        "time": number / 2,
    }
    return Frame(**(facts | changes))


def choose(store: Store, *refs: StageRef, panels: int = 3) -> StageRef:
    """Every source's frames, three by three."""
    sets = []
    for ref in refs:
        frames = result_of(store, ref, Ingested).frames
        for start in range(0, len(frames), panels):
            group = frames[start : start + panels]
            key = f"{group[0].id}-set"
            sets.append(ImageSet(key=key, source=group[0].source, frames=group))
    chosen = Chosen(sets=tuple(sets), seen=len(sets), verdicts=())
    digests = [ref.digest for ref in refs]
    return run_stage(store, Stage("choose", 1), chosen, digests, lambda _: chosen)


def stitched(store: Store, ref: StageRef, config: Config = LOSSLESS) -> Stitched:
    return result_of(store, stitch_source(store, ref, choose(store, ref), config), Stitched)


def test_a_canvas_falls_apart_into_the_frames_it_was_made_of(store):
    images = [picture(seed, 64, 64) for seed in range(3)]
    ref = ingest(store, "a", images)
    done = stitch_source(store, ref, choose(store, ref), LOSSLESS)
    result = result_of(store, done, Stitched)
    assert tally(result.verdicts, 1).kept == 1
    canvas = result.canvases[0]
    path = file_of(store, done, canvas.file)
    assert hashlib.sha256(path.read_bytes()).hexdigest() == canvas.image_sha256
    pixels = np.asarray(Image.open(path))
    panels = split(pixels, [panel.box for panel in canvas.panels])
    for panel, image, record in zip(panels, images, canvas.panels, strict=True):
        assert np.array_equal(panel, np.asarray(image))
        assert record.sha256 == hashlib.sha256(image.tobytes()).hexdigest()
        assert record.source_box == (0, 0, 64, 64)
    assert [p.marker for p in canvas.panels] == ["[SCENE-1]", "[SCENE-2]", "[SCENE-3]"]
    assert [(p.shot, p.time) for p in canvas.panels] == [(0, 0.0), (1, 0.5), (2, 1.0)]


def test_a_panel_shows_the_region_that_is_recorded(store):
    images = [picture(seed, 300, 200) for seed in range(3)]
    ref = ingest(store, "a", images, crop=(10, 20, 290, 180))
    done = stitch_source(store, ref, choose(store, ref), LOSSLESS)
    canvas = result_of(store, done, Stitched).canvases[0]
    pixels = np.asarray(Image.open(file_of(store, done, canvas.file)))
    for panel, record, image in zip(
        split(pixels, [p.box for p in canvas.panels]), canvas.panels, images, strict=True
    ):
        assert record.source_box == (70, 20, 230, 180)
        expected = image.resize(
            (64, 64), Image.Resampling.LANCZOS, box=record.source_box, reducing_gap=3.0
        )
        assert np.array_equal(panel, np.asarray(expected))
        whole = hashlib.sha256(image.tobytes()).hexdigest()
        assert record.sha256 == whole


def test_masks_are_carried_to_the_canvas(store):
    images = [picture(seed, 128, 128) for seed in range(3)]
    masks = ((64, 64, 128, 128), (0, 0, 2, 2))
    ref = ingest(store, "a", images, crop=(0, 0, 128, 128), masks=masks)
    assert stitched(store, ref).canvases[0].masks == (
        (32, 32, 64, 64),
        (0, 0, 1, 1),
        (32, 96, 64, 128),
        (0, 64, 1, 65),
        (32, 160, 64, 192),
        (0, 128, 1, 129),
    )


@pytest.mark.parametrize(("side", "kept"), [(32, True), (31, False)])
def test_a_frame_is_enlarged_at_most_twice(store, side, kept):
    ref = ingest(store, "a", [picture(seed, side, side) for seed in range(3)])
    result = stitched(store, ref)
    assert tally(result.verdicts, 1).kept == kept
    if not kept:
        verdict = result.verdicts[0]
        assert (verdict.id, verdict.reason) == ("a-0-set", "too_small")
        assert (verdict.value, verdict.threshold) == (2.0645, 2.0)


def test_a_changed_frame_fails_its_set_and_no_other(store):
    ref = ingest(store, "a", [picture(seed) for seed in range(6)])
    picture(99).save(file_of(store, ref, "4.png"))
    result = stitched(store, ref)
    assert [(v.id, v.outcome, v.reason) for v in result.verdicts] == [
        ("a-0-set", "kept", ""),
        ("a-3-set", "failed", "changed"),
    ]
    assert [one.key for one in result.canvases] == ["a-0-set"]


def test_a_missing_frame_fails_its_set(store):
    ref = ingest(store, "a", [picture(seed) for seed in range(3)])
    file_of(store, ref, "1.png").unlink()
    assert stitched(store, ref).verdicts[0].reason == "changed"


def test_a_frame_that_never_was_a_picture_fails_its_set(store, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"not a picture")
    ref = ingest(store, "a", [picture(seed) for seed in range(3)], content=file_sha256(broken))
    for number in range(3):
        file_of(store, ref, f"{number}.png").write_bytes(broken.read_bytes())
    verdict = stitched(store, ref).verdicts[0]
    assert (verdict.outcome, verdict.reason) == ("failed", "unreadable")


def test_a_set_of_another_length_than_the_layout_is_rejected(store):
    ref = ingest(store, "a", [picture(seed) for seed in range(2)])
    done = stitch_source(store, ref, choose(store, ref, panels=2), LOSSLESS)
    verdict = result_of(store, done, Stitched).verdicts[0]
    assert (verdict.reason, verdict.value, verdict.threshold) == ("wrong_panel_count", 2.0, 3.0)


def test_only_this_sources_sets_count(store):
    one = ingest(store, "a", [picture(seed) for seed in range(3)])
    other = ingest(store, "b", [picture(seed + 9) for seed in range(3)])
    alone = stitch_source(store, one, choose(store, one), LOSSLESS)
    both = stitch_source(store, one, choose(store, one, other), LOSSLESS)
    assert alone == both
    assert [c.key for c in result_of(store, both, Stitched).canvases] == ["a-0-set"]


def test_two_runs_give_the_same_bytes(tmp_path):
    config = load_config("miniature")
    results = []
    for name in ("x", "y"):
        store = Store(str(tmp_path / name))
        ref = ingest(store, "a", [picture(seed, 200, 120) for seed in range(6)])
        done = stitch_source(store, ref, choose(store, ref), config)
        results.append([c.image_sha256 for c in result_of(store, done, Stitched).canvases])
    assert results[0] == results[1]
    assert len(results[0]) == 2


@pytest.mark.parametrize("kind", ["jpg", "webp"])
def test_the_format_is_the_one_asked_for(store, kind):
    ref = ingest(store, "a", [picture(seed) for seed in range(3)])
    config = load_config("miniature", [f"stitch.format={kind}"])
    assert stitched(store, ref, config).canvases[0].file == f"a-0-set.{kind}"


def test_published_canvases_fall_apart_and_stitch_again(store, reference):
    """The published sets' panels, cut at even thirds here, fill the task's own canvas."""
    canvas = Image.open(min((reference / "movie-shots").glob("*.jpg"))).convert("RGB")
    third = canvas.height // 3
    images = [canvas.crop((0, n * third, canvas.width, (n + 1) * third)) for n in range(3)]
    ref = ingest(store, "a", images)
    result = stitched(store, ref, load_config("movie-shots"))
    assert tally(result.verdicts, 1).kept == 1
    for panel in result.canvases[0].panels:
        x0, y0, x1, y1 = panel.source_box
        assert abs((x1 - x0) - 2 * (y1 - y0)) <= 1
