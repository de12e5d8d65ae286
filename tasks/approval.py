"""Approval by a person before an adapter becomes the champion."""

from __future__ import annotations

import logging

from prefect.flow_runs import pause_flow_run
from prefect.input import RunInput
from pydantic import Field

from iclora.evaluate import read_report
from iclora.store import Store
from schemas.evaluation import ReportRef
from tasks.artifacts import data_uri
from tasks.environment import link, resolve_store
from tasks.evaluation import promote
from tasks.lineage import ANSWER
from tasks.report import announce

log = logging.getLogger("iclora.approval")

WAIT_SECONDS = 7 * 24 * 3600
"""A week: the time between two scheduled retrainings."""

_SHEETS = 4


class Approval(RunInput):
    """The form in the UI."""

    promote: bool = Field(default=False, description="Make this adapter the champion?")


def ask_and_promote(adapter: str, report: ReportRef, store: str) -> ReportRef:
    """Pauses the run with the sheets in the form; promotes when the answer is yes.

    Returns:
        The report, with the current champion.

    Raises:
        UserError: the answer is yes, but another adapter became champion while the run waited.
    """
    if report.outcome != "promoted":
        return report
    url = resolve_store(store)
    opened = Store(url)
    question = Approval.with_initial_data(description=describe_question(adapter, report, opened))
    answer = pause_flow_run(wait_for_input=question, timeout=WAIT_SECONDS)
    # The answer is written last: a run that ends before it is asked again.
    if not answer.promote:
        opened.write(f"{report.path}/{ANSWER}", b"refuse\n")
        log.info("a person refused %s", adapter)
        announce("adapter.refused", report.name, adapter=adapter, reason="refused by a person")
        return report
    promote(adapter, url)
    opened.write(f"{report.path}/{ANSWER}", b"promote\n")
    announce("adapter.promoted", report.name, adapter=adapter, store=url)
    return report.model_copy(update={"champion": adapter.partition("@")[2]})


def describe_question(adapter: str, ref: ReportRef, store: Store) -> str:
    """Writes the decision's reasons, the report's link and the sheets as Markdown."""
    report = read_report(store, ref)
    sheets = [
        f"![sheet {number}]({data_uri(store.read(f'{ref.path}/{sheet}'))})"
        for number, sheet in enumerate(report.sheets[:_SHEETS], 1)
    ]
    reasons = "\n".join(f"* {reason}" for reason in report.decision.reasons)
    page = link(store, f"{ref.path}/report.html", "the report")
    return "\n\n".join([f"### Promote {adapter}?", reasons, page, *sheets])
