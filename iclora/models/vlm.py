"""Vision-language models through transformers: images and a prompt in, text out.

An answer does not depend on the other requests. Batches have a fixed size, prompts padded to one
length, and images of one size; the last batch is padded with its last request. Each batch runs on
one thread. Batches run in parallel, each on its own copy of the module tree with shared weights,
because some models keep state between calls. A resumed run therefore gets the same answers for its
missing requests. Decoding is greedy; code shipped with weights is never executed.
"""

from __future__ import annotations

import copy
import queue
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from PIL import Image

from iclora.cpus import available_cpus
from iclora.errors import BadConfig
from iclora.models.loaded import cached_model, use_one_thread
from iclora.models.locate import locate
from iclora.models.tokens import record_answers
from schemas.caption import Answer

LENGTH_STEP = 32
"""Multiple in tokens that prompts are left-padded to."""


class Question(NamedTuple):
    """Prompt and images of one request."""

    images: tuple[Image.Image, ...]
    prompt: str


_Sizes = tuple[tuple[int, int], ...]
"""Sizes of a question's images."""


class VisionLanguageModel:
    """Loaded vision-language model.

    Attributes:
        label: name and revision of the model, as recorded in manifests.
    """

    def __init__(self, name: str) -> None:
        import torch
        from transformers import AutoModelForImageTextToText, AutoProcessor
        from transformers.utils import logging as transformers_log

        transformers_log.disable_progress_bar()  # who runs this library shows its progress
        located = locate(name)
        self.label = located.label
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        options = {"trust_remote_code": False, "local_files_only": True}
        try:
            self._processor: Any = AutoProcessor.from_pretrained(located.folder, **options)
            model: Any = AutoModelForImageTextToText.from_pretrained(
                located.folder,
                dtype="auto" if self._device == "cuda" else torch.float32,
                use_safetensors=True,
                **options,
            )
        except (OSError, ValueError, KeyError) as error:  # what transformers raises at the edge
            raise BadConfig(f"{name} is not a vision-language model: {error}") from error
        model = model.eval().requires_grad_(requires_grad=False).to(self._device)
        self._copies = 1 if self._device == "cuda" else available_cpus()
        self._models: queue.SimpleQueue[Any] = queue.SimpleQueue()
        shared = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
        for _ in range(self._copies):
            self._models.put(copy.deepcopy(model, dict(shared)))  # the module tree alone
        self._preparing = threading.Lock()
        tokenizer = self._processor.tokenizer
        tokenizer.padding_side = "left"
        if tokenizer.pad_token_id is None:
            tokenizer.pad_token = tokenizer.eos_token
        ends: Any = model.generation_config.eos_token_id
        ends = ends if isinstance(ends, list) else [ends]
        self._ends = frozenset({*ends, tokenizer.eos_token_id} - {None})
        self._lengths: dict[tuple[str, _Sizes], int] = {}

    @property
    def follows_prompts(self) -> bool:
        """True if the chat template includes the prompt; those of small captioners omit it."""
        return self._chat(Question((), "one")) != self._chat(Question((), "two"))

    def answer(
        self, questions: Sequence[Question], *, max_new_tokens: int = 256, batch: int = 8
    ) -> list[Answer]:
        """Returns the answers in the order of the questions."""
        answers = self.answers(questions, max_new_tokens=max_new_tokens, batch=batch)
        return [answer for _, answer in sorted(answers, key=lambda item: item[0])]

    def answers(
        self, questions: Sequence[Question], *, max_new_tokens: int, batch: int
    ) -> Iterator[tuple[int, Answer]]:
        """Yields each answer with its question's index, batch by batch as they complete."""
        # Questions of one padded length and one choice of image sizes can share a batch.
        groups: dict[tuple[int, _Sizes], list[int]] = {}
        for index, question in enumerate(questions):
            sizes = tuple(image.size for image in question.images)
            groups.setdefault((self._padded_length(question, sizes), sizes), []).append(index)
        batches = [
            (length, indices[start : start + batch])
            for (length, _), indices in groups.items()
            for start in range(0, len(indices), batch)
        ]

        def work(item: tuple[int, list[int]]) -> list[tuple[int, Answer]]:
            length, indices = item
            asked = [questions[index] for index in indices]
            asked += [asked[-1]] * (batch - len(asked))
            return list(zip(indices, self._generate(asked, length, max_new_tokens), strict=False))

        with ThreadPoolExecutor(self._copies, initializer=use_one_thread) as pool:
            for answered in pool.map(work, batches):
                yield from answered

    def _padded_length(self, question: Question, sizes: _Sizes) -> int:
        key = (question.prompt, sizes)
        if key not in self._lengths:
            tokens = self._inputs([question], {})["input_ids"].shape[1]
            self._lengths[key] = -(-tokens // LENGTH_STEP) * LENGTH_STEP
        return self._lengths[key]

    def _inputs(self, questions: Sequence[Question], padding: Mapping[str, object]) -> Any:
        texts = [self._chat(question) for question in questions]
        images = [image for question in questions for image in question.images]
        with self._preparing:  # a fast tokenizer cannot change its padding in two threads
            inputs = self._processor(
                text=texts, images=images or None, return_tensors="pt", **padding
            )
        return inputs.to(self._device)

    def _chat(self, question: Question) -> str:
        content: list[dict[str, str]] = [{"type": "image"} for _ in question.images]
        content.append({"type": "text", "text": question.prompt})
        return self._processor.apply_chat_template(
            [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
        )

    def _generate(
        self, questions: Sequence[Question], length: int, max_new_tokens: int
    ) -> list[Answer]:
        import torch

        inputs = self._inputs(questions, {"padding": "max_length", "max_length": length})
        padding = self._processor.tokenizer.pad_token_id
        model = self._models.get()
        try:
            with torch.inference_mode():
                tokens = model.generate(
                    **inputs,
                    do_sample=False,
                    num_beams=1,
                    max_new_tokens=max_new_tokens,
                    temperature=None,
                    top_p=None,
                    top_k=None,
                    pad_token_id=padding,
                )
        finally:
            self._models.put(model)
        new = tokens[:, inputs["input_ids"].shape[1] :].cpu()  # [B, new tokens]
        written = new.numel() if padding is None else int((new != padding).sum())
        record_answers(len(questions), int(inputs["attention_mask"].sum()), written)
        return [self._answer(row.tolist(), max_new_tokens) for row in new]

    def _answer(self, tokens: list[int], most: int) -> Answer:
        ended = any(token in self._ends for token in tokens)
        text = self._processor.tokenizer.decode(tokens, skip_special_tokens=True)
        return Answer(text=text.strip(), finish="stop" if ended or len(tokens) < most else "length")


@cached_model(1)
def load_vlm(name: str) -> VisionLanguageModel:
    """Loads the vision-language model of this name, once per process.

    Args:
        name: folder, hub id or ``miniature/vlm``.

    Raises:
        MissingModel: the weights are not on this machine.
        BadConfig: transformers cannot load it without custom code.
    """
    return VisionLanguageModel(name)
