"""Names of the scores and their differences in words, for the report's page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from iclora.evaluation.decide import MARGIN_OF, format_difference
from iclora.evaluation.results import CAPPED
from iclora.evaluation.scorers import ScoreInfo, Scorers
from schemas.evaluation import ArmReport, Margins, Score

_INFOS = {
    "consistency": ScoreInfo(
        "Consistency", "mean cosine between the panels of a set; one panel repeated is 1"
    ),
    "variety": ScoreInfo(
        "Variety", "panels that are not the same picture twice, nor composed alike"
    ),
    "spread": ScoreInfo(
        "Spread over seeds",
        "how differently one caption is composed over seeds; 0 is the same canvas",
    ),
    "adherence": ScoreInfo("Adherence", "mean cosine between each panel and its own text"),
    "own_margin": ScoreInfo(
        "Own-text margin", "own text's cosine over the other panels' texts; chance is 0"
    ),
    "wins": ScoreInfo("Own text wins", "share of panels that fit their own text best"),
    "structure": ScoreInfo(
        "Structure", "seams where the layout says, and one picture in each panel"
    ),
    "identity": ScoreInfo(
        "Conditional identity", "mean cosine between the given panel and the drawn ones"
    ),
    "untouched": ScoreInfo("Given panels untouched", "share that came back to the pixel"),
    "memorised": ScoreInfo(
        "Memorised", "share that lies closer to a training set than unseen real sets do", True
    ),
    "nearest": ScoreInfo("Nearest training set", "mean cosine to it, panel by panel", True),
    "clipping": ScoreInfo(
        "Clipping", "share of pixels that are black or white to the end of the scale", True
    ),
    "flatness": ScoreInfo("Flatness", "share of 8 x 8 blocks without structure", True),
    "sharpness": ScoreInfo("Sharpness", "log10 of 1 + the variance of the Laplacian"),
    "residue": ScoreInfo(
        "Residue", "how alike the corners of different canvases are: a watermark's trace", True
    ),
}

_FIRST = ("consistency", "consistency_dino", "true_consistency", "variety", "spread", "adherence",
          "true_adherence")  # fmt: skip
"""Scores that lead the report, each beside the one that it is compared with."""

_TILES = ("consistency", "true_consistency", "adherence", "true_adherence", "variety", "structure")


def score_infos(scorers: Scorers) -> dict[str, ScoreInfo]:
    """Returns the descriptions of all scores, in the order of the report."""
    infos = dict(_INFOS)
    for scorer in scorers.others.values():
        infos |= scorer.infos
    return {name: infos[name] for name in dict.fromkeys((*_FIRST, *infos)) if name in infos}


class Difference(NamedTuple):
    """Paired difference, as a row of the table beside the plots."""

    title: str
    text: str
    verdict: str
    """``better``, ``worse`` or ``no difference shown``."""

    margin: str
    """Non-inferiority margin of the rule; empty if there is none."""


def differences(
    paired: Mapping[str, Score], margins: Margins, infos: Mapping[str, ScoreInfo]
) -> list[Difference]:
    """Describes adapter minus another arm, per score.

    The margin is shown beside the difference that the rule looks at: the capped one, if any.
    """
    allowed: dict[str, float] = margins.model_dump()
    rows: list[Difference] = []
    for name, info in infos.items():
        capped = f"{name}{CAPPED}"
        margin = allowed.get(MARGIN_OF.get(name, name))
        decisive = capped if capped in paired else name
        for key, title in ((name, info.title), (capped, f"{info.title}, as far as real sets go")):
            if key in paired:
                shown = f"-{margin:g}" if margin is not None and key == decisive else ""
                score, verdict = paired[key], "no difference shown"
                if not score.low <= 0 <= score.high:
                    verdict = "better" if (score.low > 0) != info.lower_is_better else "worse"
                rows.append(Difference(title, format_difference(score), verdict, shown))
    return rows


def tiles(
    own: Mapping[str, Score], paired: Mapping[str, Score], infos: Mapping[str, ScoreInfo]
) -> list[tuple[float, Difference]]:
    """Returns the adapter's headline scores, with their differences to the baseline."""
    headline = {name: infos[name] for name in _TILES if name in own and name in paired}
    return [
        (own[name].value, differences({name: paired[name]}, Margins(), {name: info})[0])
        for name, info in headline.items()
    ]


def absent(arms: Mapping[str, ArmReport], infos: Mapping[str, ScoreInfo]) -> list[str]:
    """Explains the scores missing from each arm; scores with the same reason share a sentence."""
    titles: dict[tuple[str, str], list[str]] = {}
    for arm in arms.values():
        for name, reason in arm.unmeasured.items():
            title = infos[name].title.lower() if name in infos else name
            titles.setdefault((arm.label, reason), []).append(title)
    labels: dict[tuple[str, str], list[str]] = {}
    for (label, reason), names in titles.items():
        labels.setdefault((", ".join(names), reason), []).append(label)
    return [
        f"{' and '.join(arms_without)} without {names}: {reason}."
        for (names, reason), arms_without in labels.items()
    ]
