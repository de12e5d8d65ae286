"""Grouping of frames into sets.

A set is a path through a scene: neighbors inside the similarity band and few shots apart, first and
last frame still similar, no image twice. The path furthest from all bounds (``margin``) is taken
first, because it remains a set under slightly different bounds. The next path with other frames
follows, up to the scene's quota. A beam search from each frame finds the paths; for three panels
and the default gap, it is exhaustive.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from iclora.filtering.scenes import find_scenes
from iclora.filtering.similarity import FrameSet
from schemas.base import digest_of
from schemas.filtering import SetParams
from schemas.frame import ImageSet
from schemas.verdict import UNMEASURED, Verdict

_BEAM_WIDTH = 36
"""Number of paths kept per start frame and length. For triptychs, (max_gap + 1) ** 2 keeps all
of them."""

Path = tuple[int, ...]


class SetCandidate(NamedTuple):
    """Candidate set of a scene."""

    margin: float
    """Non-negative distance of the worst cosine from its nearest bound."""

    path: Path


class SceneSearch(NamedTuple):
    """Search result of a scene."""

    candidates: tuple[SetCandidate, ...]
    """Candidates, best first."""

    longest: dict[int, int]
    """Mapping of frame index to the length of the longest path through it."""

    failed_ends: dict[int, float]
    """Mapping of frame index to the best first-last cosine among its complete paths that failed
    on it."""


class GroupingResult(NamedTuple):
    """Sets and verdicts of one source."""

    sets: tuple[ImageSet, ...]
    verdicts: tuple[Verdict, ...]
    """Verdicts in frame order, one per frame."""


def group_frames(frames: FrameSet, panels: int, params: SetParams) -> GroupingResult:
    """Groups the frames of one source into sets.

    Args:
        frames: Frames of good quality, in order.
        panels: Number of frames per set, 2 to 9.
        params: Set parameters with absolute bounds.
    """
    assert params.similarity.unit == "absolute", "percentiles are resolved before sets are formed"
    keep, verdicts = drop_near_duplicates(frames, params)
    kept = frames.subset(keep)
    sets: list[ImageSet] = []
    for number, scene in enumerate(find_scenes(kept, params)):
        search = search_scene(kept, scene, panels, params)
        chosen = pick_sets(search.candidates, params)
        sets += [_image_set(kept, candidate, number) for candidate in chosen]
        verdicts |= _scene_verdicts(kept, scene, search, chosen, panels=panels, params=params)
    return GroupingResult(tuple(sets), tuple(verdicts[frame.id] for frame in frames.frames))


def drop_near_duplicates(
    frames: FrameSet, params: SetParams
) -> tuple[list[int], dict[str, Verdict]]:
    """Drops near-duplicates of the last *kept* frame.

    The comparison with the last kept frame handles slow drift: a frame that has drifted far enough
    is kept again.

    Returns:
        The kept indices, and a verdict for each dropped frame.
    """
    keep: list[int] = []
    verdicts: dict[str, Verdict] = {}
    for index, frame in enumerate(frames.frames):
        same_scene = bool(keep) and frames.frames[keep[-1]].scene == frame.scene
        duplicate = frames.duplicate(keep[-1], index, params) if same_scene else None
        if duplicate is None:
            keep.append(index)
        else:
            detail = f"{duplicate.detail}, to {frames.frames[keep[-1]].id}"
            verdicts[frame.id] = _rejected(
                frames, index, "near_duplicate", duplicate.value, duplicate.threshold, detail
            )
    return keep, verdicts


def search_scene(
    frames: FrameSet, scene: Sequence[int], panels: int, params: SetParams
) -> SceneSearch:
    """Finds the candidate sets of a scene.

    Args:
        frames: Frames of the source without near-duplicates.
        scene: Indices of the scene's frames, in order.
        panels: Number of frames per set.
        params: Bounds, gap and hash distance.
    """
    pairs = _PairCache(frames, params)
    found: list[SetCandidate] = []
    longest = dict.fromkeys(scene, 1)
    loose: dict[int, float] = {}
    for start in range(len(scene)):
        paths = [SetCandidate(2.0, (scene[start],))]
        for _ in range(panels - 1):
            paths = _extended(pairs, scene, paths)
            for path in paths:
                for index in path.path:
                    longest[index] = max(longest[index], len(path.path))
        for margin, path in paths:
            ends = frames.cosine(path[0], path[-1])
            if ends >= params.similarity.min_first_last:
                slack = round(min(margin, ends - params.similarity.min_first_last), 4)
                found.append(SetCandidate(slack, path))
            else:
                loose |= {index: max(ends, loose.get(index, -1.0)) for index in path}
    return SceneSearch(tuple(sorted(found, key=_best_first)), longest, loose)


def _best_first(candidate: SetCandidate) -> tuple[float, Path]:
    return -candidate.margin, candidate.path


class _PairCache:
    """Cache of pairwise comparisons during a search."""

    def __init__(self, frames: FrameSet, params: SetParams) -> None:
        self.frames = frames
        self.params = params
        self._margins: dict[tuple[int, int], float] = {}
        self._duplicates: dict[tuple[int, int], bool] = {}

    def margin(self, one: int, other: int) -> float:
        """Returns the distance of two neighbors' cosine from the band's edge; negative outside."""
        if (one, other) not in self._margins:
            self._margins[one, other] = _margin(self.frames.cosine(one, other), self.params)
        return self._margins[one, other]

    def are_duplicates(self, one: int, other: int) -> bool:
        """Returns true if two frames show the same image."""
        if (one, other) not in self._duplicates:
            self._duplicates[one, other] = (
                self.frames.duplicate(one, other, self.params) is not None
            )
        return self._duplicates[one, other]


def _extended(
    pairs: _PairCache, scene: Sequence[int], paths: list[SetCandidate]
) -> list[SetCandidate]:
    """Extends each path by one frame and keeps the best paths."""
    max_gap = pairs.params.max_gap
    longer: list[SetCandidate] = []
    for margin, path in paths:
        for position in range(bisect_right(scene, path[-1]), len(scene)):
            index = scene[position]
            if not pairs.frames.within(path[-1], index, max_gap):
                break
            slack = pairs.margin(path[-1], index)
            if slack >= 0 and not any(pairs.are_duplicates(one, index) for one in path):
                longer.append(SetCandidate(min(margin, slack), (*path, index)))
    return sorted(longer, key=_best_first)[:_BEAM_WIDTH]


def _margin(value: float, params: SetParams) -> float:
    """Computes the distance of a cosine from the band's edge; negative outside."""
    return round(
        min(value - params.similarity.min_adjacent, params.similarity.near_duplicate - value), 4
    )


