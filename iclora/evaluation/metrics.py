"""Set quality metrics: pure functions of embeddings and arrays.

Similarities are cosines of unit rows of one encoder. A row of NaN marks an image that could not be
measured; it makes its set's scores NaN, never zero.

Legend: N prompts, K seeds, P panels of a set, D embedding, M training sets.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_FLAT = 1e-6
"""Standard deviation of luma (0-1) below which a thumbnail counts as flat."""


def _pair_means(similar: Array) -> Array:
    """Averages over the pairs i < j of the last two axes."""
    first, second = np.triu_indices(similar.shape[-1], k=1)
    return similar[..., first, second].mean(axis=-1)


def consistency(panels: Array) -> Array:
    """Computes the mean similarity between the panels of each set.

    It is reported with variety: a repeated panel is perfectly consistent (ViStoryBench's copy-paste
    baseline, arXiv 2505.24862).

    Args:
        panels: [..., P, D] unit rows, P >= 2.

    Returns:
        [...] mean cosine over the pairs of panels, -1 to 1.
    """
    return _pair_means(panels @ np.swapaxes(panels, -1, -2))


def distinct(panels: Array, near_duplicate: float) -> Array:
    """Computes the share of panel pairs that are not near-duplicates.

    Args:
        panels: [..., P, D] unit rows.
        near_duplicate: cosine above which two panels are near-duplicates.

    Returns:
        [...] 0 (all pairs near-duplicates) to 1 (none).
    """
    similar = panels @ np.swapaxes(panels, -1, -2)
    fresh = np.where(np.isnan(similar), np.nan, (similar <= near_duplicate).astype(np.float64))
    return _pair_means(fresh)


def compositions(thumbs: Array) -> Array:
    """Computes pairwise differences in composition, independent of content.

    Args:
        thumbs: [..., P, h, w] luma thumbnails, 0 to 1.

    Returns:
        [..., P, P] 1 - correlation of two thumbnails, clipped to 0 (same composition) to 1
        (unrelated). A flat thumbnail matches another flat one and is unrelated to any other.
    """
    rows = thumbs.reshape(*thumbs.shape[:-2], -1)
    centered = rows - rows.mean(axis=-1, keepdims=True)
    norms = np.linalg.norm(centered, axis=-1, keepdims=True)
    flat = norms[..., 0] < _FLAT * np.sqrt(rows.shape[-1])
    unit = np.where(flat[..., None], 0.0, centered / np.where(norms > 0, norms, 1.0))
    similar = unit @ np.swapaxes(unit, -1, -2)
    similar = np.where(flat[..., :, None] & flat[..., None, :], 1.0, similar)
    return np.clip(1.0 - similar, 0.0, 1.0)


def composition(thumbs: Array) -> Array:
    """Computes the mean difference in composition between the panels of each set, [...]."""
    return _pair_means(compositions(thumbs))


def variety(panels: Array, thumbs: Array, near_duplicate: float) -> Array:
    """Averages ``distinct`` and ``composition``; 0 for one image repeated."""
    return (distinct(panels, near_duplicate) + composition(thumbs)) / 2


def spread(thumbs: Array) -> Array:
    """Computes how much renders of one caption vary over seeds.

    Uses composition instead of embeddings: an encoder trained on captions places two faithful
    renders of one caption close together, so adherence would look like collapse.

    Args:
        thumbs: [N, K, P, h, w] luma thumbnails, 0 to 1.

    Returns:
        [N] mean difference in composition between the same panel of two seeds, 0 to 1; unmeasured
        seeds are excluded; NaN with fewer than two.
    """
    result = np.full(len(thumbs), np.nan)
    for prompt, seeds in enumerate(thumbs):
        complete = seeds[~np.isnan(seeds).any(axis=(1, 2, 3))]
        if len(complete) > 1:
            result[prompt] = composition(np.swapaxes(complete, 0, 1)).mean()
    return result


def adherence(panels: Array, texts: Array) -> Array:
    """Computes the similarity of each panel to its own text.

    Args:
        panels: [N, K, P, D] unit rows.
        texts: [N, P, D] unit rows, one text per panel.

    Returns:
        [N, K] mean cosine of panel i and text i.
    """
    return np.einsum("nkpd,npd->nkp", panels, texts).mean(axis=-1)


def own_margin(panels: Array, texts: Array) -> Array:
    """Computes the margin of each panel's own text over the other panels' texts.

    Args:
        panels: [N, K, P, D] unit rows.
        texts: [N, P, D] unit rows.

    Returns:
        [N, K] mean over panels of own cosine minus the mean of the others; 0 is chance.
    """
    similar = np.einsum("nkpd,nqd->nkpq", panels, texts)
    own = np.einsum("nkpp->nkp", similar)
    others = (similar.sum(axis=-1) - own) / (similar.shape[-1] - 1)
    return (own - others).mean(axis=-1)


def wins(panels: Array, texts: Array) -> Array:
    """Computes the share of panels whose own text beats every other panel's text; ties lose.

    Args:
        panels: [N, K, P, D] unit rows.
        texts: [N, P, D] unit rows.

    Returns:
        [N, K] 0 to 1; chance is 1 / P.
    """
    similar = np.einsum("nkpd,nqd->nkpq", panels, texts)
    own = np.einsum("nkpp->nkp", similar)
    others = np.where(np.eye(similar.shape[-1], dtype=bool), -np.inf, similar)
    won = (own > others.max(axis=-1)).astype(np.float64)
    return np.where(np.isnan(own), np.nan, won).mean(axis=-1)


def identity(panels: Array, given: int) -> Array:
    """Computes the similarity of the given panel to the generated ones in conditional renders.

    Args:
        panels: [..., P, D] unit rows, P >= 2.
        given: index of the given panel.

    Returns:
        [...] mean cosine over the generated panels.
    """
    generated = np.delete(panels, given, axis=-2)
    similar = panels[..., [given], :] @ np.swapaxes(generated, -1, -2)
    return similar.mean(axis=(-1, -2))


def nearest(panels: Array, training: Array) -> tuple[Array, NDArray[np.int64]]:
    """Finds each set's nearest training set, panel by panel.

    Args:
        panels: [..., P, D] unit rows.
        training: [M, P, D] unit rows.

    Returns:
        The mean cosine of corresponding panels, [...], and the index of that set, [...]
        (NaN and -1 where the set was not measured).
    """
    size = panels.shape[-2] * panels.shape[-1]
    rows = panels.reshape(*panels.shape[:-2], size)
    similar = rows @ training.reshape(len(training), size).T / panels.shape[-2]
    missing = np.isnan(similar).any(axis=-1)
    best = np.where(missing, -1, np.where(np.isnan(similar), -np.inf, similar).argmax(axis=-1))
    return np.where(missing, np.nan, similar.max(axis=-1)), best


def nearest_others(training: Array) -> Array:
    """Computes each training set's cosine to its nearest other one, [M]."""
    rows = training.reshape(len(training), -1)
    similar = rows @ rows.T / training.shape[1]
    np.fill_diagonal(similar, -np.inf)
    return similar.max(axis=1)
