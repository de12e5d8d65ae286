"""Sets stage: groups one source's good frames; given sets are unchanged."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from iclora.filtering.grouping import group_frames, set_similarities
from iclora.filtering.quality import Scores
from iclora.filtering.similarity import FrameSet, Rows, make_frame_set
from iclora.pipeline.stage import file_of, result_of
from iclora.store import Store
from schemas.filtering import SetParams
from schemas.frame import Frame, ImageSet
from schemas.stage import Formed, Scored, StageRef
from schemas.verdict import Verdict

_WORST_OF_SCORE = {
    "side": min,
    "luma": min,
    "sharpness": min,
    "entropy": min,
    "text": max,
    "title": max,
    "merit": min,
    "nsfw": max,
    "face": max,
}
"""Reductions that give a set the score of its worst frame."""


def load_frame_set(store: Store, ref: StageRef, scored: Scored) -> FrameSet:
    """Loads one source's good frames with their vectors and hashes."""
    return make_frame_set(scored.frames, load_embeddings(store, ref, scored), scored.hashes)


def load_embeddings(store: Store, ref: StageRef, scored: Scored) -> Rows:
    """Loads the unit vectors [n, d] of a source's good frames."""
    return np.load(file_of(store, ref, scored.embeddings), allow_pickle=False)


def ungrouped_indices(scored: Scored) -> list[int]:
    """Returns the indices of good frames that are not part of a given set."""
    given = {frame.id for one in scored.given for frame in one.frames}
    return [index for index, frame in enumerate(scored.frames) if frame.id not in given]


def group_source(store: Store, ref: StageRef, panels: int, params: SetParams) -> Formed:
    """Groups one source's frames into sets.

    Args:
        store: Holds the source's quality stage.
        ref: Reference to the quality stage.
        panels: Number of frames per set.
        params: Set parameters with absolute bounds.
    """
    scored = result_of(store, ref, Scored)
    frames = load_frame_set(store, ref, scored)
    grouped = group_frames(frames.subset(ungrouped_indices(scored)), panels, params)
    kept, verdicts = _keep_given(scored, frames)
    by_id = {verdict.id: verdict for verdict in (*grouped.verdicts, *verdicts)}
    return Formed(
        scored=ref,
        sets=tuple(_with_scores(one, scored) for one in (*kept, *grouped.sets)),
        seen=len(scored.frames),
        verdicts=tuple(by_id[frame.id] for frame in scored.frames),
    )


def _keep_given(scored: Scored, frames: FrameSet) -> tuple[list[ImageSet], list[Verdict]]:
    """Keeps given sets with only good frames, and rejects the good frames of the others."""
    index = {frame.id: number for number, frame in enumerate(scored.frames)}
    kept: list[ImageSet] = []
    verdicts: list[Verdict] = []
    for one in scored.given:
        present = [frame for frame in one.frames if frame.id in index]
        if len(present) == len(one.frames):
            path = tuple(index[frame.id] for frame in one.frames)
            kept.append(one.model_copy(update={"scores": set_similarities(frames, path)}))
        verdicts += [_given_verdict(frame, one, len(present)) for frame in present]
    return kept, verdicts


def _given_verdict(frame: Frame, one: ImageSet, present: int) -> Verdict:
    if present == len(one.frames):
        return Verdict(stage="sets", id=frame.id, outcome="kept", source=frame.source)
    return Verdict(
        stage="sets",
        id=frame.id,
        outcome="rejected",
        reason="set_broken",
        detail=f"set {one.key} lost a panel",
        value=float(present),
        threshold=float(len(one.frames)),
        source=frame.source,
    )


def _with_scores(one: ImageSet, scored: Scored) -> ImageSet:
    """Adds the worst measurements of a set's frames to its scores."""
    return one.model_copy(update={"scores": one.scores | worst_scores(one.frames, scored.scores)})


def worst_scores(frames: Sequence[Frame], scores: dict[str, Scores]) -> Scores:
    """Computes the worst value of each measurement over frames; names are the same for all sets."""
    names = scores[frames[0].id]
    return {
        name: _WORST_OF_SCORE[name](scores[frame.id][name] for frame in frames) for name in names
    }
