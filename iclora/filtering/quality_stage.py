"""Quality stage: keeps each frame of a source, rejects it with a reason, or marks it unreadable."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from iclora.filtering.embed_stage import FrameMeasurements, measure_frames, model_labels
from iclora.filtering.quality import Rejection, quality_rejection
from iclora.filtering.safety import safety_rejection
from iclora.filtering.zero_shot import embed_prompts, prompt_rejections
from iclora.models.clip import load_clip
from iclora.pipeline.progress import Report, ignore_progress
from iclora.pipeline.stage import result_of
from iclora.store import Store
from schemas.filtering import FilterParams
from schemas.frame import Frame
from schemas.stage import Ingested, Scored, StageRef
from schemas.verdict import Verdict

EMBEDDINGS = "embeddings.npy"


def score_source(
    folder: Path,
    store: Store,
    ref: StageRef,
    params: FilterParams,
    report: Report = ignore_progress,
) -> Scored:
    """Measures a source's frames and assigns a verdict to each.

    Frames of given sets are treated like all others.

    Args:
        folder: Output folder for the kept frames' vectors.
        store: Holds the frames.
        ref: Reference to the source's ingest stage.
        params: Quality thresholds, prompts and safety policy.
        report: Receives the fraction of measured frames.
    """
    ingested = result_of(store, ref, Ingested)
    frames = all_frames(ingested)
    measurements = measure_frames(store, ref, frames, params, report)
    rejections = find_rejections(frames, measurements, params)
    good = [
        frame for frame in frames if frame.id in measurements.rows and frame.id not in rejections
    ]
    _write_rows(folder, [measurements.rows[frame.id] for frame in good])
    return Scored(
        ingested=ref,
        frames=tuple(good),
        given=ingested.given,
        scores=measurements.scores,
        hashes={frame.id: measurements.hashes[frame.id] for frame in good},
        embeddings=EMBEDDINGS,
        encoder=model_labels(params)["clip"],
        seen=len(frames),
        verdicts=tuple(_verdict(frame, measurements, rejections.get(frame.id)) for frame in frames),
    )


def all_frames(ingested: Ingested) -> tuple[Frame, ...]:
    """Returns a source's distinct frames, including those of given sets."""
    given = [frame for one in ingested.given for frame in one.frames]
    return tuple({frame.id: frame for frame in [*ingested.frames, *given]}.values())


def find_rejections(
    frames: Sequence[Frame], measurements: FrameMeasurements, params: FilterParams
) -> dict[str, Rejection]:
    """Maps frame IDs to rejections, by thresholds, then safety policy, then prompts."""
    rejections: dict[str, Rejection] = {}
    for frame in frames:
        if scores := measurements.scores.get(frame.id):
            rejection = quality_rejection(scores, params.quality) or safety_rejection(
                scores, params.safety
            )
            if rejection:
                rejections[frame.id] = rejection
    left = [
        frame.id for frame in frames if frame.id in measurements.rows and frame.id not in rejections
    ]
    return rejections | _by_prompts(left, measurements, params)


def _by_prompts(
    left: Sequence[str], measurements: FrameMeasurements, params: FilterParams
) -> dict[str, Rejection]:
    if not left or not (params.require or params.exclude):
        return {}
    prompts = embed_prompts(params.require, params.exclude, load_clip(params.clip).texts)
    found = prompt_rejections(prompts, np.stack([measurements.rows[name] for name in left]))
    return {name: rejection for name, rejection in zip(left, found, strict=True) if rejection}


def _write_rows(folder: Path, rows: Sequence[np.ndarray[tuple[int], np.dtype[np.float32]]]) -> None:
    table = np.stack(rows) if rows else np.zeros((0, 0), np.float32)
    np.save(folder / EMBEDDINGS, table, allow_pickle=False)


def _verdict(frame: Frame, measurements: FrameMeasurements, rejection: Rejection | None) -> Verdict:
    if frame.id in measurements.unreadable:
        return Verdict(
            stage="quality",
            id=frame.id,
            outcome="failed",
            reason="unreadable",
            detail=measurements.unreadable[frame.id],
            source=frame.source,
        )
    if rejection is None:
        return Verdict(stage="quality", id=frame.id, outcome="kept", source=frame.source)
    return Verdict(
        stage="quality",
        id=frame.id,
        outcome="rejected",
        reason=rejection.reason,
        detail=rejection.detail,
        value=rejection.value,
        threshold=rejection.threshold,
        source=frame.source,
    )
