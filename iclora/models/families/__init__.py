"""The seam between a base model family and everything that trains on it or draws with it.

A family is one module here with a ``FAMILY`` object, and one preset. Trainer and sampler see only
this protocol, and only tokens: a canvas is a row of tokens ``[B, N, C]`` in reading order, packed
and scaled as the family's transformer takes them, so that nothing outside a family knows of
patches, shifts or position ids. Rejected: driving the diffusers pipelines themselves, because they
hide the step in which given panels are kept and cannot hand back a posterior.

Drawing is: ``x = noise [B, N, C]``; for each neighbouring pair ``(a, b)`` of ``sigmas``,
``x = x + (b - a) * predict(transformer, x, a, …)``; then ``decode``. Training is: ``predict`` at
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
"""What text encoders say of captions: name to tensor, the first axis is the caption."""


class Grid(NamedTuple):
    """A canvas counted in tokens."""

    rows: int
    columns: int

    @property
    def count(self) -> int:  # pyright: ignore[reportIncompatibleMethodOverride] - tuple.count is of no use here
        """Tokens on the canvas."""
        return self.rows * self.columns


class Posterior(NamedTuple):
    """What the VAE says of pictures: a normal distribution for every token value."""

    mean: Tensor
    """``[B, N, C]`` float32, scaled as the transformer takes it."""

    deviation: Tensor
    """``[B, N, C]`` float32, the same scale."""


class GivenTokens(NamedTuple):
    """Panels that are given clean while the others are drawn."""

    tokens: Tensor
    """``[B, N, C]`` clean; only those under the mask are looked at."""

    mask: Tensor
    """``[B, N]`` bool; true where a token is given."""

    blank: Tensor | None = None
    """``[1, N, C]``: an empty canvas as the VAE sees it, where ``needs_blank``."""


def nothing_given(tokens: Tensor, blank: Tensor) -> GivenTokens:
    """Tells a family that needs a blank that the whole canvas is drawn.

    Args:
        tokens: ``[B, N, C]`` that are drawn.
        blank: see ``GivenTokens``.
    """
    mask = tokens.new_zeros(tokens.shape[:2]).bool()
    return GivenTokens(tokens.new_zeros(tokens.shape), mask, blank)


class Geometry(NamedTuple):
    """What must be known of a base to plan a training without loading it."""

    token_pixels: int
    """Pixels on a token's side."""

    text_tokens: int
    """Tokens that a caption takes in the transformer's sequence."""

    blocks: int
    width: int
    parameters: int
    """Of the transformer."""


class Family(Protocol):
    """How to drive one family of base models. Methods hold no state: parts are passed in.

    The parts are diffusers and transformers objects whose types differ by family, hence ``Any``.
    """

    name: str
    lora_targets: str
    """Regular expression of the linear layers that an adapter changes (peft ``target_modules``)."""

    needs_blank: bool
    """Whether ``GivenTokens.blank`` must be there."""

    pipeline: str
    """The diffusers pipeline of the folder, by class name. It renames the keys of adapters too
    (``iclora.models.lora_files``)."""

    released: Geometry
    """Of the released weights, for plans where they are not at hand."""

    def check(self, folder: Path, *, training_adapter: str = "") -> None:
        """Refuses a base that this family cannot be trained on.

        Raises:
            BadConfig: the folder holds another family, or a distilled model without a named
                training adapter.
        """
        ...

    def token_pixels(self, folder: Path) -> int:
        """Pixels on a token's side; canvas and panel sides are multiples of it."""
        ...

    def text_length(self, folder: Path) -> int:
        """Tokens that a caption takes in the transformer's sequence."""
        ...

    def load_text(self, folder: Path, *, dtype: dtype, device: device | str = "cpu") -> Any:
        """Tokenizers and text encoders, frozen."""
        ...

    def encode_text(self, encoders: Any, captions: Sequence[str]) -> Text:
        """Embeddings of captions; ``[""]`` gives the null embedding of caption dropout."""
        ...

    def fits_text_encoder(self, encoders: Any, captions: Sequence[str]) -> list[bool]:
        """Of each caption, whether all of it reaches the (longest) text encoder."""
        ...

    def load_vae(self, folder: Path, *, dtype: dtype, device: device | str = "cpu") -> Any:
        """The picture coder, frozen."""
        ...

    def encode_images(self, vae: Any, pixels: Tensor) -> Posterior:
        """The posterior of pictures ``[B, 3, H, W]`` in -1..1."""
        ...

    def decode(self, vae: Any, tokens: Tensor, grid: Grid) -> Tensor:
        """Pictures ``[B, 3, H, W]`` in -1..1 (not clipped) of clean tokens ``[B, N, C]``."""
        ...

    def load_transformer(
        self, folder: Path, *, dtype: dtype, device: device | str = "cpu", weights: str = ""
    ) -> Any:
        """The transformer, frozen.

        Args:
            folder: the pipeline's folder.
            dtype: of the computation, and of the weights unless ``weights`` says otherwise.
            device: where to.
            weights: empty, ``fp8`` (diffusers' layer-wise casting) or ``nf4`` (bitsandbytes).
        """
        ...

    def architecture(self, folder: Path) -> tuple[int, int]:
        """The transformer's number of blocks and its width, without loading it."""
        ...

    def meta_transformer(self) -> Any:
        """The released transformer's architecture on the meta device: shapes without weights."""
        ...

    def token_channels(self, transformer: Any) -> int:
        """C, the values in a token of the picture (without condition channels)."""
        ...

    def predict(  # noqa: PLR0913 - the mathematics has these arguments
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
        """The velocity ``[B, N, C]`` that carries data to noise.

        Args:
            transformer: from ``load_transformer``.
            tokens: x_t ``[B, N, C]``.
            t: ``[B]`` in 0 (data) .. 1 (noise).
            text: of B captions.
            grid: rows and columns of the N tokens.
            guidance: value of the guidance embedding; ignored by models without one.
            given: the panels that are kept; what is predicted under their mask means nothing.
        """
        ...

    def sigmas(self, folder: Path, steps: int, tokens: int) -> list[float]:
        """The ``steps + 1`` noise levels of a drawing with N tokens, falling from 1 to 0."""
        ...


def family_names() -> list[str]:
    """The families in the package, sorted."""
    names = [path.stem.replace("_", "-") for path in _FOLDER.glob("*.py")]
    return sorted(name for name in names if not name.startswith("-"))


def load_family(name: str) -> Family:
    """The family called ``name``, such as ``flux1``, ``flux1-fill`` or ``flux2-klein``.

    Raises:
        BadConfig: there is none of that name.
    """
    if name not in family_names():
        known = ", ".join(family_names())
        raise BadConfig(f"base.family {name!r} is unknown; known are {known}")
    module = importlib.import_module(f"{__name__}.{name.replace('-', '_')}")
    return cast("Family", module.FAMILY)
