"""Local captioner based on a vision-language model.

Requests of all sources in a process share one queue, so that one source's partial batch is filled
with requests of the others.
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
"""Maximum number of batches with decoded images in memory."""


class LocalCaptioner:
    """Vision-language model run through transformers with greedy decoding and batching."""

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
        """Settings that affect answers; kernels sum differently per batch size."""
        return {"max_new_tokens": self._params.max_new_tokens, "batch": self._params.batch}

    @property
    def follows_prompts(self) -> bool:
        """True if the model's chat template follows prompts."""
        return self._model.follows_prompts

    def ask(self, requests: Sequence[Request]) -> Iterator[tuple[int, Reply]]:
        """Yields replies batch by batch; the JSON schema of a request is ignored."""
        waiting = self._queue.submit(requests)
        places = {future: place for place, future in enumerate(waiting)}
        try:
            for future in as_completed(waiting):
                yield places[future], future.result()
        finally:
            for future in waiting:
                future.cancel()


class _BatchQueue:
    """Thread-safe request queue of one model."""

    def __init__(self, model: VisionLanguageModel, max_new_tokens: int, batch: int) -> None:
        self._model = model
        self._most, self._batch = max_new_tokens, batch
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
        except BaseException as error:  # noqa: BLE001 - re-raised by Future.result()
            for future in futures:
                if not future.done():
                    future.set_exception(error)


@cached_model(4)
def _batch_queue(model: VisionLanguageModel, max_new_tokens: int, batch: int) -> _BatchQueue:
    """Returns the queue that all sources in this process share per model and settings."""
    return _BatchQueue(model, max_new_tokens, batch)


def _open(picture: bytes) -> Image.Image:
    return Image.open(io.BytesIO(picture)).convert("RGB")
