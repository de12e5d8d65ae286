"""True scores on the film world, where an attribute reader knows the content.

They validate the CLIP metrics: reports give their rank correlation over renders. A scene of that
world has one character (hair, hat, shirt) in one setting (place, light), so panels agree if these
attributes agree. A caption names attributes from a closed vocabulary, so adherence is an exact
count.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
from PIL import Image

from iclora.errors import BadConfig
from iclora.evaluation.metrics import Array
from iclora.evaluation.scorers import ScoreInfo
from iclora.miniature.captions import attributes_in
from iclora.miniature.world import IDENTITY, SETTING, VALUES
from iclora.models.loaded import cached_model
from iclora.models.locate import is_demo
from schemas.caption import Caption
from schemas.config import BaseParams
from schemas.evaluation import EvaluateParams

_LASTING = [column for column, name in enumerate(VALUES) if name in IDENTITY | SETTING]


class AttributeReader(Protocol):
    """Reader of attributes from panels of the film world."""

    name: str
    revision: str

    def read(self, images: Sequence[Image.Image]) -> Sequence[Mapping[str, str]]:
        """Reads attribute values, one mapping per image."""
        ...


class TrueScores:
    """Scorer that compares the attributes read from panels with each other and with captions."""

    infos: Mapping[str, ScoreInfo] = {
        "true_consistency": ScoreInfo(
            "True consistency", "share of character and setting that panels agree on"
        ),
        "true_adherence": ScoreInfo(
            "True adherence", "share of the named attributes that are drawn"
        ),
    }
    on_shuffled = True

    def __init__(self, reader: AttributeReader) -> None:
        self.name, self.revision = reader.name, reader.revision
        self._reader = reader

    def measure(self, panels: Sequence[Image.Image]) -> Array:
        """Reads panels as [n, A]: the index of each attribute's value in ``VALUES``."""
        return np.stack([_indices(attributes) for attributes in self._reader.read(panels)])

    def scores(self, measured: Array, captions: Sequence[Caption]) -> dict[str, Array]:
        """Computes the agreement of panels with each other, and with the captions' attributes.

        True consistency is the share of character and setting attributes on which pairs of panels
        agree. True adherence is the share of named attributes that are drawn, NaN if none is named:
        those in the summary count on every panel, those of a part on its own panel.
        """
        missing = np.isnan(measured).any(axis=(-1, -2))  # [N, K]
        first, second = np.triu_indices(measured.shape[2], k=1)
        lasting = measured[..., _LASTING]
        same = lasting[:, :, first] == lasting[:, :, second]
        wanted = np.stack(
            [
                [_indices(attributes_in(c.summary) | attributes_in(part)) for part in c.parts]
                for c in captions
            ]
        )[:, None]  # [N, 1, P, A]
        named = np.isfinite(wanted).sum(axis=(-1, -2))
        right = (measured == wanted).sum(axis=(-1, -2))
        obeyed = right / np.where(named > 0, named, np.nan)
        return {
            "true_consistency": np.where(missing, np.nan, same.mean(axis=(-1, -2))),
            "true_adherence": np.where(missing, np.nan, obeyed),
        }


def _indices(attributes: Mapping[str, str]) -> Array:
    """Returns the index of each attribute's value in ``VALUES``, [A]; NaN if it has none."""
    return np.array(
        [
            values.index(attributes[name]) if name in attributes else np.nan
            for name, values in VALUES.items()
        ],
        np.float64,
    )


def load_scorer(params: EvaluateParams, base: BaseParams) -> TrueScores:
    """Loads the film world's attribute reader, which applies to no other content.

    Raises:
        BadConfig: the base does not render the film world, or the reader is disabled.
        MissingModel: its weights are not in the package.
    """
    if params.attribute_reader == "none":
        raise BadConfig("evaluate.attribute_reader is none")
    if not is_demo(base.model) and params.attribute_reader == "auto":
        raise BadConfig("the base does not draw the film world, whose attributes are known")
    return TrueScores(load_attribute_reader())


@cached_model(1)
def load_attribute_reader() -> AttributeReader:
    """Loads the reader of the package, once per process."""
    from iclora.miniature.reader import load_reader

    return load_reader()
