"""The quality stage: every frame of a source is kept, rejected with a reason, or unreadable."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from iclora.models.clip import load_clip
from iclora.pipeline.progress import Report, ignore_progress
from iclora.pipeline.stage import result_of
from iclora.sift.measuring import Readings, labels_of, measure_frames
from iclora.sift.policy import policy_fault
from iclora.sift.prompts import prompt_faults, read_prompts
from iclora.sift.quality import Fault, find_fault
from iclora.store import Store
from schemas.frame import Frame
from schemas.sift import SiftParams
from schemas.stage import Ingested, Scored, StageRef
from schemas.verdict import Verdict

EMBEDDINGS = "embeddings.npy"


def judge_source(
    folder: Path, store: Store, ref: StageRef, sift: SiftParams, report: Report = ignore_progress
) -> Scored:
    """Measures a source's frames and decides about each.

    Frames of sets that the source already holds are judged like the others.

    Args:
        folder: where the kept frames' vectors are written.
        store: holds the frames.
        ref: the source's ingest stage.
        sift: quality, prompts and policy.
        report: takes the fraction of the frames that is measured.
    """
    ingested = result_of(store, ref, Ingested)
    frames = frames_of(ingested)
    readings = measure_frames(store, ref, frames, sift, report)
    faults = find_faults(frames, readings, sift)
    good = [frame for frame in frames if frame.id in readings.rows and frame.id not in faults]
    _write_rows(folder, [readings.rows[frame.id] for frame in good])
    return Scored(
        ingested=ref,
        frames=tuple(good),
        given=ingested.given,
        scores=readings.scores,
        hashes={frame.id: readings.hashes[frame.id] for frame in good},
        embeddings=EMBEDDINGS,
        encoder=labels_of(sift)["clip"],
        seen=len(frames),
        verdicts=tuple(_verdict(frame, readings, faults.get(frame.id)) for frame in frames),
    )


def frames_of(ingested: Ingested) -> tuple[Frame, ...]:
    """A source's frames, those of its given sets included, each once."""
    given = [frame for one in ingested.given for frame in one.frames]
    return tuple({frame.id: frame for frame in [*ingested.frames, *given]}.values())


def find_faults(frames: Sequence[Frame], readings: Readings, sift: SiftParams) -> dict[str, Fault]:
    """Frame id to why it is not good enough: thresholds, then policy, then prompts."""
    faults: dict[str, Fault] = {}
    for frame in frames:
        if scores := readings.scores.get(frame.id):
            fault = find_fault(scores, sift.quality) or policy_fault(scores, sift.policy)
            if fault:
                faults[frame.id] = fault
    left = [frame.id for frame in frames if frame.id in readings.rows and frame.id not in faults]
    return faults | _by_prompts(left, readings, sift)


def _by_prompts(left: Sequence[str], readings: Readings, sift: SiftParams) -> dict[str, Fault]:
    if not left or not (sift.require or sift.exclude):
        return {}
    prompts = read_prompts(sift.require, sift.exclude, load_clip(sift.clip).texts)
    found = prompt_faults(prompts, np.stack([readings.rows[name] for name in left]))
    return {name: fault for name, fault in zip(left, found, strict=True) if fault}


def _write_rows(folder: Path, rows: Sequence[np.ndarray[tuple[int], np.dtype[np.float32]]]) -> None:
    table = np.stack(rows) if rows else np.zeros((0, 0), np.float32)
    np.save(folder / EMBEDDINGS, table, allow_pickle=False)


def _verdict(frame: Frame, readings: Readings, fault: Fault | None) -> Verdict:
    if frame.id in readings.unreadable:
        return Verdict(
            stage="quality",
            id=frame.id,
            outcome="failed",
            reason="unreadable",
            detail=readings.unreadable[frame.id],
            source=frame.source,
        )
    if fault is None:
        return Verdict(stage="quality", id=frame.id, outcome="kept", source=frame.source)
    return Verdict(
        stage="quality",
        id=frame.id,
        outcome="rejected",
        reason=fault.reason,
        detail=fault.detail,
        value=fault.value,
        threshold=fault.threshold,
        source=frame.source,
    )
