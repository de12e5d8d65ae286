"""Captioning stage: writes one caption per canvas.

Each canvas gets one verdict: kept, with a caption bound to the canvas's SHA-256; rejected, with the
fault that neither retries nor repairs could fix; or failed, because no captioner answered.

A stage with transient captioner failures can be retried: a new request creates a new stage, which
reuses cached answers and requests only the missing ones.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from iclora.captioning.caption_text import parse_caption
from iclora.captioning.linter import lint_caption, rule_names
from iclora.captioning.stage import EXISTING, STAGE, CaptionStage
from iclora.captioning.token_budget import UPPER_BOUND, is_counted
from iclora.models.clip import clip_label
from iclora.models.locate import locate
from iclora.pipeline.progress import Report, ignore_progress
from iclora.pipeline.stage import result_of, run_stage
from iclora.store import Store, file_sha256
from schemas.captioning import CaptionerParams, CaptionParams
from schemas.config import Config
from schemas.stage import Captioned, StageRef, Stitched

__all__ = ["EXISTING", "caption_source", "lint_caption", "parse_caption", "rule_names"]

_TRANSIENT: Final = frozenset({"unreachable", "busy", "server_error", "nonsense", "nothing"})
"""Failure reasons that a retry may fix."""

_OPERATIONAL: Final = (
    "url",
    "api_key_env",
    "concurrency",
    "timeout_seconds",
    "retries",
    "backoff_seconds",
)
"""Connection settings that do not affect captions and are excluded from the digest."""


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
    has_run = False
    content = result_of(store, stitched, Stitched)

    def work(_folder: Path) -> Captioned:
        nonlocal has_run
        has_run = True
        outcomes = list(CaptionStage(store, stitched, config, report).outcomes(content.canvases))
        return Captioned(
            stitched=stitched,
            captions=tuple(done.caption for done in outcomes if done.caption is not None),
            seen=len(content.canvases),
            verdicts=tuple(done.verdict for done in outcomes),
        )

    params, inputs = _digest_params(stitched, content, config)
    while True:
        ref = run_stage(store, STAGE, [params, config.layout], inputs, work)
        if has_run or not _has_transient_failures(store, ref):
            return ref
        inputs.append("again")


def _digest_params(
    stitched: StageRef, content: Stitched, config: Config
) -> tuple[CaptionParams, list[str]]:
    """Returns the parameters and inputs that affect captions, without connection settings."""
    params = config.caption
    standard = CaptionerParams()
    captioner = params.captioner.model_copy(
        update={name: getattr(standard, name) for name in _OPERATIONAL}
    )
    inputs = [stitched.digest]
    is_needed = any(not canvas.set.caption for canvas in content.canvases)
    if is_needed and captioner.kind == "local":
        inputs.append(locate(captioner.model).revision)
    if params.forbidden_names and Path(params.forbidden_names).is_file():
        inputs.append(file_sha256(Path(params.forbidden_names)))
    if params.check_adherence:
        inputs.append(clip_label(config.filter.clip))
    if params.tokenizer and not is_counted(params.tokenizer):
        inputs.append(UPPER_BOUND)
    return params.model_copy(update={"captioner": captioner, "forbidden_names": ""}), inputs


def _has_transient_failures(store: Store, captioned: StageRef) -> bool:
    """Returns true if any caption failed for a reason that a retry may fix."""
    return any(
        verdict.reason.removeprefix("captioner_") in _TRANSIENT
        for verdict in result_of(store, captioned, Captioned).verdicts
        if verdict.outcome == "failed"
    )
