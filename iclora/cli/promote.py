"""``iclora promote``."""

from __future__ import annotations

from typing import Annotated

import typer

from iclora.cli.console import answer
from iclora.cli.options import DEFAULT_STORE, AdapterName, AsJson, StoreUrl
from iclora.cli.settings import open_store
from iclora.errors import BadInput

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
    from iclora.evaluation.promotion import promote as crown
    from iclora.evaluation.promotion import undo as uncrown
    from iclora.sampling.adapters import find_stored

    opened = open_store(store)
    if undo:
        name = adapter.partition("@")[0]
        champion = uncrown(opened, name)
    else:
        stored = find_stored(opened, adapter)
        if stored is None:
            raise BadInput(f"no adapter {adapter!r} in {opened.url}")
        name, champion = stored.name, crown(opened, stored.name, stored.version, force=force)
    answer(
        {"adapter": name, "champion": champion},
        f"the champion of {name} is {champion}" if champion else f"{name} has no champion now",
        as_json=as_json,
    )
