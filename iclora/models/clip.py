"""CLIP through open_clip: images and texts to unit vectors.

Results do not depend on the number of images, their grouping, or the number of workers: every batch
has the same size (the last one is padded) and runs on one thread, and batches run in parallel.
All computation is float32. Images are resized whole (``iclora.models.view``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from iclora.cpus import available_cpus
from iclora.errors import BadConfig, MissingModel
from iclora.models.loaded import cached_model, use_one_thread
from iclora.models.locate import file_digest, locate
from iclora.models.view import VIEW

if TYPE_CHECKING:
    import torch

BATCH = 16
"""Images or texts per forward pass; fixed for reproducible results."""

Rows = NDArray[np.float32]
Item = TypeVar("Item")


class _ClipSpec(NamedTuple):
    model: str
    """Model name in open_clip."""

    tag: str | None
    name: str
    """Name without local paths."""

    revision: str
    """Revision of the weights and the view."""


class ClipEncoder:
    """Loaded CLIP model.

    Attributes:
        name: name of the model, without local paths.
        revision: hub commit or digest of the weights, with the view.
        image_size: side of the input images in pixels.
    """

    def __init__(self, spec: _ClipSpec) -> None:
        import open_clip
        import torch

        self.name = spec.name
        self.revision = spec.revision
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        model, _, preprocess = open_clip.create_model_and_transforms(
            spec.model, pretrained=spec.tag, device=self._device, image_resize_mode=VIEW
        )
        self._model: Any = model.eval().requires_grad_(requires_grad=False)
        self._preprocess: Any = preprocess
        self._tokenize: Any = open_clip.get_tokenizer(spec.model)
        size = self._model.visual.image_size
        self.image_size: int = size if isinstance(size, int) else max(size)

    def images(self, images: Sequence[Image.Image]) -> Rows:
        """Returns unit vectors of images, float32 [n, d]."""
        return self._rows(images, self._embed_images)

    def texts(self, texts: Sequence[str]) -> Rows:
        """Returns unit vectors of texts, float32 [n, d], truncated at the model's context."""
        return self._rows(texts, self._embed_texts)

    def _embed_images(self, batch: Sequence[Image.Image]) -> torch.Tensor:
        import torch

        pixels = torch.stack([self._preprocess(image.convert("RGB")) for image in batch])
        return self._model.encode_image(pixels.to(self._device))

    def _embed_texts(self, batch: Sequence[str]) -> torch.Tensor:
        return self._model.encode_text(self._tokenize(list(batch)).to(self._device))

    def _rows(self, items: Sequence[Item], embed: Callable[[Sequence[Item]], torch.Tensor]) -> Rows:
        batches = [items[start : start + BATCH] for start in range(0, len(items), BATCH)]
        if not batches:
            return np.zeros((0, len(self.texts([""])[0])), np.float32)
        workers = 1 if self._device == "cuda" else min(len(batches), available_cpus())
        with ThreadPoolExecutor(workers, initializer=use_one_thread) as pool:
            return np.concatenate(list(pool.map(_unit, batches, repeat(embed))))


@cached_model(2)
def load_clip(name: str) -> ClipEncoder:
    """Loads the CLIP model of this name, once per process.

    Args:
        name: a folder with ``open_clip_config.json`` and safetensors, a hub id of such a folder,
            ``miniature/clip``, or open_clip's own ``model:pretrained`` such as
            ``ViT-B-32:laion2b_s34b_b79k``.

    Raises:
        MissingModel: the weights are not on this machine.
        BadConfig: open_clip does not know the name, or the weights are pickled.
    """
    return ClipEncoder(_find(name))


def clip_label(name: str) -> str:
    """Returns ``name@revision+view``, as recorded in manifests, without loading the model.

    Raises:
        MissingModel: the weights are not on this machine.
        BadConfig: open_clip does not know the name, or the weights are pickled.
    """
    spec = _find(name)
    return f"{spec.name}@{spec.revision}"


def _find(name: str) -> _ClipSpec:
    model, colon, tag = name.partition(":")
    if colon and not Path(name).is_dir():
        return _find_tag(model, tag)
    located = locate(name)
    if not any(located.folder.glob("*.safetensors")):
        raise BadConfig(f"{name} has no safetensors file; other weights are not loaded")
    if not (located.folder / "open_clip_config.json").is_file():
        raise BadConfig(f"{name} has no open_clip_config.json; it is not an open_clip model")
    folder, revision = f"local-dir:{located.folder}", f"{located.revision}+{VIEW}"
    return _ClipSpec(folder, None, located.name, revision)


def _find_tag(model: str, tag: str) -> _ClipSpec:
    import open_clip
    from open_clip.pretrained import download_pretrained

    tags = open_clip.list_pretrained_tags_by_model(model)
    if tag not in tags:
        raise BadConfig(
            f"open_clip has no {model}:{tag}; "
            + (f"{model} comes as {', '.join(tags)}" if tags else f"it does not know {model}")
        )
    recipe: Any = open_clip.get_pretrained_cfg(model, tag)
    try:
        weights = Path(download_pretrained(recipe))
    except (OSError, ValueError) as error:
        hub_id = str(recipe.get("hf_hub", "")).rsplit("/", 1)[0]
        how = f"run `hf download {hub_id}`" if hub_id else f"fetch {recipe.get('url')}"
        raise MissingModel(f"{model}:{tag} is not on this machine: {how}") from error
    if weights.suffix != ".safetensors":
        raise BadConfig(f"{model}:{tag} is published as a pickle; choose a tag with safetensors")
    revision = f"{file_digest(weights)[:16]}+{VIEW}"
    return _ClipSpec(model, tag, f"{model}:{tag}", revision)


def _unit(batch: Sequence[Item], embed: Callable[[Sequence[Item]], torch.Tensor]) -> Rows:
    """Returns the unit vectors of one batch, padded with its last item to full size."""
    import torch

    padded = [*batch, *[batch[-1]] * (BATCH - len(batch))]
    with torch.inference_mode():
        rows = embed(padded)
        rows = rows / rows.norm(dim=-1, keepdim=True)
    return rows[: len(batch)].float().cpu().numpy()
