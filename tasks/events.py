"""The events that others can chain on: what was published, trained, promoted or refused."""

from __future__ import annotations

import logging

from prefect.events import emit_event

log = logging.getLogger("iclora.events")


def announce(event: str, name: str, **payload: str) -> None:
    """Emits ``dataset.published``, ``adapter.trained``, ``adapter.promoted``, ``adapter.refused``.

    The resource is ``dataset.<name>`` or ``adapter.<name>``, so automations can match on it; the
    payload holds the name, ``dataset`` or ``adapter`` as ``name@version``, and more.
    """
    kind = event.partition(".")[0]
    sent = emit_event(
        event=event,
        resource={"prefect.resource.id": f"{kind}.{name}", "prefect.resource.name": name},
        payload={"name": name, **payload},
    )
    if sent is None:
        log.warning("the event %s of %s was not sent", event, name)
