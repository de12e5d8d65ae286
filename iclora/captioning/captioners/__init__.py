"""Captioners: models that answer prompts about images.

A captioner is one module in this package with a ``CAPTIONER`` class that takes ``CaptionerParams``;
the module's name is the value of ``caption.captioner.kind``.
"""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple, Protocol, cast

from iclora.errors import BadConfig
from schemas.caption import Answer
from schemas.captioning import CaptionerParams

EXISTING: Final = "existing"
"""Kind without a captioner: every caption ships with its source."""

_FOLDER: Final = Path(__file__).parent


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
    """Model that answers prompts about images; loads its weights on first use."""

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


def captioner_kinds() -> list[str]:
    """Returns the sorted values of ``caption.captioner.kind``."""
    names = [path.stem.replace("_", "-") for path in _FOLDER.glob("*.py")]
    return sorted([EXISTING, *(name for name in names if not name.startswith("-"))])


def check_captioner_kind(kind: str) -> None:
    """Refuses an unknown ``caption.captioner.kind``.

    Raises:
        BadConfig: No captioner has that name.
    """
    if kind not in captioner_kinds():
        known = ", ".join(captioner_kinds())
        raise BadConfig(f"caption.captioner.kind {kind!r} is unknown; known are {known}")


def load_captioner(params: CaptionerParams) -> Captioner:
    """Returns the captioner of a kind other than ``existing``.

    Raises:
        BadConfig: The kind is unknown, or a setting of the captioner is invalid.
        MissingModel: The captioner's weights are not available locally.
    """
    check_captioner_kind(params.kind)
    module = importlib.import_module(f"{__name__}.{params.kind.replace('-', '_')}")
    return cast("Captioner", module.CAPTIONER(params))
