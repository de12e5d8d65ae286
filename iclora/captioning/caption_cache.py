"""On-disk cache of captioner answers.

Each answer is one small file, named by the SHA-256 of everything it depends on: image bytes,
prompt, model and revision, and parameters. Files are written atomically as soon as an answer
arrives, so a killed process loses only requests in flight, and processes that share a store share
answers. Failures are not cached.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator, Sequence

from pydantic import ValidationError

from iclora.captioning.captioners import Captioner, Reply, Request
from iclora.store import Store
from schemas.caption import Answer

log = logging.getLogger(__name__)

FOLDER = "cache/captions"


def ask_cached(
    captioner: Captioner, store: Store, requests: Sequence[Request]
) -> Iterator[tuple[int, Reply]]:
    """Yields the index and reply of each request: cached answers first, then new ones."""
    model = {"model": captioner.label, "settings": captioner.settings}
    missing: list[tuple[int, str]] = []
    for index, request in enumerate(requests):
        key = json.dumps(
            {**model, **request.cache_key()},
            sort_keys=True,
            separators=(",", ":"),
            ensure_ascii=False,
        )
        digest = hashlib.sha256(key.encode()).hexdigest()
        path = f"{FOLDER}/{digest[:2]}/{digest}.json"
        if (answer := _read(store, path)) is not None:
            yield index, answer
        else:
            missing.append((index, path))
    if not missing:
        return
    log.info("%d of %d answers are in the cache", len(requests) - len(missing), len(requests))
    for position, reply in captioner.ask([requests[index] for index, _ in missing]):
        index, path = missing[position]
        if isinstance(reply, Answer):
            store.write(path, reply.to_text().encode())
        yield index, reply


def _read(store: Store, path: str) -> Answer | None:
    if not store.exists(path):
        return None
    try:
        return Answer.from_text(store.read(path))
    except ValidationError:  # a foreign file or another version: request again
        log.warning("%s is not an answer and is made anew", path)
        return None
