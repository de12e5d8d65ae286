"""Format rules of the caption linter."""

from __future__ import annotations

import re
from typing import Final

from iclora.captioning.caption_text import CaptionText, Finding, Rule
from iclora.captioning.token_budget import token_counter

_OPENERS = ",;:.!?\N{EM DASH}\N{EN DASH}"
_ABBREVIATIONS = re.compile(r"\b(?:Mr|Mrs|Ms|Dr|St|Jr|Sr|vs|etc|e\.g|i\.e|[A-Z])\.$")
_SENTENCE_END = re.compile(r"[.!?]+[\"')\]]?(?=\s+\S)")
_MARKUP = re.compile(r"```|\*\*|^\s*[#{*-]|\n\s*[-*#]|https?://|</?[a-z]+/?>|\\n", re.MULTILINE)


def prefix_missing(text: CaptionText) -> Finding | None:
    """Checks that the caption begins with the task's prefix."""
    prefix = text.params.prefix
    if text.line.startswith(prefix):
        return None
    return f"The caption does not begin with {prefix}.", 0


def marker_missing(text: CaptionText) -> Finding | None:
    """Checks that every panel's marker is present."""
    for panel, marker in enumerate(text.layout.markers, 1):
        if marker not in text.line:
            return f"{marker} is missing.", panel
    return None


def marker_twice(text: CaptionText) -> Finding | None:
    """Checks that no marker or prefix appears twice."""
    for panel, marker in enumerate(text.layout.markers, 1):
        if (count := text.line.count(marker)) > 1:
            return f"{marker} appears {count} times.", panel
    prefix = text.params.prefix
    if prefix and text.line.count(prefix) > 1:
        return f"The prefix {prefix} appears twice.", 0
    return None


def marker_order(text: CaptionText) -> Finding | None:
    """Checks that the markers follow the layout's order."""
    markers = text.layout.markers
    starts = [text.line.find(marker) for marker in markers if marker in text.line]
    if starts == sorted(starts):
        return None
    return f"The markers are not in the order {' '.join(markers)}.", 0


def marker_mid_clause(text: CaptionText) -> Finding | None:
    """Checks that each marker opens a clause: punctuation precedes it and none follows it."""
    for panel, marker in enumerate(text.layout.markers, 1):
        if marker not in text.line:
            continue
        before, _, after = text.line.partition(marker)
        words = before.removeprefix(text.params.prefix).rstrip()
        in_open_clause = bool(words) and words[-1] not in _OPENERS
        if in_open_clause or after.lstrip()[:1] in set(_OPENERS):
            quote = f'"{" ".join(before.split()[-3:])} | {" ".join(after.split()[:3])}"'
            return f"{marker} stands in the middle of a clause: {quote}.", panel
    return None


def part_empty(text: CaptionText) -> Finding | None:
    """Checks that every marker precedes a description."""
    markers_and_parts = zip(text.layout.markers, text.caption.parts, strict=True)
    for panel, (marker, part) in enumerate(markers_and_parts, 1):
        if marker in text.line and not re.search(r"\w", part):
            return f"Nothing is said of panel {panel} behind {marker}.", panel
    return None


def too_many_words(text: CaptionText) -> Finding | None:
    """Checks the word budget; markers and the prefix count as words."""
    words, most = len(text.line.split()), text.params.max_words
    return None if words <= most else (f"It has {words} words; at most {most} fit.", 0)


def too_many_tokens(text: CaptionText) -> Finding | None:
    """Checks that the caption fits the token budget of the target base's text encoder."""
    tokens, most = token_counter(text.params.tokenizer)(text.line), text.params.max_tokens
    if tokens <= most:
        return None
    return f"It has {tokens} tokens; at most {most} fit: make it shorter.", 0


def sentence_ends(line: str) -> list[int]:
    """Returns the index after the last character of each sentence that ends inside a line."""
    return [
        match.end()
        for match in _SENTENCE_END.finditer(line)
        if not _ABBREVIATIONS.search(line[: match.end()]) and match.group()[:2] != ".."
    ]


def many_sentences(text: CaptionText) -> Finding | None:
    """Checks that the caption is a single sentence."""
    if not (ends := sentence_ends(text.line)):
        return None
    return f"It has {len(ends) + 1} sentences; join them into one with commas or semicolons.", 0


def markup(text: CaptionText) -> Finding | None:
    """Checks that the caption is plain text without markup, JSON or links."""
    if not (match := _MARKUP.search(text.text)):
        return None
    return f"It contains markup ({match.group().strip()!r}); write plain text.", 0


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
