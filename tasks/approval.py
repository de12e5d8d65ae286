"""A person's word before an adapter goes into production."""

from __future__ import annotations

from prefect.flow_runs import pause_flow_run
from prefect.input import RunInput
from pydantic import Field

from iclora.store import Store
from schemas.evaluation import ReportRef
from tasks.evaluation import promote, read_report
from tasks.events import announce
from tasks.report import thumbnail

WAIT_SECONDS = 7 * 24 * 3600
"""A week: the time between two scheduled retrainings."""

_SHEETS = 4


class Approval(RunInput):
    """The form in the UI."""

    promote: bool = Field(default=False, description="Make this adapter the champion?")


def ask_and_promote(adapter: str, report: ReportRef, store: str) -> None:
    """Pauses the run with the sheets in the form; promotes when the answer is yes."""
    if report.outcome != "promoted":
        return
    question = Approval.with_initial_data(description=question_of(adapter, report, store))
    answer = pause_flow_run(wait_for_input=question, timeout=WAIT_SECONDS)
    if answer.promote:
        promote(adapter, store)
        announce("adapter.promoted", report.name, adapter=adapter)
    else:
        announce("adapter.refused", report.name, adapter=adapter, reason="refused by a person")


def question_of(adapter: str, report: ReportRef, store: str) -> str:
    """The decision's reasons and the sheets, as Markdown with pictures inside."""
    found = read_report(report, store)
    folder = f"reports/{report.name}/{report.version}"
    sheets = [
        f"![sheet {number}]({thumbnail(Store(store).read(f'{folder}/{sheet}'))})"
        for number, sheet in enumerate(found.sheets[:_SHEETS], 1)
    ]
    reasons = [f"* {reason}" for reason in found.decision.reasons]
    return "\n\n".join([f"# Promote {adapter}?", "\n".join(reasons), *sheets])
