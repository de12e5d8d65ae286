"""Zero-shot CLIP filtering by text prompts that a frame must or must not match.

Each frame is compared with the prompts and a few neutral ones; the most similar text wins (Radford
et al., arXiv 2103.00020, section 3.1). Without neutral prompts, a single excluded prompt would
always win.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from iclora.filtering.checks import Rejection
from iclora.filtering.similarity import Rows, cosines

NEUTRAL = ("a photo", "a picture", "a still from a film", "a picture of a person in a place")


def prompt_rejections(
    require: Sequence[str],
    exclude: Sequence[str],
    texts: Callable[[Sequence[str]], Rows],
    rows: Rows,
) -> list[Rejection | None]:
    """Returns the prompt rejection of each frame, or None.

    The value of a rejection is the margin by which the winning text beats the best acceptable one;
    a tie is acceptable.

    Args:
        require: Prompts of which one must win.
        exclude: Prompts of which none may win.
        texts: Encodes texts to unit vectors [n, d].
        rows: Unit vectors [n, d] of the frames.
    """
    rejections: list[Rejection | None] = []
    for scores in cosines(rows, texts([*require, *exclude, *NEUTRAL])):
        required, unwanted = scores[: len(require)], scores[len(require) :]
        if require:
            margin, reason = float(unwanted.max()) - float(required.max()), "not_required"
            detail = ", ".join(require)
        else:
            excluded, neutral = unwanted[: len(exclude)], unwanted[len(exclude) :]
            margin, reason = float(excluded.max()) - float(neutral.max()), "excluded"
            detail = exclude[int(excluded.argmax())]
        margin = round(margin, 4)
        rejections.append(Rejection(reason, margin, 0.0, detail) if margin > 0 else None)
    return rejections
