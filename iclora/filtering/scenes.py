"""Scenes: runs of neighbouring shots that belong together.

Two shots are linked when they are alike and few shots lie between them; a scene is a run that no
cut can divide without cutting a link (the scene transition graph of Yeung and Yeo, "Segmentation
of video by clustering and graph analysis", 1998). So a dialogue that alternates between two
views is one scene, although its neighbours look unlike. Where the source names its scenes (a
folder, a pattern, a group column), it is believed.
"""

from __future__ import annotations

from iclora.filtering.similarity import FrameSet
from schemas.filtering import SetParams


def find_scenes(frames: FrameSet, params: SetParams) -> tuple[tuple[int, ...], ...]:
    """Groups a source's frames by scene, in order of their first frames.

    Returns:
        The indices of each scene's frames; every frame is in exactly one scene.
    """
    named: dict[str, list[int]] = {}
    scenes: list[list[int]] = []
    for index, frame in enumerate(frames.frames):
        if frame.scene and frame.scene in named:
            named[frame.scene].append(index)
        elif frame.scene:
            named[frame.scene] = [index]
            scenes.append(named[frame.scene])
    unnamed = [index for index, frame in enumerate(frames.frames) if not frame.scene]
    scenes += _runs(frames, unnamed, params)
    return tuple(tuple(scene) for scene in sorted(scenes))


def _runs(frames: FrameSet, order: list[int], params: SetParams) -> list[list[int]]:
    """Divides the frames wherever no link reaches across."""
    runs: list[list[int]] = []
    reach = -1
    for position, index in enumerate(order):
        if position > reach:
            runs.append([])
        runs[-1].append(index)
        reach = max(reach, _furthest_link(frames, order, position, params))
    return runs


def _furthest_link(frames: FrameSet, order: list[int], position: int, params: SetParams) -> int:
    """The last position that the frame at ``position`` is linked to; its own if none."""
    here, furthest = order[position], position
    for later in range(position + 1, len(order)):
        if not frames.within(here, order[later], params.max_gap):
            break
        if frames.cosine(here, order[later]) >= params.similarity.same_scene:
            furthest = later
    return furthest
