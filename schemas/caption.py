"""A caption: structured first, text second."""

from __future__ import annotations

from schemas.base import Schema


class Caption(Schema):
    """What is said of a set and of each of its panels."""

    prefix: str = ""
    """The task's prefix such as ``[MOVIE-SHOTS]``; empty for tasks without one."""

    summary: str
    parts: tuple[str, ...]
    """One per panel, without its marker, in the layout's order."""

    roles: tuple[str, ...] = ()
    """The names in ``<>`` in order of first appearance, without the brackets."""

    captioner: str
    """Who wrote it: model and revision, ``beside the source``, ``by hand``."""

    def text(self, markers: tuple[str, ...]) -> str:
        """One line: prefix, summary, then each part behind its marker.

        A caption whose parts carry their own separators is returned as it was written: parts are
        joined with single spaces, so parsing the text gives the same parts back.
        """
        pieces = [self.prefix, self.summary]
        for marker, part in zip(markers, self.parts, strict=True):
            pieces += [marker, part]
        return " ".join(piece for piece in pieces if piece)
