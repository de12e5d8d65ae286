"""Captioning of one source, with one outcome per canvas.

Captions that ship with their source are kept verbatim, regardless of linter faults; the faults are
counted in the scores and logged. The captioner loads when the first set needs it, so sources with
existing captions need no model.
"""

from __future__ import annotations

import hashlib
import io
import logging
from collections.abc import Iterator, Sequence
from typing import Final, Literal, NamedTuple

from PIL import Image

from iclora.captioning.adherence import misplaced
from iclora.captioning.caption_cache import CachedCaptioner
from iclora.captioning.caption_text import parse_caption
from iclora.captioning.captioner import Captioner, shrunk_jpeg
from iclora.captioning.linter import lint_caption
from iclora.captioning.token_budget import token_counter
from iclora.captioning.writer import CaptionJob, CaptionResult, CaptionWriter, CheckCaption
from iclora.errors import BROKEN_PICTURE, BadInput
from iclora.pipeline.progress import Report, ignore_progress
from iclora.pipeline.stage import Stage, file_of
from iclora.store import Store
from schemas.caption import Caption, CaptionFault
from schemas.captioning import CaptionerParams
from schemas.config import Config
from schemas.stage import Canvas, CaptionedSet, StageRef
from schemas.verdict import Verdict

log = logging.getLogger(__name__)

STAGE: Final = Stage("caption", 1)
EXISTING: Final = "beside the source"
"""Captioner label of captions that ship with their source."""

_MAX_DETAIL: Final = 300
"""Maximum number of characters in a verdict's detail, because malformed text can be long."""

_BATCH: Final = 64
"""Number of sets with images in memory."""


class CaptionOutcome(NamedTuple):
    """Verdict of one canvas, with its caption if kept."""

    verdict: Verdict
    caption: CaptionedSet | None = None


