"""A captioner on this machine."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence

from PIL import Image

from iclora.captions.ask import Reply, Request
from iclora.models.vlm import Question, load_vlm
from schemas.captioning import CaptionerParams


class LocalCaptioner:
    """A vision-language model through transformers, asked greedily and in batches."""

    def __init__(self, params: CaptionerParams) -> None:
        self._params = params
        self._model = load_vlm(params.model)

    @property
    def label(self) -> str:
        """Model and revision."""
        return self._model.label

    @property
    def settings(self) -> Mapping[str, object]:
        """The batch counts: kernels sum differently for different sizes."""
        return {"max_new_tokens": self._params.max_new_tokens, "batch": self._params.batch}

    @property
    def follows_prompts(self) -> bool:
        """As the model's chat template has it."""
        return self._model.follows_prompts

    def ask(self, requests: Sequence[Request]) -> Iterator[tuple[int, Reply]]:
        """Replies batch by batch; shapes of answers are left to the prompt."""
        questions = [
            Question(tuple(map(_open, request.pictures)), request.prompt) for request in requests
        ]
        return self._model.answers(
            questions, max_new_tokens=self._params.max_new_tokens, batch=self._params.batch
        )


def _open(picture: bytes) -> Image.Image:
    return Image.open(io.BytesIO(picture)).convert("RGB")
