"""The linter: every rule, and how a text or a folder of texts is judged."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from iclora.captions.budget import token_counter
from iclora.captions.draft import Draft, Rule
from iclora.captions.rules_format import FORMAT_RULES
from iclora.captions.rules_meaning import MEANING_RULES
from iclora.captions.rules_roles import ROLE_RULES
from schemas.caption import Fault
from schemas.captioning import CaptionParams
from schemas.layout import Layout

RULES: Final[tuple[Rule, ...]] = (*FORMAT_RULES, *MEANING_RULES, *ROLE_RULES)
"""In the order in which faults are named. A rule's faults carry the rule's own name."""


def lint_caption(text: str, layout: Layout, params: CaptionParams) -> list[Fault]:
    """Everything that is wrong with one caption's text; empty if nothing is."""
    draft = Draft(text, layout, params, token_counter(params.tokenizer))
    return [fault for rule in RULES if (fault := rule(draft)) is not None]


def rule_names() -> tuple[str, ...]:
    """The words a fault's ``rule`` can be."""
    return tuple(rule.__name__ for rule in RULES)
