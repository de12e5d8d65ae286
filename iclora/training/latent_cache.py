"""Latents and text embeddings, encoded once and kept in the store under ``cache/``.

A file's name is the digest of what went in (picture or caption, size, model, revision, precision),
so the cache is shared by runs, never stale, and outside the dataset. The posterior's mean and
deviation are kept, not a draw, so that every step redraws the latent. Files appear whole.
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
"""Ending of the note beside embeddings of a caption that did not fit."""


class EncoderKey(NamedTuple):
    """What a cached value depends on besides its content."""

    family: str
    revision: str
    """Of the base model."""

    dtype: str


class EncodingCache:
    """Tensors by content."""

    def __init__(self, store: Store, encoder: EncoderKey) -> None:
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

    def touch(self, path: str) -> None:
        """Leaves an empty file."""
        self._store.write(path, b"")

    def load(self, path: str) -> dict[str, Tensor]:
        """Reads tensors."""
        return safetensors.torch.load_file(self._store.local_path(path))

    def save_posterior(self, path: str, posterior: Posterior, dtype: torch.dtype) -> None:
        """Writes one canvas's posterior (tensors ``[N, C]``)."""
        self.save(path, {name: part.to(dtype) for name, part in posterior._asdict().items()})

    def posterior(self, path: str) -> Posterior:
        """Reads one canvas's posterior, ``[N, C]`` float32."""
        parts = self.load(path)
        return Posterior(parts["mean"].float(), parts["deviation"].float())


def fill_text(
    cache: EncodingCache, captions: Iterable[str], family: Family, load: Callable[[], Any]
) -> list[str]:
    """Encodes the captions that are not in the cache yet.

    Args:
        cache: where to.
        captions: duplicates do no harm.
        family: encodes.
        load: gives the encoders; not called when nothing is missing.

    Returns:
        The captions of which the text encoder sees only the beginning, sorted.
    """
    every = sorted(set(captions))
    missing = [text for text in every if not cache.has(cache.text_path(text))]
    if missing:
        _encode_text(cache, missing, family, load())
        log.info("encoded %d captions", len(missing))
    return [text for text in every if cache.has(cache.text_path(text) + _CUT)]


def _encode_text(
    cache: EncodingCache, captions: Sequence[str], family: Family, encoders: Any
) -> None:
    """One by one: in a batch, a caption's last bits would depend on what else is missing."""
    fits = family.fits_text_encoder(encoders, captions)
    for caption, fit in zip(captions, fits, strict=True):
        path = cache.text_path(caption)
        if not fit:  # noted first: where the embeddings are, the note is too
            cache.touch(path + _CUT)
        cache.save(path, family.encode_text(encoders, [caption]))


def stack_text(rows: Sequence[Mapping[str, Tensor]]) -> Text:
    """Embeddings of single captions as one batch."""
    return {name: torch.cat([row[name] for row in rows]) for name in rows[0]}
