"""Teaches the two text encoders of the miniature FLUX to read, before any picture is drawn.

FLUX gives text tokens no positions, so which clause belongs to which panel must lie in what T5
says. Every token of a clause learns to tell the number of its clause and everything that the
caption tells of that clause's panel, the summary included; CLIP's pooled vector tells it of all.
Afterwards both are frozen.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    PreTrainedTokenizerFast,
    T5Config,
    T5EncoderModel,
)

from iclora.miniature.tokenizer import END, PAD, START
from iclora.miniature.world import VALUES, random_attributes
from recipes.flux_words import (
    CONTEXT,
    PANELS,
    Lesson,
    Told,
    mosaic_lesson,
    phrase_tokenizer,
    set_lesson,
    shared_names,
    single_lesson,
    token_ids,
)
from recipes.loop import Cosine, train

WIDTH: Final = 128
STEPS: Final = 1000
BATCH: Final = 32
_RATE: Final = 3e-3
_OPEN: Final = -1
_IGNORED: Final = -100
"""What ``cross_entropy`` passes over."""

_CHOICES: Final = [len(values) + 1 for values in VALUES.values()]
"""The values of each attribute, and "left open" before them."""


class TextEncoders(nn.Module):
    """The two encoders with their tokenizers, and the heads that only teach them."""

    def __init__(self) -> None:
        super().__init__()
        ids = token_ids()
        framing: dict[str, Any] = {
            "pad_token_id": ids[PAD],
            "bos_token_id": ids[START],
            "eos_token_id": ids[END],
            "vocab_size": len(ids),
        }
        self.t5 = T5EncoderModel(
            T5Config(
                d_model=WIDTH,
                d_kv=32,
                d_ff=2 * WIDTH,
                num_layers=2,
                num_heads=4,
                feed_forward_proj="gated-gelu",
                dropout_rate=0.0,
                **framing,
            )
        )
        self.clip = CLIPTextModel(
            CLIPTextConfig(
                hidden_size=WIDTH,
                intermediate_size=2 * WIDTH,
                projection_dim=WIDTH,
                num_hidden_layers=2,
                num_attention_heads=4,
                max_position_embeddings=CONTEXT + 2,
                **framing,
            )
        )
        self.t5_tokens: PreTrainedTokenizerFast = phrase_tokenizer("end")
        self.clip_tokens: PreTrainedTokenizerFast = phrase_tokenizer("both")
        self.which_clause = nn.Linear(WIDTH, PANELS + 1)
        self.what_token = nn.Linear(WIDTH, sum(_CHOICES))
        self.what_pooled = nn.Linear(WIDTH, PANELS * sum(_CHOICES))

    def read(self, captions: Sequence[str], length: int = CONTEXT) -> tuple[Tensor, Tensor]:
        """T5's tokens [B, L, D] and CLIP's pooled vectors [B, D], as ``FluxPipeline`` has them."""
        ids = self.t5_ids(captions, length)
        pooled = self.clip_tokens(list(captions), padding="longest", return_tensors="pt").input_ids
        return self.t5(ids).last_hidden_state, self.clip(pooled).pooler_output

    def t5_ids(self, captions: Sequence[str], length: int = CONTEXT) -> Tensor:
        """Token ids [B, L], cut or padded."""
        return self.t5_tokens(
            list(captions),
            padding="max_length",
            max_length=length,
            truncation=True,
            return_tensors="pt",
        ).input_ids


def draw_lesson(rng: random.Random) -> Lesson:
    """A caption of any kind: one panel, unrelated panels, or a set."""
    panels = [random_attributes(rng) for _ in range(PANELS)]
    kind = rng.randrange(3)
    if kind == 0:
        return single_lesson(panels[0], rng)
    if kind == 1:
        return mosaic_lesson(panels, rng)
    summary = shared_names(rng)
    shared = {name: getattr(panels[0], name) for name in summary}
    return set_lesson([panel.model_copy(update=shared) for panel in panels], summary, rng)


def train_text(folder: Path, steps: int = STEPS) -> TextEncoders:
    """Trains the encoders, or goes on training them; they come back frozen."""
    torch.manual_seed(0)
    encoders = TextEncoders()

    def loss_of(step: int) -> Tensor:
        rng = random.Random(f"text {step}")  # noqa: S311 - lessons, not secrets
        scores, wanted = _answers(encoders, [draw_lesson(rng) for _ in range(BATCH)])
        losses = [
            functional.cross_entropy(score, want, ignore_index=_IGNORED)
            for score, want in zip(scores, wanted, strict=True)
        ]
        return torch.stack(losses).mean()

    train(encoders, loss_of, Cosine(steps=steps, peak=_RATE, warmup=50), folder)
    return encoders.eval().requires_grad_(requires_grad=False)


def _answers(
    encoders: TextEncoders, lessons: Sequence[Lesson]
) -> tuple[list[Tensor], list[Tensor]]:
    """Scores [N, values] and wanted values [N] of every question: clause, tokens, pooled."""
    captions = [lesson.caption for lesson in lessons]
    tokens, pooled = encoders.read(captions)
    clauses = _clauses(encoders.t5_ids(captions))
    told = torch.tensor([_by_clause(lesson) for lesson in lessons]) + 1
    of_tokens = torch.gather(
        told, 1, clauses.clamp(min=0)[..., None].expand(-1, -1, len(VALUES))
    ).masked_fill((clauses < 0)[..., None], _IGNORED)
    scores = [encoders.which_clause(tokens).flatten(0, 1)]
    wanted = [clauses.masked_fill(clauses < 0, _IGNORED).flatten()]
    scores += encoders.what_token(tokens).flatten(0, 1).split(_CHOICES, dim=1)
    wanted += of_tokens.flatten(0, 1).unbind(1)
    by_panel = encoders.what_pooled(pooled).unflatten(1, (PANELS, -1)).flatten(0, 1)
    scores += by_panel.split(_CHOICES, dim=1)
    wanted += told[:, 1:].flatten(0, 1).unbind(1)
    return scores, wanted


def _clauses(ids: Tensor) -> Tensor:
    """The clause of each token [B, L]: 0 before the first marker, -1 behind the end."""
    known = token_ids()
    markers = torch.tensor([known[f"[SCENE-{number}]"] for number in range(1, PANELS + 1)])
    counted = torch.isin(ids, markers).long().cumsum(1)
    return counted.masked_fill(ids == known[PAD], -1)


def _by_clause(lesson: Lesson) -> list[Told]:
    """What is told before the first marker, then of each panel."""
    nothing: Told = (_OPEN,) * len(VALUES)
    if len(lesson.told) == 1:
        return [lesson.told[0], lesson.told[0], *[nothing] * (PANELS - 1)]
    common = (set(values) for values in zip(*lesson.told, strict=True))
    before = tuple(values.pop() if len(values) == 1 else _OPEN for values in common)
    summary = before if " a story of " in lesson.caption else nothing
    return [summary, *lesson.told]
