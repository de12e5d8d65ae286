"""``iclora evaluate``."""

from __future__ import annotations

from typing import Annotated

import typer

from iclora.cli.console import answer, note_miniature, print_note
from iclora.cli.options import DEFAULT_STORE, AdapterName, AsJson, Overrides, StoreUrl
from iclora.cli.settings import config_over, open_store
from iclora.errors import BadInput

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


NOT_BY_THE_RULE = (
    "note: measured with settings that the rule does not have, so this report promotes nobody"
)


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
    from iclora.evaluation import evaluate_adapter, read_report
    from iclora.evaluation.plan import measured_by
    from iclora.sampling.adapters import find_stored
    from schemas.adapter import RunRecord

    opened = open_store(store)
    stored = find_stored(opened, adapter)
    if stored is None:
        raise BadInput(f"no adapter {adapter!r} in {opened.url}; `iclora train` makes one")
    run = RunRecord.from_text(opened.read(f"{stored.folder}/run.json"))
    config = config_over(run.config if repin else measured_by(opened, stored), overrides)
    note_miniature(config, base=True)
    ref = evaluate_adapter(
        opened,
        adapter,
        config,
        against=against,
        dataset=dataset,
        promote=promote,
        repin=repin,
        progress=_tell,
    )
    report = read_report(opened, ref)
    if report.overrides:
        print_note(f"{NOT_BY_THE_RULE}: {', '.join(report.overrides)}")
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


def _tell(what: str, done: int, of: int) -> None:
    print_note(f"{what}: {done} of {of}")
