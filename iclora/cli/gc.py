"""``iclora gc``."""

from __future__ import annotations

from typing import Annotated

import typer

from iclora.cli.console import answer
from iclora.cli.options import DEFAULT_STORE, AsJson, StoreUrl
from iclora.cli.settings import open_store

Caches = Annotated[
    bool, typer.Option("--caches", help="Latents and text embeddings too; training remakes them.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")]

_MIB = 1 << 20


def gc(
    store: StoreUrl = DEFAULT_STORE,
    *,
    caches: Caches = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Removes what nothing refers to; not during a build."""
    from iclora.dataset.gc import collect_garbage

    garbage = collect_garbage(open_store(store), caches=caches, dry_run=dry_run)
    done = "would be removed" if dry_run else "removed"
    lines = [*garbage.paths, f"{len(garbage.paths)} places, {garbage.size / _MIB:.1f} MiB {done}"]
    answer(
        {"removed": list(garbage.paths), "bytes": garbage.size, "dry_run": dry_run},
        "\n".join(lines),
        as_json=as_json,
    )
