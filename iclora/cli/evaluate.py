"""``iclora evaluate``."""

from __future__ import annotations

from typing import Annotated

import typer

from iclora.cli.console import answer, note_miniature, note_progress, print_note
from iclora.cli.options import DEFAULT_STORE, AdapterName, AsJson, Overrides, StoreUrl
from iclora.cli.settings import config_over, open_store

Against = Annotated[
    str,
    typer.Option(
        "--against", metavar="ADAPTER|base", help="What it must beat; the champion, else the base."
    ),
]
Dataset = Annotated[
    str,
    typer.Option(
        "--dataset", metavar="DATASET", help="Whose val sets count; the one it was trained on."
    ),
]
Promote = Annotated[
    bool, typer.Option("--promote", help="Make it the champion when the decision says so.")
]
Repin = Annotated[
    bool,
    typer.Option("--repin", help="Decide by this adapter's own settings (and --set) from now on."),
]


def evaluate(
    adapter: AdapterName,
    *,
    against: Against = "",
    dataset: Dataset = "",
    promote: Promote = False,
    repin: Repin = False,
    store: StoreUrl = DEFAULT_STORE,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Renders sets, scores them, and decides whether the adapter is better."""
    from iclora.evaluate import evaluate_adapter, evaluation_config, read_report

    opened = open_store(store)
    config = config_over(evaluation_config(opened, adapter, repin=repin), overrides)
    note_miniature(config, base=True)
    ref = evaluate_adapter(
        opened,
        adapter,
        config,
        against=against,
        dataset=dataset,
        promote=promote,
        repin=repin,
        progress=note_progress,
    )
    report = read_report(opened, ref)
    if report.overrides:
        print_note(
            "note: measured with settings that the rule does not have, so this report promotes "
            f"nobody: {', '.join(report.overrides)}"
        )
    answer(
        {
            "report": f"{ref.url}/report.html",
            "decision": ref.outcome,
            "reasons": list(report.decision.reasons),
            "scores": {
                name: {"value": score.value, "low": score.low, "high": score.high}
                for name, score in report.scores.items()
            },
            "overrides": list(report.overrides),
            "ref": ref.to_json(),
        },
        f"{report.adapter} was {ref.outcome}: {report.decision.reasons[0]}\n{ref.url}/report.html",
        as_json=as_json,
    )
