"""What the linter's rules look at."""

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
    """A text that wants to be a caption, and what it is held against.

    Attributes:
        text: as it was written.
        layout: gives the markers.
        params: gives the prefix and the budgets.
        count_tokens: of the target base, or an upper bound.
    """

    text: str
    layout: Layout
    params: CaptionParams
    count_tokens: CountTokens

    @cached_property
    def line(self) -> str:
        """The text on one line."""
        return flatten(self.text)

    @cached_property
    def caption(self) -> Caption:
        """The text, parsed."""
        return parse_caption(self.text, self.layout.markers, self.params.prefix)

    @cached_property
    def body(self) -> str:
        """Summary and parts, without prefix and markers."""
        return " ".join([self.caption.summary, *self.caption.parts])

    @cached_property
    def forbidden(self) -> frozenset[str]:
        """Names that must not be roles, in plain form."""
        return forbidden_names(self.params.forbidden_names)


Rule = Callable[[LintInput], CaptionFault | None]
"""Says what is wrong, or nothing."""
