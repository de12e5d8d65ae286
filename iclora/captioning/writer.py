"""Batch caption writer: request, lint, retry, repair, reject.

Each round requests captions for all unfinished sets together to fill the captioner's batches and
connections. A set leaves as soon as its caption is clean. After the last round, the first draft
that repairs make clean is used; otherwise the set is rejected with the first fault.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field

from iclora.captioning.adherence import CaptionEncoder, misplaced
from iclora.captioning.caption_cache import ask_cached
from iclora.captioning.caption_text import flatten, parse_caption
from iclora.captioning.captioners import Captioner, Failure, Reply, Request
from iclora.captioning.linter import lint_caption
from iclora.captioning.merge import merge_by_rules
from iclora.captioning.prompts import (
    PANEL_PROMPT,
    answer_schema,
    canvas_prompt,
    merge_prompt,
    one_summary,
    panel_retry_note,
    retry_note,
)
from iclora.captioning.repair import from_json, repair
from iclora.captioning.role_names import names_for
from iclora.pipeline.progress import Report
from iclora.store import Store
from schemas.caption import Answer, Caption, CaptionFault
from schemas.captioning import CaptionStageParams

log = logging.getLogger(__name__)


@dataclass
class CaptionJob:
    """Set whose caption is written."""

    key: str
    canvas: bytes
    """JPEG file of the canvas."""

    panels: tuple[bytes, ...]
    """JPEG files of the panels."""

    descriptions: list[str] = field(default_factory=list[str])
    """Description of each panel."""

    unfinished: dict[int, CaptionFault] = field(default_factory=dict[int, CaptionFault])
    """Faults of panels with refused or truncated descriptions, keyed by panel index."""

    drafts: list[str] = field(default_factory=list[str])
    """Caption text of each round so far."""

    repairable: list[str] = field(default_factory=list[str])
    """Complete drafts; refused or truncated drafts cannot be repaired."""

    faults: list[CaptionFault] = field(default_factory=list[CaptionFault])
    """Faults of the last draft."""

    attempts: int = 0
    caption: Caption | None = None
    """Result without faults."""

    failure: Failure | None = None
    """Reason why the captioner gave no answer."""

    is_done: bool = False

    def fail(self, failure: Failure) -> None:
        """Ends the job without an answer."""
        self.failure, self.is_done = failure, True


class CaptionWriter:
    """Writer of captions with one captioner for one layout.

    Args:
        captioner: Answers the requests.
        store: Caches the answers.
        params: Parameters of the stage.
        encoder: CLIP model of the adherence check, or None for no check.
    """

    def __init__(
        self,
        captioner: Captioner,
        store: Store,
        params: CaptionStageParams,
        encoder: CaptionEncoder | None = None,
    ) -> None:
        self._captioner, self._store, self._encoder = captioner, store, encoder
        self._params, self._layout = params.caption, params.layout
        self._describes_panels = self._params.mode == "panels"
        self._merges_by_rule = self._describes_panels and self._params.merge == "rules"
        if not self._merges_by_rule and not captioner.follows_prompts:
            log.warning(
                "%s only describes pictures: its descriptions of the panels are merged by rule",
                captioner.label,
            )
            self._merges_by_rule = self._describes_panels = True

    def write(self, jobs: Sequence[CaptionJob], report: Report) -> None:
        """Writes the captions of the given sets into their jobs.

        Args:
            jobs: End with a caption, a failure, or the faults of their last draft.
            report: Receives the completed fraction of the first round's answers.
        """
        per_set = self._layout.panels if self._describes_panels else 0
        per_set += 0 if self._merges_by_rule else 1
        self._report, self._expected, self._answered = report, len(jobs) * per_set, 0
        if self._describes_panels and not self._merges_by_rule:
            self._describe_panels(jobs)
        for _ in range(self._params.attempts):
            waiting = [job for job in jobs if not job.is_done]
            for job in waiting:
                job.attempts += 1
            if self._merges_by_rule:
                self._describe_panels(waiting)
                for job in waiting:
                    if not job.is_done:
                        self._check_draft(job, self._merged(job), list(job.unfinished.values()))
                continue
            replies = self._ask([self._request(job) for job in waiting])
            for job, reply in zip(waiting, replies, strict=True):
                if isinstance(reply, Failure):
                    job.fail(reply)
                else:
                    self._check_draft(job, self._text_of(reply), _unfinished(reply))
        for job in jobs:
            if not job.is_done:
                self._repair(job)

    def _check_draft(self, job: CaptionJob, text: str, unfinished: list[CaptionFault]) -> None:
        """Checks a draft; a clean or repeated draft ends the job."""
        is_repeated = text in job.drafts
        job.drafts.append(text)
        job.faults = unfinished + self._faults(job, text)
        if not unfinished:
            job.repairable.append(text)
        if not job.faults:
            job.caption, job.is_done = self._parsed(text), True
        elif is_repeated:
            self._repair(job)

    def _faults(self, job: CaptionJob, text: str) -> list[CaptionFault]:
        faults = lint_caption(text, self._layout, self._params)
        if faults or self._encoder is None:
            return faults
        return misplaced(self._parsed(text), job.panels, self._encoder)

    def _repair(self, job: CaptionJob) -> None:
        """Ends a job with the first complete draft that repairs make clean, if any."""
        job.is_done = True
        for draft in job.repairable:
            repaired = repair(draft, self._layout, self._params)
            if not self._faults(job, repaired):
                log.info("%s: repaired after %d rounds", job.key, job.attempts)
                job.caption = self._parsed(repaired)
                return

    def _describe_panels(self, waiting: Sequence[CaptionJob]) -> None:
        """Requests descriptions of all panels, or in later rounds of those with faults."""
        asked: list[tuple[CaptionJob, int]] = []
        requests: list[Request] = []
        for job in waiting:
            for panel in range(self._layout.panels):
                faults = [fault for fault in job.faults if fault.panel in {0, panel + 1}]
                if faults or not job.descriptions:
                    note = panel_retry_note(faults) if job.drafts else ""
                    asked.append((job, panel))
                    requests.append(Request((job.panels[panel],), PANEL_PROMPT + note))
            job.descriptions = job.descriptions or [""] * self._layout.panels
        for (job, panel), reply in zip(asked, self._ask(requests), strict=True):
            if job.is_done:
                continue
            if isinstance(reply, Failure):
                job.fail(reply)
                continue
            job.descriptions[panel] = "" if reply.finish == "refused" else flatten(reply.text)
            job.unfinished.pop(panel, None)
            for fault in _unfinished(reply, panel + 1):
                job.unfinished[panel] = fault

    def _ask(self, requests: Sequence[Request]) -> list[Reply]:
        replies: dict[int, Reply] = {}
        for index, reply in ask_cached(self._captioner, self._store, requests):
            replies[index] = reply
            if isinstance(reply, Answer) and reply.finish == "blocked":  # retries change nothing
                sentence = "The captioner's content filter held the answer back."
                replies[index] = Failure("blocked", sentence)
            self._answered += 1
            self._report(self._answered / self._expected)
        return [replies[index] for index in range(len(requests))]

    def _request(self, job: CaptionJob) -> Request:
        """Builds the request for a whole caption."""
        names = list(names_for(job.key, self._params))
        params = one_summary(job.key, self._params)
        if self._describes_panels:
            prompt = merge_prompt(params, self._layout, names, job.descriptions)
        else:
            prompt = canvas_prompt(params, self._layout, names)
        if job.drafts:
            prompt += retry_note(job.drafts[-1], job.faults)
        return Request((job.canvas,), prompt, answer_schema(self._layout))

    def _merged(self, job: CaptionJob) -> str:
        caption = merge_by_rules(
            job.descriptions,
            names_for(job.key, self._params),
            one_summary(job.key, self._params),
            captioner=self._captioner.label,
        )
        return caption.text(self._layout.markers)

    def _text_of(self, reply: Answer) -> str:
        """Extracts the caption from an answer; adds the prefix, which JSON answers lack."""
        text, prefix = from_json(reply.text, self._layout), self._params.prefix
        if text is None:
            return reply.text
        return text if text.startswith(prefix) else f"{prefix} {text}"

    def _parsed(self, text: str) -> Caption:
        return parse_caption(
            text, self._layout.markers, self._params.prefix, captioner=self._captioner.label
        )


def _unfinished(reply: Answer, panel: int = 0) -> list[CaptionFault]:
    """Returns the faults of a refused or truncated answer."""
    if reply.finish == "refused":
        sentence = f'It is a refusal: "{flatten(reply.text)[:80]}".'
        return [CaptionFault(rule="refusal", sentence=sentence, panel=panel)]
    if reply.finish == "length":
        sentence = "The answer was cut off because it was too long; be shorter."
        return [CaptionFault(rule="truncated", sentence=sentence, panel=panel)]
    return []
