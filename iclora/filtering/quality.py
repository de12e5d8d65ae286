"""Quality stage: keeps each frame of a source, rejects it with a reason, or marks it unreadable."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from iclora.filtering.checks import Rejection, quality_rejection, quality_thresholds
from iclora.filtering.measure import (
    MEASURE,
    FrameMeasurements,
    MeasureParams,
    measure_frames,
    measure_params,
)
from iclora.filtering.safety import safety_rejection
from iclora.filtering.zero_shot import prompt_rejections
from iclora.models.clip import load_clip
from iclora.pipeline.progress import Report, ignore_progress
from iclora.pipeline.stage import Stage, result_of, run_stage
from iclora.store import Store
from schemas.base import Schema
from schemas.config import Config
from schemas.filtering import SafetyParams
from schemas.frame import Frame
from schemas.stage import Ingested, Scored, StageRef
from schemas.verdict import Verdict

QUALITY = Stage("quality", 2)
_EMBEDDINGS = "embeddings.npy"


class QualityStageParams(Schema):
    """Everything that the verdicts on frames depend on."""

    measure: MeasureParams
    thresholds: dict[str, float]
    """Threshold of each limit of the quality checks, by its setting."""

    safety: SafetyParams
    require: tuple[str, ...]
    exclude: tuple[str, ...]


def score_frames(
    store: Store, ingested: StageRef, config: Config, report: Report = ignore_progress
) -> StageRef:
    """Scores one source's frames and keeps the good ones (``Scored``, stage ``quality``).

    Frames of given sets are treated like all others.

    Raises:
        BadConfig: ``filter.quality.extra`` has a setting that belongs to no check.
    """
    filtering = config.filter
    params = QualityStageParams(
        measure=measure_params(filtering),
        thresholds=quality_thresholds(filtering.quality),
        safety=filtering.safety,
        require=filtering.require,
        exclude=filtering.exclude,
    )

    def work(folder: Path) -> Scored:
        source = result_of(store, ingested, Ingested)
        frames = all_frames(source)
        measurements = measure_frames(store, ingested, frames, params.measure, report)
        rejections = _find_rejections(frames, measurements, params)
        good = [frame for frame in _readable(frames, measurements) if frame.id not in rejections]
        rows = [measurements.rows[frame.id] for frame in good]
        table = np.stack(rows) if rows else np.zeros((0, 0), np.float32)
        np.save(folder / _EMBEDDINGS, table, allow_pickle=False)

        verdicts: list[Verdict] = []
        for frame in frames:
            if message := measurements.unreadable.get(frame.id):
                verdict = Verdict.failed(
                    "quality", frame.id, "unreadable", message, source=frame.source
                )
            elif rejection := rejections.get(frame.id):
                verdict = Verdict.rejected(
                    "quality", frame.id, source=frame.source, **rejection._asdict()
                )
            else:
                verdict = Verdict.kept("quality", frame.id, source=frame.source)
            verdicts.append(verdict)
        return Scored(
            ingested=ingested,
            frames=tuple(good),
            given=source.given,
            scores=measurements.scores,
            hashes={frame.id: measurements.hashes[frame.id] for frame in good},
            embeddings=_EMBEDDINGS,
            encoder=params.measure.models["clip"],
            seen=len(frames),
            verdicts=tuple(verdicts),
        )

    inputs = [ingested.digest, f"{MEASURE.name} {MEASURE.version}"]
    return run_stage(store, QUALITY, params, inputs, work)


def all_frames(ingested: Ingested) -> tuple[Frame, ...]:
    """Returns a source's distinct frames, including those of given sets."""
    given = [frame for image_set in ingested.given for frame in image_set.frames]
    return tuple({frame.id: frame for frame in [*ingested.frames, *given]}.values())


def _readable(frames: Sequence[Frame], measurements: FrameMeasurements) -> list[Frame]:
    return [frame for frame in frames if frame.id in measurements.rows]


def _find_rejections(
    frames: Sequence[Frame], measurements: FrameMeasurements, params: QualityStageParams
) -> dict[str, Rejection]:
    """Maps frame IDs to rejections, by thresholds, then safety policy, then prompts."""
    rejections: dict[str, Rejection] = {}
    left: list[str] = []
    for frame in _readable(frames, measurements):
        scores = measurements.scores[frame.id]
        rejection = quality_rejection(scores, params.thresholds) or safety_rejection(
            scores, params.safety
        )
        if rejection:
            rejections[frame.id] = rejection
        else:
            left.append(frame.id)
    if left and (params.require or params.exclude):
        rows = np.stack([measurements.rows[name] for name in left])
        texts = load_clip(params.measure.clip).texts
        by_prompt = prompt_rejections(params.require, params.exclude, texts, rows)
        rejections |= {name: found for name, found in zip(left, by_prompt, strict=True) if found}
    return rejections
