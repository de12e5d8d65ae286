"""Content-addressed cache of latents and text embeddings, stored under ``cache/``.

The file name is the digest of the inputs (image or caption, size, model, revision, precision), so
entries never become stale and runs share them. Every step draws a latent from a cached posterior.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import safetensors.torch
import torch
from torch import Tensor

from iclora.models.families import Family, Posterior, Text
from iclora.store import Store
from schemas.base import digest_of

log = logging.getLogger(__name__)

_CUT = ".cut"
"""Suffix of the marker file next to the embeddings of a truncated caption."""


class EncoderKey(NamedTuple):
    """Encoder identity that, with the content, determines a cached value."""

    family: str
    revision: str
    """Revision of the base model."""

    dtype: str


class EncodingCache:
    """Content-addressed store of encoded tensors."""

    def __init__(self, store: Store, encoder: EncoderKey) -> None:
        self._store = store
        self._encoder = encoder

    def latents_path(self, image_sha256: str, size: tuple[int, int], cuts: object) -> str:
        """Returns the cache path of a canvas's posterior.

        Args:
            image_sha256: SHA-256 of the canvas file.
            size: encoded width and height, in pixels.
            cuts: edges at which the canvas is split before resizing.
        """
        digest = digest_of([*self._encoder, image_sha256, list(size), cuts])
        return f"cache/latents/{digest[:2]}/{digest}.safetensors"

    def text_path(self, caption: str) -> str:
        """Returns the cache path of a caption's embeddings."""
        digest = digest_of([*self._encoder, caption])
        return f"cache/text/{digest[:2]}/{digest}.safetensors"

    def has(self, path: str) -> bool:
        """Returns true if the cache contains the path."""
        return self._store.exists(path)

    def save(self, path: str, tensors: Mapping[str, Tensor]) -> None:
        """Writes tensors atomically."""
        flat = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        self._store.write(path, safetensors.torch.save(flat))

    def touch(self, path: str) -> None:
        """Writes an empty marker file."""
        self._store.write(path, b"")

    def load(self, path: str) -> dict[str, Tensor]:
        """Reads the tensors of a cache entry."""
        return safetensors.torch.load_file(self._store.local_path(path))

    def save_posterior(self, path: str, posterior: Posterior, dtype: torch.dtype) -> None:
        """Writes the posterior of one canvas as ``[N, C]`` tensors in ``dtype``."""
        self.save(path, {name: part.to(dtype) for name, part in posterior._asdict().items()})

    def posterior(self, path: str) -> Posterior:
        """Reads the posterior of one canvas as ``[N, C]`` float32 tensors."""
        parts = self.load(path)
        return Posterior(parts["mean"].float(), parts["deviation"].float())


def fill_text(
    cache: EncodingCache, captions: Iterable[str], family: Family, load: Callable[[], Any]
) -> list[str]:
    """Encodes captions missing from the cache.

    Args:
        cache: cache to fill.
        captions: captions to encode; duplicates are allowed.
        family: model family that encodes the captions.
        load: callback that loads the encoders, used only if captions are missing.

    Returns:
        Sorted captions that the text encoder truncates.
    """
    every = sorted(set(captions))
    missing = [text for text in every if not cache.has(cache.text_path(text))]
    if missing:
        encoders = load()
        fits = family.fits_text_encoder(encoders, missing)
        for caption, fit in zip(missing, fits, strict=True):  # batching would change the last bits
            path = cache.text_path(caption)
            if not fit:  # marker first, so embeddings never exist without it
                cache.touch(path + _CUT)
            cache.save(path, family.encode_text(encoders, [caption]))
        log.info("encoded %d captions", len(missing))
    return [text for text in every if cache.has(cache.text_path(text) + _CUT)]


def stack_text(rows: Sequence[Mapping[str, Tensor]]) -> Text:
    """Concatenates the embeddings of single captions, ``[1, …]`` each, into a batch ``[B, …]``."""
    return {name: torch.cat([row[name] for row in rows]) for name in rows[0]}
