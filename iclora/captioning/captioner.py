"""What every captioner does: it takes requests and replies to each, in whatever order."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple, Protocol

from PIL import Image

from schemas.caption import Answer

_QUALITY: Final = 95
"""Of the JPEG that is sent; at 4:4:4, so that colours survive small panels."""


class Request(NamedTuple):
    """One question about pictures."""

    pictures: tuple[bytes, ...]
    """JPEG files, exactly as they are sent."""

    prompt: str
    json_schema: Mapping[str, object] | None = None
    """JSON schema of the answer, for captioners that can hold themselves to one."""

    def cache_key(self) -> dict[str, object]:
        """Everything that is sent, pictures by their sha256: what a cached answer depends on."""
        return {
            "pictures": [hashlib.sha256(picture).hexdigest() for picture in self.pictures],
            "prompt": self.prompt,
            "shape": self.json_schema,
        }


class Failure(NamedTuple):
    """No answer to a request."""

    reason: str
    """One lower_snake word such as ``unreachable``."""

    sentence: str


Reply = Answer | Failure


class Captioner(Protocol):
    """Looks at pictures and answers."""

    @property
    def label(self) -> str:
        """Model and revision, without paths or addresses."""
        ...

    @property
    def settings(self) -> Mapping[str, object]:
        """What else an answer depends on, such as the number of new tokens."""
        ...

    @property
    def follows_prompts(self) -> bool:
        """Whether it does what it is asked; otherwise it describes a picture, whatever is asked."""
        ...

    def ask(self, requests: Sequence[Request]) -> Iterator[tuple[int, Reply]]:
        """Replies to each request, with its place in ``requests``, as soon as it is there."""
        ...


def ask_all(captioner: Captioner, requests: Sequence[Request]) -> list[Reply]:
    """The replies in the order of the requests."""
    replies = dict(captioner.ask(requests))
    return [replies[place] for place in range(len(requests))]


def shrunk_jpeg(picture: Image.Image, max_side: int) -> bytes:
    """A picture as it is sent: JPEG, its longer side at most ``max_side`` pixels."""
    small = picture.convert("RGB")
    small.thumbnail((max_side, max_side), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    small.save(file, "JPEG", quality=_QUALITY, subsampling=0)
    return file.getvalue()
