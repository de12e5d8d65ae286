"""Local captioner based on a vision-language model.

Requests of all sources in a process share one queue, so that one source's partial batch is filled
with requests of the others.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed

from PIL import Image

from iclora.captioning.captioners import Reply, Request
from iclora.models.loaded import cached_model
from iclora.models.locate import locate
from iclora.models.vlm import Question, VisionLanguageModel, load_vlm
from schemas.caption import Answer
from schemas.captioning import CaptionerParams

_BATCHES_PER_ROUND = 8
"""Maximum number of batches with decoded images in memory."""


class LocalCaptioner:
    """Vision-language model run through transformers with greedy decoding and batching."""

    def __init__(self, params: CaptionerParams) -> None:
        self._params = params
        self.label = locate(params.model).label
        # Kernels sum differently per batch size, so the batch affects answers.
        self.settings = {"max_new_tokens": params.max_new_tokens, "batch": params.batch}

    @property
    def follows_prompts(self) -> bool:
        """True if the model's chat template follows prompts."""
        return load_vlm(self._params.model).follows_prompts

    def ask(self, requests: Sequence[Request]) -> Iterator[tuple[int, Reply]]:
        """Yields replies batch by batch; the JSON schema of a request is ignored."""
        model, params = load_vlm(self._params.model), self._params
        waiting = _batch_queue(model, params.max_new_tokens, params.batch).submit(requests)
        indices = {future: index for index, future in enumerate(waiting)}
        try:
            for future in as_completed(waiting):
                yield indices[future], future.result()
        finally:
            for future in waiting:
                future.cancel()


CAPTIONER = LocalCaptioner


class _BatchQueue:
    """Thread-safe request queue of one model."""

    def __init__(self, model: VisionLanguageModel, max_new_tokens: int, batch: int) -> None:
        self._model = model
        self._max_new_tokens, self._batch = max_new_tokens, batch
        self._lock = threading.Lock()
        self._queued: list[tuple[Request, Future[Answer]]] = []
        self._worker = ThreadPoolExecutor(1, "iclora-local-captioner")

    def submit(self, requests: Sequence[Request]) -> list[Future[Answer]]:
        """Enqueues requests and returns their futures."""
        futures: list[Future[Answer]] = [Future() for _ in requests]
        with self._lock:
            self._queued += zip(requests, futures, strict=True)
        self._worker.submit(self._run_batch)
        return futures

    def _run_batch(self) -> None:
        """Answers queued requests, up to ``_BATCHES_PER_ROUND`` batches."""
        with self._lock:
            most = _BATCHES_PER_ROUND * self._batch
            queued, self._queued = self._queued[:most], self._queued[most:]
            if self._queued:
                self._worker.submit(self._run_batch)
        queued = [item for item in queued if item[1].set_running_or_notify_cancel()]
        futures = [future for _, future in queued]
        try:
            questions = [
                Question(
                    tuple(
                        Image.open(io.BytesIO(picture)).convert("RGB")
                        for picture in request.pictures
                    ),
                    request.prompt,
                )
                for request, _ in queued
            ]
            answers = self._model.answers(
                questions, max_new_tokens=self._max_new_tokens, batch=self._batch
            )
            for index, answer in answers:
                futures[index].set_result(answer)
        except BaseException as error:  # noqa: BLE001 - re-raised by Future.result()
            for future in futures:
                if not future.done():
                    future.set_exception(error)


@cached_model(4)
def _batch_queue(model: VisionLanguageModel, max_new_tokens: int, batch: int) -> _BatchQueue:
    """Returns the queue that all sources in this process share per model and settings."""
    return _BatchQueue(model, max_new_tokens, batch)
