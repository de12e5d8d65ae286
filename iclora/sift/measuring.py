"""Measures a source's frames, batch by batch; nothing is decided here.

Measurements are kept apart from thresholds and a batch is a stage of its own, so that a changed
threshold costs no decoding and no CLIP, and a killed build keeps every finished batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np

from iclora.cores import cores
from iclora.models.clip import ClipEncoder, clip_label, load_clip
from iclora.pipeline.progress import Report, ignore_progress
from iclora.pipeline.stage import Stage, file_of, result_of, run_stage
from iclora.sift.phash import perceptual_hash
from iclora.sift.picture import Look, UnreadableError, look_at
from iclora.sift.policy import Checks, check, check_labels, load_checks
from iclora.sift.quality import Scores, measure
from iclora.sift.similarity import Rows
from iclora.store import Store
from schemas.base import digest_of
from schemas.frame import Frame
from schemas.measured import Measured
from schemas.sift import SiftParams
from schemas.stage import StageRef

MEASURE = Stage("measure", 3)
BATCH = 64
"""Frames measured at once; bounds the memory and what a kill costs."""

_EMBEDDINGS = "embeddings.npy"


class Instruments(NamedTuple):
    """The models that look at frames."""

    clip: ClipEncoder
    checks: Checks


class Readings(NamedTuple):
    """A source's measurements."""

    scores: dict[str, Scores]
    hashes: dict[str, str]
    unreadable: dict[str, str]
    rows: dict[str, Rows]
    """Frame id to unit vector [d]."""


class _Reading(NamedTuple):
    frame: Frame
    look: Look
    scores: Scores
    hash: str


def labels_of(sift: SiftParams) -> dict[str, str]:
    """The models that look at frames (``clip``, ``nsfw``, ``faces``) and their revisions."""
    return {"clip": clip_label(sift.clip)} | check_labels(sift.policy)


def measure_frames(
    store: Store,
    ingested: StageRef,
    frames: Sequence[Frame],
    sift: SiftParams,
    report: Report = ignore_progress,
) -> Readings:
    """The measurements of a source's frames; what was measured before is read again."""
    labels = sorted(labels_of(sift).items())
    readings = Readings({}, {}, {}, {})
    for start in range(0, len(frames), BATCH):
        report(start / len(frames))
        batch = frames[start : start + BATCH]

        def work(folder: Path, batch: Sequence[Frame] = batch) -> Measured:
            paths = [file_of(store, ingested, frame.file) for frame in batch]
            tools = Instruments(load_clip(sift.clip), load_checks(sift.policy))
            return _measure_batch(folder, batch, paths, tools)

        inputs = [digest_of(labels), *(_identity(frame) for frame in batch)]
        _add(store, run_stage(store, MEASURE, [], inputs, work), readings)
    return readings


def _identity(frame: Frame) -> str:
    """Everything of a frame that its measurements depend on."""
    return digest_of([frame.id, frame.content, frame.crop, frame.masks, frame.width, frame.height])


def _add(store: Store, ref: StageRef, readings: Readings) -> None:
    measured = result_of(store, ref, Measured)
    readings.scores.update(measured.scores)
    readings.hashes.update(measured.hashes)
    readings.unreadable.update(measured.unreadable)
    rows: Rows = np.load(file_of(store, ref, measured.embeddings), allow_pickle=False)
    readings.rows.update(zip(measured.frames, rows, strict=True))


def _measure_batch(
    folder: Path, batch: Sequence[Frame], paths: Sequence[Path], tools: Instruments
) -> Measured:
    def read(frame: Frame, path: Path) -> _Reading | UnreadableError:
        try:
            look = look_at(path, frame, tools.clip.image_size)
        except UnreadableError as error:
            return error
        scores = measure(look, frame) | check(tools.checks, look)
        return _Reading(frame, look, scores, perceptual_hash(look.luma))

    with ThreadPoolExecutor(cores()) as pool:
        results = list(pool.map(read, batch, paths))
    found = [result for result in results if isinstance(result, _Reading)]
    np.save(folder / _EMBEDDINGS, tools.clip.images([one.look.picture for one in found]))
    return Measured(
        frames=tuple(one.frame.id for one in found),
        scores={one.frame.id: one.scores for one in found},
        hashes={one.frame.id: one.hash for one in found},
        unreadable={
            frame.id: str(result)
            for frame, result in zip(batch, results, strict=True)
            if isinstance(result, UnreadableError)
        },
        embeddings=_EMBEDDINGS,
    )
