"""A captioner on this machine.

Sources are captioned beside each other, and a batch that one of them cannot fill is filled up by
the others: everything that waits is asked together.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed

from PIL import Image

from iclora.captioning.captioner import Reply, Request
from iclora.models.loaded import cached_model
from iclora.models.vlm import Question, VisionLanguageModel, load_vlm
from schemas.caption import Answer
from schemas.captioning import CaptionerParams

_BATCHES_PER_ROUND = 8
"""Batches whose pictures are in memory at a time."""


class LocalCaptioner:
    """A vision-language model through transformers, asked greedily and in batches."""

    def __init__(self, params: CaptionerParams) -> None:
        self._params = params
        self._model = load_vlm(params.model)
        self._queue = _batch_queue(self._model, params.max_new_tokens, params.batch)

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
        waiting = self._queue.submit(requests)
        places = {future: place for place, future in enumerate(waiting)}
        try:
            for future in as_completed(waiting):
                yield places[future], future.result()
        finally:
            for future in waiting:
                future.cancel()


class _BatchQueue:
    """Where the requests to one model are queued, from whatever thread they come."""

    def __init__(self, model: VisionLanguageModel, max_new_tokens: int, batch: int) -> None:
        self._model = model
        self._most, self._batch = max_new_tokens, batch
        self._lock = threading.Lock()
        self._queued: list[tuple[Request, Future[Answer]]] = []
        self._worker = ThreadPoolExecutor(1, "iclora-local-captioner")

    def submit(self, requests: Sequence[Request]) -> list[Future[Answer]]:
        """Hands requests in."""
        futures: list[Future[Answer]] = [Future() for _ in requests]
        with self._lock:
            self._queued += zip(requests, futures, strict=True)
        self._worker.submit(self._run_batch)
        return futures

    def _run_batch(self) -> None:
        """Answers what is queued, as much as there is room for."""
        with self._lock:
            most = _BATCHES_PER_ROUND * self._batch
            queued, self._queued = self._queued[:most], self._queued[most:]
            if self._queued:
                self._worker.submit(self._run_batch)
        taken = [(request, one) for request, one in queued if one.set_running_or_notify_cancel()]
        futures = [future for _, future in taken]
        try:
            questions = [
                Question(tuple(map(_open, request.pictures)), request.prompt)
                for request, _ in taken
            ]
            answers = self._model.answers(questions, max_new_tokens=self._most, batch=self._batch)
            for place, answer in answers:
                futures[place].set_result(answer)
        except BaseException as error:  # noqa: BLE001 - it is raised where the answer is waited for
            for future in futures:
                if not future.done():
                    future.set_exception(error)


@cached_model(4)
def _batch_queue(model: VisionLanguageModel, max_new_tokens: int, batch: int) -> _BatchQueue:
    """One counter a model in this process, however many sources are in work."""
    return _BatchQueue(model, max_new_tokens, batch)


def _open(picture: bytes) -> Image.Image:
    return Image.open(io.BytesIO(picture)).convert("RGB")
