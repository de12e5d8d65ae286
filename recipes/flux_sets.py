"""Measures what an adapter adds to the miniature FLUX: panels that belong together.

Stories are captions that tell who does what and leave looks, place and light open, as the demo's
do: how often the panels of a set agree in what is open is what the adapter must teach. The control
compares panels of different sets. Tales tell everything: what is named must still be obeyed. Base
and adapter draw with the same noise; 95 % intervals by bootstrap over captions.
"""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from itertools import combinations, product
from typing import Any, Final

import numpy as np
from diffusers.pipelines.flux.pipeline_flux import FluxPipeline
from PIL import Image

from iclora.miniature.captions import set_caption, story_caption
from iclora.miniature.reader import WorldReader, load_reader
from iclora.miniature.script import NAMES
from iclora.miniature.world import (
    ACTIONS,
    IDENTITY,
    SETTING,
    SHOT_SIZES,
    STAGING,
    VALUES,
    Attributes,
    seeded,
)
from recipes.flux_eval import Drawn, Share, draw, obedience, panels_of, share_of
from recipes.flux_pool import draw_attributes
from recipes.flux_words import PANELS
from schemas.base import Schema

LOOKS_SEEDS: Final = 32
LOOKS_CAPTIONS: Final = 8
_APART: Final = 7
"""How far a set is from the one it is compared with by chance."""


class SetFigures(Schema):
    """What was measured of one model."""

    agreement: dict[str, Share]
    """Of each open attribute, ``identity`` and ``setting``: pairs of panels of a set that agree."""

    control: dict[str, Share]
    """The same for panels of different sets."""

    stories: dict[str, Share]
    """Panels of stories that show the shot and the action of their own clause."""

    tales: dict[str, Share]
    """Panels of sets told in full that show each attribute."""

    looks: Share
    """Different looks (identity and setting of panel 1) of ``LOOKS_SEEDS`` sets of one caption, on
    average over captions; 1 to ``LOOKS_SEEDS``."""

    seconds: float
    """A set alone, with this process's threads."""


def measure_sets(
    pipeline: FluxPipeline,
    count: int,
    *,
    steps: int,
    true_cfg: float,
    looks_of: int = LOOKS_CAPTIONS,
) -> tuple[SetFigures, list[Image.Image]]:
    """Draws and reads sets of held-out combinations.

    Args:
        pipeline: With or without an adapter.
        count: How many captions of each kind.
        steps: Of sampling.
        true_cfg: True classifier-free guidance; 1 for none.
        looks_of: Of how many stories the looks are counted, each drawn ``LOOKS_SEEDS`` times.

    Returns:
        The figures, and the stories' pictures.
    """
    way: dict[str, Any] = {"steps": steps, "true_cfg": true_cfg}
    reader = load_reader()
    wanted = [_scene(seeded("measured sets", number)) for number in range(count)]
    roles = [NAMES[number % len(NAMES)] for number in range(count)]
    stories = _drawn(pipeline, wanted, [*map(story_caption, wanted, roles)], way)
    read = _read(reader, stories.pictures)
    looks = [_looks(pipeline, reader, caption, way) for caption in stories.captions[:looks_of]]
    start = time.perf_counter()
    draw(pipeline, stories.captions[:1], PANELS, **way)
    seconds = round(time.perf_counter() - start, 2)
    obeyed = obedience(stories, reader)
    figures = SetFigures(
        agreement=_agreement(read, _within),
        control=_agreement(read, _across),
        stories={name: obeyed[name] for name in sorted(STAGING)},
        tales=obedience(_drawn(pipeline, wanted, [*map(set_caption, wanted, roles)], way), reader),
        looks=share_of(np.array(looks, dtype=np.float64)),
        seconds=seconds,
    )
    return figures, stories.pictures


def _scene(rng: random.Random) -> tuple[Attributes, ...]:
    """A held-out character in a place, in panels that differ in shot or action."""
    scene = draw_attributes(rng, measuring=True)
    staged = rng.sample(list(product(SHOT_SIZES, ACTIONS)), PANELS)
    return tuple(scene.model_copy(update={"shot": s, "action": a}) for s, a in staged)


def _drawn(
    pipeline: FluxPipeline,
    wanted: list[tuple[Attributes, ...]],
    captions: list[str],
    way: dict[str, Any],
) -> Drawn:
    return Drawn(captions, wanted, draw(pipeline, captions, PANELS, **way))


def _read(reader: WorldReader, pictures: Sequence[Image.Image]) -> list[list[dict[str, str]]]:
    found = reader.read([panel for picture in pictures for panel in panels_of(picture)])
    return [found[start : start + PANELS] for start in range(0, len(found), PANELS)]


def _looks(pipeline: FluxPipeline, reader: WorldReader, caption: str, way: dict[str, Any]) -> int:
    """How many different looks one caption gives."""
    names = sorted(IDENTITY | SETTING)
    read = _read(reader, draw(pipeline, [caption] * LOOKS_SEEDS, PANELS, **way))
    return len({tuple(panels[0][name] for name in names) for panels in read})


Pairs = list[tuple[dict[str, str], dict[str, str]]]


def _within(read: list[list[dict[str, str]]], number: int) -> Pairs:
    return list(combinations(read[number], 2))


def _across(read: list[list[dict[str, str]]], number: int) -> Pairs:
    return list(product(read[number], read[(number + _APART) % len(read)]))


def _agreement(read: list[list[dict[str, str]]], pairs_of: Any) -> dict[str, Share]:
    """Per attribute and over each group, averaged within a caption first."""
    names = [name for name in VALUES if name in IDENTITY | SETTING]
    same = np.array(
        [
            [np.mean([a[name] == b[name] for a, b in pairs_of(read, number)]) for name in names]
            for number in range(len(read))
        ]
    )
    groups = {"identity": IDENTITY, "setting": SETTING}
    columns = {name: [place] for place, name in enumerate(names)} | {
        group: [names.index(name) for name in sorted(members)] for group, members in groups.items()
    }
    return {name: share_of(same[:, places].mean(axis=1)) for name, places in columns.items()}
