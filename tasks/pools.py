"""What the server must hold before deployments make sense: the work pools."""

from __future__ import annotations

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import WorkPoolCreate, WorkPoolUpdate
from prefect.exceptions import ObjectAlreadyExists

POOLS: dict[str, int | None] = {"iclora-cpu": None, "iclora-gpu": 1}
"""Work pool to its limit of runs at once. One training a GPU: a pool's limit, unlike a
deployment's, holds no lease and so survives a restart of the server in the middle of a run. It
spares the worker processes that would only wait; ``tasks.gpu_locks`` holds the devices themselves,
also against runs of other pools and by hand."""


def prepare_pools(client: SyncPrefectClient) -> None:
    """Creates the pools that are missing; limits that a person changed stay."""
    for name, limit in POOLS.items():
        try:
            pool = WorkPoolCreate(name=name, type="process", concurrency_limit=limit)
            client.create_work_pool(pool)
        except ObjectAlreadyExists:
            client.update_work_pool(name, WorkPoolUpdate(is_paused=False))
