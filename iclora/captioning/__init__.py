"""Canvases to captions.

Every canvas gets one verdict: kept with a caption bound to the canvas's sha256, rejected for the
fault that neither another try nor a repair could mend, or failed because no captioner answered.

A stage in which the captioner failed is not the last word: asking for it again makes a new stage,
which takes from the cache what was answered and asks only for the rest.
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
"""Failures of a captioner that may be gone the next time."""

_OPERATIONAL: Final = (
    "url",
    "api_key_env",
    "concurrency",
    "timeout_seconds",
    "retries",
    "backoff_seconds",
)
"""Settings that say where a server is and how it is waited for: no caption depends on them."""


def caption_source(
    store: Store, stitched: StageRef, config: Config, report: Report = ignore_progress
) -> StageRef:
    """Captions one source's canvases.

    Returns:
        The reference to a ``Captioned``.

    Raises:
        BadConfig: the captioner's settings, key or model are wrong.
        MissingModel: its weights are not on this machine.
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
    """The parameters and inputs that can change a caption; where a server is cannot."""
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
    """Tells if any caption failed for a reason that a retry may fix."""
    return any(
        verdict.reason.removeprefix("captioner_") in _TRANSIENT
        for verdict in result_of(store, captioned, Captioned).verdicts
        if verdict.outcome == "failed"
    )
