"""How large the family's models are."""

from __future__ import annotations

from dataclasses import dataclass, field

from iclora.miniature.draw import PANEL


@dataclass(frozen=True, slots=True, kw_only=True)
class TowerSize:
    """A transformer of equal layers."""

    width: int
    layers: int
    heads: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FluxSize:
    """The pieces of the FLUX pipeline."""

    heads: int = 6
    head_width: int = 32
    rope_axes: tuple[int, int, int] = (8, 12, 12)
    """Text, row, column; they fill a head."""

    double_blocks: int = 2
    single_blocks: int = 5
    latent_channels: int = 8
    vae_channels: tuple[int, ...] = (32, 64, 64)
    """One more than the halvings: an encoder of three stages shrinks four times."""

    clip: TowerSize = TowerSize(width=128, layers=2, heads=4)
    t5: TowerSize = TowerSize(width=128, layers=2, heads=4)


@dataclass(frozen=True, slots=True, kw_only=True)
class FamilySize:
    """Every size of the family; the default is what is trained, ``TINY`` what tests build."""

    panel: int = PANEL
    """The side of the pictures that CLIP and the VLM look at, pixels."""

    patch: int = 8
    context: int = 128
    """Tokens; the longest mosaic caption has 93."""

    clip_vision: TowerSize = TowerSize(width=128, layers=3, heads=4)
    """The VLM looks through a tower of the same shape."""

    clip_text: TowerSize = TowerSize(width=96, layers=2, heads=3)
    vlm_text: TowerSize = TowerSize(width=128, layers=3, heads=4)
    flux: FluxSize = field(default_factory=FluxSize)


_TINY_TOWER = TowerSize(width=32, layers=1, heads=2)
TINY = FamilySize(
    clip_vision=_TINY_TOWER,
    clip_text=_TINY_TOWER,
    vlm_text=_TINY_TOWER,
    flux=FluxSize(
        heads=2,
        double_blocks=1,
        single_blocks=1,
        vae_channels=(16, 16, 16),
        clip=_TINY_TOWER,
        t5=_TINY_TOWER,
    ),
)
"""The smallest that still has every part."""
