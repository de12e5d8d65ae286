"""``iclora verify``."""

from __future__ import annotations

from iclora.cli.console import answer, print_note
from iclora.cli.options import DEFAULT_STORE, AsJson, DatasetName, StoreUrl
from iclora.cli.settings import open_store

_SHOWN = 20
"""Problems printed for people; ``--json`` has all."""


def verify(
    dataset: DatasetName, store: StoreUrl = DEFAULT_STORE, *, as_json: AsJson = False
) -> int:
    """Re-reads a dataset with three readers and checks all of it."""
    from iclora.dataset.verify import verify_named

    name, report = verify_named(open_store(store), dataset)
    for problem in report.problems[:_SHOWN]:
        print_note(
            ": ".join(part for part in (problem.shard, problem.key, problem.problem) if part)
        )
    if len(report.problems) > _SHOWN:
        print_note(f"and {len(report.problems) - _SHOWN} more; --json has all")
    count = len(report.problems)
    verdict = (
        f"sound, {report.samples} samples"
        if report.ok
        else f"broken, {count} problem{'s' if count > 1 else ''}"
    )
    answer(report.to_json(), f"{name}: {verdict}", as_json=as_json)
    return 0 if report.ok else 1
