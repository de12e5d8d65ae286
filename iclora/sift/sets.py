"""Frames to sets: which pictures of a scene are shown together.

A set is a path through a scene: neighbours inside the band, few shots apart, first and last still
alike, no picture twice. Of all paths the one that stays furthest from every bound is taken first
(``margin``): it would still be a set if the bounds were a little off. Then the next one with
other frames, up to the scene's quota. Paths are searched from every frame with a beam, which for
three panels and the default gap is exhaustive.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from iclora.sift.scenes import find_scenes
from iclora.sift.similarity import Sight
from schemas.base import digest_of
from schemas.frame import ImageSet
from schemas.sift import SetParams
from schemas.verdict import UNMEASURED, Verdict

_BEAM = 36
"""Paths kept a start frame and length; (max_gap + 1) ** 2 for triptychs: all of them."""

Path = tuple[int, ...]


class Candidate(NamedTuple):
    """A possible set of a scene."""

    margin: float
    """Distance of the worst cosine from its nearest bound; never negative."""

    path: Path


class Search(NamedTuple):
    """Everything found in a scene."""

    candidates: tuple[Candidate, ...]
    """Best first."""

    longest: dict[int, int]
    """Frame to the length of the longest path through it."""

    loose_ends: dict[int, float]
    """Frame to the best first-last cosine among its whole paths that failed by it."""


class Grouped(NamedTuple):
    """One source's frames after forming."""

    sets: tuple[ImageSet, ...]
    verdicts: tuple[Verdict, ...]
    """One a frame, in order."""


def group_frames(sight: Sight, panels: int, params: SetParams) -> Grouped:
    """Forms the sets of one source.

    Args:
        sight: the frames of good quality, in order.
        panels: frames a set, 2 to 9.
        params: the bounds, which are absolute here.
    """
    assert params.band.unit == "absolute", "percentiles are resolved before sets are formed"
    keep, verdicts = collapse(sight, params)
    kept = sight.pick(keep)
    sets: list[ImageSet] = []
    for number, scene in enumerate(find_scenes(kept, params)):
        search = search_scene(kept, scene, panels, params)
        chosen = pick_sets(search.candidates, params)
        sets += [_image_set(kept, candidate, number) for candidate in chosen]
        verdicts |= _judge(kept, scene, search, chosen, panels=panels, params=params)
    return Grouped(tuple(sets), tuple(verdicts[frame.id] for frame in sight.frames))


def collapse(sight: Sight, params: SetParams) -> tuple[list[int], dict[str, Verdict]]:
    """Drops near-duplicates: each frame is compared with the last one that was *kept*.

    So a slow drift is caught: the frame that has drifted far enough is kept again.

    Returns:
        The kept indices, and a verdict for each frame that was not.
    """
    keep: list[int] = []
    verdicts: dict[str, Verdict] = {}
    for index, frame in enumerate(sight.frames):
        same_scene = bool(keep) and sight.frames[keep[-1]].scene == frame.scene
        twin = sight.twin(keep[-1], index, params) if same_scene else None
        if twin is None:
            keep.append(index)
        else:
            detail = f"{twin.detail}, to {sight.frames[keep[-1]].id}"
            verdicts[frame.id] = _rejected(
                sight, index, "near_duplicate", twin.value, twin.threshold, detail
            )
    return keep, verdicts


def search_scene(sight: Sight, scene: Sequence[int], panels: int, params: SetParams) -> Search:
    """Finds the possible sets of a scene.

    Args:
        sight: the source's frames without near-duplicates.
        scene: indices of the scene's frames, in order.
        panels: frames a set.
        params: bounds, gap and hash distance.
    """
    pairs = _Pairs(sight, params)
    found: list[Candidate] = []
    longest = dict.fromkeys(scene, 1)
    loose: dict[int, float] = {}
    for start in range(len(scene)):
        paths = [Candidate(2.0, (scene[start],))]
        for _ in range(panels - 1):
            paths = _extended(pairs, scene, paths)
            for path in paths:
                for index in path.path:
                    longest[index] = max(longest[index], len(path.path))
        for margin, path in paths:
            ends = sight.cosine(path[0], path[-1])
            if ends >= params.band.ends:
                slack = round(min(margin, ends - params.band.ends), 4)
                found.append(Candidate(slack, path))
            else:
                loose |= {index: max(ends, loose.get(index, -1.0)) for index in path}
    return Search(tuple(sorted(found, key=_best_first)), longest, loose)


def _best_first(candidate: Candidate) -> tuple[float, Path]:
    return -candidate.margin, candidate.path


