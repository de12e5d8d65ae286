"""Input of the caption linter's rules."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from iclora.captioning.caption_text import flatten, parse_caption
from iclora.captioning.role_names import forbidden_names
from schemas.caption import Caption, CaptionFault
from schemas.captioning import CaptionParams
from schemas.layout import Layout

CountTokens = Callable[[str], int]


@dataclass(frozen=True)
class LintInput:
    """Candidate caption text with the settings to check it against.

    Attributes:
        text: Original text.
        layout: Provides the markers.
        params: Provides the prefix and the budgets.
        count_tokens: Token counter of the target base, or an upper bound.
    """

    text: str
    layout: Layout
    params: CaptionParams
    count_tokens: CountTokens

    @cached_property
    def line(self) -> str:
        """Text on one line."""
        return flatten(self.text)

    @cached_property
    def caption(self) -> Caption:
        """Parsed text."""
        return parse_caption(self.text, self.layout.markers, self.params.prefix)

    @cached_property
    def body(self) -> str:
        """Summary and parts, without prefix and markers."""
        return " ".join([self.caption.summary, *self.caption.parts])

    @cached_property
    def forbidden(self) -> frozenset[str]:
        """Normalized names that roles must not have."""
        return forbidden_names(self.params.forbidden_names)


Rule = Callable[[LintInput], CaptionFault | None]
"""Linter rule that returns a fault, or None."""