def pick_sets(candidates: Sequence[SetCandidate], params: SetParams) -> list[SetCandidate]:
    """Picks the best candidates without shared frames (up to half shared if reuse is enabled)."""
    chosen: list[SetCandidate] = []
    for candidate in candidates:
        if len(chosen) == params.max_sets_per_scene:
            break
        shared = len(candidate.path) // 2 if params.reuse_frames else 0
        if all(len({*candidate.path} & {*other.path}) <= shared for other in chosen):
            chosen.append(candidate)
    return sorted(chosen, key=lambda candidate: candidate.path)


def _image_set(sight: FrameSet, candidate: SetCandidate, number: int) -> ImageSet:
    frames = tuple(sight.frames[index] for index in candidate.path)
    return ImageSet(
        key=digest_of([frame.id for frame in frames]),
        source=frames[0].source,
        scene=number,
        frames=frames,
        scores=set_similarities(sight, candidate.path),
    )


def set_similarities(frames: FrameSet, path: Path) -> dict[str, float]:
    """Computes a set's similarities: lowest and highest of neighbors, and first to last."""
    steps = [frames.cosine(one, other) for one, other in pairwise(path)]
    return {
        "similarity_low": min(steps),
        "similarity_high": max(steps),
        "similarity_ends": frames.cosine(path[0], path[-1]),
    }


def _scene_verdicts(
    frames: FrameSet,
    scene: Sequence[int],
    search: SceneSearch,
    chosen: Sequence[SetCandidate],
    *,
    panels: int,
    params: SetParams,
) -> dict[str, Verdict]:
    """Returns one verdict for each frame of a scene."""
    used = {index for candidate in chosen for index in candidate.path}
    spare = {index for candidate in search.candidates for index in candidate.path}
    verdicts: dict[str, Verdict] = {}
    for index in scene:
        frame = frames.frames[index]
        if index in used:
            verdict = Verdict(stage="sets", id=frame.id, outcome="kept", source=frame.source)
        elif index in spare:
            quota = params.max_sets_per_scene
            full = len(chosen) == quota
            detail = "the scene has its sets" if full else "its companions are in other sets"
            verdict = _rejected(frames, index, "leftover", float(len(chosen)), float(quota), detail)
        elif index in search.failed_ends:
            ends = search.failed_ends[index]
            verdict = _rejected(
                frames, index, "ends_apart", ends, params.similarity.min_first_last, "cosine"
            )
        else:
            verdict = _no_path_verdict(frames, scene, index, search, panels=panels, params=params)
        verdicts[frame.id] = verdict
    return verdicts


def _no_path_verdict(
    frames: FrameSet,
    scene: Sequence[int],
    index: int,
    search: SceneSearch,
    *,
    panels: int,
    params: SetParams,
) -> Verdict:
    """Returns the verdict of a frame without a complete path."""
    if len(scene) < panels:
        return _rejected(
            frames, index, "scene_too_short", float(len(scene)), float(panels), "frames"
        )
    if search.longest[index] > 1:
        length = float(search.longest[index])
        return _rejected(frames, index, "too_few_neighbours", length, float(panels), "frames")
    near = [
        other for other in scene if other != index and frames.within(index, other, params.max_gap)
    ]
    if not near:
        return _rejected(
            frames, index, "out_of_band", UNMEASURED, params.similarity.min_adjacent, "no neighbour"
        )
    value = max(
        (frames.cosine(index, other) for other in near), key=lambda one: _margin(one, params)
    )
    bound = (
        params.similarity.min_adjacent
        if value < params.similarity.min_adjacent
        else params.similarity.near_duplicate
    )
    return _rejected(frames, index, "out_of_band", value, bound, "cosine")


def _rejected(
    frames: FrameSet, index: int, reason: str, value: float, threshold: float, detail: str
) -> Verdict:
    frame = frames.frames[index]
    return Verdict(
        stage="sets",
        id=frame.id,
        outcome="rejected",
        reason=reason,
        detail=detail,
        value=value,
        threshold=threshold,
        source=frame.source,
    )
