"""A captioner behind an OpenAI-compatible server: vLLM, SGLang or a hosted one.

Decided: threads over one httpx client, because requests are few, long and independent. Waiting
answers (429, 5xx, timeouts, cut connections, nonsense) are asked again with growing waits or as
long as the server says; what more tries cannot mend is a reply at once; a refused key or an
unknown model stops the build, because it would fail every set. A server that is down is asked by
one request at a time, whatever the number of sources (``breaker``).
"""

from __future__ import annotations

import base64
import json
import logging
import os
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import lru_cache
from http import HTTPStatus
from typing import Any, Final, cast

import httpx
import tenacity

from iclora.captions.ask import Failure, Reply, Request
from iclora.captions.breaker import breaker_of
from iclora.errors import BadConfig
from iclora.models.usage import note_usage
from schemas.caption import Answer
from schemas.captioning import CaptionerParams

log = logging.getLogger(__name__)

LONGEST_WAIT: Final = 120.0
"""Seconds between two tries, whatever the server or the doubling says."""

_DOWN: Final = frozenset({"unreachable", "server_error"})
_BUSY: Final = frozenset({408, 409, 425, 429})
_FINISHES: Final[Mapping[str, str]] = {"length": "length", "content_filter": "blocked"}


class _TryAgainError(Exception):
    """What another try may mend."""

    def __init__(self, why: str, sentence: str, wait: float | None = None) -> None:
        super().__init__(sentence)
        self.failure = Failure(why, sentence)
        self.wait = wait
        """Seconds the server asked for."""


class ServerCaptioner:
    """Chat completions with pictures as JPEG data URLs."""

    def __init__(self, params: CaptionerParams) -> None:
        if not params.url:
            raise BadConfig(
                "caption.captioner.url is empty; give the server's base URL such as "
                "http://127.0.0.1:8000/v1"
            )
        self._params = params
        self._offers_json = params.json_output
        self._pause: Callable[[float], None] = time.sleep
        self._slots = _slots_of(params.url, params.concurrency)
        self._breaker = breaker_of(params.url)

    @property
    def label(self) -> str:
        """The model's name; a server does not tell its revision."""
        return self._params.model

    @property
    def settings(self) -> Mapping[str, object]:
        """What shapes an answer; where the server is and how it is waited for does not."""
        return {
            "max_new_tokens": self._params.max_new_tokens,
            "temperature": 0,
            "json_output": self._params.json_output,
        }

    @property
    def follows_prompts(self) -> bool:
        """Chat models do."""
        return True

    def ask(self, requests: Sequence[Request]) -> Iterator[tuple[int, Reply]]:
        """Replies as they come in, at most ``concurrency`` requests at a time."""
        with (
            self._client() as client,
            ThreadPoolExecutor(self._params.concurrency) as pool,
        ):
            futures = {
                pool.submit(self._reply, client, request): place
                for place, request in enumerate(requests)
            }
            try:
                for future in as_completed(futures):
                    yield futures[future], future.result()
            finally:
                for future in futures:
                    future.cancel()

    def _client(self) -> httpx.Client:
        key = os.environ.get(self._params.key_variable, "")
        limit = self._params.concurrency
        return httpx.Client(
            base_url=self._params.url.rstrip("/") + "/",
            headers={"Authorization": f"Bearer {key}"} if key else {},
            timeout=self._params.timeout_seconds,
            limits=httpx.Limits(max_connections=limit, max_keepalive_connections=limit),
        )

    def _reply(self, client: httpx.Client, request: Request) -> Reply:
        tries = tenacity.Retrying(
            stop=tenacity.stop_after_attempt(self._params.retries + 1),
            wait=self._wait,
            retry=tenacity.retry_if_exception_type(_TryAgainError),
            sleep=self._pause,
            reraise=True,
        )
        with self._breaker.request():
            try:
                reply: Reply = tries(self._once, client, request)
            except _TryAgainError as error:
                if error.failure.why in _DOWN:
                    self._breaker.fail()
                return error.failure
            return reply

    def _wait(self, state: tenacity.RetryCallState) -> float:
        """As long as the server says, else doubling with a little jitter."""
        error = state.outcome.exception() if state.outcome else None
        if isinstance(error, _TryAgainError) and error.wait is not None:
            return min(error.wait, LONGEST_WAIT)
        doubled = self._params.backoff_seconds * 2.0 ** (state.attempt_number - 1)
        return min(doubled * random.uniform(1.0, 1.25), LONGEST_WAIT)  # noqa: S311 - not a secret

    def _once(self, client: httpx.Client, request: Request) -> Reply:
        if self._breaker.is_open:
            return Failure(
                "unreachable", "The captioning server does not respond; not asked again."
            )
        shaped = self._offers_json and request.shape is not None
        try:
            with self._slots:
                response = client.post("chat/completions", json=self._body(request, shaped=shaped))
        except httpx.TransportError as error:  # refused, cut, timed out, not HTTP
            raise _TryAgainError(
                "unreachable",
                f"The captioning server does not answer: {type(error).__name__}: {error}",
            ) from error
        status = response.status_code
        if status < HTTPStatus.INTERNAL_SERVER_ERROR:
            self._breaker.succeed()
        if status == HTTPStatus.OK:
            return _answer_in(response)
        if shaped and status in {HTTPStatus.BAD_REQUEST, HTTPStatus.UNPROCESSABLE_ENTITY}:
            if (reply := _blocked(response)) is not None:
                return reply
            log.info("%s offers no JSON schema; asking for plain text", self._params.url)
            self._offers_json = False
            return self._once(client, request)
        return self._refused(response)

    def _body(self, request: Request, *, shaped: bool) -> dict[str, object]:
        content: list[dict[str, object]] = [
            {"type": "image_url", "image_url": {"url": _data_url(picture)}}
            for picture in request.pictures
        ]
        content.append({"type": "text", "text": request.prompt})
        body: dict[str, object] = {
            "model": self._params.model,
            "messages": [{"role": "user", "content": content}],
            "max_tokens": self._params.max_new_tokens,
            "temperature": 0,
        }
        if shaped:
            schema = {"name": "caption", "strict": True, "schema": request.shape}
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
        return body

    def _refused(self, response: httpx.Response) -> Reply:
        """What a status other than 200 means."""
        status, url = response.status_code, self._params.url
        sentence = f"The captioning server answers {status}: {_message(response)}"
        if status in _BUSY:
            raise _TryAgainError("busy", sentence, _retry_after(response))
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            raise _TryAgainError("server_error", sentence, _retry_after(response))
        if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
            raise BadConfig(
                f"{url} refuses the key ({status}); put the right one in the environment variable "
                f"{self._params.key_variable}"
            )
        if status == HTTPStatus.NOT_FOUND:
            raise BadConfig(
                f"{url} knows no model {self._params.model!r} or no chat completions (404); "
                "check caption.captioner.url and caption.captioner.model"
            )
        return _blocked(response) or Failure("bad_request", sentence)


