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
from collections.abc import Iterator, Mapping, Sequence

from pydantic import ValidationError

from iclora.captioning.captioner import Captioner, Reply, Request
from iclora.store import Store
from schemas.caption import Answer

log = logging.getLogger(__name__)

FOLDER = "cache/captions"


class CachedCaptioner:
    """Captioner that caches the answers of another captioner in the store."""

    def __init__(self, inner: Captioner, store: Store) -> None:
        self._inner = inner
        self._store = store

    @property
    def label(self) -> str:
        """Label of the inner captioner."""
        return self._inner.label

    @property
    def settings(self) -> Mapping[str, object]:
        """Settings of the inner captioner."""
        return self._inner.settings

    @property
    def follows_prompts(self) -> bool:
        """True if the inner captioner follows prompts."""
        return self._inner.follows_prompts

    def ask(self, requests: Sequence[Request]) -> Iterator[tuple[int, Reply]]:
        """Yields cached answers first, then the inner captioner's replies to the other requests."""
        rest: list[int] = []
        for place, request in enumerate(requests):
            if (answer := self._read(request)) is not None:
                yield place, answer
            else:
                rest.append(place)
        if not rest:
            return
        log.info("%d of %d answers are in the cache", len(requests) - len(rest), len(requests))
        for position, reply in self._inner.ask([requests[place] for place in rest]):
            if isinstance(reply, Answer):
                self._store.write(self._path(requests[rest[position]]), reply.to_text().encode())
            yield rest[position], reply

    def _path(self, request: Request) -> str:
        depends = {"model": self.label, "settings": self.settings, **request.cache_key()}
        text = json.dumps(depends, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        digest = hashlib.sha256(text.encode()).hexdigest()
        return f"{FOLDER}/{digest[:2]}/{digest}.json"

    def _read(self, request: Request) -> Answer | None:
        place = self._path(request)
        if not self._store.exists(place):
            return None
        try:
            return Answer.from_text(self._store.read(place))
        except ValidationError:  # a foreign file or another version: request again
            log.warning("%s is not an answer and is made anew", place)
            return None
