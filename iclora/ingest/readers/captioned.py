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
from iclora.ingest.result import IngestContext, IngestResult, UnreadableInput
from iclora.ingest.seams import panel_boxes
from iclora.ingest.watermarks import Watermark
from schemas.base import Box, digest_of
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
    stored = read_pictures(context, [(name, name, folder / name) for name in names])
    marks = find_watermarks_in(context, stored.frames)
    verdicts = {verdict.id: verdict for verdict in stored.verdicts}
    given: list[ImageSet] = []
    for canvas in stored.frames:
        try:
            result = _make_set(context, canvas, folder / canvas.scene, folder, marks)
        except UnreadableInput as why:
            result = context.failed(canvas.id, why)
        if isinstance(result, ImageSet):
            given.append(result)
        else:
            verdicts[canvas.id] = result
            (context.folder / canvas.file).unlink()
    return IngestResult((), tuple(given), tuple(verdicts.values()))


def _make_set(
    context: IngestContext,
    canvas: Frame,
    picture: Path,
    folder: Path,
    marks: tuple[Watermark, ...],
) -> ImageSet | Verdict:
    """Divides a canvas into the panels of a set, or returns the verdict that excludes it.

    Raises:
        UnreadableInput: The caption cannot be read, or the panels cannot be told apart.
    """
    caption = _read_caption(picture, folder)
    if caption is None:
        return context.rejected(canvas.id, "no_caption", f"{canvas.scene} has no .txt beside it")
    if not caption:
        return context.rejected(canvas.id, "empty_caption", f"the .txt of {canvas.scene} is empty")
    rows, columns = context.params.rows, context.params.columns
    boxes = _read_boxes(picture, folder)
    inside = all(intersection(box, canvas.crop) == box for box in boxes)
    if len(boxes) != rows * columns or not inside:
        with Image.open(context.folder / canvas.file) as image:
            grey = np.asarray(image.convert("L"))
        boxes = panel_boxes(grey, rows, columns)
    overlays = [mark.box_on(canvas.width, canvas.height) for mark in marks]
    panels: list[Frame] = []
    for number, box in enumerate(boxes, start=1):
        panel = canvas.model_copy(update={"id": f"{canvas.id}-p{number}", "crop": box, "scene": ""})
        treated = apply_overlay_policy(panel, overlays, context.params.watermark)
        if treated is None:
            return context.rejected(canvas.id, "watermark", "a panel bears a watermark")
        panels.append(treated)
    key = digest_of([panel.id for panel in panels])
    return ImageSet(key=key, source=canvas.source, frames=tuple(panels), caption=caption)


def _read_caption(picture: Path, folder: Path) -> str | None:
    """Reads the caption of a picture as one line; returns None if it has no caption.

    Raises:
        UnreadableInput: The caption is outside the folder, too long or not UTF-8.
    """
    file = picture.with_suffix(".txt")
    check_file(file, folder)
    try:
        if not file.exists():
            return None
        if file.stat().st_size > _MAX_CAPTION:
            raise UnreadableInput("bad_caption", f"{file.name} is too long for a caption")
        return " ".join(file.read_text(encoding="utf-8-sig").split())
    except (OSError, ValueError) as error:
        detail = f"{file.name} cannot be read as UTF-8: {error}"
        raise UnreadableInput("bad_caption", detail) from error


def _read_boxes(picture: Path, folder: Path) -> tuple[Box, ...]:
    """Reads the panel boxes from the JSON file of an iclora shard; empty if there are none."""
    file = picture.with_suffix(".json")
    try:
        check_file(file, folder)
        tree: Any = json.loads(file.read_bytes())
        panels = tree.get("panels", []) if isinstance(tree, dict) else []
        boxes = [panel["box"] for panel in panels if isinstance(panel, dict) and "box" in panel]
        return tuple((int(a), int(b), int(c), int(d)) for a, b, c, d in boxes)
    except (UnreadableInput, OSError, ValueError, TypeError):
        return ()  # not an iclora shard: seams are detected instead


READER = Reader(read=read_captioned_folder, select=select_canvases, digest=digest_pictures)
