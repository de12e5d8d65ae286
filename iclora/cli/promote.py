"""``iclora promote``."""

from __future__ import annotations

from typing import Annotated

import typer

from iclora.cli.console import answer
from iclora.cli.options import DEFAULT_STORE, AdapterName, AsJson, StoreUrl
from iclora.cli.settings import open_store

Undo = Annotated[bool, typer.Option("--undo", help="Back to the champion before this one.")]
Force = Annotated[
    bool, typer.Option("--force", help="Although no report promotes it; this is recorded.")
]


def promote(
    adapter: AdapterName,
    store: StoreUrl = DEFAULT_STORE,
    *,
    undo: Undo = False,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Moves CHAMPION to the adapter that its report promotes, or back."""
    opened, name = open_store(store), adapter.partition("@")[0]
    if undo:
        from iclora.evaluation.promotion import undo as undo_promotion

        champion = undo_promotion(opened, name)
    else:
        from iclora.evaluate import promote_adapter

        champion = promote_adapter(opened, adapter, force=force)
    answer(
        {"adapter": name, "champion": champion},
        f"the champion of {name} is {champion}" if champion else f"{name} has no champion now",
        as_json=as_json,
    )
