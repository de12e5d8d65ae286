"""A caption: structured first, text second; and what can be wrong with one."""

from __future__ import annotations

from typing import Literal

from pydantic import NonNegativeInt

from schemas.base import Schema


class Caption(Schema):
    """Caption of a set and of each of its panels."""

    prefix: str = ""
    """The task's prefix such as ``[MOVIE-SHOTS]``; empty for tasks without one."""

    summary: str
    parts: tuple[str, ...]
    """One per panel, without its marker, in the layout's order; empty if nothing is said of it."""

    roles: tuple[str, ...] = ()
    """The names in ``<>`` in order of first appearance, without the brackets."""

    captioner: str
    """Author of the caption: model and revision, ``beside the source`` or ``by hand``."""

    def text(self, markers: tuple[str, ...]) -> str:
        """One line: prefix, summary, then each part behind its marker.

        Parts carry their own separators and are joined with single spaces, so parsing the text
        gives the same parts back. A part that says nothing leaves its marker out: that is how
        captions are published whose one marker introduces two panels.
        """
        pieces = [self.prefix, self.summary]
        for marker, part in zip(markers, self.parts, strict=True):
            if part:
                pieces += [marker, part]
        return " ".join(piece for piece in pieces if piece)


class CaptionFault(Schema):
    """Violation of a caption rule."""

    rule: str
    """A lower_snake word such as ``summary_empty``."""

    sentence: str
    """For a person, and for the captioner that tries again."""

    panel: NonNegativeInt = 0
    """The panel it is about, counted from 1; 0 for the caption as a whole."""


class Answer(Schema):
    """Captioner's answer to one request; kept in the cache."""

    text: str
    finish: Literal["stop", "length", "blocked", "refused"] = "stop"
    """``length``: cut off; ``blocked``: by a content filter; ``refused``: by the model."""
