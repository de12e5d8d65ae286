"""Caption linter: applies all rules to a caption's text."""

from __future__ import annotations

from typing import Final

from iclora.captioning.caption_text import CaptionText, Rule
from iclora.captioning.rules_format import FORMAT_RULES
from iclora.captioning.rules_meaning import MEANING_RULES, refusal
from iclora.captioning.rules_roles import ROLE_RULES
from schemas.caption import CaptionFault
from schemas.captioning import CaptionParams
from schemas.layout import Layout

RULES: Final[tuple[Rule, ...]] = (refusal, *FORMAT_RULES, *MEANING_RULES, *ROLE_RULES)
"""Rules in the order in which faults are reported; the first fault is the reason for a
rejection."""

LONGEST: Final = 20_000
"""Maximum number of characters that the linter reads; longer texts are rejected immediately."""


def lint_caption(text: str, layout: Layout, params: CaptionParams) -> list[CaptionFault]:
    """Returns all faults of a caption's text; empty if there are none.

    Raises:
        BadConfig: The list of forbidden names cannot be read.
    """
    if len(text) > LONGEST:
        sentence = f"It has {len(text)} characters; a caption has at most {LONGEST}."
        return [CaptionFault(rule="too_many_words", sentence=sentence)]
    caption_text = CaptionText(text, layout, params)
    return [
        CaptionFault(rule=rule.__name__, sentence=fault[0], panel=fault[1])
        for rule in RULES
        if (fault := rule(caption_text)) is not None
    ]
