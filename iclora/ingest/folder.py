"""What the pictures of one folder have in common: bars, logos and watermarks.

Only some pictures are looked at, spread over the folder: what stays put shows in two dozen.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from iclora.cores import cores
from iclora.ingest.bars import BarGauge
from iclora.ingest.film import Pixels
from iclora.ingest.found import Found, Reading
from iclora.ingest.marks import LEAST_PICTURES, Mark, find_marks
from iclora.ingest.overlays import treat
from iclora.ingest.pictures import read_pictures
from schemas.base import Box
from schemas.frame import Frame

_LOOKED_AT = 24
_MARK_PIXELS = 1_800_000
"""Larger pictures are halved until they have at most so many pixels."""


def read_folder(reading: Reading, files: Iterable[tuple[str, str, Path]]) -> Found:
    """Stores pictures as frames, without bars and with their marks treated.

    Args:
        reading: what to do, and where the pictures go.
        files: (name relative to the source, scene, file), in order.
    """
    found = read_pictures(reading, files)
    bars = bars_on(reading, found.frames)
    marks = marks_on(reading, found.frames)
    frames: list[Frame] = []
    judged = {verdict.id: verdict for verdict in found.verdicts}
    for frame in found.frames:
        crop = bars.get((frame.width, frame.height), frame.crop)
        boxes = [mark.on(frame.width, frame.height) for mark in marks]
        cropped = frame.model_copy(update={"crop": crop})
        treated = treat(cropped, boxes, reading.params.watermark)
        if treated is None:
            judged[frame.id] = reading.rejected(frame.id, "watermark")
            (reading.folder / frame.file).unlink()
        else:
            frames.append(treated)
    return Found(tuple(frames), found.given, tuple(judged.values()))


def bars_on(reading: Reading, frames: Sequence[Frame]) -> dict[tuple[int, int], Box]:
    """For each size of picture the part that is not bar in any of those looked at.

    A size of which there are fewer than three pictures has no bars: one dark edge proves nothing.
    """
    by_size: dict[tuple[int, int], list[Frame]] = defaultdict(list)
    for frame in frames if reading.params.bars else ():
        by_size[frame.width, frame.height].append(frame)
    boxes: dict[tuple[int, int], Box] = {}
    for size, alike in by_size.items():
        looked_at = spread(alike, _LOOKED_AT)
        if len(looked_at) < LEAST_PICTURES:
            continue
        gauge = BarGauge(*size)
        for frame in looked_at:
            gauge.look(_grey(reading, frame, 1))
            if gauge.box() == (0, 0, *size):
                break
        boxes[size] = gauge.box()
    return boxes


def marks_on(reading: Reading, frames: Sequence[Frame]) -> tuple[Mark, ...]:
    """The logos and watermarks of a folder's pictures."""
    if reading.params.watermark == "ignore" or len(frames) < LEAST_PICTURES:
        return ()
    looked_at = spread(frames, _LOOKED_AT)
    largest = max(frame.width * frame.height for frame in looked_at)
    shrink = 1
    while largest > _MARK_PIXELS * shrink * shrink:
        shrink *= 2
    with ThreadPoolExecutor(cores()) as pool:
        found = find_marks(list(pool.map(partial(_grey, reading, shrink=shrink), looked_at)))
    return tuple(
        mark._replace(
            x0=mark.x0 * shrink, y0=mark.y0 * shrink, x1=mark.x1 * shrink, y1=mark.y1 * shrink
        )
        for mark in found
    )


def spread(items: Sequence[Frame], most: int) -> list[Frame]:
    """At most so many of the items, evenly spaced."""
    count = min(len(items), most)
    return [items[(2 * i + 1) * len(items) // (2 * count)] for i in range(count)]


def _grey(reading: Reading, frame: Frame, shrink: int) -> Pixels:
    """The luma of a stored picture, each side divided by ``shrink``."""
    with Image.open(reading.folder / frame.file) as image:
        size = (frame.width // shrink, frame.height // shrink)
        image.draft("L", size)
        grey = image.convert("L")
        if grey.size != size:
            grey = grey.resize(size, Image.Resampling.BOX)
    return np.asarray(grey, np.uint8)
