"""Scoring models: CLIP always, and the scorers in the modules of this package.

A scorer is one module here with a function ``load_scorer``. Its scores are reported, compared with
the baseline and plotted; they do not decide. A scorer that cannot be loaded, or fails on an image,
leaves a missing value with its reason; values are never imputed. Only CLIP is required.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from PIL import Image

from iclora.errors import UserError
from iclora.evaluation.metrics import Array
from schemas.caption import Caption
from schemas.config import BaseParams
from schemas.evaluation import EvaluateParams

log = logging.getLogger(__name__)


class ScoreInfo(NamedTuple):
    """Description of a score in reports."""

    title: str
    about: str
    """Definition in one line."""

    lower_is_better: bool = False


class Scorer(Protocol):
    """Scorer of panels, made by its module's ``load_scorer(params, base)``.

    ``load_scorer`` raises a ``UserError`` if the scorer cannot be used; reports show the message.
    """

    name: str
    """Name of the model, without local paths."""

    revision: str
    """Version of the weights or of the code; another revision makes another report."""

    infos: Mapping[str, ScoreInfo]
    """Descriptions of the scores, by name."""

    on_shuffled: bool
    """True to score the control of shuffled panels too."""

    def measure(self, panels: Sequence[Image.Image]) -> Array:
        """Measures panels, one row each: [n, ...]."""
        ...

    def scores(self, measured: Array, captions: Sequence[Caption]) -> dict[str, Array]:
        """Computes the scores of sets.

        Args:
            measured: [N, K, P, ...] rows of N prompts, K seeds, P panels; NaN is missing.
            captions: captions of the N prompts.

        Returns:
            Each score of ``infos``, [N, K]; NaN where it is missing.
        """
        ...


class ImageTextEncoder(Protocol):
    """Encoder of images and texts to unit vectors in a shared space."""

    name: str
    revision: str

    def images(self, images: Sequence[Image.Image]) -> Any:
        """Embeds images as [n, d] unit rows."""
        ...

    def texts(self, texts: Sequence[str]) -> Any:
        """Embeds texts as [n, d] unit rows."""
        ...


class Scorers(NamedTuple):
    """CLIP and the scorers that could be loaded."""

    clip: ImageTextEncoder
    others: Mapping[str, Scorer] = {}
    """Scorers by role, which is the name of their module."""

    absent: Mapping[str, str] = {}
    """Reason per role that has no scorer."""

    def labels(self) -> dict[str, str]:
        """Returns ``name@revision`` per role, or ``missing: reason``."""
        loaded = {"clip": self.clip, **self.others}
        return {
            **{role: f"{scorer.name}@{scorer.revision}" for role, scorer in loaded.items()},
            **{role: f"missing: {reason}" for role, reason in self.absent.items()},
        }


def load_scorers(params: EvaluateParams, base: BaseParams) -> Scorers:
    """Loads CLIP and every scorer of this package.

    Raises:
        MissingModel: CLIP's weights are not on this machine.
    """
    from iclora.models.clip import load_clip

    others: dict[str, Scorer] = {}
    absent: dict[str, str] = {}
    for file in sorted(Path(__file__).parent.glob("[!_]*.py")):
        module = importlib.import_module(f"{__name__}.{file.stem}")
        try:
            others[file.stem] = module.load_scorer(params, base)
        except UserError as error:
            absent[file.stem] = str(error)
            log.warning("no %s: %s", file.stem, error)
    return Scorers(load_clip(params.clip), others, absent)
