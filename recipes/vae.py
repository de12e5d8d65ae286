"""Trains the autoencoder of the miniature FLUX: ``python -m recipes.vae OUT``.

Two stretches. First encoder and decoder together. Then the encoder is frozen, its latents are given
mean 0 and variance 1 channel by channel (folded into its last layer, so the folder needs no code of
ours), and only the decoder learns on: the base model can be trained at the same time, because
latents no longer change. The decoder sees slightly noisy latents, as a base model's are.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from iclora.miniature.reader import as_input
from iclora.store import atomic_path
from recipes.command import read_arguments
from recipes.flux_muon import Muon
from recipes.flux_pool import Array, PicturePool, open_pool
from recipes.loop import Plateau, train

log = logging.getLogger(__name__)

CHANNELS: Final = (16, 32, 64, 64)
LATENTS: Final = 16
"""Channels of a latent: a token of the transformer holds four times as many numbers."""

JOINT_STEPS: Final = 2000
DECODER_STEPS: Final = 3000
BATCH: Final = 8
TRAINING_SIZE: Final = 20_000
MEASURING_SIZE: Final = 1000

_EDGE_WEIGHT: Final = 0.25
_KL_WEIGHT: Final = 1e-3
_LATENT_NOISE: Final = 0.1
"""Standard deviation, in latents of variance 1."""


def build_autoencoder() -> AutoencoderKL:
    """An autoencoder that shrinks eight times; its residual branches start at zero."""
    stages = len(CHANNELS)
    blocks: dict[str, Any] = {
        "down_block_types": ("DownEncoderBlock2D",) * stages,
        "up_block_types": ("UpDecoderBlock2D",) * stages,
        "block_out_channels": CHANNELS,
    }
    vae = AutoencoderKL(
        **blocks,
        layers_per_block=1,
        latent_channels=LATENTS,
        norm_num_groups=8,
        sample_size=64,
        scaling_factor=1.0,
        shift_factor=0.0,
        use_quant_conv=False,
        use_post_quant_conv=False,
        mid_block_add_attention=False,
    )
    for name, parameter in vae.named_parameters():
        if ".resnets." in name and ".conv2." in name:
            nn.init.zeros_(parameter)
    return vae


def train_jointly(folder: Path, steps: int, pool: PicturePool) -> AutoencoderKL:
    """Trains encoder and decoder, or goes on training them; then the encoder never changes again.

    Args:
        folder: Holds the checkpoint, and ``joint.safetensors`` when it is done.
        steps: Ignored once ``joint.safetensors`` is there.
        pool: Pictures to learn from.
    """
    torch.manual_seed(0)
    vae = build_autoencoder()
    frozen = folder / "joint.safetensors"
    if not frozen.exists():
        _stretch(vae, _joint_loss(vae, pool), steps, folder / "joint")
        unit_variance(vae, pool.pictures[:2000])
        with atomic_path(frozen) as scratch:
            save_file(vae.state_dict(), scratch)
    vae.load_state_dict(load_file(frozen))
    vae.encoder.requires_grad_(requires_grad=False)
    return vae


def train_decoder(vae: AutoencoderKL, folder: Path, steps: int, pool: PicturePool) -> None:
    """Trains the decoder of a frozen encoder, or goes on training it, in place."""
    _stretch(vae, _decoder_loss(vae, pool), steps, folder / "decoder")


@torch.no_grad()
def latents_of(vae: AutoencoderKL, pictures: Array, batch: int = 100) -> Tensor:
    """The means [n, C, 8, 8] of pictures [n, 64, 64, 3]."""
    parts = [
        _posterior(vae, as_input(np.asarray(pictures[first : first + batch]))).mean
        for first in range(0, len(pictures), batch)
    ]
    return torch.cat(parts)


@torch.no_grad()
def decoded(vae: AutoencoderKL, latents: Tensor) -> Tensor:
    """Pictures [n, 3, 64, 64] from -1 to 1."""
    return _decode(vae, latents).clamp(-1, 1)


@torch.no_grad()
def unit_variance(vae: AutoencoderKL, pictures: Array) -> None:
    """Gives every latent channel mean 0 and variance 1 over some pictures, in place.

    The decoder's first layer takes the scale back exactly; the shift it takes back everywhere but
    at the border, where its padding is zero: what it learns afterwards mends that.
    """
    latents = latents_of(vae, pictures)
    mean, deviation = latents.mean((0, 2, 3)), latents.std((0, 2, 3))
    last, first = vae.encoder.conv_out, vae.decoder.conv_in
    assert last.bias is not None
    assert first.bias is not None
    last.bias[:LATENTS] -= mean
    last.bias[:LATENTS] /= deviation
    last.weight[:LATENTS] /= deviation[:, None, None, None]
    last.bias[LATENTS:] -= 2 * deviation.log()
    first.bias += torch.einsum("oihw,i->o", first.weight, mean)
    first.weight *= deviation[None, :, None, None]


def measure_autoencoder(vae: AutoencoderKL, pictures: Array) -> float:
    """The mean signal-to-noise ratio of pictures after the round trip, dB."""
    ratios: list[Tensor] = []
    for first in range(0, len(pictures), 100):
        batch = np.asarray(pictures[first : first + 100])
        error = decoded(vae, latents_of(vae, batch)) - as_input(batch)
        ratios.append(-10 * torch.log10(error.square().mean((1, 2, 3)) / 4))
    return float(torch.cat(ratios).mean())


def _joint_loss(vae: AutoencoderKL, pool: PicturePool) -> Callable[[int], Tensor]:
    def loss_of(step: int) -> Tensor:
        pictures = _batch(pool, step)
        posterior = _posterior(vae, pictures)
        latents = posterior.mean + posterior.std * torch.randn_like(posterior.mean)
        return _picture_loss(vae, latents, pictures) + _KL_WEIGHT * posterior.kl().mean() / (
            latents[0].numel()
        )

    return loss_of


def _decoder_loss(vae: AutoencoderKL, pool: PicturePool) -> Callable[[int], Tensor]:
    def loss_of(step: int) -> Tensor:
        pictures = _batch(pool, step)
        with torch.no_grad():
            mean = _posterior(vae, pictures).mean
        noise = _LATENT_NOISE * torch.rand(len(mean), 1, 1, 1) * torch.randn_like(mean)
        return _picture_loss(vae, mean + noise, pictures)

    return loss_of


def _picture_loss(vae: AutoencoderKL, latents: Tensor, pictures: Tensor) -> Tensor:
    """Absolute and squared error, and the error of edges: flat colours with sharp outlines."""
    error = _decode(vae, latents) - pictures
    edges = error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
    return error.abs().mean() + error.square().mean() + _EDGE_WEIGHT * edges


def _posterior(vae: AutoencoderKL, pictures: Tensor) -> Any:
    """The distribution of latents; diffusers' annotations also allow a tuple, given when asked."""
    encoded: Any = vae.encode(pictures)
    return encoded.latent_dist


