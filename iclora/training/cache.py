"""Latents and text embeddings, encoded once and kept in the store under ``cache/``.

A file's name is the digest of what went in (picture or caption, size, model, revision, precision),
so the cache is shared by runs, never stale, and outside the dataset. The posterior's mean and
deviation are kept, not a draw, so that every step redraws the latent. Files appear whole.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import safetensors.torch
import torch
from torch import Tensor

from iclora.models.families import Posterior, Text
from iclora.store import Store
from schemas.base import digest_of

log = logging.getLogger(__name__)

TEXT_BATCH = 8
"""Captions encoded together; fixed, so that equal captions give equal bytes."""


class Encoder(NamedTuple):
    """What a cached value depends on besides its content."""

    family: str
    revision: str
    """Of the base model."""

    dtype: str


class Cache:
    """Tensors by content."""

    def __init__(self, store: Store, encoder: Encoder) -> None:
        self._store = store
        self._encoder = encoder

    def latents_path(self, image_sha256: str, size: tuple[int, int], cuts: object) -> str:
        """Where a canvas's posterior lies.

        Args:
            image_sha256: of the canvas file.
            size: width and height it is encoded at.
            cuts: where it is divided before it is resized.
        """
        digest = digest_of([*self._encoder, image_sha256, list(size), cuts])
        return f"cache/latents/{digest[:2]}/{digest}.safetensors"

    def text_path(self, caption: str) -> str:
        """Where a caption's embeddings lie."""
        digest = digest_of([*self._encoder, caption])
        return f"cache/text/{digest[:2]}/{digest}.safetensors"

    def has(self, path: str) -> bool:
        """Whether it is there."""
        return self._store.exists(path)

    def save(self, path: str, tensors: Mapping[str, Tensor]) -> None:
        """Writes tensors, whole or not at all."""
        flat = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        self._store.write(path, safetensors.torch.save(flat))

    def load(self, path: str) -> dict[str, Tensor]:
        """Reads tensors."""
        return safetensors.torch.load_file(self._store.local(path))

    def save_posterior(self, path: str, posterior: Posterior, dtype: torch.dtype) -> None:
        """Writes one canvas's posterior (tensors ``[N, C]``)."""
        self.save(path, {name: part.to(dtype) for name, part in posterior._asdict().items()})

    def posterior(self, path: str) -> Posterior:
        """Reads one canvas's posterior, ``[N, C]`` float32."""
        parts = self.load(path)
        return Posterior(parts["mean"].float(), parts["deviation"].float())


def fill_text(cache: Cache, captions: Iterable[str], family: Any, load: Any) -> list[str]:
    """Encodes the captions that are not in the cache yet.

    Args:
        cache: where to.
        captions: duplicates do no harm.
        family: encodes.
        load: gives the encoders; not called when nothing is missing.

    Returns:
        The captions of which the text encoder sees only the beginning, sorted.
    """
    missing = sorted({text for text in captions if not cache.has(cache.text_path(text))})
    if not missing:
        return []
    encoders = load()
    for start in range(0, len(missing), TEXT_BATCH):
        part = missing[start : start + TEXT_BATCH]
        text = family.encode_text(encoders, part)
        for row, caption in enumerate(part):
            cache.save(cache.text_path(caption), {n: v[row : row + 1] for n, v in text.items()})
    cut = [
        text
        for text, fits in zip(missing, family.whole(encoders, missing), strict=True)
        if not fits
    ]
    log.info("encoded %d captions", len(missing))
    return cut


def stack_text(rows: Sequence[Mapping[str, Tensor]]) -> Text:
    """Embeddings of single captions as one batch."""
    return {name: torch.cat([row[name] for row in rows]) for name in rows[0]}
