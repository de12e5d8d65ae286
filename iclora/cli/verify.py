"""``iclora verify``."""

from __future__ import annotations

from iclora.cli.console import answer, tell
from iclora.cli.options import DEFAULT_STORE, AsJson, DatasetName, StoreUrl

_SHOWN = 20
"""Problems printed for people; ``--json`` has all."""


def verify(
    dataset: DatasetName, store: StoreUrl = DEFAULT_STORE, *, as_json: AsJson = False
) -> int:
    """Re-reads every shard with tarfile, webdataset and datasets, and checks everything."""
    from iclora.shards import open_dataset
    from iclora.shards.verify import verify_dataset
    from iclora.store import Store

    opened = open_dataset(Store(store), dataset)
    found = verify_dataset(opened)
    for problem in found.problems[:_SHOWN]:
        tell(": ".join(part for part in (problem.shard, problem.key, problem.problem) if part))
    if len(found.problems) > _SHOWN:
        tell(f"and {len(found.problems) - _SHOWN} more; --json has all")
    known = opened.manifest
    verdict = f"sound, {found.samples} samples" if found.ok else _broken(len(found.problems))
    answer(found.to_json(), f"{known.name}@{known.version}: {verdict}", as_json=as_json)
    return 0 if found.ok else 1


def _broken(problems: int) -> str:
    return f"broken, {problems} problem{'s' if problems > 1 else ''}"