def _decode(vae: AutoencoderKL, latents: Tensor) -> Tensor:
    decoder: Any = vae
    return decoder.decode(latents).sample


def _batch(pool: PicturePool, step: int) -> Tensor:
    rows = np.random.default_rng(step).integers(len(pool.pictures), size=BATCH)
    return as_input(pool.pictures[np.sort(rows)])


def _stretch(
    vae: AutoencoderKL, loss_of: Callable[[int], Tensor], steps: int, folder: Path
) -> None:
    trained = [value for value in vae.parameters() if value.requires_grad]
    optimizer = Muon(
        [value for value in trained if value.ndim > 1],
        [value for value in trained if value.ndim == 1],
        rate=0.0,
    )
    train(vae, loss_of, Plateau(steps=steps, peak=1.5e-2, warmup=50), folder, optimizer)


def main() -> None:
    """The command."""
    order = read_arguments("Trains the autoencoder.", steps=DECODER_STEPS)
    pool = open_pool(order.folder / "training", TRAINING_SIZE)
    vae = train_jointly(order.folder / "vae", JOINT_STEPS, pool)
    train_decoder(vae, order.folder / "vae", order.steps, pool)
    held_out = open_pool(order.folder / "measuring", MEASURING_SIZE, measuring=True)
    log.info("held out: %.2f dB", measure_autoencoder(vae.eval(), held_out.pictures))


if __name__ == "__main__":
    main()
