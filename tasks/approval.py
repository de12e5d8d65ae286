"""A person's word before an adapter goes into production."""

from __future__ import annotations

import logging

from prefect.flow_runs import pause_flow_run
from prefect.input import RunInput
from pydantic import Field

from iclora.store import Store
from schemas.evaluation import ReportRef
from tasks.environment import link, resolve_store
from tasks.evaluation import promote, read_report
from tasks.events import announce
from tasks.lineage import ANSWER
from tasks.pictures import data_uri

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
        The report, with the champion that there is now.

    Raises:
        UserError: the answer is yes, and another adapter became champion while it was waited for.
    """
    if report.outcome != "promoted":
        return report
    question = Approval.with_initial_data(description=question_of(adapter, report, store))
    answer = pause_flow_run(wait_for_input=question, timeout=WAIT_SECONDS)
    if not answer.promote:
        _note(report, store, "refuse")
        log.info("a person refused %s", adapter)
        announce("adapter.refused", report.name, adapter=adapter, reason="refused by a person")
        return report
    promote(adapter, resolve_store(store))
    _note(report, store, "promote")
    announce("adapter.promoted", report.name, adapter=adapter, store=resolve_store(store))
    return report.model_copy(update={"champion": adapter.partition("@")[2]})


def _note(report: ReportRef, store: str, said: str) -> None:
    """Last of all: what ends before it is asked again."""
    place = f"{report.path}/{ANSWER}"
    Store(resolve_store(store)).write(place, f"{said}\n".encode())


def question_of(adapter: str, report: ReportRef, store: str) -> str:
    """The decision's reasons, the report's link and the sheets: Markdown with pictures inside."""
    place, found = Store(resolve_store(store)), read_report(report, resolve_store(store))
    folder = report.path
    sheets = [
        f"![sheet {number}]({data_uri(place.read(f'{folder}/{sheet}'))})"
        for number, sheet in enumerate(found.sheets[:_SHEETS], 1)
    ]
    reasons = "\n".join(f"* {reason}" for reason in found.decision.reasons)
    page = link(place, f"{folder}/report.html", "the report")
    return "\n\n".join([f"### Promote {adapter}?", reasons, page, *sheets])
