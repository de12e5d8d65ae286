"""Sets stage: groups one source's good frames; given sets are unchanged."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from iclora.filtering.checks import Scores, quality_checks
from iclora.filtering.grouping import group_frames, set_similarities
from iclora.filtering.similarity import FrameSet, Rows, make_frame_set
from iclora.pipeline.stage import Stage, file_of, result_of, run_stage
from iclora.store import Store
from schemas.base import Schema
from schemas.config import Config
from schemas.filtering import SetParams, SimilarityParams
from schemas.frame import Frame, ImageSet
from schemas.stage import Formed, Scored, StageRef
from schemas.verdict import Verdict

SETS = Stage("sets", 2)


class SetsStageParams(Schema):
    """Everything that the grouping of frames depends on."""

    panels: int
    """Frames per set."""

    sets: SetParams
    """Set parameters with absolute bounds."""


def form_sets(store: Store, scored: StageRef, bounds: SimilarityParams, config: Config) -> StageRef:
    """Groups one source's good frames into sets (``Formed``, stage ``sets``).

    Args:
        store: Holds the source's quality stage.
        scored: Reference to the quality stage.
        bounds: Absolute similarity bounds from ``calibrate``.
        config: Configuration of the build.
    """
    sets = config.filter.sets.model_copy(update={"similarity": bounds})
    params = SetsStageParams(panels=config.layout.panels, sets=sets)
    return run_stage(store, SETS, params, [scored.digest], lambda _: _form(store, scored, params))


def _form(store: Store, ref: StageRef, params: SetsStageParams) -> Formed:
    scored = result_of(store, ref, Scored)
    frames = make_frame_set(scored.frames, load_embeddings(store, ref, scored), scored.hashes)
    ungrouped = frames.subset(ungrouped_indices(scored))
    sets, verdicts = group_frames(ungrouped, params.panels, params.sets)
    given, given_verdicts = _keep_given(scored, frames)
    by_id = {verdict.id: verdict for verdict in (*verdicts, *given_verdicts)}
    scored_sets = [
        image_set.model_copy(
            update={"scores": image_set.scores | _worst_scores(image_set.frames, scored.scores)}
        )
        for image_set in (*given, *sets)
    ]
    return Formed(
        scored=ref,
        sets=tuple(scored_sets),
        seen=len(scored.frames),
        verdicts=tuple(by_id[frame.id] for frame in scored.frames),
    )


def load_embeddings(store: Store, ref: StageRef, scored: Scored) -> Rows:
    """Loads the unit vectors [n, d] of a source's good frames."""
    return np.load(file_of(store, ref, scored.embeddings), allow_pickle=False)


def ungrouped_indices(scored: Scored) -> list[int]:
    """Returns the indices of good frames that are not part of a given set."""
    given = {frame.id for image_set in scored.given for frame in image_set.frames}
    return [index for index, frame in enumerate(scored.frames) if frame.id not in given]


def _keep_given(scored: Scored, frames: FrameSet) -> tuple[list[ImageSet], list[Verdict]]:
    """Keeps given sets with only good frames, and rejects the good frames of the others."""
    index = {frame.id: number for number, frame in enumerate(scored.frames)}
    kept: list[ImageSet] = []
    verdicts: list[Verdict] = []
    for image_set in scored.given:
        present = [frame for frame in image_set.frames if frame.id in index]
        is_whole = len(present) == len(image_set.frames)
        if is_whole:
            scores = set_similarities(frames, tuple(index[frame.id] for frame in present))
            kept.append(image_set.model_copy(update={"scores": scores}))
        for frame in present:
            if is_whole:
                verdict = Verdict.kept("sets", frame.id, source=frame.source)
            else:
                verdict = Verdict.rejected(
                    "sets",
                    frame.id,
                    "set_broken",
                    f"set {image_set.key} lost a panel",
                    value=len(present),
                    threshold=len(image_set.frames),
                    source=frame.source,
                )
            verdicts.append(verdict)
    return kept, verdicts


def _worst_scores(frames: Sequence[Frame], scores: dict[str, Scores]) -> Scores:
    """Computes the worst value of each measurement over frames; names are the same for all sets."""
    high_is_bad = {"nsfw", "face"} | {
        check.name
        for check in quality_checks()
        if check.limits and all(limit.is_maximum for limit in check.limits)
    }
    return {
        name: (max if name in high_is_bad else min)(scores[frame.id][name] for frame in frames)
        for name in scores[frames[0].id]
    }
