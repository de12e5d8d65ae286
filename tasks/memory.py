"""Remembers on the server what was declared there last, so that people's changes can be told."""

from __future__ import annotations

from typing import Any

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import VariableCreate, VariableUpdate

VARIABLE = "iclora-declared-"
"""Prefix of the Prefect Variables; they hold digests."""


def recall(client: SyncPrefectClient, about: str) -> dict[str, Any] | None:
    """Reads what was declared last; None if nothing was."""
    found = client.read_variable_by_name(VARIABLE + about)
    return found.value if found and isinstance(found.value, dict) else None


def remember(client: SyncPrefectClient, about: str, declared: dict[str, Any]) -> None:
    """Writes down what is declared now."""
    before = recall(client, about)
    if before is None:
        client.create_variable(VariableCreate(name=VARIABLE + about, value=declared))
    elif before != declared:
        client.update_variable(VariableUpdate(name=VARIABLE + about, value=declared))
