"""Format rules of the caption linter; each rule returns a fault or None."""

from __future__ import annotations

import re
from typing import Final

from iclora.captioning.rules_input import LintInput, Rule
from schemas.caption import CaptionFault

_OPENERS = ",;:.!?\N{EM DASH}\N{EN DASH}"
_ABBREVIATIONS = re.compile(r"\b(?:Mr|Mrs|Ms|Dr|St|Jr|Sr|vs|etc|e\.g|i\.e|[A-Z])\.$")
_SENTENCE_END = re.compile(r"[.!?]+[\"')\]]?(?=\s+\S)")
_MARKUP = re.compile(r"```|\*\*|^\s*[#{*-]|\n\s*[-*#]|https?://|</?[a-z]+/?>|\\n", re.MULTILINE)


def prefix_missing(lint_input: LintInput) -> CaptionFault | None:
    """Checks that the caption begins with the task's prefix."""
    prefix = lint_input.params.prefix
    if lint_input.line.startswith(prefix):
        return None
    return CaptionFault(
        rule="prefix_missing", sentence=f"The caption does not begin with {prefix}."
    )


def marker_missing(lint_input: LintInput) -> CaptionFault | None:
    """Checks that every panel's marker is present."""
    for panel, marker in enumerate(lint_input.layout.markers, 1):
        if marker not in lint_input.line:
            return CaptionFault(
                rule="marker_missing", sentence=f"{marker} is missing.", panel=panel
            )
    return None


def marker_twice(lint_input: LintInput) -> CaptionFault | None:
    """Checks that no marker or prefix appears twice."""
    for panel, marker in enumerate(lint_input.layout.markers, 1):
        if (times := lint_input.line.count(marker)) > 1:
            sentence = f"{marker} appears {times} times."
            return CaptionFault(rule="marker_twice", sentence=sentence, panel=panel)
    prefix = lint_input.params.prefix
    if prefix and lint_input.line.count(prefix) > 1:
        return CaptionFault(rule="marker_twice", sentence=f"The prefix {prefix} appears twice.")
    return None


def marker_order(lint_input: LintInput) -> CaptionFault | None:
    """Checks that the markers follow the layout's order."""
    places = [lint_input.line.find(marker) for marker in lint_input.layout.markers]
    present = [place for place in places if place >= 0]
    if present == sorted(present):
        return None
    order = " ".join(lint_input.layout.markers)
    return CaptionFault(rule="marker_order", sentence=f"The markers are not in the order {order}.")


def marker_mid_clause(lint_input: LintInput) -> CaptionFault | None:
    """Checks that each marker opens a clause: punctuation precedes it and none follows it."""
    for panel, marker in enumerate(lint_input.layout.markers, 1):
        before, found, after = lint_input.line.partition(marker)
        words = before.removeprefix(lint_input.params.prefix).rstrip()
        open_clause = bool(words) and words[-1] not in _OPENERS
        if found and (open_clause or after.lstrip()[:1] in set(_OPENERS)):
            sentence = f"{marker} stands in the middle of a clause: {_around(before, after)}."
            return CaptionFault(rule="marker_mid_clause", sentence=sentence, panel=panel)
    return None


def _around(before: str, after: str) -> str:
    return f'"{" ".join(before.split()[-3:])} | {" ".join(after.split()[:3])}"'


def part_empty(lint_input: LintInput) -> CaptionFault | None:
    """Checks that every marker precedes a description."""
    for panel, part in enumerate(lint_input.caption.parts, 1):
        marker = lint_input.layout.markers[panel - 1]
        if marker in lint_input.line and not re.search(r"\w", part):
            sentence = f"Nothing is said of panel {panel} behind {marker}."
            return CaptionFault(rule="part_empty", sentence=sentence, panel=panel)
    return None


def too_many_words(lint_input: LintInput) -> CaptionFault | None:
    """Checks the word budget; markers and the prefix count as words."""
    words, most = len(lint_input.line.split()), lint_input.params.max_words
    if words <= most:
        return None
    return CaptionFault(
        rule="too_many_words", sentence=f"It has {words} words; at most {most} fit."
    )


def too_many_tokens(lint_input: LintInput) -> CaptionFault | None:
    """Checks that the caption fits the token budget of the target base's text encoder."""
    tokens, most = lint_input.count_tokens(lint_input.line), lint_input.params.max_tokens
    if tokens <= most:
        return None
    sentence = f"It has {tokens} tokens; at most {most} fit: make it shorter."
    return CaptionFault(rule="too_many_tokens", sentence=sentence)


def sentence_ends(line: str) -> list[int]:
    """Returns the index after the last character of each sentence that ends inside a line."""
    return [
        match.end()
        for match in _SENTENCE_END.finditer(line)
        if not _ABBREVIATIONS.search(line[: match.end()]) and match.group()[:2] != ".."
    ]


def many_sentences(lint_input: LintInput) -> CaptionFault | None:
    """Checks that the caption is a single sentence."""
    ends = sentence_ends(lint_input.line)
    if not ends:
        return None
    return CaptionFault(
        rule="many_sentences",
        sentence=f"It has {len(ends) + 1} sentences; join them into one with commas or semicolons.",
    )


def markup(lint_input: LintInput) -> CaptionFault | None:
    """Checks that the caption is plain text without markup, JSON or links."""
    if not (found := _MARKUP.search(lint_input.text)):
        return None
    sentence = f"It contains markup ({found.group().strip()!r}); write plain text."
    return CaptionFault(rule="markup", sentence=sentence)


FORMAT_RULES: Final[tuple[Rule, ...]] = (
    prefix_missing,
    marker_missing,
    marker_twice,
    marker_order,
    marker_mid_clause,
    part_empty,
    too_many_words,
    too_many_tokens,
    many_sentences,
    markup,
)
