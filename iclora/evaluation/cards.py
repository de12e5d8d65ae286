"""What a report is made of, and its pictures as the page carries them."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from PIL import Image

from iclora.evaluation.contest import Contest
from iclora.evaluation.controls import ADAPTER
from iclora.evaluation.findings import Findings
from iclora.evaluation.judges import Judges
from iclora.evaluation.renders import Renders, open_picture
from iclora.evaluation.suite import Suite, structured
from schemas.sampling import RenderRecord

QUALITY = 85
"""Of the report's JPEGs."""

_COMPLETED = 8
"""Conditional renders shown."""


class Material(NamedTuple):
    """What a report is made of."""

    contest: Contest
    suite: Suite
    renders: Mapping[str, Renders]
    findings: Findings
    judges: Judges
    training: Mapping[str, Image.Image]
    """Canvases of the training sets that renders lie nearest to, by key."""

    losses: Sequence[tuple[int, float]]
    """Step and loss of the adapter's training; empty without a run record."""


class Card(NamedTuple):
    """A render as the page shows it."""

    label: str
    uri: str
    caption: str
    parts: tuple[tuple[str, str], ...]
    """Marker and text of every panel."""

    seed: int


def _card(material: Material, arm: str, record: RenderRecord) -> Card:
    label = next(side.label for side in material.contest.sides if side.arm == arm)
    config = material.contest.config
    parts = structured(record.caption, config).parts
    picture = open_picture(material.renders[arm].folder / record.canvas)
    pairs = tuple(zip(config.layout.markers, parts, strict=True))
    return Card(label, data_uri(picture, material), record.caption, pairs, record.seed)


def rows(material: Material) -> list[list[Card]]:
    """Per prompt one card a side, the first seed."""
    arms = [side.arm for side in material.contest.sides]
    count = len(material.suite.prompts)
    return [
        [_card(material, arm, material.renders[arm].free[prompt][0]) for arm in arms]
        for prompt in range(count)
    ]


def completed(material: Material) -> list[list[Card]]:
    """Per completed set one card a side."""
    arms = [side.arm for side in material.contest.sides]
    count = min(_COMPLETED, len(material.renders[ADAPTER].conditional))
    return [
        [_card(material, arm, material.renders[arm].conditional[number]) for arm in arms]
        for number in range(count)
    ]


def extremes(material: Material, places: Sequence[tuple[int, int]]) -> list[Card]:
    """Some of the adapter's renders, by prompt and seed."""
    free = material.renders[ADAPTER].free
    return [_card(material, ADAPTER, free[prompt][seed]) for prompt, seed in places]


def data_uri(picture: Image.Image, material: Material) -> str:
    """A picture as the page carries it, at most ``sheet_side`` large."""
    side = material.contest.config.evaluate.sheet_side
    small = picture.convert("RGB")
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    small.save(out, "JPEG", quality=QUALITY, subsampling=0)
    return f"data:image/jpeg;base64,{base64.b64encode(out.getvalue()).decode()}"
