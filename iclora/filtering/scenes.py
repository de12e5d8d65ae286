"""Scene detection: groups neighboring shots that belong together.

Two shots are linked if they are similar and few shots lie between them. A scene is a run that no
cut can divide without breaking a link (scene transition graph of Yeung and Yeo, "Segmentation of
video by clustering and graph analysis", 1998). A dialogue that alternates between two views is
therefore one scene, although adjacent shots differ. Scene names from the source (a folder, a
pattern, a group column) take precedence.
"""

from __future__ import annotations

from iclora.filtering.similarity import FrameSet
from schemas.filtering import SetParams


def find_scenes(frames: FrameSet, params: SetParams) -> tuple[tuple[int, ...], ...]:
    """Groups a source's frames by scene, in order of their first frames.

    Returns:
        Frame indices of each scene; each frame belongs to exactly one scene.
    """
    named: dict[str, list[int]] = {}
    unnamed: list[int] = []
    for index, frame in enumerate(frames.frames):
        scene = named.setdefault(frame.scene, []) if frame.scene else unnamed
        scene.append(index)
    scenes = [*named.values(), *_runs(frames, unnamed, params)]
    return tuple(tuple(scene) for scene in sorted(scenes))


def _runs(frames: FrameSet, order: list[int], params: SetParams) -> list[list[int]]:
    """Splits the frames at all positions that no link spans."""
    runs: list[list[int]] = []
    reach = -1
    for position, index in enumerate(order):
        if position > reach:
            runs.append([])
        runs[-1].append(index)
        for later in range(position + 1, len(order)):
            if not frames.within(index, order[later], params.max_gap):
                break
            if frames.cosine(index, order[later]) >= params.similarity.same_scene:
                reach = max(reach, later)
    return runs
