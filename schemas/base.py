"""The base of every schema, and how a value becomes a digest."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from typing import Annotated, Any, Self, cast

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError

Box = tuple[int, int, int, int]
"""x0, y0, x1, y1 in pixels; x1 and y1 are exclusive."""

Key = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]*$", max_length=80)]
"""A name that is safe in a tar, a URL and a file system.

It begins with a letter or digit: ``datasets`` takes members that begin with ``__`` for hidden and
drops them without a word.
"""

LONGEST_PATH = 512
"""Characters of a ``RelativePath``."""

PATH_FAULT = "relative_path"
"""The type of the validation error of a ``RelativePath``."""


def path_fault(path: str) -> str:
    """Says what keeps a text from being a file's path below a folder; empty if nothing does.

    Names in a dataset's files, in a manifest or in the listing of a bucket come from whoever wrote
    them. One that passes stays below the folder that it is joined to, on every system, is no URL,
    and shows as what it is.
    """
    if not path or len(path) > LONGEST_PATH:
        return f"it has {len(path)} characters, not 1 to {LONGEST_PATH}"
    if not path.isprintable():
        return "it has characters that are not printable"
    if "\\" in path or ":" in path:
        return "it has a backslash or a colon"
    if not {"", ".", ".."}.isdisjoint(path.split("/")):
        return "it is not a relative path without `.` and `..`"
    return ""


def _check_path(path: str) -> str:
    if fault := path_fault(path):
        raise PydanticCustomError(
            PATH_FAULT, "{path} leads elsewhere: {fault}", {"path": shortened(path), "fault": fault}
        )
    return path


def is_version(text: str) -> bool:
    """Checks that a name may be a version's folder."""
    return len(text) <= _LONGEST_VERSION and _VERSION.fullmatch(text) is not None


_VERSION = re.compile(r"[a-z0-9][a-z0-9_-]*")
_LONGEST_VERSION = 80


def _check_version(text: str) -> str:
    if text and not is_version(text):
        raise PydanticCustomError(
            PATH_FAULT, "{version} is no version", {"version": shortened(text)}
        )
    return text


def shortened(text: str, longest: int = 80) -> str:
    """The beginning of somebody else's text, in quotes and with its odd characters escaped."""
    return repr(text if len(text) <= longest else f"{text[:longest]}...")


RelativePath = Annotated[str, AfterValidator(_check_path)]
"""A file's path below a folder, with ``/`` between its parts; safe to be joined and opened."""

Version = Annotated[str, AfterValidator(_check_version)]
"""The name of a version's folder; empty until it is known."""

Unit = Annotated[float, Field(ge=0.0, le=1.0)]
"""A share or a probability."""

Cosine = Annotated[float, Field(ge=-1.0, le=1.0)]
"""A similarity of two unit vectors."""

Operational = Field(json_schema_extra={"identity": False})
"""Marks a field that does not affect results and is left out of digests (``Schema.identity_json``).

Usage: ``retries: Annotated[int, Operational] = 3``.
"""

DIGEST_LENGTH = 16


def digest_of(value: object) -> str:
    """The first 16 hex digits of the sha256 of a value's canonical JSON.

    Canonical means sorted keys, no spaces, UTF-8; so equal values have equal digests on every
    machine. 64 bits: two among a million artifacts collide with probability 3e-8.
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:DIGEST_LENGTH]


class Schema(BaseModel):
    """A frozen, strict value; unknown keys are refused.

    What a field means stands in the docstring below it. Pydantic is not asked to read those: that
    would be half the time it takes to import the schemas; docs/generate.py reads them instead.
    """

    model_config = ConfigDict(
        frozen=True,
        strict=True,
        extra="forbid",
        ser_json_inf_nan="strings",
        serialize_by_alias=True,
        validate_by_name=True,
        validate_by_alias=True,
    )

    @property
    def fingerprint(self) -> str:
        """The digest of everything in this value."""
        return digest_of(self.to_json())

    def to_json(self) -> dict[str, Any]:
        """This value as plain JSON types."""
        return self.model_dump(mode="json")

    def identity_json(self) -> dict[str, Any]:
        """Returns ``to_json`` without the fields that are marked ``Operational``, at any depth."""
        dumped = self.to_json()
        _drop_operational(self, dumped)
        return dumped

    def to_text(self) -> str:
        """This value as indented JSON with a final newline; the same bytes for equal values."""
        return json.dumps(self.to_json(), indent=1, sort_keys=True, ensure_ascii=False) + "\n"

    @classmethod
    def from_text(cls, text: str | bytes) -> Self:
        """Reads what ``to_text`` wrote."""
        return cls.model_validate_json(text)

    @classmethod
    def from_json(cls, value: object) -> Self:
        """Validates plain JSON types (lists become tuples, as in a JSON file)."""
        return cls.model_validate_json(json.dumps(value))


def _drop_operational(value: object, dumped: Any) -> None:
    """Removes the fields that are marked ``Operational`` from what a value was dumped to."""
    if isinstance(value, Schema):
        for name, field in type(value).model_fields.items():
            key, extra = field.serialization_alias or name, field.json_schema_extra
            if isinstance(extra, dict) and extra.get("identity") is False:
                dumped.pop(key, None)
            elif key in dumped:
                _drop_operational(getattr(value, name), dumped[key])
    elif isinstance(value, tuple | list):
        for item, dumped_item in zip(cast("Sequence[object]", value), dumped, strict=True):
            _drop_operational(item, dumped_item)
    elif isinstance(value, dict):
        for item, dumped_item in zip(
            cast("dict[str, object]", value).values(), dumped.values(), strict=True
        ):
            _drop_operational(item, dumped_item)
