"""Folder reader: stores pictures and removes the bars, logos and watermarks they share.

Detection samples up to 24 pictures spread over the folder.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from iclora.cpus import available_cpus
from iclora.ingest.film_decoder import Pixels
from iclora.ingest.letterbox import LetterboxDetector
from iclora.ingest.overlays import apply_overlay_policy
from iclora.ingest.pictures import read_pictures
from iclora.ingest.result import IngestContext, IngestResult
from iclora.ingest.watermarks import MIN_PICTURES, Watermark, find_watermarks
from schemas.base import Box
from schemas.frame import Frame

_MAX_SAMPLES = 24
_WATERMARK_PIXELS = 1_800_000
"""Maximum number of pixels for watermark detection; larger pictures are halved until they fit."""


def read_folder(context: IngestContext, files: Iterable[tuple[str, str, Path]]) -> IngestResult:
    """Stores pictures as frames, crops bars and applies the watermark policy.

    Args:
        context: Parameters and output folder.
        files: Tuples of (name relative to the source, scene, file), in order.
    """
    stored = read_pictures(context, files)
    bars = find_bars(context, stored.frames)
    marks = find_watermarks_in(context, stored.frames)
    frames: list[Frame] = []
    verdicts = {verdict.id: verdict for verdict in stored.verdicts}
    for frame in stored.frames:
        crop = bars.get((frame.width, frame.height), frame.crop)
        boxes = [mark.box_on(frame.width, frame.height) for mark in marks]
        cropped = frame.model_copy(update={"crop": crop})
        treated = apply_overlay_policy(cropped, boxes, context.params.watermark)
        if treated is None:
            verdicts[frame.id] = context.rejected(frame.id, "watermark")
            (context.folder / frame.file).unlink()
        else:
            frames.append(treated)
    return IngestResult(tuple(frames), (), tuple(verdicts.values()))


def find_bars(context: IngestContext, frames: Sequence[Frame]) -> dict[tuple[int, int], Box]:
    """Finds the box without bars per picture size.

    Sizes with fewer than three pictures are omitted, because a few dark edges prove nothing.
    """
    by_size: dict[tuple[int, int], list[Frame]] = defaultdict(list)
    for frame in frames if context.params.crop_bars else ():
        by_size[frame.width, frame.height].append(frame)
    boxes: dict[tuple[int, int], Box] = {}
    for size, alike in by_size.items():
        if len(alike) < MIN_PICTURES:
            continue
        detector = LetterboxDetector(*size)
        for frame in evenly_spaced(alike, _MAX_SAMPLES):
            detector.add_frame(_read_grey(context, frame, 1))
            if detector.picture_box() == (0, 0, *size):
                break
        boxes[size] = detector.picture_box()
    return boxes


def find_watermarks_in(context: IngestContext, frames: Sequence[Frame]) -> tuple[Watermark, ...]:
    """Finds the logos and watermarks shared by the frames of a folder."""
    if context.params.watermark == "ignore" or len(frames) < MIN_PICTURES:
        return ()
    samples = evenly_spaced(frames, _MAX_SAMPLES)
    largest = max(frame.width * frame.height for frame in samples)
    shrink = 1
    while largest > _WATERMARK_PIXELS * shrink * shrink:
        shrink *= 2
    with ThreadPoolExecutor(available_cpus()) as pool:
        pictures = list(pool.map(partial(_read_grey, context, shrink=shrink), samples))
    return tuple(
        mark._replace(
            x0=mark.x0 * shrink, y0=mark.y0 * shrink, x1=mark.x1 * shrink, y1=mark.y1 * shrink
        )
        for mark in find_watermarks(pictures)
    )


def evenly_spaced(items: Sequence[Frame], most: int) -> list[Frame]:
    """Selects up to ``most`` evenly spaced items."""
    count = min(len(items), most)
    return [items[(2 * i + 1) * len(items) // (2 * count)] for i in range(count)]


def _read_grey(context: IngestContext, frame: Frame, shrink: int) -> Pixels:
    """Reads the luma of a stored picture, with each side divided by ``shrink``."""
    with Image.open(context.folder / frame.file) as image:
        size = (frame.width // shrink, frame.height // shrink)
        image.draft("L", size)
        grey = image.convert("L")
        if grey.size != size:
            grey = grey.resize(size, Image.Resampling.BOX)
    return np.asarray(grey, np.uint8)
