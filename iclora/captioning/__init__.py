"""Captioning stage: writes one caption per canvas.

Each canvas gets one verdict: kept, with a caption bound to the canvas's SHA-256; rejected, with the
fault that neither retries nor repairs could fix; or failed, because no captioner answered.

A stage with transient captioner failures can be retried: a new request creates a new stage, which
reuses cached answers and requests only the missing ones.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from iclora.captioning.captioners import EXISTING, Captioner, load_captioner
from iclora.captioning.stage import STAGE, caption_canvases
from iclora.captioning.token_budget import counted_by
from iclora.models.clip import clip_label
from iclora.pipeline.progress import Report, ignore_progress
from iclora.pipeline.stage import result_of, run_stage
from iclora.store import Store, file_sha256
from schemas.captioning import CaptionStageParams
from schemas.config import Config
from schemas.stage import Captioned, StageRef, Stitched

_TRANSIENT: Final = frozenset({"unreachable", "busy", "server_error", "nonsense", "nothing"})
"""Failure reasons that a retry may fix."""


def caption_source(
    store: Store, stitched: StageRef, config: Config, report: Report = ignore_progress
) -> StageRef:
    """Captions the canvases of one source.

    Returns:
        Reference to a ``Captioned`` result.

    Raises:
        BadConfig: The captioner's settings, key or model are invalid.
        MissingModel: The captioner's weights are not available locally.
    """
    canvases = result_of(store, stitched, Stitched).canvases
    captioner = None
    # Sources with captions need no captioner.
    is_needed = any(not canvas.set.caption.strip() for canvas in canvases)
    if is_needed and config.caption.captioner.kind != EXISTING:
        captioner = load_captioner(config.caption.captioner)
    params = _stage_params(config, captioner)
    has_run = False

    def work(_folder: Path) -> Captioned:
        nonlocal has_run
        has_run = True
        results = list(caption_canvases(store, stitched, canvases, params, captioner, report))
        return Captioned(
            stitched=stitched,
            captions=tuple(captioned for _, captioned in results if captioned is not None),
            seen=len(canvases),
            verdicts=tuple(verdict for verdict, _ in results),
        )

    inputs = [stitched.digest]
    while True:
        ref = run_stage(store, STAGE, params, inputs, work)
        has_transient_failures = any(
            verdict.reason.removeprefix("captioner_") in _TRANSIENT
            for verdict in result_of(store, ref, Captioned).verdicts
            if verdict.outcome == "failed"
        )
        if has_run or not has_transient_failures:
            return ref
        inputs.append("again")


def _stage_params(config: Config, captioner: Captioner | None) -> CaptionStageParams:
    caption, clip = config.caption, config.filter.clip
    names = Path(caption.forbidden_names)
    return CaptionStageParams(
        caption=caption,
        layout=config.layout,
        captioner=captioner.label if captioner else "",
        forbidden_names_sha256=file_sha256(names) if names.is_file() else "",
        clip=clip if caption.check_adherence else "",
        clip_revision=clip_label(clip) if caption.check_adherence else "",
        tokens_counted_by=counted_by(caption.tokenizer),
    )
