"""Measure stage: scores, hashes and embeddings of a source's frames, without decisions.

Measurements are separate from thresholds, and each batch of frames is a stage of its own. A changed
threshold needs no decoding or CLIP inference, and a killed build keeps all finished batches.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np

from iclora.cpus import available_cpus
from iclora.filtering.checks import Scores, measure_quality, quality_checks
from iclora.filtering.frame_image import FrameImage, UndecodableFrame, load_frame_image
from iclora.filtering.safety import load_safety_models, safety_labels, safety_scores
from iclora.filtering.similarity import Rows, perceptual_hash
from iclora.models.clip import clip_label, load_clip
from iclora.pipeline.progress import Report, ignore_progress
from iclora.pipeline.stage import Stage, file_of, result_of, run_stage
from iclora.store import Store
from schemas.base import Operational, Schema, digest_of
from schemas.filtering import FilterParams, SafetyParams
from schemas.frame import Frame
from schemas.stage import MeasuredBatch, StageRef

MEASURE = Stage("measure", 5)
BATCH = 64
"""Number of frames per batch; bounds memory and the work lost when a build is killed."""

_EMBEDDINGS = "embeddings.npy"


class MeasureParams(Schema):
    """Models and checks that measure frames."""

    models: dict[str, str]
    """Name and revision of ``clip``, ``nsfw`` and ``faces``."""

    checks: dict[str, int]
    """Name and version of each quality check."""

    clip: Annotated[str, Operational]
    """CLIP model to load; its label is in ``models``."""

    safety: Annotated[SafetyParams, Operational]
    """Safety models to load; their labels are in ``models``."""


class FrameMeasurements(NamedTuple):
    """Measurements of a source, keyed by frame ID."""

    scores: dict[str, Scores]
    hashes: dict[str, str]
    unreadable: dict[str, str]
    rows: dict[str, Rows]
    """Mapping of frame ID to unit vector [d]."""


def measure_params(params: FilterParams) -> MeasureParams:
    """Returns everything that a frame's measurements depend on."""
    return MeasureParams(
        models={"clip": clip_label(params.clip)} | safety_labels(params.safety),
        checks={check.name: check.version for check in quality_checks()},
        clip=params.clip,
        safety=params.safety,
    )


def measure_frames(
    store: Store,
    ingested: StageRef,
    frames: Sequence[Frame],
    params: MeasureParams,
    report: Report = ignore_progress,
) -> FrameMeasurements:
    """Measures a source's frames, reusing finished batches."""
    measurements = FrameMeasurements({}, {}, {}, {})
    for start in range(0, len(frames), BATCH):
        report(start / len(frames))
        batch = frames[start : start + BATCH]

        def work(folder: Path, batch: Sequence[Frame] = batch) -> MeasuredBatch:
            paths = [file_of(store, ingested, frame.file) for frame in batch]
            return _measure_batch(folder, batch, paths, params)

        inputs = [
            digest_of([frame.id, frame.content, frame.crop, frame.masks, frame.width, frame.height])
            for frame in batch
        ]
        ref = run_stage(store, MEASURE, params, inputs, work)
        measured = result_of(store, ref, MeasuredBatch)
        measurements.scores.update(measured.scores)
        measurements.hashes.update(measured.hashes)
        measurements.unreadable.update(measured.unreadable)
        rows: Rows = np.load(file_of(store, ref, measured.embeddings), allow_pickle=False)
        measurements.rows.update(zip(measured.frames, rows, strict=True))
    return measurements


def _measure_batch(
    folder: Path, batch: Sequence[Frame], paths: Sequence[Path], params: MeasureParams
) -> MeasuredBatch:
    clip, safety = load_clip(params.clip), load_safety_models(params.safety)

    def measure(frame: Frame, path: Path) -> tuple[FrameImage, Scores, str] | UndecodableFrame:
        try:
            image = load_frame_image(path, frame, clip.image_size)
        except UndecodableFrame as error:
            return error
        scores = measure_quality(image) | safety_scores(safety, image.picture)
        return image, scores, perceptual_hash(image.luma)

    with ThreadPoolExecutor(available_cpus()) as pool:
        results = list(pool.map(measure, batch, paths))
    measured = [result for result in results if not isinstance(result, UndecodableFrame)]
    np.save(folder / _EMBEDDINGS, clip.images([image.picture for image, _, _ in measured]))
    return MeasuredBatch(
        frames=tuple(image.frame.id for image, _, _ in measured),
        scores={image.frame.id: scores for image, scores, _ in measured},
        hashes={image.frame.id: hash_ for image, _, hash_ in measured},
        unreadable={
            frame.id: str(result)
            for frame, result in zip(batch, results, strict=True)
            if isinstance(result, UndecodableFrame)
        },
        embeddings=_EMBEDDINGS,
    )
