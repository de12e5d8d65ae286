"""Measurement of a source's frames in batches, without decisions.

Measurements are separate from thresholds, and each batch is a stage of its own. A changed threshold
needs no decoding or CLIP inference, and a killed build keeps all finished batches.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np

from iclora.cpus import available_cpus
from iclora.filtering.frame_image import FrameImage, UndecodableFrame, load_frame_image
from iclora.filtering.phash import perceptual_hash
from iclora.filtering.quality import Scores, measure_quality
from iclora.filtering.safety import SafetyModels, load_safety_models, safety_labels, safety_scores
from iclora.filtering.similarity import Rows
from iclora.models.clip import ClipEncoder, clip_label, load_clip
from iclora.pipeline.progress import Report, ignore_progress
from iclora.pipeline.stage import Stage, file_of, result_of, run_stage
from iclora.store import Store
from schemas.base import digest_of
from schemas.filtering import FilterParams
from schemas.frame import Frame
from schemas.measured import MeasuredBatch
from schemas.stage import StageRef

MEASURE = Stage("measure", 4)
BATCH = 64
"""Number of frames per batch; bounds memory and the work lost when a build is killed."""

_EMBEDDINGS = "embeddings.npy"


class EmbedModels(NamedTuple):
    """Models that measure frames."""

    clip: ClipEncoder
    checks: SafetyModels


class FrameMeasurements(NamedTuple):
    """Measurements of a source, keyed by frame ID."""

    scores: dict[str, Scores]
    hashes: dict[str, str]
    unreadable: dict[str, str]
    rows: dict[str, Rows]
    """Mapping of frame ID to unit vector [d]."""


class _MeasuredFrame(NamedTuple):
    frame: Frame
    image: FrameImage
    scores: Scores
    hash: str


def model_labels(params: FilterParams) -> dict[str, str]:
    """Returns the names and revisions of the models ``clip``, ``nsfw`` and ``faces``."""
    return {"clip": clip_label(params.clip)} | safety_labels(params.safety)


def measure_frames(
    store: Store,
    ingested: StageRef,
    frames: Sequence[Frame],
    params: FilterParams,
    report: Report = ignore_progress,
) -> FrameMeasurements:
    """Measures a source's frames, reusing finished batches."""
    labels = sorted(model_labels(params).items())
    measurements = FrameMeasurements({}, {}, {}, {})
    for start in range(0, len(frames), BATCH):
        report(start / len(frames))
        batch = frames[start : start + BATCH]

        def work(folder: Path, batch: Sequence[Frame] = batch) -> MeasuredBatch:
            paths = [file_of(store, ingested, frame.file) for frame in batch]
            models = EmbedModels(load_clip(params.clip), load_safety_models(params.safety))
            return _measure_batch(folder, batch, paths, models)

        inputs = [digest_of(labels), *(_frame_digest(frame) for frame in batch)]
        _add(store, run_stage(store, MEASURE, [], inputs, work), measurements)
    return measurements


def _frame_digest(frame: Frame) -> str:
    """Computes the digest of everything that a frame's measurements depend on."""
    return digest_of([frame.id, frame.content, frame.crop, frame.masks, frame.width, frame.height])


def _add(store: Store, ref: StageRef, measurements: FrameMeasurements) -> None:
    measured = result_of(store, ref, MeasuredBatch)
    measurements.scores.update(measured.scores)
    measurements.hashes.update(measured.hashes)
    measurements.unreadable.update(measured.unreadable)
    rows: Rows = np.load(file_of(store, ref, measured.embeddings), allow_pickle=False)
    measurements.rows.update(zip(measured.frames, rows, strict=True))


def _measure_batch(
    folder: Path, batch: Sequence[Frame], paths: Sequence[Path], models: EmbedModels
) -> MeasuredBatch:
    def read(frame: Frame, path: Path) -> _MeasuredFrame | UndecodableFrame:
        try:
            image = load_frame_image(path, frame, models.clip.image_size)
        except UndecodableFrame as error:
            return error
        scores = measure_quality(image, frame) | safety_scores(models.checks, image)
        return _MeasuredFrame(frame, image, scores, perceptual_hash(image.luma))

    with ThreadPoolExecutor(available_cpus()) as pool:
        results = list(pool.map(read, batch, paths))
    found = [result for result in results if isinstance(result, _MeasuredFrame)]
    np.save(folder / _EMBEDDINGS, models.clip.images([one.image.picture for one in found]))
    return MeasuredBatch(
        frames=tuple(one.frame.id for one in found),
        scores={one.frame.id: one.scores for one in found},
        hashes={one.frame.id: one.hash for one in found},
        unreadable={
            frame.id: str(result)
            for frame, result in zip(batch, results, strict=True)
            if isinstance(result, UndecodableFrame)
        },
        embeddings=_EMBEDDINGS,
    )
