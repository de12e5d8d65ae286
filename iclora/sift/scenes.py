"""Scenes: runs of neighbouring shots that belong together.

Two shots are linked when they are alike and few shots lie between them; a scene is a run that no
cut can divide without cutting a link (the scene transition graph of Yeung and Yeo, "Segmentation
of video by clustering and graph analysis", 1998). So a dialogue that alternates between two
views is one scene, although its neighbours look unlike. Where the source names its scenes (a
folder, a pattern, a group column), it is believed.
"""

from __future__ import annotations

from iclora.sift.similarity import Sight
from schemas.sift import SetParams


def find_scenes(sight: Sight, params: SetParams) -> tuple[tuple[int, ...], ...]:
    """Groups a source's frames by scene, in order of their first frames.

    Returns:
        The indices of each scene's frames; every frame is in exactly one scene.
    """
    named: dict[str, list[int]] = {}
    scenes: list[list[int]] = []
    for index, frame in enumerate(sight.frames):
        if frame.scene and frame.scene in named:
            named[frame.scene].append(index)
        elif frame.scene:
            named[frame.scene] = [index]
            scenes.append(named[frame.scene])
    unnamed = [index for index, frame in enumerate(sight.frames) if not frame.scene]
    scenes += _runs(sight, unnamed, params)
    return tuple(tuple(scene) for scene in sorted(scenes))


def _runs(sight: Sight, order: list[int], params: SetParams) -> list[list[int]]:
    """Divides the frames wherever no link reaches across."""
    runs: list[list[int]] = []
    reach = -1
    for position, index in enumerate(order):
        if position > reach:
            runs.append([])
        runs[-1].append(index)
        reach = max(reach, _furthest_link(sight, order, position, params))
    return runs


def _furthest_link(sight: Sight, order: list[int], position: int, params: SetParams) -> int:
    """The last position that the frame at ``position`` is linked to; its own if none."""
    here, furthest = order[position], position
    for later in range(position + 1, len(order)):
        if not sight.within(here, order[later], params.max_gap):
            break
        if sight.cosine(here, order[later]) >= params.band.scene:
            furthest = later
    return furthest
