"""Prompts for captioners.

The format follows In-Context LoRA (arXiv 2410.23775, section 4.1: an overall description, then each
panel's, merged into one prompt, with placeholder names in ``<>``), reworded for any layout and
task. The prompts explicitly forbid the faults in the paper's published captions: empty summaries,
unnamed persons, markers inside a clause, and names of real roles.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Final

from schemas.caption import CaptionFault
from schemas.captioning import CaptionParams
from schemas.layout import Layout

PANEL_PROMPT = (
    "Describe this picture in one clause of plain English for somebody who has to draw it again: "
    "who is in it (the kind of person, hair and clothes), what they do, where they are, the light "
    "and the shot size. Give no names, write no second sentence and add nothing that cannot be "
    "seen."
)
"""Prompt for a single panel; the answer is a description without markers or names."""

NAMES_OFFERED = 6

_KINDS: Final = 4
"""Inverse share of sets with a ``looks`` summary in mode ``both``; keeps text about appearance
effective."""

_SUMMARIES: Final = {
    "looks": "what the whole set shows: subject, place and style",
    "story": "who does what in the whole set",
}
_SEEN: Final = {
    "looks": "who, what they do, where, light, shot size, colours",
    "story": (
        "who, what they do and the shot size. What all panels have in common (faces, hair, "
        "clothes, place, light, style) is left to the pictures: do not tell it anywhere"
    ),
}


def one_summary(key: str, params: CaptionParams) -> CaptionParams:
    """Resolves ``summary="both"`` to one kind of summary, chosen by the set's key."""
    if params.summary != "both":
        return params
    tells_looks = hashlib.sha256(f"summary/{key}".encode()).digest()[0] % _KINDS == 0
    return params.model_copy(update={"summary": "looks" if tells_looks else "story"})


def canvas_prompt(params: CaptionParams, layout: Layout, names: Sequence[str]) -> str:
    """Builds the prompt for captioning a whole canvas in one request.

    Args:
        params: Provides the prefix and the word budget.
        layout: Provides panels and markers.
        names: Candidate role names, without brackets.
    """
    return "\n".join(
        [
            f"The picture is a canvas of {_grid(layout)}. Write its caption.",
            *_rules(params, layout, names),
        ]
    )


def merge_prompt(
    params: CaptionParams, layout: Layout, names: Sequence[str], parts: Sequence[str]
) -> str:
    """Builds the prompt for merging panel descriptions into one caption.

    The request includes the canvas, because matching persons across panels depends on appearance.
    """
    descriptions = [f"{marker} {part}" for marker, part in zip(layout.markers, parts, strict=True)]
    first = (
        f"The picture is a canvas of {_grid(layout)}. Each panel was described by somebody who saw "
        "only that panel:"
    )
    task = (
        "Merge the descriptions into one caption. Decide from the picture which of the described "
        "persons are the same; the same person keeps the same name in every panel, and different "
        "persons have different names. Keep what was seen, drop what the picture contradicts."
    )
    return "\n".join([first, *descriptions, task, *_rules(params, layout, names)])


def retry_note(previous: str, faults: Sequence[CaptionFault]) -> str:
    """Builds the text appended to a prompt after a rejected answer."""
    return "\n".join(
        [
            "",
            "Your answer before this one was:",
            previous,
            "It was refused for these reasons:",
            *(f"- {fault.sentence}" for fault in faults),
            "Write the caption again without these faults.",
        ]
    )


def panel_retry_note(faults: Sequence[CaptionFault]) -> str:
    """Builds the text appended to a panel prompt after a rejected description."""
    reasons = " ".join(fault.sentence for fault in faults)
    return f" Your answer before this one was refused: {reasons}"


def answer_schema(layout: Layout) -> dict[str, object]:
    """Returns the JSON schema of a caption, for servers with structured output."""
    text = {"type": "string", "minLength": 1}
    return {
        "type": "object",
        "properties": {
            "summary": text,
            "parts": {
                "type": "array",
                "items": text,
                "minItems": layout.panels,
                "maxItems": layout.panels,
            },
        },
        "required": ["summary", "parts"],
        "additionalProperties": False,
    }


def _grid(layout: Layout) -> str:
    shape = f"{layout.rows} rows and {layout.columns} columns"
    if layout.columns == 1:
        shape = "one column, from top to bottom"
    elif layout.rows == 1:
        shape = "one row, from left to right"
    return f"{layout.panels} panels in {shape}, called {', '.join(layout.markers)}"


def _rules(params: CaptionParams, layout: Layout, names: Sequence[str]) -> list[str]:
    offered = ", ".join(f"<{name}>" for name in names[:NAMES_OFFERED])
    start = f"with {params.prefix}, then " if params.prefix else "with "
    return [
        (
            f"- Begin {start}a short summary that says {_SUMMARIES[params.summary]}. "
            "Words that fit any set, such as 'in a captivating sequence', are not a summary."
        ),
        (
            f"- Then describe each panel behind its marker: {' '.join(layout.markers)}. Every "
            "marker appears once, in this order, after a comma or semicolon, and opens a clause."
        ),
        (
            f"- Everybody who can be seen has a name in angle brackets, one of {offered}. Use the "
            "name in every panel where that person is seen instead of 'he', 'she' or 'the man'. "
            "Never use names of real people or of film roles."
        ),
        f"- Say only what can be seen: {_SEEN[params.summary]}.",
        (
            f"- It is one flowing English sentence on one line, at most {params.max_words} words, "
            "without headings, lists or remarks about the task."
        ),
    ]
