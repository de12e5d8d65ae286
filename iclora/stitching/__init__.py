"""Stitching stage: turns the chosen sets of one source into canvases with recorded boxes."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from pathlib import Path

from iclora.filtering.safety import load_safety_models, safety_labels
from iclora.models.face import face_label, load_faces
from iclora.pipeline.stage import Stage, file_of, result_of, run_stage
from iclora.stitching.canvas import carry_box, encode, stitch
from iclora.stitching.fit_frame import (
    STAGE,
    FrameRejected,
    StitchModels,
    StitchStageParams,
    fit_frame,
)
from iclora.store import Store
from schemas.config import Config
from schemas.frame import ImageSet
from schemas.sample import PanelRecord
from schemas.stage import Canvas, Chosen, Ingested, StageRef, Stitched
from schemas.verdict import Verdict

__all__ = ["stitch_sets", "stitch_source"]

log = logging.getLogger(__name__)

STITCH = Stage(STAGE, 2)


def stitch_source(store: Store, ingested: StageRef, chosen: StageRef, config: Config) -> StageRef:
    """Builds the canvases of one source (``Stitched``, stage ``stitch``).

    The digest covers only this source's sets in ``chosen``, so changes to other sources do not
    invalidate the stage.

    Raises:
        MissingModel: ``stitch.face_model`` names a file that does not exist.
    """
    name = result_of(store, ingested, Ingested).source.name
    sets = [item for item in result_of(store, chosen, Chosen).sets if item.source == name]
    return stitch_sets(store, ingested, sets, config)


def stitch_sets(
    store: Store, ingested: StageRef, sets: Sequence[ImageSet], config: Config
) -> StageRef:
    """Builds the canvases of the given sets of one source (``Stitched``, stage ``stitch``).

    Raises:
        MissingModel: ``stitch.face_model`` names a file that does not exist.
    """
    face_model, safety = config.stitch.face_model, config.filter.safety
    heads = {"heads": face_label(face_model)} if face_model else {}
    params = StitchStageParams(
        layout=config.layout,
        stitch=config.stitch,
        safety=safety,
        models=heads | safety_labels(safety),
    )

    def work(folder: Path) -> Stitched:
        return _stitch_all(folder, store, ingested, sets, params)

    inputs = [ingested.digest, *(item.fingerprint for item in sets)]
    return run_stage(store, STITCH, params, inputs, work)


def _stitch_all(
    folder: Path,
    store: Store,
    ingested: StageRef,
    sets: Sequence[ImageSet],
    params: StitchStageParams,
) -> Stitched:
    face_model = params.stitch.face_model
    models = StitchModels(
        heads=load_faces(face_model) if face_model else None,
        safety=load_safety_models(params.safety),
    )
    canvases: list[Canvas] = []
    verdicts: list[Verdict] = []
    for item in sets:
        try:
            canvases.append(_stitch_set(folder, store, ingested, item, params, models))
            verdicts.append(Verdict.kept(STAGE, item.key, source=item.source))
        except FrameRejected as rejected:
            log.info("%s: %s", item.key, rejected)
            changes = {"id": item.key, "source": item.source}
            verdicts.append(rejected.verdict.model_copy(update=changes))
    return Stitched(
        source=result_of(store, ingested, Ingested).source,
        canvases=tuple(canvases),
        seen=len(sets),
        verdicts=tuple(verdicts),
    )


def _stitch_set(
    folder: Path,
    store: Store,
    ingested: StageRef,
    item: ImageSet,
    params: StitchStageParams,
    models: StitchModels,
) -> Canvas:
    """Writes the canvas of one set.

    Raises:
        FrameRejected: A frame cannot become a panel, or the set has another number of frames than
            the layout has panels.
    """
    layout = params.layout
    if len(item.frames) != layout.panels:
        detail = f"the layout {layout.name} has {layout.panels} panels"
        raise FrameRejected(
            Verdict.rejected(
                STAGE,
                item.key,
                "wrong_panel_count",
                detail,
                value=len(item.frames),
                threshold=layout.panels,
            )
        )
    panels = [
        fit_frame(file_of(store, ingested, frame.file), frame, params, models)
        for frame in item.frames
    ]
    data = encode(stitch([panel.pixels for panel in panels], layout), params.stitch)
    name = f"{item.key}.{params.stitch.format}"
    (folder / name).write_bytes(data)

    fitted = list(zip(layout.markers, layout.boxes, item.frames, panels, strict=True))
    carried = [
        carry_box(mask, panel.source_box, box)
        for _, box, frame, panel in fitted
        for mask in frame.masks
    ]
    return Canvas(
        key=item.key,
        file=name,
        image_sha256=hashlib.sha256(data).hexdigest(),
        panels=tuple(
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
            for marker, box, frame, panel in fitted
        ),
        masks=tuple(dict.fromkeys(box for box in carried if box)),
        set=item,
    )
