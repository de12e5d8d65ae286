"""Text prompts that a frame must or must not look like, by CLIP zero-shot.

Every frame is compared with the prompts and with a few neutral ones; the most similar text wins
(Radford et al., arXiv 2103.00020, section 3.1). Without the neutral ones an excluded prompt that
stands alone would always win.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from iclora.sift.quality import Fault
from iclora.sift.similarity import Rows, cosines

NEUTRAL = ("a photo", "a picture", "a still from a film", "a picture of a person in a place")


class Prompts(NamedTuple):
    """Prompts with their vectors."""

    require: tuple[str, ...]
    exclude: tuple[str, ...]
    rows: Rows
    """Of ``require``, then ``exclude``, then the neutral ones."""


def read_prompts(
    require: Sequence[str], exclude: Sequence[str], texts: Callable[[Sequence[str]], Rows]
) -> Prompts:
    """Embeds the prompts.

    Args:
        require: prompts of which one must win.
        exclude: prompts of which none may win.
        texts: turns texts into unit vectors [n, d].
    """
    return Prompts(tuple(require), tuple(exclude), texts([*require, *exclude, *NEUTRAL]))


def prompt_faults(prompts: Prompts, rows: Rows) -> list[Fault | None]:
    """What the prompts say of each frame (unit vectors [n, d]).

    A fault's value is by how much the winning text beats the best acceptable one; a tie is
    acceptable.
    """
    table = cosines(rows, prompts.rows)
    first, last = len(prompts.require), len(prompts.require) + len(prompts.exclude)
    return [_fault(prompts, scores, first, last) for scores in table]


def _fault(
    prompts: Prompts, scores: np.ndarray[tuple[int], np.dtype[np.float64]], first: int, last: int
) -> Fault | None:
    required, excluded, neutral = scores[:first], scores[first:last], scores[last:]
    if first:
        others = float(np.concatenate([excluded, neutral]).max())
        lead = round(others - float(required.max()), 4)
        return Fault("not_required", lead, 0.0, ", ".join(prompts.require)) if lead > 0 else None
    lead = round(float(excluded.max()) - float(neutral.max()), 4)
    winner = prompts.exclude[int(excluded.argmax())]
    return Fault("excluded", lead, 0.0, winner) if lead > 0 else None
