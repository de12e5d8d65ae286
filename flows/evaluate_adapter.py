"""An adapter to a report and a decision."""

from __future__ import annotations

from prefect import flow, tags

from schemas.evaluation import ReportRef
from tasks import evaluation, report
from tasks.prefect_defaults import GPU, TAG


@flow(name="evaluate-adapter", flow_run_name="evaluate {adapter}")
def evaluate_adapter(
    adapter: str = "demo",
    against: str = "",
    dataset: str = "",
    store: str = "",
    promote: bool = False,  # noqa: FBT001, FBT002 - a switch in the UI's form
) -> ReportRef:
    """Renders sample sets, scores them and decides whether the adapter is better.

    Args:
        adapter: An adapter's name (its latest version), `name@version`, a folder or a URL.
        against: Baseline to beat: another adapter, or `base` for the model without one. Defaults to
            the champion, or to the base when there is none yet.
        dataset: Dataset whose held-out sets are used. Defaults to the one it was trained on.
        store: Folder or URL (`s3://bucket/prefix`) of the store. Defaults to the environment's
            ICLORA_STORE, else `./store`.
        promote: Promote it to champion if the decision says so; otherwise only write the report.
    """
    job = evaluation.plan_evaluation(adapter, against, dataset, store, promote=promote)
    result = evaluation.evaluate(job)
    report.show_report(result, job)
    return result


if __name__ == "__main__":
    with tags(TAG, GPU):
        evaluate_adapter()
