"""Zero-shot CLIP filtering by text prompts that a frame must or must not match.

Each frame is compared with the prompts and a few neutral ones; the most similar text wins (Radford
et al., arXiv 2103.00020, section 3.1). Without neutral prompts, a single excluded prompt would
always win.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from iclora.filtering.quality import Rejection
from iclora.filtering.similarity import Rows, cosines

NEUTRAL = ("a photo", "a picture", "a still from a film", "a picture of a person in a place")


class PromptEmbeddings(NamedTuple):
    """Prompts with their embeddings."""

    require: tuple[str, ...]
    exclude: tuple[str, ...]
    rows: Rows
    """Embeddings of ``require``, then ``exclude``, then the neutral prompts."""


def embed_prompts(
    require: Sequence[str], exclude: Sequence[str], texts: Callable[[Sequence[str]], Rows]
) -> PromptEmbeddings:
    """Embeds the prompts.

    Args:
        require: Prompts of which one must win.
        exclude: Prompts of which none may win.
        texts: Encodes texts to unit vectors [n, d].
    """
    return PromptEmbeddings(tuple(require), tuple(exclude), texts([*require, *exclude, *NEUTRAL]))


def prompt_rejections(prompts: PromptEmbeddings, rows: Rows) -> list[Rejection | None]:
    """Returns the prompt rejection of each frame (unit vectors [n, d]), or None.

    The value of a rejection is the margin by which the winning text beats the best acceptable one;
    a tie is acceptable.
    """
    table = cosines(rows, prompts.rows)
    first, last = len(prompts.require), len(prompts.require) + len(prompts.exclude)
    return [_rejection(prompts, scores, first, last) for scores in table]


def _rejection(
    prompts: PromptEmbeddings,
    scores: np.ndarray[tuple[int], np.dtype[np.float64]],
    first: int,
    last: int,
) -> Rejection | None:
    required, excluded, neutral = scores[:first], scores[first:last], scores[last:]
    if first:
        others = float(np.concatenate([excluded, neutral]).max())
        lead = round(others - float(required.max()), 4)
        return (
            Rejection("not_required", lead, 0.0, ", ".join(prompts.require)) if lead > 0 else None
        )
    lead = round(float(excluded.max()) - float(neutral.max()), 4)
    winner = prompts.exclude[int(excluded.argmax())]
    return Rejection("excluded", lead, 0.0, winner) if lead > 0 else None