@lru_cache(maxsize=16)
def _slots_of(url: str, concurrency: int) -> threading.BoundedSemaphore:
    """A server has one number of places in this process, however many sources are in work."""
    assert url, "captioners without an address are refused"
    return threading.BoundedSemaphore(concurrency)


def _data_url(picture: bytes) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(picture).decode("ascii")


def _answer_in(response: httpx.Response) -> Answer:
    """The first choice of a completion.

    Raises:
        _TryAgainError: the body is not a completion, or says nothing.
    """
    try:
        choice = cast("dict[str, Any]", response.json()["choices"][0])
        message = cast("dict[str, Any]", choice["message"])
        refusal = message.get("refusal")
        text, finish = _text_of(message.get("content")), choice.get("finish_reason")
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        said = response.text[:80]
        raise _TryAgainError(
            "nonsense", f"The captioning server's answer is no completion: {said!r}"
        ) from error
    note_usage(response.json().get("usage"))
    if refusal:
        return Answer(text=str(refusal), finish="refused")
    end = cast("Any", _FINISHES.get(str(finish), "stop"))
    if not text.strip() and end == "stop":
        raise _TryAgainError("nothing", "The captioning server's answer is empty.")
    return Answer(text=text, finish=end)


def _text_of(content: object) -> str:
    """A message's content: a string, or a list of parts of which the texts count."""
    if isinstance(content, list):
        parts = cast("list[dict[str, Any]]", content)
        return "".join(str(part["text"]) for part in parts if part.get("type") == "text")
    return "" if content is None else str(content)


def _blocked(response: httpx.Response) -> Answer | None:
    """Hosted servers report their content filter as a 400 with a code."""
    code = json.dumps(_error(response)).lower()
    held_back = "content_filter" in code or "content_policy" in code
    return Answer(text="", finish="blocked") if held_back else None


def _error(response: httpx.Response) -> object:
    try:
        body = response.json()
    except ValueError:
        return response.text
    return cast("dict[str, Any]", body).get("error", body) if isinstance(body, dict) else body


def _message(response: httpx.Response) -> str:
    error = _error(response)
    said = cast("dict[str, Any]", error).get("message", "") if isinstance(error, dict) else error
    return " ".join(str(said).split())[:200] or response.reason_phrase


def _retry_after(response: httpx.Response) -> float | None:
    """Seconds from ``Retry-After``; its date form is left to the doubling."""
    try:
        return max(0.0, float(response.headers["retry-after"]))
    except (KeyError, ValueError):
        return None
