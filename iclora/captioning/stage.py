"""Captioning of one source's canvases, with one verdict per canvas.

Captions that ship with their source are kept verbatim, regardless of linter faults; the faults are
counted in the scores and logged.
"""

from __future__ import annotations

import hashlib
import io
import logging
from collections.abc import Iterator, Sequence
from typing import Final

from PIL import Image

from iclora.captioning.caption_text import parse_caption
from iclora.captioning.captioners import Captioner
from iclora.captioning.linter import lint_caption
from iclora.captioning.token_budget import token_counter
from iclora.captioning.writer import CaptionJob, CaptionWriter
from iclora.errors import BROKEN_PICTURE, BadInput
from iclora.pipeline.progress import Report
from iclora.pipeline.stage import Stage, file_of
from iclora.store import Store
from schemas.caption import Caption
from schemas.captioning import CaptionStageParams
from schemas.stage import Canvas, CaptionedSet, StageRef
from schemas.verdict import Verdict

log = logging.getLogger(__name__)

STAGE: Final = Stage("caption", 1)
EXISTING_CAPTION: Final = "beside the source"
"""Captioner label of captions that ship with their source."""

_MAX_DETAIL: Final = 300
"""Maximum number of characters in a verdict's detail, because malformed text can be long."""

_BATCH: Final = 64
"""Number of sets with images in memory."""

_QUALITY: Final = 95
"""JPEG quality of request images. Chroma is 4:4:4 so that colors survive in small panels."""


def caption_canvases(
    store: Store,
    stitched: StageRef,
    canvases: Sequence[Canvas],
    params: CaptionStageParams,
    captioner: Captioner | None,
    report: Report,
) -> Iterator[tuple[Verdict, CaptionedSet | None]]:
    """Yields the verdict of each canvas in order, with its caption if kept.

    Args:
        store: Holds the canvases and the cached answers.
        stitched: Stage of the canvases.
        canvases: Canvases of one source.
        params: Parameters of the stage.
        captioner: Writes missing captions; if None, canvases without a caption are rejected.
        report: Receives the completed fraction.
    """
    writer = None
    if captioner is not None:
        encoder = None
        if params.clip:
            from iclora.models.clip import load_clip

            encoder = load_clip(params.clip)
        writer = CaptionWriter(captioner, store, params, encoder)
    for start in range(0, len(canvases), _BATCH):
        batch = canvases[start : start + _BATCH]
        jobs: dict[str, CaptionJob] = {}
        results: dict[str, tuple[Verdict, CaptionedSet | None]] = {}
        for canvas in batch:
            item = STAGE.name, canvas.key
            source = canvas.set.source
            if canvas.set.caption.strip():
                results[canvas.key] = _keep_existing(canvas, params)
            elif writer is None:
                detail = "The source has no caption for this set."
                verdict = Verdict.rejected(*item, "caption_missing", detail, source=source)
                results[canvas.key] = verdict, None
            else:
                try:
                    jobs[canvas.key] = _read_job(store, stitched, canvas, params)
                except BadInput as error:
                    detail = str(error)[:_MAX_DETAIL]
                    verdict = Verdict.failed(*item, "picture_changed", detail, source=source)
                    results[canvas.key] = verdict, None
        if writer is not None and jobs:

            def report_batch(share: float, start: int = start, size: int = len(batch)) -> None:
                report((start + share * size) / len(canvases))

            writer.write(list(jobs.values()), report_batch)
        for canvas in batch:
            result = results.get(canvas.key) or _result_of(canvas, jobs[canvas.key], params)
            verdict, _ = result
            if verdict.reason:
                log.info("%s: %s: %s", canvas.key, verdict.reason, verdict.detail)
            yield result


def _read_job(
    store: Store, stitched: StageRef, canvas: Canvas, params: CaptionStageParams
) -> CaptionJob:
    """Reads the images of a canvas.

    Raises:
        BadInput: The file does not match the SHA-256 from the stitch stage, or cannot be decoded.
    """
    data = file_of(store, stitched, canvas.file).read_bytes()
    if hashlib.sha256(data).hexdigest() != canvas.image_sha256:
        raise BadInput(f"{canvas.file} is not the picture that was stitched.")
    try:
        picture = Image.open(io.BytesIO(data)).convert("RGB")
    except BROKEN_PICTURE as error:
        raise BadInput(f"{canvas.file} cannot be decoded: {error}.") from error
    side = params.caption.captioner.max_side
    panels = tuple(shrunk_jpeg(picture.crop(panel.box), side) for panel in canvas.panels)
    return CaptionJob(canvas.key, shrunk_jpeg(picture, side), panels)


def shrunk_jpeg(picture: Image.Image, max_side: int) -> bytes:
    """Encodes an image as JPEG, downscaled so that its longer side fits ``max_side`` pixels."""
    small = picture.convert("RGB")
    small.thumbnail((max_side, max_side), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    small.save(file, "JPEG", quality=_QUALITY, subsampling=0)
    return file.getvalue()


def _keep_existing(
    canvas: Canvas, params: CaptionStageParams
) -> tuple[Verdict, CaptionedSet | None]:
    text, layout = canvas.set.caption, params.layout
    faults = lint_caption(text, layout, params.caption)
    if faults:
        names = ", ".join(fault.rule for fault in faults)
        log.info("%s: the caption beside the source is kept with faults: %s", canvas.key, names)
    caption = parse_caption(text, layout.markers, params.caption.prefix, captioner=EXISTING_CAPTION)
    return _kept(canvas, caption, params, faults=len(faults), attempts=0)


def _result_of(
    canvas: Canvas, job: CaptionJob, params: CaptionStageParams
) -> tuple[Verdict, CaptionedSet | None]:
    if job.caption is not None:
        return _kept(canvas, job.caption, params, faults=0, attempts=job.attempts)
    item, source = (STAGE.name, canvas.key), canvas.set.source
    if job.failure is not None:
        reason, detail = f"captioner_{job.failure.reason}", job.failure.sentence[:_MAX_DETAIL]
        return Verdict.failed(*item, reason, detail, source=source), None
    fault = job.faults[0]
    reason, detail = f"caption_{fault.rule}", fault.sentence[:_MAX_DETAIL]
    return Verdict.rejected(*item, reason, detail, source=source), None


def _kept(
    canvas: Canvas, caption: Caption, params: CaptionStageParams, *, faults: int, attempts: int
) -> tuple[Verdict, CaptionedSet]:
    text = caption.text(params.layout.markers)
    scores = {
        "caption_attempts": float(attempts),
        "caption_faults": float(faults),
        "caption_tokens": float(token_counter(params.caption.tokenizer)(text)),
        "caption_words": float(len(text.split())),
    }
    captioned = CaptionedSet(
        key=canvas.key, image_sha256=canvas.image_sha256, caption=caption, scores=scores
    )
    return Verdict.kept(STAGE.name, canvas.key, source=canvas.set.source), captioned
