"""Parameters of sampling, and the record of a render."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from schemas.base import Key, Schema, Unit

GivenMode = Literal["auto", "put-back", "clean"]
"""Mode in which given panels enter denoising (see ``SampleParams.given_mode``)."""


class SampleParams(Schema):
    """Settings of sampling."""

    steps: PositiveInt = 20
    """Denoising steps."""

    guidance: NonNegativeFloat = 3.5
    """Value of the guidance embedding (distilled models)."""

    true_cfg: PositiveFloat = 1.0
    """True classifier-free guidance; 1 is off."""

    seed: NonNegativeInt = 42
    """Random seed of the first render of a caption."""

    count: PositiveInt = 1
    """Renders per caption: seeds ``seed``, ``seed + 1``, ..."""

    batch: PositiveInt = 8
    """Maximum number of renders in a batch; halved automatically when memory runs out."""

    given_mode: GivenMode = "auto"
    """Mode for given panels: ``put-back`` puts their noised latents back before every step
    (training-free, SDEdit); ``clean`` keeps their tokens free of noise, as conditional training
    does; ``auto`` is ``clean`` with a conditionally trained adapter or a Fill base, else
    ``put-back``."""

    strength: Unit = 1.0
    """``put-back`` only: share of the denoising steps during which given panels are put back.
    1 holds them until the end; less lets the model repaint the last steps so that drawn panels
    and given ones settle together (given panels are pasted back over it in any case). The drawn
    panels always start from pure noise, whatever the value: an empty panel that starts from
    anything else stays empty."""

    precision: Literal["auto", "bf16", "fp32"] = "auto"
    """``auto`` is bf16 on a GPU and fp32 on the CPU."""

    weights: Literal["", "fp8", "nf4"] = ""
    """Format of the transformer's weights, to save memory; empty is the compute dtype."""

    prompts: tuple[str, ...] = ()
    """Captions of the sample sheets; when empty, val captions, else train captions."""


class AdapterUse(Schema):
    """An adapter at a weight, located and digested."""

    name: str
    """Display name: ``name@version`` in a store, else the file's name."""

    file: str
    """The safetensors file. Never written into an artifact."""

    content: str
    """Digest of the file's bytes."""

    weight: float = 1.0
    conditional: bool = False
    """True if panels were given clean in training, by the run record."""


class RenderRecord(Schema):
    """One line of ``sets.jsonl``; also the parameters inside the canvas file."""

    key: Key
    """Digest of everything below that can change the picture."""

    caption: str
    seed: NonNegativeInt
    layout: str
    width: PositiveInt
    height: PositiveInt
    base: str
    """Base model and revision."""

    adapters: dict[str, float] = {}
    """Name and content digest (``name#digest``) to weight."""

    steps: PositiveInt
    guidance: NonNegativeFloat
    true_cfg: PositiveFloat
    given: dict[str, str] = {}
    """Marker of each given panel to the sha256 of its pixels after it was fitted to its box."""

    way: str = ""
    """Mode and strength of given panels: ``put-back 1.0`` or ``clean``; empty without any."""

    canvas: str = Field(min_length=1)
    """File, relative to the record's folder."""

    panels: tuple[str, ...]
