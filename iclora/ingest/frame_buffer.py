"""Frames of the shot that is being decoded, held so that few must be sought when it has ended.

To seek a frame is to decode again from the key frame before it, on films of long groups half as
many frames as the film has. But which frame of a shot is kept is only known when the shot has
ended, so the frames that may be kept are held until then; of shots that are longer than what may
be held the last part is, and what is missing is sought afterwards. Both give the same pictures.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

import av
import numpy as np

from iclora.ingest.frames import pick_frames
from schemas.ingest import IngestParams

BUFFER_BYTES = 192 << 20
"""Held of a film at most: five seconds of 1920 x 1080 where every other frame may be kept."""

OnKept = Callable[[int, av.VideoFrame], None]
"""Is given a frame that a shot keeps, and its number."""


class _BufferedFrame(NamedTuple):
    number: int
    frame: av.VideoFrame
    size: int


class FrameBuffer:
    """Holds what may be kept of the open shot, and hands on what is.

    Args:
        params: how many frames a shot keeps, and of how many candidates.
        on_kept: is given them.
        max_bytes: bytes held.
    """

    def __init__(self, params: IngestParams, on_kept: OnKept, max_bytes: int) -> None:
        self._params, self._on_kept, self._max_bytes = params, on_kept, max_bytes
        self._frames: deque[_BufferedFrame] = deque()
        self._bytes = 0
        self._first = 0

    def add(self, number: int, frame: av.VideoFrame) -> None:
        """Takes one more frame; the oldest ones go if that is too much."""
        size = sum(plane.buffer_size for plane in frame.planes)
        self._frames.append(_BufferedFrame(number, frame, size))
        self._bytes += size
        while self._bytes > self._max_bytes:
            self._pop_oldest()

    def flush_shot(self, end: int, sharpness: Sequence[float]) -> None:
        """Hands on what is held of the frames that the shot before ``end`` keeps.

        Args:
            end: number of the frame after the shot.
            sharpness: of every frame so far.
        """
        first, self._first = self._first, max(self._first, end)
        shot = np.array(sharpness[first:end], np.float64)
        found = pick_frames(
            [(0, len(shot))], shot, self._params.candidates_per_shot, self._params.frames_per_shot
        )
        picked = {first + pick.number for pick in found}
        while self._frames and self._frames[0].number < end:
            candidate = self._pop_oldest()
            if candidate.number in picked:
                self._on_kept(candidate.number, candidate.frame)

    def _pop_oldest(self) -> _BufferedFrame:
        candidate = self._frames.popleft()
        self._bytes -= candidate.size
        return candidate
