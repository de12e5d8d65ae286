"""Captioner interface: requests, replies and failures."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple, Protocol

from PIL import Image

from schemas.caption import Answer

_QUALITY: Final = 95
"""JPEG quality of request images. Chroma is 4:4:4 so that colors survive in small panels."""


class Request(NamedTuple):
    """Prompt with the images it refers to."""

    pictures: tuple[bytes, ...]
    """JPEG files as sent to the captioner."""

    prompt: str
    json_schema: Mapping[str, object] | None = None
    """JSON schema of the answer, for captioners with structured output."""

    def cache_key(self) -> dict[str, object]:
        """Returns the request content as a cache key, with images replaced by their SHA-256."""
        return {
            "pictures": [hashlib.sha256(picture).hexdigest() for picture in self.pictures],
            "prompt": self.prompt,
            "shape": self.json_schema,
        }


class Failure(NamedTuple):
    """Reason why a request has no answer."""

    reason: str
    """Identifier in lower snake case, such as ``unreachable``."""

    sentence: str


Reply = Answer | Failure


class Captioner(Protocol):
    """Model that answers prompts about images."""

    @property
    def label(self) -> str:
        """Model and revision, without paths or addresses."""
        ...

    @property
    def settings(self) -> Mapping[str, object]:
        """Other settings that affect answers, such as the maximum number of new tokens."""
        ...

    @property
    def follows_prompts(self) -> bool:
        """True if the model follows prompts; false if it only describes images."""
        ...

    def ask(self, requests: Sequence[Request]) -> Iterator[tuple[int, Reply]]:
        """Yields the index and reply of each request as soon as it completes."""
        ...


def ask_all(captioner: Captioner, requests: Sequence[Request]) -> list[Reply]:
    """Returns all replies in request order."""
    replies = dict(captioner.ask(requests))
    return [replies[place] for place in range(len(requests))]


def shrunk_jpeg(picture: Image.Image, max_side: int) -> bytes:
    """Encodes an image as JPEG, downscaled so that its longer side fits ``max_side`` pixels."""
    small = picture.convert("RGB")
    small.thumbnail((max_side, max_side), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    small.save(file, "JPEG", quality=_QUALITY, subsampling=0)
    return file.getvalue()
