"""The linter: every rule, and how a text is judged."""

from __future__ import annotations

from typing import Final

from iclora.captioning.rules_format import FORMAT_RULES
from iclora.captioning.rules_input import LintInput, Rule
from iclora.captioning.rules_meaning import MEANING_RULES, refusal
from iclora.captioning.rules_roles import ROLE_RULES
from iclora.captioning.token_budget import token_counter
from schemas.caption import CaptionFault
from schemas.captioning import CaptionParams
from schemas.layout import Layout

RULES: Final[tuple[Rule, ...]] = (refusal, *FORMAT_RULES, *MEANING_RULES, *ROLE_RULES)
"""In the order in which faults are named; the first is the reason of a rejection.

A rule's faults carry the rule's own name.
"""

LONGEST: Final = 20_000
"""Characters; a longer text is no caption and is not read further."""


def lint_caption(text: str, layout: Layout, params: CaptionParams) -> list[CaptionFault]:
    """Everything that is wrong with one caption's text; empty if nothing is.

    Raises:
        BadConfig: the list of forbidden names cannot be read.
    """
    if len(text) > LONGEST:
        sentence = f"It has {len(text)} characters; a caption has at most {LONGEST}."
        return [CaptionFault(rule="too_many_words", sentence=sentence)]
    lint_input = LintInput(text, layout, params, token_counter(params.tokenizer))
    return [fault for rule in RULES if (fault := rule(lint_input)) is not None]


def rule_names() -> tuple[str, ...]:
    """The words a fault's ``rule`` can be, in order."""
    return tuple(rule.__name__ for rule in RULES)
