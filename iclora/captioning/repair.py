"""Text repairs that need no knowledge of the images.

Each repair leaves text without its fault unchanged, so repairing is idempotent.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, cast

from iclora.captioning.caption_text import flatten
from iclora.captioning.rules_format import sentence_ends
from schemas.captioning import CaptionParams
from schemas.layout import Layout

_FENCE = re.compile(r"^\s*```[a-z]*\s*|\s*```\s*$")
_HEADING = re.compile(r"^\s*(?:here is|here's|sure[,!.]|certainly[,!.])[^\[\n]*:\s*", re.IGNORECASE)
_ROUNDS = 8
"""Maximum number of repair passes. Texts need up to 3 in practice; the bound prevents endless
loops."""

_BOLD = re.compile(r"\*\*|__|^#+\s*", re.MULTILINE)


def repair(text: str, layout: Layout, params: CaptionParams) -> str:
    """Fixes all mechanical faults of a text.

    One repair can expose the fault of another (removing a quotation mark leaves a full stop), so
    the repairs repeat until the text is stable.
    """
    for _ in range(_ROUNDS):
        before, text = text, _repair_once(text, layout, params.prefix)
        if text == before:
            break
    return text


def _repair_once(text: str, layout: Layout, prefix: str) -> str:
    # Strip JSON, code fences, bold type and an introductory remark.
    line = from_json(text, layout)
    if line is None:
        line = flatten(_BOLD.sub("", _HEADING.sub("", _FENCE.sub("", text)))).strip("\"' ")
    # Rewrite variants such as ``[Scene 1]:`` and ``SCENE-1:`` to ``[SCENE-1]``.
    for marker in layout.markers:
        words = r"[\s_-]*".join(map(re.escape, re.findall(r"[A-Za-z]+|\d+", marker)))
        line = re.sub(rf"\[\s*{words}\s*\]\s*:?", f"{marker} ", line, flags=re.IGNORECASE)
        if marker not in line:
            line = re.sub(rf"(?<![\w\[]){words}\s*:", f"{marker} ", line, flags=re.IGNORECASE)
    line = _tight(line)
    if prefix:
        rest = _tight(line.replace(prefix, " "))
        line = flatten(f"{prefix} {rest.lstrip(' ,;:.-')}")
    for marker in layout.markers:
        line = _repair_marker(line, marker, prefix)
    # Replace inner full stops with semicolons and end the caption with one.
    for end in reversed(sentence_ends(line)):
        head, tail = line[:end].rstrip(".!?\"' "), line[end:].lstrip()
        line = f"{head}; {_lowered(tail)}"
    line = line.rstrip(" ,;:-")
    return line if line[-1:] in {".", "!", "?", ""} else f"{line}."


def _tight(line: str) -> str:
    """Removes spaces before punctuation."""
    return flatten(re.sub(r"\s+([,.;:])", r"\1", line))


def _repair_marker(line: str, marker: str, prefix: str) -> str:
    """Normalizes a marker: single spaces, a separator before it, no consecutive repeats."""
    line = re.sub(rf"{re.escape(marker)}(?:[\s,;:.]*{re.escape(marker)})+", marker, line)
    if marker not in line:
        return line
    before, _, after = line.partition(marker)
    before, after = before.rstrip(" -"), after.lstrip(" ,;:.-")
    words = before.removeprefix(prefix).strip()
    if words and words[-1] == ".":
        before = f"{before[:-1]},"
    elif words and words[-1] not in ",;:!?\N{EM DASH}\N{EN DASH}":
        before = f"{before},"
    return flatten(f"{before} {marker} {after}")


def _lowered(text: str) -> str:
    """Lowercases a former sentence's first word, unless it is a name, a marker or ``I``."""
    word = text.split(" ", 1)[0]
    is_ordinary = word[:1].isupper() and word[1:].islower()
    return text[:1].lower() + text[1:] if is_ordinary or word == "A" else text


def from_json(text: str, layout: Layout) -> str | None:
    """Extracts the caption's text from a JSON answer; returns None for any other text."""
    try:
        value = json.loads(_FENCE.sub("", text))
    except ValueError:
        return None
    if not isinstance(value, Mapping):
        return None
    answer = cast("Mapping[str, Any]", value)
    parts = answer.get("parts")
    if not isinstance(answer.get("summary"), str) or not isinstance(parts, list):
        return None
    pieces = [_closed(str(answer["summary"]))]
    for marker, part in zip(layout.markers, cast("list[object]", parts), strict=False):
        pieces += [marker, _closed(str(part).replace(marker, ""))]
    return flatten(" ".join(pieces)).rstrip(", ") + "."


def _closed(piece: str) -> str:
    """Closes a piece of a caption with the comma that the next marker requires."""
    bare = piece.strip().rstrip(",.")
    return bare if bare[-1:] in {";", ":", "!", "?"} else f"{bare},"
