"""Lets `prefect deployment run build-dataset` find `build-dataset/build-dataset`.

Stock Prefect wants FLOW/DEPLOYMENT. Our flows and deployments share their names, so a bare name
says everything. Prefect calls this hook, through its own plugin system, whenever it starts in a
folder whose pyproject enables plugins. It wraps a method Prefect does not promise to keep: when
that is gone the hook steps aside with one log line, and the full name works everywhere.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import wraps
from typing import Any

from prefect.plugins import HookContext, register_hook

log = logging.getLogger(__name__)

_METHOD = "read_deployment_by_name"
_MARK = "_iclora_full_names"


def full_name(name: str) -> str:
    """Turns ``build-dataset`` into ``build-dataset/build-dataset``; full names stay."""
    return name if "/" in name else f"{name}/{name}"


@register_hook
def setup_environment(*, ctx: HookContext) -> None:
    """Wraps the two clients that look deployments up by name."""
    del ctx  # the hook's signature is Prefect's
    try:
        from prefect.client.orchestration._deployments import client

        _wrap(client.DeploymentAsyncClient)
        _wrap(client.DeploymentClient)
    except (ImportError, AttributeError) as error:
        log.warning("bare deployment names need FLOW/DEPLOYMENT with this Prefect: %s", error)


def _wrap(cls: type) -> None:
    original: Callable[..., Any] = getattr(cls, _METHOD)
    if hasattr(original, _MARK):
        return

    @wraps(original)
    def lookup(self: object, name: str) -> Any:  # for the async client, what it awaits
        return original(self, full_name(name))

    setattr(lookup, _MARK, True)
    setattr(cls, _METHOD, lookup)