class _Pairs:
    """What a search asks of two frames again and again, each pair looked at once."""

    def __init__(self, sight: Sight, params: SetParams) -> None:
        self.sight = sight
        self.params = params
        self._slacks: dict[tuple[int, int], float] = {}
        self._twins: dict[tuple[int, int], bool] = {}

    def slack(self, one: int, other: int) -> float:
        """How far inside the band two neighbours' cosine lies; negative outside."""
        if (one, other) not in self._slacks:
            self._slacks[one, other] = _slack(self.sight.cosine(one, other), self.params)
        return self._slacks[one, other]

    def twins(self, one: int, other: int) -> bool:
        """Whether two frames are the same picture twice."""
        if (one, other) not in self._twins:
            self._twins[one, other] = self.sight.twin(one, other, self.params) is not None
        return self._twins[one, other]


def _extended(pairs: _Pairs, scene: Sequence[int], paths: list[Candidate]) -> list[Candidate]:
    """Every path by one more frame; the best of them."""
    max_gap = pairs.params.max_gap
    longer: list[Candidate] = []
    for margin, path in paths:
        for position in range(bisect_right(scene, path[-1]), len(scene)):
            index = scene[position]
            if not pairs.sight.within(path[-1], index, max_gap):
                break
            slack = pairs.slack(path[-1], index)
            if slack >= 0 and not any(pairs.twins(one, index) for one in path):
                longer.append(Candidate(min(margin, slack), (*path, index)))
    return sorted(longer, key=_best_first)[:_BEAM]


def _slack(value: float, params: SetParams) -> float:
    """How far inside the band a cosine lies; negative outside."""
    return round(min(value - params.band.floor, params.band.ceiling - value), 4)


def pick_sets(candidates: Sequence[Candidate], params: SetParams) -> list[Candidate]:
    """The best possible sets that share no frames (or at most half, where reuse is allowed)."""
    chosen: list[Candidate] = []
    for candidate in candidates:
        if len(chosen) == params.max_sets_a_scene:
            break
        shared = len(candidate.path) // 2 if params.reuse_frames else 0
        if all(len({*candidate.path} & {*other.path}) <= shared for other in chosen):
            chosen.append(candidate)
    return sorted(chosen, key=lambda candidate: candidate.path)


def _image_set(sight: Sight, candidate: Candidate, number: int) -> ImageSet:
    frames = tuple(sight.frames[index] for index in candidate.path)
    return ImageSet(
        key=digest_of([frame.id for frame in frames]),
        source=frames[0].source,
        scene=number,
        frames=frames,
        scores=coherence(sight, candidate.path),
    )


def coherence(sight: Sight, path: Path) -> dict[str, float]:
    """The similarities of a set: lowest and highest of neighbours, and of first and last."""
    steps = [sight.cosine(one, other) for one, other in pairwise(path)]
    return {
        "similarity_low": min(steps),
        "similarity_high": max(steps),
        "similarity_ends": sight.cosine(path[0], path[-1]),
    }


def _judge(
    sight: Sight,
    scene: Sequence[int],
    search: Search,
    chosen: Sequence[Candidate],
    *,
    panels: int,
    params: SetParams,
) -> dict[str, Verdict]:
    """One verdict for every frame of a scene."""
    used = {index for candidate in chosen for index in candidate.path}
    spare = {index for candidate in search.candidates for index in candidate.path}
    verdicts: dict[str, Verdict] = {}
    for index in scene:
        frame = sight.frames[index]
        if index in used:
            verdict = Verdict(stage="sets", id=frame.id, outcome="kept", source=frame.source)
        elif index in spare:
            quota = params.max_sets_a_scene
            full = len(chosen) == quota
            detail = "the scene has its sets" if full else "its companions are in other sets"
            verdict = _rejected(sight, index, "leftover", float(len(chosen)), float(quota), detail)
        elif index in search.loose_ends:
            ends = search.loose_ends[index]
            verdict = _rejected(sight, index, "ends_apart", ends, params.band.ends, "cosine")
        else:
            verdict = _no_path(sight, scene, index, search, panels=panels, params=params)
        verdicts[frame.id] = verdict
    return verdicts


def _no_path(
    sight: Sight,
    scene: Sequence[int],
    index: int,
    search: Search,
    *,
    panels: int,
    params: SetParams,
) -> Verdict:
    """Why no whole path goes through a frame."""
    if len(scene) < panels:
        return _rejected(
            sight, index, "scene_too_short", float(len(scene)), float(panels), "frames"
        )
    if search.longest[index] > 1:
        length = float(search.longest[index])
        return _rejected(sight, index, "too_few_neighbours", length, float(panels), "frames")
    near = [
        other for other in scene if other != index and sight.within(index, other, params.max_gap)
    ]
    if not near:
        return _rejected(sight, index, "out_of_band", UNMEASURED, params.band.floor, "no neighbour")
    value = max((sight.cosine(index, other) for other in near), key=lambda one: _slack(one, params))
    bound = params.band.floor if value < params.band.floor else params.band.ceiling
    return _rejected(sight, index, "out_of_band", value, bound, "cosine")


def _rejected(
    sight: Sight, index: int, reason: str, value: float, threshold: float, detail: str
) -> Verdict:
    frame = sight.frames[index]
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
