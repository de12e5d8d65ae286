"""An adapter to a report and a decision."""

from __future__ import annotations

from prefect import flow

from schemas.evaluation import ReportRef
from schemas.job import EvaluateJob
from tasks import evaluation, report


@flow(name="evaluate-adapter", flow_run_name="evaluate {adapter}")
def evaluate_adapter(
    adapter: str = "demo",
    against: str = "",
    dataset: str = "",
    store: str = "./store",
    promote: bool = False,  # noqa: FBT001, FBT002 - a switch in the UI's form
) -> ReportRef:
    """Renders sample sets, scores them and decides whether the adapter is better.

    Args:
        adapter: an adapter's name (latest), name@version, folder or URL.
        against: what it must beat; empty is the champion, or the base when there is none.
        dataset: whose val sets are compared with; empty is the one it was trained on.
        store: folder or URL where everything is kept.
        promote: make it the champion when the decision says so.
    """
    job = EvaluateJob(
        store=store, adapter=adapter, against=against, dataset=dataset, promote=promote
    )
    result = evaluation.evaluate(job)
    report.show_report(result, job)
    return result


if __name__ == "__main__":
    evaluate_adapter()
