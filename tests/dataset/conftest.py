"""Stage results made by hand: real pictures and manifests, without the rooms that make them."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from PIL import Image

from iclora.dataset.publish import publish_dataset, version_of
from iclora.pipeline.stage import Stage, run_stage
from iclora.presets import load_config
from iclora.store import Store, file_sha256
from schemas.base import Schema, digest_of
from schemas.caption import Caption
from schemas.config import Config
from schemas.dataset import DatasetManifest, DatasetRef, ReviewLine
from schemas.frame import Frame, ImageSet
from schemas.job import BuildJob
from schemas.sample import PanelRecord
from schemas.source import Licence, Source
from schemas.stage import (
    Canvas,
    Captioned,
    CaptionedSet,
    Chosen,
    Formed,
    Ingested,
    Scored,
    SourceStages,
    StageRef,
    Stitched,
)
from schemas.verdict import Verdict

CONFIG = load_config("miniature", {"split.val_share": 0.1})


class Build(NamedTuple):
    """All that ``publish_dataset`` takes."""

    store: Store
    config: Config
    sources: list[Source]
    refused: list[Verdict]
    stages: list[SourceStages]
    chosen: StageRef

    def publish(self, name: str = "films", review: tuple[ReviewLine, ...] = ()) -> DatasetRef:
        job = BuildJob(
            store=self.store.url,
            name=name,
            config=self.config,
            sources=tuple(self.sources),
            refused=tuple(self.refused),
            review=review,
        )
        return publish_dataset(self.store, job, self.stages, self.chosen)


def canvas_bytes(seed: int, config: Config) -> bytes:
    """A canvas whose panels are flat colours."""
    layout = config.layout
    canvas = Image.new("RGB", (layout.width, layout.height))
    for number, box in enumerate(layout.boxes):
        canvas.paste((seed * 37 % 256, number * 80, (seed + number) * 11 % 256), box)
    buffer = io.BytesIO()
    canvas.save(buffer, "JPEG", quality=95, subsampling=0)
    return buffer.getvalue()


def frame_of(source: Source, number: int) -> Frame:
    return Frame(
        id=digest_of([source.content, number]),
        source=source.name,
        file=f"frames/{number}.png",
        content=digest_of(number),
        width=64,
        height=64,
        crop=(0, 0, 64, 64),
        shot=number,
        time=number * 1.5,
    )


class _Maker:
    def __init__(self, store: Store, config: Config) -> None:
        self.store, self.config = store, config

    def stage(self, result, source: Source, fill=None) -> StageRef:
        names = {"Ingested": "ingest", "Scored": "quality", "Formed": "sets", "Chosen": "choose"}
        names |= {"Stitched": "stitch", "Captioned": "caption"}
        kind = Stage(names[type(result).__name__], 1)

        def work(folder: Path):
            if fill:
                fill(folder)
            return result

        return run_stage(self.store, kind, Schema(), [source.content, result.fingerprint], work)

    def source(self, number: int) -> Source:
        content = digest_of(["film", number])
        return Source(
            url=f"/somewhere/film {number}.mp4",
            name=f"film {number}.mp4@{content}",
            kind="film",
            content=content,
            rights=Licence(licence="CC-BY-4.0"),
        )

    def sets(self, source: Source, count: int) -> list[ImageSet]:
        panels = self.config.layout.panels
        return [
            ImageSet(
                key=digest_of(["set", source.content, number]),
                source=source.name,
                scene=number,
                frames=tuple(frame_of(source, number * panels + i) for i in range(panels)),
                scores={"sharpness": 100.0 + number} | ({"ends": 0.5} if number % 2 else {}),
            )
            for number in range(count)
        ]

    def canvas(self, image_set: ImageSet, seed: int) -> tuple[Canvas, bytes]:
        data = canvas_bytes(seed, self.config)
        layout = self.config.layout
        panels = tuple(
            PanelRecord(
                marker=marker,
                box=box,
                caption="",
                source=frame.source,
                source_box=frame.crop,
                shot=frame.shot,
                time=frame.time,
                sha256=hashlib.sha256(frame.id.encode()).hexdigest(),
            )
            for marker, box, frame in zip(
                layout.markers, layout.boxes, image_set.frames, strict=True
            )
        )
        masks = ((0, 0, 8, 8),) if seed % 3 == 2 else ()
        canvas = Canvas(
            key=image_set.key,
            file=f"{image_set.key}.jpg",
            image_sha256=hashlib.sha256(data).hexdigest(),
            panels=panels,
            masks=masks,
            set=image_set,
        )
        return canvas, data

    def caption(self, canvas: Canvas, number: int) -> CaptionedSet:
        caption = Caption(
            prefix=self.config.caption.prefix,
            summary=f"a story of <Zoé{number}> in the snow,",
            parts=tuple(f"part {i} with <Zoé{number}>" for i in range(len(canvas.panels))),
            roles=(f"Zoé{number}",),
            captioner="miniature/vlm@abc",
        )
        return CaptionedSet(
            key=canvas.key,
            image_sha256=canvas.image_sha256,
            caption=caption,
            scores={"adherence": number + 0.123456},
        )


def _verdicts(stage: str, ids, source: Source) -> tuple[Verdict, ...]:
    return tuple(Verdict.kept(stage, i, source=source.name) for i in ids)


def _half(maker: _Maker, number: int, count: int):
    source = maker.source(number)
    sets = maker.sets(source, count)
    frames = tuple(frame for image_set in sets for frame in image_set.frames)
    ids = [frame.id for frame in frames]
    ingested = maker.stage(
        Ingested(
            source=source,
            frames=frames,
            seen=len(frames),
            verdicts=_verdicts("ingest", ids, source),
        ),
        source,
    )
    blurred = Verdict.rejected(
        "quality", "blurred-1", "blurred", value=3.5, threshold=20.0, source=source.name
    )
    scored = maker.stage(
        Scored(
            ingested=ingested,
            frames=frames,
            scores={},
            hashes={},
            embeddings="none.npy",
            encoder="miniature/clip@def",
            seen=len(frames) + 1,
            verdicts=(*_verdicts("quality", ids, source), blurred),
        ),
        source,
    )
    formed = maker.stage(
        Formed(
            scored=scored,
            sets=tuple(sets),
            seen=len(frames),
            verdicts=_verdicts("sets", ids, source),
        ),
        source,
    )
    return source, sets, (ingested, scored, formed)


def _finish(maker: _Maker, source: Source, sets, first, number: int) -> SourceStages:
    pairs = [maker.canvas(item, number * 10 + i) for i, item in enumerate(sets)]

    def fill(folder: Path) -> None:
        for canvas, data in pairs:
            (folder / canvas.file).write_bytes(data)

    keys = [item.key for item in sets]
    stitched = maker.stage(
        Stitched(
            source=source,
            canvases=tuple(canvas for canvas, _ in pairs),
            seen=len(sets),
            verdicts=_verdicts("stitch", keys, source),
        ),
        source,
        fill,
    )
    captioned = maker.stage(
        Captioned(
            stitched=stitched,
            captions=tuple(maker.caption(canvas, i) for i, (canvas, _) in enumerate(pairs)),
            seen=len(sets),
            verdicts=_verdicts("caption", keys, source),
        ),
        source,
    )
    ingested, scored, formed = first
    return SourceStages(
        ingested=ingested, scored=scored, formed=formed, stitched=stitched, captioned=captioned
    )


@pytest.fixture
def make_build(store: Store) -> Callable[..., Build]:
    """``make_build(counts)``: a build with one source per number, that many sets each."""

    def make(counts=(3, 2, 2), config: Config = CONFIG, into: Store = store) -> Build:
        maker = _Maker(into, config)
        halves = [_half(maker, number, count) for number, count in enumerate(counts)]
        sets = tuple(item for _, own, _ in halves for item in own)
        everything = maker.source(99)
        chosen = maker.stage(
            Chosen(
                sets=sets,
                seen=len(sets),
                verdicts=_verdicts("choose", [item.key for item in sets], everything),
            ),
            everything,
        )
        stages = [
            _finish(maker, source, own, first, number)
            for number, (source, own, first) in enumerate(halves)
        ]
        refused = [Verdict.failed("sources", "notes.mp4", "not_a_film", "text")]
        return Build(into, config, [source for source, _, _ in halves], refused, stages, chosen)

    return make


@pytest.fixture
def published(make_build) -> tuple[Store, DatasetRef]:
    """A dataset of three films and seven samples."""
    build = make_build()
    return build.store, build.publish()


@pytest.fixture
def folder(published) -> Path:
    """Folder of the version of ``published``."""
    return Path(published[1].url)


def manifest_of(folder: Path) -> DatasetManifest:
    return DatasetManifest.from_text((folder / "manifest.json").read_bytes())


@pytest.fixture
def edit_manifest(folder: Path) -> Callable[..., None]:
    """``edit_manifest(field=value)``: changes the manifest, and its version with it."""

    def edit(**changes: object) -> None:
        manifest = manifest_of(folder).model_copy(update=changes)
        manifest = manifest.model_copy(update={"version": version_of(manifest)})
        (folder / "manifest.json").write_text(manifest.to_text(), encoding="utf-8")

    return edit


@pytest.fixture
def republish(folder: Path, edit_manifest: Callable[..., None]) -> Callable[[str], None]:
    """``republish(name)``: makes the manifest agree with a changed file or first shard."""

    def agree(name: str) -> None:
        manifest, path = manifest_of(folder), folder / name
        if name in manifest.digests:
            edit_manifest(digests={**manifest.digests, name: file_sha256(path)})
        else:
            first = {"sha256": file_sha256(path), "size": path.stat().st_size}
            shards = (manifest.shards[0].model_copy(update=first), *manifest.shards[1:])
            edit_manifest(shards=shards)

    return agree
