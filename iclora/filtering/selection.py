"""Selection across the dataset: removes duplicate sets and picks the N best diverse ones.

The result does not depend on source order, because selection starts from the sets sorted by merit
and key.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from iclora.filtering.dedup import find_duplicates
from iclora.filtering.sets import load_embeddings
from iclora.filtering.similarity import DECIMALS, Rows
from iclora.pipeline.stage import Stage, result_of, run_stage
from iclora.store import Store
from schemas.base import Schema
from schemas.config import Config
from schemas.filtering import FilterParams
from schemas.frame import ImageSet
from schemas.stage import Chosen, Formed, Scored, StageRef
from schemas.verdict import Verdict

CHOOSE = Stage("choose", 3)


class ChooseParams(Schema):
    """Everything that the choice among sets depends on."""

    max_set_similarity: float
    max_sets: int
    """Number of sets to keep; 0 keeps all."""


class ScoredSet(NamedTuple):
    """Candidate set with its vectors and quality."""

    set: ImageSet
    rows: Rows
    """Unit vectors [panels, d] of the set's frames."""

    quality: float
    """Quality of the set, 0 to 1."""


def choose_sets(store: Store, formed: Sequence[StageRef], config: Config) -> StageRef:
    """Chooses among the sets of all sources (``Chosen``, stage ``choose``)."""
    params = _choose_params(config.filter, config.filter.max_sets)
    inputs = sorted(ref.digest for ref in formed)
    return run_stage(
        store, CHOOSE, params, inputs, lambda _: choose(_load_sets(store, formed), params)
    )


def likely_sets(
    store: Store, formed: StageRef, config: Config, sources: int
) -> tuple[ImageSet, ...]:
    """Returns the sets of one source that will most likely be chosen, without the other sources.

    Args:
        store: Holds the stages.
        formed: The source's sets.
        config: Configuration of the build.
        sources: Number of sources in the build. Each gets an equal share of ``filter.max_sets``, so
            that the total never exceeds it.
    """
    share = config.filter.max_sets // sources
    if config.filter.max_sets and not share:
        return ()
    return choose(_load_sets(store, [formed]), _choose_params(config.filter, share)).sets


def _choose_params(params: FilterParams, max_sets: int) -> ChooseParams:
    return ChooseParams(max_set_similarity=params.max_set_similarity, max_sets=max_sets)


def _load_sets(store: Store, formed: Sequence[StageRef]) -> list[ScoredSet]:
    sets: list[ScoredSet] = []
    for ref in formed:
        result = result_of(store, ref, Formed)
        scored = result_of(store, result.scored, Scored)
        rows = load_embeddings(store, result.scored, scored)
        index = {frame.id: number for number, frame in enumerate(scored.frames)}
        sets += [
            ScoredSet(
                image_set,
                rows[[index[frame.id] for frame in image_set.frames]],
                image_set.scores["merit"],
            )
            for image_set in result.sets
        ]
    return sets


def choose(entries: Sequence[ScoredSet], params: ChooseParams) -> Chosen:
    """Chooses the sets to keep; entries with equal keys are one set."""
    unique = {entry.set.key: entry for entry in sorted(entries, key=_best_first, reverse=True)}
    ordered = sorted(unique.values(), key=_best_first)
    distinct, duplicates = drop_duplicates(ordered, params.max_set_similarity)
    chosen, too_many = select_diverse(distinct, params.max_sets or len(distinct))
    kept = {
        entry.set.key: Verdict.kept("choose", entry.set.key, source=entry.set.source)
        for entry in chosen
    }
    verdicts = duplicates | too_many | kept
    return Chosen(
        sets=tuple(sorted((entry.set for entry in chosen), key=_source_order)),
        seen=len(verdicts),
        verdicts=tuple(verdicts[key] for key in sorted(verdicts)),
    )


def _best_first(entry: ScoredSet) -> tuple[float, str]:
    return -entry.quality, entry.set.key


def _source_order(image_set: ImageSet) -> tuple[str, int, int, float, str]:
    first = image_set.frames[0]
    return image_set.source, image_set.scene, first.shot, first.time, image_set.key


def drop_duplicates(
    ordered: Sequence[ScoredSet], ceiling: float
) -> tuple[list[ScoredSet], dict[str, Verdict]]:
    """Keeps the first set of each group of duplicates, in the given order."""
    verdicts: dict[str, Verdict] = {}
    for number, similarity, original in find_duplicates([entry.rows for entry in ordered], ceiling):
        dropped = ordered[number].set
        verdicts[dropped.key] = Verdict.rejected(
            "choose",
            dropped.key,
            "same_set",
            f"as {ordered[original].set.key}",
            value=similarity,
            threshold=ceiling,
            source=dropped.source,
        )
    return [entry for entry in ordered if entry.set.key not in verdicts], verdicts


def select_diverse(
    distinct: Sequence[ScoredSet], target: int
) -> tuple[list[ScoredSet], dict[str, Verdict]]:
    """Selects the best sets that are most dissimilar.

    Greedy farthest-point selection (Gonzalez, "Clustering to minimize the maximum intercluster
    distance", 1985), weighted by merit. After the best set, each step takes the set with the
    largest merit x (1 - highest similarity to the chosen sets), where similarity is the cosine of
    the mean vectors.

    Args:
        distinct: Sets without duplicates, best first.
        target: Number of sets to keep.
    """
    if len(distinct) <= target:
        return list(distinct), {}
    vectors = [entry.rows.astype(np.float64).mean(axis=0) for entry in distinct]
    means = np.stack([row / max(float(np.linalg.norm(row)), 1e-12) for row in vectors])  # [n, d]
    qualities = np.array([entry.quality for entry in distinct])
    nearest = np.full(len(distinct), -1.0)
    free = np.ones(len(distinct), np.bool_)
    bar = 0.0
    for _ in range(target):
        gains = np.where(free, np.round(qualities * (1 - nearest), DECIMALS), -1.0)
        best = int(gains.argmax())
        bar, free[best] = float(gains[best]), False
        nearest = np.maximum(nearest, np.round(means @ means[best], DECIMALS))
    gains = np.round(qualities * (1 - nearest), DECIMALS)
    rejected = {
        entry.set.key: Verdict.rejected(
            "choose",
            entry.set.key,
            "over_target",
            "merit x unlikeness",
            value=float(gain),
            threshold=bar,
            source=entry.set.source,
        )
        for entry, gain, is_free in zip(distinct, gains, free, strict=True)
        if is_free
    }
    return [entry for entry in distinct if entry.set.key not in rejected], rejected
