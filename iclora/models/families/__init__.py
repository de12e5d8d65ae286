"""Interface between a base model family and the code that trains or samples with it.

A family is one module in this package with a ``FAMILY`` object, plus one preset. The trainer and
the sampler use only this protocol, and only tokens: a canvas is a sequence ``[B, N, C]`` in raster
order, packed and scaled for the family's transformer. Patches, shifts, and position ids stay inside
the family. Rejected: driving the diffusers pipelines, because they hide the step that keeps given
panels and cannot return a posterior.

Sampling: ``x = noise [B, N, C]``; for each neighboring pair ``(a, b)`` of ``sigmas``,
``x = x + (b - a) * predict(transformer, x, a, …)``; then ``decode``. Training: ``predict`` at
``x_t = (1 - t) * x0 + t * noise`` against ``noise - x0``.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, cast

from iclora.errors import BadConfig

if TYPE_CHECKING:
    from torch import Tensor, device, dtype

_FOLDER = Path(__file__).parent

Text = Mapping[str, "Tensor"]
"""Text encoder outputs by name; the first axis of each tensor is the caption."""


class Grid(NamedTuple):
    """Canvas size in tokens."""

    rows: int
    columns: int

    @property
    def count(self) -> int:  # pyright: ignore[reportIncompatibleMethodOverride] - tuple.count is of no use here
        """Returns the number of tokens on the canvas."""
        return self.rows * self.columns


class Posterior(NamedTuple):
    """VAE posterior: an independent normal distribution per token value."""

    mean: Tensor
    """Mean, ``[B, N, C]`` float32, in the transformer's scale."""

    deviation: Tensor
    """Standard deviation, ``[B, N, C]`` float32, in the same scale."""


class GivenTokens(NamedTuple):
    """Clean panels that condition the rest of the canvas."""

    tokens: Tensor
    """Clean tokens, ``[B, N, C]``; values outside the mask are ignored."""

    mask: Tensor
    """Boolean mask, ``[B, N]``; true for given tokens."""

    blank: Tensor | None = None
    """Encoded empty canvas, ``[1, N, C]``; required if ``needs_blank``."""


def nothing_given(tokens: Tensor, blank: Tensor) -> GivenTokens:
    """Returns empty given tokens, for families that need a blank when no panel is given.

    Args:
        tokens: noisy tokens, ``[B, N, C]``.
        blank: see ``GivenTokens``.
    """
    mask = tokens.new_zeros(tokens.shape[:2]).bool()
    return GivenTokens(tokens.new_zeros(tokens.shape), mask, blank)


class Geometry(NamedTuple):
    """Facts about a base that a training plan needs before the base is loaded."""

    token_pixels: int
    """Side of a token in pixels."""

    text_tokens: int
    """Number of text tokens per caption in the transformer's sequence."""

    blocks: int
    width: int
    parameters: int
    """Number of transformer parameters."""


class Family(Protocol):
    """Stateless driver of one base model family; models are passed to each method.

    Models are diffusers and transformers objects whose types differ by family, hence ``Any``.
    """

    name: str
    lora_targets: str
    """Regular expression of the linear layers that a LoRA adapts (peft's ``target_modules``)."""

    needs_blank: bool
    """True if the family requires ``GivenTokens.blank``."""

    pipeline: str
    """Class name of the diffusers pipeline, which also renames adapter keys
    (``iclora.models.lora_files``)."""

    released: Geometry
    """Geometry of the released weights, for plans made without local weights."""

    def check(self, folder: Path, *, training_adapter: str = "") -> None:
        """Rejects a base that this family cannot train.

        Raises:
            BadConfig: the folder holds another family, or a distilled model without a named
                training adapter.
        """
        ...

    def token_pixels(self, folder: Path) -> int:
        """Returns the side of a token in pixels; canvas and panel sides are multiples of it."""
        ...

    def text_length(self, folder: Path) -> int:
        """Returns the number of text tokens per caption in the transformer's sequence."""
        ...

    def load_text(self, folder: Path, *, dtype: dtype, device: device | str = "cpu") -> Any:
        """Loads the frozen tokenizers and text encoders."""
        ...

    def encode_text(self, encoders: Any, captions: Sequence[str]) -> Text:
        """Encodes captions; ``[""]`` returns the null embedding for caption dropout."""
        ...

    def fits_text_encoder(self, encoders: Any, captions: Sequence[str]) -> list[bool]:
        """Checks for each caption that the (longest) text encoder reads it without truncation."""
        ...

    def load_vae(self, folder: Path, *, dtype: dtype, device: device | str = "cpu") -> Any:
        """Loads the frozen VAE."""
        ...

    def encode_images(self, vae: Any, pixels: Tensor) -> Posterior:
        """Encodes images ``[B, 3, H, W]`` in -1..1 to their posterior."""
        ...

    def decode(self, vae: Any, tokens: Tensor, grid: Grid) -> Tensor:
        """Decodes clean tokens ``[B, N, C]`` to images ``[B, 3, H, W]`` in -1..1, not clipped."""
        ...

    def load_transformer(
        self, folder: Path, *, dtype: dtype, device: device | str = "cpu", weights: str = ""
    ) -> Any:
        """Loads the frozen transformer.

        Args:
            folder: the pipeline's folder.
            dtype: dtype of the computation, and of the weights unless ``weights`` overrides it.
            device: target device.
            weights: empty, ``fp8`` (diffusers' layer-wise casting) or ``nf4`` (bitsandbytes).
        """
        ...

    def architecture(self, folder: Path) -> tuple[int, int]:
        """Returns the transformer's number of blocks and width without loading it."""
        ...

    def meta_transformer(self) -> Any:
        """Builds the released transformer on the meta device, without weights."""
        ...

    def token_channels(self, transformer: Any) -> int:
        """Returns C, the number of values per image token (without condition channels)."""
        ...

    def predict(
        self,
        transformer: Any,
        tokens: Tensor,
        t: Tensor,
        text: Text,
        *,
        grid: Grid,
        guidance: float,
        given: GivenTokens | None = None,
    ) -> Tensor:
        """Predicts the velocity ``[B, N, C]`` from data to noise.

        Args:
            transformer: from ``load_transformer``.
            tokens: x_t, ``[B, N, C]``.
            t: times, ``[B]``, from 0 (data) to 1 (noise).
            text: embeddings of B captions.
            grid: rows and columns of the N tokens.
            guidance: value of the guidance embedding; ignored by models without one.
            given: clean panels; the prediction under their mask is meaningless.
        """
        ...

    def sigmas(self, folder: Path, steps: int, tokens: int) -> list[float]:
        """Returns ``steps + 1`` noise levels for N tokens, falling from 1 to 0."""
        ...


def family_names() -> list[str]:
    """Returns the sorted names of the families in the package."""
    names = [path.stem.replace("_", "-") for path in _FOLDER.glob("*.py")]
    return sorted(name for name in names if not name.startswith("-"))


def load_family(name: str) -> Family:
    """Returns the family called ``name``, such as ``flux1``, ``flux1-fill`` or ``flux2-klein``.

    Raises:
        BadConfig: no family has that name.
    """
    if name not in family_names():
        known = ", ".join(family_names())
        raise BadConfig(f"base.family {name!r} is unknown; known are {known}")
    module = importlib.import_module(f"{__name__}.{name.replace('-', '_')}")
    return cast("Family", module.FAMILY)
