"""Vision-language models through transformers: images and a prompt in, text out.

An answer does not depend on the other requests. Batches have a fixed size, prompts padded to one
length, and images of one size; the last batch is padded with its last request. Each batch runs on
one thread. Batches run in parallel, each on its own copy of the module tree with shared weights,
because some models keep state between calls. A resumed run therefore gets the same answers for its
missing requests. Decoding is greedy; code shipped with weights is never executed.
"""

from __future__ import annotations

import copy
import logging
import queue
import threading
from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from iclora.cpus import available_cpus
from iclora.errors import BadConfig
from iclora.models.loaded import cached_model
from iclora.models.locate import MINIATURE, Located, locate
from iclora.models.usage import record_answers
from schemas.caption import Answer

log = logging.getLogger(__name__)

LENGTH_STEP = 32
"""Multiple in tokens that prompts are left-padded to."""

_LOAD_LOCK = threading.Lock()


class Question(NamedTuple):
    """Prompt and images of one request."""

    images: tuple[Image.Image, ...]
    prompt: str


class _BatchShape(NamedTuple):
    """Batch key: questions of one shape can share a batch."""

    length: int
    sizes: tuple[tuple[int, int], ...]


class VisionLanguageModel:
    """Loaded vision-language model."""

    def __init__(self, name: str, located: Located) -> None:
        import torch
        from transformers import AutoModelForImageTextToText, AutoProcessor
        from transformers.utils import logging as transformers_log

        transformers_log.disable_progress_bar()  # who runs this library shows its progress
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        known = {"trust_remote_code": False, "local_files_only": True}
        try:
            self._processor: Any = AutoProcessor.from_pretrained(located.folder, **known)
            model: Any = AutoModelForImageTextToText.from_pretrained(
                located.folder,
                dtype="auto" if self._device == "cuda" else torch.float32,
                use_safetensors=True,
                **known,
            )
        except (OSError, ValueError, KeyError) as error:  # what transformers raises at the edge
            raise BadConfig(f"{name} is not a vision-language model: {error}") from error
        model = model.eval().requires_grad_(requires_grad=False).to(self._device)
        self._copies = 1 if self._device == "cuda" else available_cpus()
        self._models: queue.SimpleQueue[Any] = queue.SimpleQueue()
        for _ in range(self._copies):
            self._models.put(_replica(model))
        self._preparing = threading.Lock()
        tokenizer = self._processor.tokenizer
        tokenizer.padding_side = "left"
        if tokenizer.pad_token_id is None:
            tokenizer.pad_token = tokenizer.eos_token
        self._ends = _end_tokens(model, tokenizer)
        self._lengths: dict[tuple[str, tuple[tuple[int, int], ...]], int] = {}

    @property
    def follows_prompts(self) -> bool:
        """True if the chat template includes the prompt; those of small captioners omit it."""
        return self._chat(Question((), "one")) != self._chat(Question((), "another"))

    def answer(
        self, questions: Sequence[Question], *, max_new_tokens: int = 256, batch: int = 8
    ) -> list[Answer]:
        """Returns the answers in the order of the questions."""
        found = dict(self.answers(questions, max_new_tokens=max_new_tokens, batch=batch))
        return [found[place] for place in range(len(questions))]

    def answers(
        self, questions: Sequence[Question], *, max_new_tokens: int, batch: int
    ) -> Iterator[tuple[int, Answer]]:
        """Yields each answer with its question's index, batch by batch as they complete."""
        batches = self._batches(questions, batch)
        if not batches:
            return

        def work(item: tuple[_BatchShape, list[int]]) -> list[tuple[int, Answer]]:
            shape, places = item
            asked = [questions[place] for place in places]
            asked += [asked[-1]] * (batch - len(asked))
            texts = self._generate(asked, shape, max_new_tokens)
            return list(zip(places, texts, strict=False))

        with ThreadPoolExecutor(self._copies, initializer=_one_thread) as pool:
            for answered in pool.map(work, batches):
                yield from answered

    def _batches(
        self, questions: Sequence[Question], size: int
    ) -> list[tuple[_BatchShape, list[int]]]:
        groups: dict[_BatchShape, list[int]] = {}
        for place, question in enumerate(questions):
            groups.setdefault(self._shape(question), []).append(place)
        return [
            (shape, places[start : start + size])
            for shape, places in groups.items()
            for start in range(0, len(places), size)
        ]

    def _shape(self, question: Question) -> _BatchShape:
        sizes = tuple(image.size for image in question.images)
        if (question.prompt, sizes) not in self._lengths:
            tokens = self._inputs([question], {})["input_ids"].shape[1]
            self._lengths[question.prompt, sizes] = -(-tokens // LENGTH_STEP) * LENGTH_STEP
        return _BatchShape(self._lengths[question.prompt, sizes], sizes)

    def _inputs(self, questions: Sequence[Question], padding: Mapping[str, object]) -> Any:
        texts = [self._chat(question) for question in questions]
        images = [image for question in questions for image in question.images]
        with self._preparing:  # a fast tokenizer cannot change its padding in two threads
            inputs = self._processor(
                text=texts, images=images or None, return_tensors="pt", **padding
            )
        return inputs.to(self._device)

    @contextmanager
    def _borrow_replica(self) -> Generator[Any]:
        model = self._models.get()
        try:
            yield model
        finally:
            self._models.put(model)

    def _chat(self, question: Question) -> str:
        content: list[dict[str, str]] = [{"type": "image"} for _ in question.images]
        content.append({"type": "text", "text": question.prompt})
        return self._processor.apply_chat_template(
            [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
        )

    def _generate(
        self, questions: Sequence[Question], shape: _BatchShape, max_new_tokens: int
    ) -> list[Answer]:
        import torch

        inputs = self._inputs(questions, {"padding": "max_length", "max_length": shape.length})
        with self._borrow_replica() as model, torch.inference_mode():
            tokens = model.generate(
                **inputs,
                do_sample=False,
                num_beams=1,
                max_new_tokens=max_new_tokens,
                temperature=None,
                top_p=None,
                top_k=None,
                pad_token_id=self._processor.tokenizer.pad_token_id,
            )
        new = tokens[:, inputs["input_ids"].shape[1] :].cpu()
        filler = self._processor.tokenizer.pad_token_id
        written = new.numel() if filler is None else int((new != filler).sum())
        record_answers(len(questions), int(inputs["attention_mask"].sum()), written)
        return [self._answer(row.tolist(), max_new_tokens) for row in new]

    def _answer(self, tokens: list[int], most: int) -> Answer:
        ended = any(token in self._ends for token in tokens)
        text = self._processor.tokenizer.decode(tokens, skip_special_tokens=True)
        return Answer(text=text.strip(), finish="stop" if ended or len(tokens) < most else "length")


def vlm_label(name: str) -> str:
    """Returns ``name@revision`` as recorded in manifests, without loading the model.

    The name has no local path, and the revision is a hub commit or a digest of the files.

    Raises:
        MissingModel: the weights are not on this machine.
    """
    is_folder = not name.startswith(MINIATURE) and Path(name).is_dir()
    return f"{Path(name).name if is_folder else name}@{locate(name).revision}"


def load_vlm(name: str) -> VisionLanguageModel:
    """Loads the vision-language model of this name, once per process.

    Args:
        name: folder, hub id or ``miniature/vlm``.

    Raises:
        MissingModel: the weights are not on this machine.
        BadConfig: transformers cannot load it without custom code.
    """
    with _LOAD_LOCK:
        return _load(name)


@cached_model(1)
def _load(name: str) -> VisionLanguageModel:
    return VisionLanguageModel(name, locate(name))


def _replica(model: Any) -> Any:
    """Copies the module tree with shared tensors."""
    shared = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    return copy.deepcopy(model, shared)


def _end_tokens(model: Any, tokenizer: Any) -> frozenset[int]:
    ends: Any = model.generation_config.eos_token_id
    given = ends if isinstance(ends, list) else [ends]
    return frozenset(end for end in (*given, tokenizer.eos_token_id) if end is not None)


def _one_thread() -> None:
    """Limits a worker to one thread, which fixes the order of summation."""
    import torch

    torch.set_num_threads(1)