class CaptionStage:
    """Captioner of one source's canvases; loads the model on first use."""

    def __init__(
        self, store: Store, stitched: StageRef, config: Config, report: Report = ignore_progress
    ) -> None:
        self._store = store
        self._stitched = stitched
        self._config = config
        self._report, self._done, self._batch_share = report, 0.0, 1.0
        self._writer: CaptionWriter | None = None

    def outcomes(self, canvases: Sequence[Canvas]) -> Iterator[CaptionOutcome]:
        """Yields one outcome per canvas, in order."""
        for start in range(0, len(canvases), _BATCH):
            some = canvases[start : start + _BATCH]
            self._done, self._batch_share = start / len(canvases), len(some) / len(canvases)
            yield from self._caption_batch(some)

    def _caption_batch(self, canvases: Sequence[Canvas]) -> list[CaptionOutcome]:
        done: dict[str, CaptionOutcome] = {}
        jobs: list[tuple[Canvas, CaptionJob]] = []
        for canvas in canvases:
            if canvas.set.caption.strip():
                done[canvas.key] = self._keep_existing(canvas)
            elif self._config.caption.captioner.kind == "existing":
                sentence = "The source has no caption for this set."
                done[canvas.key] = _rejected(canvas, "rejected", "caption_missing", sentence)
            else:
                try:
                    jobs.append((canvas, self._job(canvas)))
                except BadInput as error:
                    done[canvas.key] = _rejected(canvas, "failed", "picture_changed", str(error))
        if jobs:
            written = self._get_writer().write([job for _, job in jobs])
            for (canvas, _), result in zip(jobs, written, strict=True):
                done[canvas.key] = self._outcome_of(canvas, result)
        return [done[canvas.key] for canvas in canvases]

    def _keep_existing(self, canvas: Canvas) -> CaptionOutcome:
        params, layout = self._config.caption, self._config.layout
        faults = lint_caption(canvas.set.caption, layout, params)
        if faults:
            named = ", ".join(fault.rule for fault in faults)
            log.info("%s: the caption beside the source is kept with faults: %s", canvas.key, named)
        caption = parse_caption(
            canvas.set.caption, layout.markers, params.prefix, captioner=EXISTING
        )
        return self._kept(canvas, caption, faults=len(faults), attempts=0)

    def _outcome_of(self, canvas: Canvas, result: CaptionResult) -> CaptionOutcome:
        if result.failure is not None:
            reason = f"captioner_{result.failure.reason}"
            return _rejected(canvas, "failed", reason, result.failure.sentence)
        if result.caption is None:
            fault = result.faults[0]
            return _rejected(canvas, "rejected", f"caption_{fault.rule}", fault.sentence)
        return self._kept(canvas, result.caption, faults=0, attempts=result.attempts)

    def _kept(
        self, canvas: Canvas, caption: Caption, *, faults: int, attempts: int
    ) -> CaptionOutcome:
        text = caption.text(self._config.layout.markers)
        tokens = token_counter(self._config.caption.tokenizer)(text)
        scores = {
            "caption_attempts": float(attempts),
            "caption_faults": float(faults),
            "caption_tokens": float(tokens),
            "caption_words": float(len(text.split())),
        }
        bound = CaptionedSet(
            key=canvas.key, image_sha256=canvas.image_sha256, caption=caption, scores=scores
        )
        source = canvas.set.source
        return CaptionOutcome(
            Verdict(stage=STAGE.name, id=canvas.key, outcome="kept", source=source), bound
        )

    def _job(self, canvas: Canvas) -> CaptionJob:
        """Builds the caption job of a canvas.

        Raises:
            BadInput: The file does not match the SHA-256 from the stitch stage, or cannot be
                decoded.
        """
        data = file_of(self._store, self._stitched, canvas.file).read_bytes()
        if hashlib.sha256(data).hexdigest() != canvas.image_sha256:
            raise BadInput(f"{canvas.file} is not the picture that was stitched.")
        try:
            picture = Image.open(io.BytesIO(data)).convert("RGB")
        except BROKEN_PICTURE as error:
            raise BadInput(f"{canvas.file} cannot be decoded: {error}.") from error
        side = self._config.caption.captioner.max_side
        panels = tuple(shrunk_jpeg(picture.crop(panel.box), side) for panel in canvas.panels)
        return CaptionJob(canvas.key, shrunk_jpeg(picture, side), panels)

    def _get_writer(self) -> CaptionWriter:
        if self._writer is None:
            params = self._config.caption
            captioner = CachedCaptioner(_captioner(params.captioner), self._store)
            self._writer = CaptionWriter(
                captioner, self._config.layout, params, self._make_check(), self._report_share
            )
        return self._writer

    def _report_share(self, share: float) -> None:
        self._report(self._done + share * self._batch_share)

    def _make_check(self) -> CheckCaption:
        params, layout = self._config.caption, self._config.layout
        if not params.check_adherence:
            return lambda _job, text: lint_caption(text, layout, params)
        from iclora.models.clip import load_clip

        encoder = load_clip(self._config.filter.clip)

        def judge(job: CaptionJob, text: str) -> list[CaptionFault]:
            faults = lint_caption(text, layout, params)
            caption = parse_caption(text, layout.markers, params.prefix)
            return faults or misplaced(caption, job.panels, encoder)

        return judge


def _captioner(params: CaptionerParams) -> Captioner:
    if params.kind == "server":
        from iclora.captioning.server_captioner import ServerCaptioner

        return ServerCaptioner(params)
    from iclora.captioning.local_captioner import LocalCaptioner

    return LocalCaptioner(params)


def _rejected(
    canvas: Canvas, outcome: Literal["rejected", "failed"], reason: str, sentence: str
) -> CaptionOutcome:
    verdict = Verdict(
        stage=STAGE.name,
        id=canvas.key,
        outcome=outcome,
        reason=reason,
        detail=sentence[:_MAX_DETAIL],
        source=canvas.set.source,
    )
    log.info("%s: %s: %s", canvas.key, reason, sentence)
    return CaptionOutcome(verdict)
