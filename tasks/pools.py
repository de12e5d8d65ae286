"""Work pools, which the server needs before deployments make sense."""

from __future__ import annotations

from typing import Any

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import WorkPoolCreate, WorkPoolUpdate
from prefect.exceptions import ObjectNotFound

from tasks.memory import recall, remember
from tasks.merge import digests, merge

POOLS: dict[str, int | None] = {"iclora-cpu": None, "iclora-gpu": 1}
"""Work pool to its limit of runs at once. One training a GPU: a pool's limit, unlike a
deployment's, holds no lease and so survives a restart of the server in the middle of a run. It
spares the worker processes that would only wait; ``tasks.gpu_locks`` holds the devices themselves,
also against runs of other pools and by hand."""


def prepare_pools(client: SyncPrefectClient) -> list[str]:
    """Creates the pools that are missing; what a person changed stays.

    Returns:
        A sentence on each difference from what is declared.
    """
    last = recall(client, "pools") or {}
    kept: list[str] = []
    declared: dict[str, Any] = {}
    for name, limit in POOLS.items():
        wanted = {"concurrency_limit": limit, "is_paused": False}
        declared[name] = digests(wanted)
        try:
            found = client.read_work_pool(name)
        except ObjectNotFound:
            client.create_work_pool(
                WorkPoolCreate(name=name, type="process", concurrency_limit=limit)
            )
            continue
        now = {"concurrency_limit": found.concurrency_limit, "is_paused": found.is_paused}
        merged = merge(last.get(name), now, wanted)
        if merged.values != now:
            client.update_work_pool(name, WorkPoolUpdate(**merged.values))
        kept += [f"work pool {name}: {sentence}" for sentence in merged.kept]
    remember(client, "pools", declared)
    return kept
