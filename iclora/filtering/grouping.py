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
from functools import cache
from itertools import pairwise
from typing import NamedTuple

from iclora.filtering.scenes import find_scenes
from iclora.filtering.similarity import DECIMALS, FrameSet
from schemas.base import digest_of
from schemas.filtering import SetParams, SimilarityParams
from schemas.frame import Frame, ImageSet
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


def group_frames(
    frames: FrameSet, panels: int, params: SetParams
) -> tuple[list[ImageSet], list[Verdict]]:
    """Groups the frames of one source into sets.

    Args:
        frames: Frames of good quality, in order.
        panels: Number of frames per set, 2 to 9.
        params: Set parameters with absolute bounds.

    Returns:
        The sets, and one verdict per frame in frame order.
    """
    assert params.similarity.unit == "absolute", "percentiles are resolved before sets are formed"
    keep, verdicts = drop_near_duplicates(frames, params)
    kept = frames.subset(keep)
    sets: list[ImageSet] = []
    for number, scene in enumerate(find_scenes(kept, params)):
        search = _search_scene(kept, scene, panels, params)
        chosen = _pick_sets(search.candidates, params)
        for _, path in chosen:
            members = tuple(kept.frames[index] for index in path)
            sets.append(
                ImageSet(
                    key=digest_of([frame.id for frame in members]),
                    source=members[0].source,
                    scene=number,
                    frames=members,
                    scores=set_similarities(kept, path),
                )
            )
        verdicts |= _scene_verdicts(kept, scene, search, chosen, panels=panels, params=params)
    return sets, [verdicts[frame.id] for frame in frames.frames]


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
        last = frames.frames[keep[-1]] if keep else None
        duplicate = None
        if last and last.scene == frame.scene:
            duplicate = frames.duplicate(keep[-1], index, params)
        if last is None or duplicate is None:
            keep.append(index)
        else:
            value, threshold, measure = duplicate
            detail = f"{measure}, to {last.id}"
            verdicts[frame.id] = _rejected(frame, "near_duplicate", value, threshold, detail)
    return keep, verdicts


def set_similarities(frames: FrameSet, path: Path) -> dict[str, float]:
    """Computes a set's similarities: lowest and highest of neighbors, and first to last."""
    steps = [frames.cosine(first, second) for first, second in pairwise(path)]
    return {
        "similarity_low": min(steps),
        "similarity_high": max(steps),
        "similarity_ends": frames.cosine(path[0], path[-1]),
    }


def _search_scene(
    frames: FrameSet, scene: Sequence[int], panels: int, params: SetParams
) -> SceneSearch:
    """Finds the candidate sets of a scene (ascending indices) by beam search from each frame."""
    bounds = params.similarity

    @cache
    def margin_between(first: int, second: int) -> float:
        return _margin(frames.cosine(first, second), bounds)

    @cache
    def are_duplicates(first: int, second: int) -> bool:
        return frames.duplicate(first, second, params) is not None

    def extend(paths: list[SetCandidate]) -> list[SetCandidate]:
        """Extends each path by one frame and keeps the best paths."""
        longer: list[SetCandidate] = []
        for margin, path in paths:
            for position in range(bisect_right(scene, path[-1]), len(scene)):
                index = scene[position]
                if not frames.within(path[-1], index, params.max_gap):
                    break
                step = margin_between(path[-1], index)
                if step >= 0 and not any(are_duplicates(member, index) for member in path):
                    longer.append(SetCandidate(min(margin, step), (*path, index)))
        return sorted(longer, key=_best_first)[:_BEAM_WIDTH]

    candidates: list[SetCandidate] = []
    longest = dict.fromkeys(scene, 1)
    failed_ends: dict[int, float] = {}
    for start in scene:
        paths = [SetCandidate(2.0, (start,))]
        for length in range(2, panels + 1):
            paths = extend(paths)
            for _, path in paths:
                longest |= {index: max(longest[index], length) for index in path}
        for margin, path in paths:
            ends = frames.cosine(path[0], path[-1])
            if ends >= bounds.min_first_last:
                slack = round(min(margin, ends - bounds.min_first_last), DECIMALS)
                candidates.append(SetCandidate(slack, path))
            else:
                failed_ends |= {index: max(ends, failed_ends.get(index, -1.0)) for index in path}
    return SceneSearch(tuple(sorted(candidates, key=_best_first)), longest, failed_ends)


def _best_first(candidate: SetCandidate) -> tuple[float, Path]:
    return -candidate.margin, candidate.path


def _margin(cosine: float, bounds: SimilarityParams) -> float:
    """Computes the distance of a cosine from the band's edge; negative outside."""
    return round(min(cosine - bounds.min_adjacent, bounds.near_duplicate - cosine), DECIMALS)


def _pick_sets(candidates: Sequence[SetCandidate], params: SetParams) -> list[SetCandidate]:
    """Picks the best candidates without shared frames (up to half shared if reuse is enabled)."""
    chosen: list[SetCandidate] = []
    for candidate in candidates:
        if len(chosen) == params.max_sets_per_scene:
            break
        shared = len(candidate.path) // 2 if params.reuse_frames else 0
        if all(len({*candidate.path} & {*picked.path}) <= shared for picked in chosen):
            chosen.append(candidate)
    return sorted(chosen, key=lambda candidate: candidate.path)


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
    bounds, quota = params.similarity, params.max_sets_per_scene
    used = {index for candidate in chosen for index in candidate.path}
    spare = {index for candidate in search.candidates for index in candidate.path}
    verdicts: dict[str, Verdict] = {}
    for index in scene:
        frame = frames.frames[index]
        if index in used:
            verdict = Verdict.kept("sets", frame.id, source=frame.source)
        elif index in spare:
            full = len(chosen) == quota
            detail = "the scene has its sets" if full else "its companions are in other sets"
            verdict = _rejected(frame, "leftover", len(chosen), quota, detail)
        elif index in search.failed_ends:
            ends = search.failed_ends[index]
            verdict = _rejected(frame, "ends_apart", ends, bounds.min_first_last, "cosine")
        elif len(scene) < panels:
            verdict = _rejected(frame, "scene_too_short", len(scene), panels, "frames")
        elif search.longest[index] > 1:
            length = search.longest[index]
            verdict = _rejected(frame, "too_few_neighbours", length, panels, "frames")
        else:
            verdict = _out_of_band(frames, scene, index, params)
        verdicts[frame.id] = verdict
    return verdicts


def _out_of_band(frames: FrameSet, scene: Sequence[int], index: int, params: SetParams) -> Verdict:
    """Returns the verdict of a frame without any neighbor inside the similarity band."""
    frame, bounds = frames.frames[index], params.similarity
    near = [
        frames.cosine(index, neighbor)
        for neighbor in scene
        if neighbor != index and frames.within(index, neighbor, params.max_gap)
    ]
    if not near:
        return _rejected(frame, "out_of_band", UNMEASURED, bounds.min_adjacent, "no neighbour")
    value = max(near, key=lambda cosine: _margin(cosine, bounds))
    below = value < bounds.min_adjacent
    bound = bounds.min_adjacent if below else bounds.near_duplicate
    return _rejected(frame, "out_of_band", value, bound, "cosine")


def _rejected(frame: Frame, reason: str, value: float, threshold: float, detail: str) -> Verdict:
    return Verdict.rejected(
        "sets", frame.id, reason, detail, value=value, threshold=threshold, source=frame.source
    )
