"""``iclora push``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from iclora.cli.console import answer
from iclora.cli.options import DEFAULT_STORE, AsJson, StoreUrl
from iclora.cli.settings import open_store
from iclora.errors import BadInput
from schemas.store_paths import adapter_path, dataset_path

if TYPE_CHECKING:
    from iclora.dataset.push import Kind
    from iclora.store import Store

Thing = Annotated[
    str, typer.Argument(metavar="DATASET|ADAPTER", help="A name or name@version in the store.")
]
HubId = Annotated[
    str, typer.Argument(metavar="HUB_ID", help="owner/name; made if it is not there.")
]
AsKind = Annotated[
    str,
    typer.Option("--kind", metavar="dataset|adapter", help="Which, where a name is of both."),
]


def push(
    thing: Thing,
    hub_id: HubId,
    *,
    kind: AsKind = "",
    store: StoreUrl = DEFAULT_STORE,
    as_json: AsJson = False,
) -> None:
    """Uploads a dataset or an adapter to the hub, card included."""
    from iclora.dataset.push import push_folder

    opened = open_store(store)
    if kind not in {"", "dataset", "adapter"}:
        raise BadInput(f"--kind is dataset or adapter, not {kind!r}")
    folder, repository = _find_folder(opened, thing, kind)
    url = push_folder(opened, folder, hub_id, repository)
    answer({"pushed": folder, "hub_id": hub_id, "commit": url}, url, as_json=as_json)


def _find_folder(store: Store, thing: str, kind: str) -> tuple[str, Kind]:
    """Returns the version's folder, and the kind of its repository on the hub."""
    from iclora.dataset import open_dataset
    from iclora.sampling.adapters import find_stored

    name = thing.partition("@")[0]
    is_dataset = store.exists(dataset_path(name)) and kind != "adapter"
    is_adapter = store.exists(adapter_path(name)) and kind != "dataset"
    if is_dataset and is_adapter:
        raise BadInput(f"{name} is a dataset and an adapter: say which with --kind")
    if is_dataset:
        return open_dataset(store, thing).folder, "dataset"
    stored = find_stored(store, thing) if is_adapter else None
    if stored is None:
        raise BadInput(f"no {kind or 'dataset or adapter'} {thing!r} in {store.url}")
    return stored.folder, "model"
