"""Stitching stage: turns the chosen sets of one source into canvases with recorded boxes."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from pathlib import Path

from iclora.filtering.safety import load_safety_models, safety_labels
from iclora.models.face import face_label, load_faces
from iclora.pipeline.stage import Stage, file_of, result_of, run_stage
from iclora.stitching.encode import encode
from iclora.stitching.fit_frame import STAGE, FitSettings, FittedPanel, FrameRejected, fit_frame
from iclora.stitching.geometry import carry_box, stitch
from iclora.store import Store
from schemas.base import Box, digest_of
from schemas.config import Config
from schemas.frame import ImageSet
from schemas.layout import Layout
from schemas.sample import PanelRecord
from schemas.stage import Canvas, Chosen, Ingested, StageRef, Stitched
from schemas.verdict import Verdict

__all__ = ["stitch_sets", "stitch_source"]

log = logging.getLogger(__name__)

STITCH = Stage(STAGE, 1)


def stitch_source(store: Store, ingested: StageRef, chosen: StageRef, config: Config) -> StageRef:
    """Builds the canvases of one source (``Stitched``, stage ``stitch``).

    The digest covers only this source's sets in ``chosen``, so changes to other sources do not
    invalidate the stage.

    Raises:
        MissingModel: ``stitch.face_model`` names a file that does not exist.
    """
    name = result_of(store, ingested, Ingested).source.name
    sets = [one for one in result_of(store, chosen, Chosen).sets if one.source == name]
    return stitch_sets(store, ingested, sets, config)


def stitch_sets(
    store: Store, ingested: StageRef, sets: Sequence[ImageSet], config: Config
) -> StageRef:
    """Builds the canvases of the given sets of one source (``Stitched``, stage ``stitch``).

    Raises:
        MissingModel: ``stitch.face_model`` names a file that does not exist.
    """
    source = result_of(store, ingested, Ingested).source
    models = [_head_label(config), sorted(safety_labels(config.filter.safety).items())]

    def work(folder: Path) -> Stitched:
        settings = _fitting(config)
        canvases: list[Canvas] = []
        verdicts: list[Verdict] = []
        for one in sets:
            made = _stitch_set(folder, store, ingested, one, settings)
            if isinstance(made, Canvas):
                canvases.append(made)
                verdicts.append(_verdict(one, Verdict(stage=STAGE, id=one.key, outcome="kept")))
            else:
                verdicts.append(_verdict(one, made))
        return Stitched(
            source=source, canvases=tuple(canvases), seen=len(sets), verdicts=tuple(verdicts)
        )

    params = [config.layout, config.stitch, config.filter.safety]
    inputs = [ingested.digest, digest_of(models), *(one.fingerprint for one in sets)]
    return run_stage(store, STITCH, params, inputs, work)


def _head_label(config: Config) -> str:
    return face_label(config.stitch.face_model) if config.stitch.face_model else ""


def _fitting(config: Config) -> FitSettings:
    return FitSettings(
        layout=config.layout,
        params=config.stitch,
        safety=config.filter.safety,
        heads=load_faces(config.stitch.face_model) if config.stitch.face_model else None,
        safety_models=load_safety_models(config.filter.safety),
    )


def _verdict(one: ImageSet, verdict: Verdict) -> Verdict:
    """Reassigns a frame's verdict to its set."""
    return verdict.model_copy(update={"id": one.key, "source": one.source})


def _stitch_set(
    folder: Path, store: Store, ingested: StageRef, one: ImageSet, settings: FitSettings
) -> Canvas | Verdict:
    """Writes the canvas of one set, or returns the verdict that rejects it."""
    if len(one.frames) != settings.layout.panels:
        return _wrong_count(one, settings.layout)
    try:
        panels = [
            fit_frame(file_of(store, ingested, frame.file), frame, settings) for frame in one.frames
        ]
    except FrameRejected as refusal:
        log.info("%s: %s", one.key, refusal)
        return refusal.verdict
    data = encode(stitch([panel.pixels for panel in panels], settings.layout), settings.params)
    name = f"{one.key}.{settings.params.format}"
    (folder / name).write_bytes(data)
    return Canvas(
        key=one.key,
        file=name,
        image_sha256=hashlib.sha256(data).hexdigest(),
        panels=_records(one, panels, settings.layout),
        masks=_masks(one, panels, settings.layout),
        set=one,
    )


def _wrong_count(one: ImageSet, layout: Layout) -> Verdict:
    return Verdict(
        stage=STAGE,
        id=one.key,
        outcome="rejected",
        reason="wrong_panel_count",
        detail=f"the layout {layout.name} has {layout.panels} panels",
        value=float(len(one.frames)),
        threshold=float(layout.panels),
    )


def _records(
    one: ImageSet, panels: Sequence[FittedPanel], layout: Layout
) -> tuple[PanelRecord, ...]:
    return tuple(
        PanelRecord(
            marker=marker,
            box=box,
            caption="",
            source=frame.source,
            source_box=panel.source_box,
            shot=frame.shot,
            time=frame.time,
            sha256=panel.sha256,
        )
        for marker, box, frame, panel in zip(
            layout.markers, layout.boxes, one.frames, panels, strict=True
        )
    )


def _masks(one: ImageSet, panels: Sequence[FittedPanel], layout: Layout) -> tuple[Box, ...]:
    """Returns the deduplicated overlay boxes on the canvas, in reading order."""
    carried = (
        carry_box(mask, panel.source_box, box)
        for frame, panel, box in zip(one.frames, panels, layout.boxes, strict=True)
        for mask in frame.masks
    )
    return tuple(dict.fromkeys(box for box in carried if box))
