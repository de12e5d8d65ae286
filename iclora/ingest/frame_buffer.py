"""Buffer for candidate frames of the current shot, which avoids most seeks after decoding.

A seek decodes again from the previous key frame; on films with long GOPs, seeking every selected
frame decodes half as many frames as the film has. The selection is known only at the end of a shot,
so candidates are buffered until then. If a shot exceeds the buffer, its earliest candidates are
dropped and fetched by seeking. Both paths produce identical pictures.
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
"""Maximum buffer size in bytes: five seconds of 1920 x 1080 if every other frame is a candidate."""

OnKept = Callable[[int, av.VideoFrame], None]
"""Callback for a frame that a shot keeps, called with the frame number and the frame."""


class _BufferedFrame(NamedTuple):
    number: int
    frame: av.VideoFrame
    size: int


class FrameBuffer:
    """A byte-limited buffer of candidate frames that emits the selected ones per shot.

    Args:
        params: Ingest parameters; uses the number of frames per shot and of candidates.
        on_kept: Callback for selected frames.
        max_bytes: Maximum size in bytes.
    """

    def __init__(self, params: IngestParams, on_kept: OnKept, max_bytes: int) -> None:
        self._params, self._on_kept, self._max_bytes = params, on_kept, max_bytes
        self._frames: deque[_BufferedFrame] = deque()
        self._bytes = 0
        self._first = 0

    def add(self, number: int, frame: av.VideoFrame) -> None:
        """Appends a frame; drops the oldest frames above the size limit."""
        size = sum(plane.buffer_size for plane in frame.planes)
        self._frames.append(_BufferedFrame(number, frame, size))
        self._bytes += size
        while self._bytes > self._max_bytes:
            self._pop_oldest()

    def flush_shot(self, end: int, sharpness: Sequence[float]) -> None:
        """Emits the buffered frames that the shot before ``end`` keeps and drops its others.

        Args:
            end: Number of the first frame after the shot.
            sharpness: Sharpness of every frame so far.
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
