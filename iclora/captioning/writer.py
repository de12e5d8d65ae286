"""Batch caption writer: request, lint, retry, repair, reject.

Each round requests captions for all pending sets together to fill the captioner's batches and
connections. A set leaves as soon as its caption is clean. After the last round, the first draft
that repairs make clean is used; otherwise the set is rejected with the first fault.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from iclora.captioning.caption_text import flatten, parse_caption
from iclora.captioning.captioner import Captioner, Failure, Reply, Request
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
from iclora.pipeline.progress import Report, ignore_progress
from schemas.caption import Answer, Caption, CaptionFault
from schemas.captioning import CaptionParams
from schemas.layout import Layout

log = logging.getLogger(__name__)


class CaptionJob(NamedTuple):
    """Images of one set, encoded for the captioner."""

    key: str
    canvas: bytes
    panels: tuple[bytes, ...]


class CaptionResult(NamedTuple):
    """Result of a caption job."""

    caption: Caption | None
    faults: tuple[CaptionFault, ...]
    """Faults of the last draft; empty if the caption is clean."""

    attempts: int
    failure: Failure | None = None
    """Reason why the captioner gave no answer."""


CheckCaption = Callable[[CaptionJob, str], list[CaptionFault]]
"""Check that returns the faults of a text as the caption of a set."""


@dataclass
class _Pending:
    """Job in progress."""

    job: CaptionJob
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

    rounds: int = 0
    result: CaptionResult | None = None

    def add_description(self, panel: int, reply: Answer) -> None:
        """Records the description of a panel."""
        self.descriptions[panel] = "" if reply.finish == "refused" else flatten(reply.text)
        self.unfinished.pop(panel, None)
        for fault in _unfinished(reply, panel + 1):
            self.unfinished[panel] = fault

    def fail(self, failure: Failure) -> None:
        """Ends the job without an answer."""
        self.result = CaptionResult(None, (), self.rounds, failure)


class CaptionWriter:
    """Writer of captions with one captioner for one layout.

    Args:
        captioner: Answers the requests.
        layout: Layout of the canvases.
        params: Mode, prefix and number of attempts.
        check: Returns the faults of a text.
        report: Receives the completed fraction of the first round's answers.
    """

    def __init__(
        self,
        captioner: Captioner,
        layout: Layout,
        params: CaptionParams,
        check: CheckCaption,
        report: Report = ignore_progress,
    ) -> None:
        self._captioner = captioner
        self._report, self._expected, self._answered = report, 1, 0
        self._layout = layout
        self._params = params
        self._check = check
        by_rule = params.mode == "panels" and params.merge == "rules"
        if not by_rule and not captioner.follows_prompts:
            log.warning(
                "%s only describes pictures: its descriptions of the panels are merged by rule",
                captioner.label,
            )
            by_rule = True
        self._merges_by_rule = by_rule

    @property
    def _answers_per_set(self) -> int:
        if self._merges_by_rule:
            return self._layout.panels
        return 1 + (self._layout.panels if self._params.mode == "panels" else 0)

    def write(self, jobs: Sequence[CaptionJob]) -> list[CaptionResult]:
        """Writes the captions of the given sets, in order."""
        every = [_Pending(job) for job in jobs]
        self._expected, self._answered = len(jobs) * self._answers_per_set, 0
        if self._params.mode == "panels" and not self._merges_by_rule:
            self._describe_panels(every)
        for number in range(1, self._params.attempts + 1):
            waiting = [pending for pending in every if pending.result is None]
            for pending in waiting:
                pending.rounds = number
            self._round(waiting)
        return [pending.result or self._repair_or_reject(pending) for pending in every]

    def _round(self, waiting: Sequence[_Pending]) -> None:
        if self._merges_by_rule:
            self._describe_panels(waiting)
            for pending in waiting:
                if pending.result is None:
                    self._check_draft(
                        pending, self._merged(pending), list(pending.unfinished.values())
                    )
            return
        replies = self._ask([self._whole_request(pending) for pending in waiting])
        for pending, reply in zip(waiting, replies, strict=True):
            if isinstance(reply, Failure):
                pending.fail(reply)
            elif (failure := _blocked_failure(reply)) is not None:
                pending.fail(failure)
            else:
                self._check_draft(pending, self._text_in(reply), _unfinished(reply))

    def _check_draft(self, pending: _Pending, text: str, known: list[CaptionFault]) -> None:
        """Checks a draft; a clean or repeated draft ends the job."""
        faults = known + self._check(pending.job, text)
        is_stuck = text in pending.drafts
        pending.drafts.append(text)
        if not known:
            pending.repairable.append(text)
        pending.faults = faults
        if not faults:
            pending.result = CaptionResult(self._parsed(text), (), pending.rounds)
        elif is_stuck:
            pending.result = self._repair_or_reject(pending)

    def _repair_or_reject(self, pending: _Pending) -> CaptionResult:
        """Returns the first complete draft that repairs make clean, or the last draft's faults."""
        for draft in pending.repairable:
            mended = repair(draft, self._layout, self._params)
            if not self._check(pending.job, mended):
                log.info("%s: repaired after %d rounds", pending.job.key, pending.rounds)
                return CaptionResult(self._parsed(mended), (), pending.rounds)
        return CaptionResult(None, tuple(pending.faults), pending.rounds)

    def _describe_panels(self, waiting: Sequence[_Pending]) -> None:
        """Requests descriptions of all panels, or in later rounds of those with faults."""
        asked = [
            (pending, panel)
            for pending in waiting
            for panel in range(self._layout.panels)
            if not pending.descriptions or _concerns(pending.faults, panel + 1)
        ]
        requests = [self._panel_request(pending, panel) for pending, panel in asked]
        for pending in waiting:
            pending.descriptions = pending.descriptions or [""] * self._layout.panels
        replies = self._ask(requests)
        for (pending, panel), reply in zip(asked, replies, strict=True):
            if pending.result is not None:
                continue
            if isinstance(reply, Failure):
                pending.fail(reply)
            elif (failure := _blocked_failure(reply)) is not None:
                pending.fail(failure)
            else:
                pending.add_description(panel, reply)

    def _ask(self, requests: Sequence[Request]) -> list[Reply]:
        replies: dict[int, Reply] = {}
        for place, reply in self._captioner.ask(requests):
            replies[place] = reply
            self._answered += 1
            self._report(self._answered / self._expected)
        return [replies[place] for place in range(len(requests))]

    def _panel_request(self, pending: _Pending, panel: int) -> Request:
        faults = [fault for fault in pending.faults if fault.panel in {0, panel + 1}]
        note = panel_retry_note(faults) if pending.drafts else ""
        return Request((pending.job.panels[panel],), PANEL_PROMPT + note)

    def _whole_request(self, pending: _Pending) -> Request:
        names = [name.name for name in names_for(pending.job.key, self._params)]
        params = one_summary(pending.job.key, self._params)
        if params.mode == "panels":
            prompt = merge_prompt(params, self._layout, names, pending.descriptions)
        else:
            prompt = canvas_prompt(params, self._layout, names)
        if pending.drafts:
            prompt += retry_note(pending.drafts[-1], pending.faults)
        return Request((pending.job.canvas,), prompt, answer_schema(self._layout))

    def _merged(self, pending: _Pending) -> str:
        names = names_for(pending.job.key, self._params)
        params = one_summary(pending.job.key, self._params)
        caption = merge_by_rules(
            pending.descriptions, names, params, captioner=self._captioner.label
        )
        return caption.text(self._layout.markers)

    def _text_in(self, reply: Answer) -> str:
        """Extracts the caption from an answer; adds the prefix, which JSON answers lack."""
        built = from_json(reply.text, self._layout)
        if built is None:
            return reply.text
        prefix = self._params.prefix
        return built if built.startswith(prefix) else f"{prefix} {built}"

    def _parsed(self, text: str) -> Caption:
        return parse_caption(
            text, self._layout.markers, self._params.prefix, captioner=self._captioner.label
        )


def _blocked_failure(reply: Answer) -> Failure | None:
    """Returns a failure for a blocked answer, because retries would not change the result."""
    if reply.finish != "blocked":
        return None
    return Failure("blocked", "The captioner's content filter held the answer back.")


def _unfinished(reply: Answer, panel: int = 0) -> list[CaptionFault]:
    """Returns the faults of a refused or truncated answer."""
    if reply.finish == "refused":
        sentence = f'It is a refusal: "{flatten(reply.text)[:80]}".'
        return [CaptionFault(rule="refusal", sentence=sentence, panel=panel)]
    if reply.finish == "length":
        sentence = "The answer was cut off because it was too long; be shorter."
        return [CaptionFault(rule="truncated", sentence=sentence, panel=panel)]
    return []


def _concerns(faults: Sequence[CaptionFault], panel: int) -> bool:
    return any(fault.panel in {0, panel} for fault in faults)
