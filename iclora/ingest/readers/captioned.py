"""Reader for pre-stitched, captioned canvases, such as a published AI-Toolkit folder.

Each canvas with a caption becomes one set, whose frames are regions of the same picture. Captions
keep their wording; the linter checks their quality.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from iclora.ingest import file_types
from iclora.ingest.download import local_copy
from iclora.ingest.folder import find_watermarks_in
from iclora.ingest.inside import check_file, list_files
from iclora.ingest.overlays import apply_overlay_policy, intersection
from iclora.ingest.pictures import read_pictures
from iclora.ingest.readers import Reader
from iclora.ingest.readers.pictures import digest_pictures
from iclora.ingest.result import IngestContext, IngestResult, UnreadableInput, set_key
from iclora.ingest.seams import panel_boxes
from iclora.ingest.watermarks import Watermark
from schemas.base import Box
from schemas.frame import Frame, ImageSet
from schemas.verdict import Verdict

_MAX_CAPTION = 100_000
"""Maximum size of a caption file in bytes."""


def read_captioned_folder(context: IngestContext, location: str) -> IngestResult:
    """Reads the canvases in the caption folders below a folder."""
    path = local_copy(location, context.work)
    names = file_types.select_pictures(list_files(path).files, captioned=True)
    return read_canvases(context, path, names)


def select_canvases(files: Sequence[str]) -> list[str]:
    """Selects the pictures in caption folders, each followed by its caption file if one exists."""
    texts = set(files)
    selected: list[str] = []
    for name in file_types.select_pictures(files, captioned=True):
        caption = file_types.caption_of(name)
        selected += [name, caption] if caption in texts else [name]
    return selected


def read_canvases(context: IngestContext, folder: Path, names: Sequence[str]) -> IngestResult:
    """Creates one set per captioned canvas.

    Args:
        context: Parameters and output folder.
        folder: Source folder that must contain all files read.
        names: Picture names relative to the folder, in order; captions share their stems.

    Returns:
        Sets as ``given``, and one verdict per canvas. ``frames`` stays empty, so that sifting
        forms no further sets.
    """
    captions: dict[str, str | UnreadableInput | None] = {}
    boxes: dict[str, tuple[Box, ...]] = {}
    stored = read_pictures(context, [(name, name, folder / name) for name in names])
    for name in names:
        captions[name] = _read_caption(folder / name, folder)
        boxes[name] = _read_boxes(folder / name, folder)
    marks = find_watermarks_in(context, stored.frames)
    judged = {verdict.id: verdict for verdict in stored.verdicts}
    given: list[ImageSet] = []
    for frame in stored.frames:
        made = _make_set(context, frame, captions[frame.scene], boxes[frame.scene])
        made = _without_watermarks(context, made, marks) if isinstance(made, ImageSet) else made
        if isinstance(made, ImageSet):
            given.append(made)
        else:
            judged[frame.id] = made.model_copy(update={"id": frame.id})
            (context.folder / frame.file).unlink()
    return IngestResult((), tuple(given), tuple(judged.values()))


def _read_caption(picture: Path, folder: Path) -> str | UnreadableInput | None:
    """Reads the caption of a picture as one line; returns None if it has no caption."""
    file = picture.with_suffix(".txt")
    try:
        check_file(file, folder)
        if not file.exists():
            return None
        if file.stat().st_size > _MAX_CAPTION:
            return UnreadableInput("bad_caption", f"{file.name} is too long for a caption")
        return " ".join(file.read_text(encoding="utf-8-sig").split())
    except UnreadableInput as why:
        return why
    except (OSError, ValueError) as error:
        return UnreadableInput("bad_caption", f"{file.name} cannot be read as UTF-8: {error}")


def _read_boxes(picture: Path, folder: Path) -> tuple[Box, ...]:
    """Reads the panel boxes from the JSON file of an iclora shard; empty if there are none."""
    file = picture.with_suffix(".json")
    try:
        check_file(file, folder)
        tree: Any = json.loads(file.read_bytes())
        return tuple((int(a), int(b), int(c), int(d)) for a, b, c, d in _stated_boxes(tree))
    except (UnreadableInput, OSError, ValueError, TypeError):
        return ()  # not an iclora shard: seams are detected instead


def _stated_boxes(tree: Any) -> list[Any]:
    panels = tree.get("panels", []) if isinstance(tree, dict) else []
    return [panel["box"] for panel in panels if isinstance(panel, dict) and "box" in panel]


def _make_set(
    context: IngestContext,
    frame: Frame,
    caption: str | UnreadableInput | None,
    stated: tuple[Box, ...],
) -> ImageSet | Verdict:
    if isinstance(caption, UnreadableInput):
        return context.failed(frame.id, caption)
    if caption is None:
        return context.rejected(frame.id, "no_caption", f"{frame.scene} has no .txt beside it")
    if not caption:
        return context.rejected(frame.id, "empty_caption", f"the .txt of {frame.scene} is empty")
    try:
        boxes = _stated_or_found(context, frame, stated)
    except UnreadableInput as why:
        return context.failed(frame.id, why)
    frames = tuple(_panel(frame, number, box) for number, box in enumerate(boxes, start=1))
    return ImageSet(key=set_key(frames), source=frame.source, frames=frames, caption=caption)


def _stated_or_found(
    context: IngestContext, frame: Frame, stated: tuple[Box, ...]
) -> tuple[Box, ...]:
    layout = context.params.layout
    inside = all(intersection(box, frame.crop) == box for box in stated)
    if len(stated) == layout.panels and inside:
        return stated
    with Image.open(context.folder / frame.file) as image:
        grey = np.asarray(image.convert("L"))
    return panel_boxes(grey, layout.rows, layout.columns)


def _without_watermarks(
    context: IngestContext, given: ImageSet, marks: tuple[Watermark, ...]
) -> ImageSet | Verdict:
    treated: list[Frame] = []
    for frame in given.frames:
        boxes = [mark.box_on(frame.width, frame.height) for mark in marks]
        kept = apply_overlay_policy(frame, boxes, context.params.watermark)
        if kept is None:
            return context.rejected(given.key, "watermark", "a panel bears a watermark")
        treated.append(kept)
    return given.model_copy(update={"frames": tuple(treated)})


def _panel(canvas: Frame, number: int, box: Box) -> Frame:
    return canvas.model_copy(update={"id": f"{canvas.id}-p{number}", "crop": box, "scene": ""})


READER = Reader(read=read_captioned_folder, select=select_canvases, digest=digest_pictures)
