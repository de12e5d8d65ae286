"""Captioner for OpenAI-compatible servers such as vLLM, SGLang or hosted services.

Threads share one httpx client, because requests are few, long and independent. Transient failures
(429, 5xx, timeouts, dropped connections, malformed responses) are retried with exponential backoff
or the delay that the server requests. Permanent failures are returned immediately. A rejected key
or an unknown model stops the build, because it would fail every set. An unavailable server receives
one request at a time, regardless of the number of sources (``breaker``).

Server messages become part of published verdicts, and answers become captions. Both are limited in
size, and keys that a server may echo are removed. Compressed responses are neither requested nor
accepted, because a few bytes can expand to many.
"""

from __future__ import annotations

import base64
import json
import logging
import math
import os
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import lru_cache
from http import HTTPStatus
from typing import Any, Final, Literal, cast

import httpx
import tenacity

from iclora.captioning.breaker import breaker_of
from iclora.captioning.captioners import Failure, Reply, Request
from iclora.errors import BadConfig
from iclora.models.tokens import note_usage
from iclora.redact import HIDDEN, redact_text, redact_url, url_secrets
from schemas.caption import Answer
from schemas.captioning import CaptionerParams

log = logging.getLogger(__name__)

MAX_WAIT_SECONDS: Final = 120.0
"""Maximum delay between retries in seconds, regardless of the server's request and the backoff."""

_DOWN: Final = frozenset({"unreachable", "server_error"})
_LARGEST_BODY: Final = 4 << 20
_LONGEST_TEXT: Final = 1 << 16
"""Maximum length of an answer in characters; a typical caption has about a thousand."""

_SHORTEST_KEY: Final = 8
"""Minimum length of keys that are redacted from captions; servers without keys accept any word."""

_LONGEST_MESSAGE, _LONGEST_QUOTE = 200, 80
"""Maximum number of characters quoted from an error message and from an invalid response."""

_BUSY: Final = frozenset({408, 409, 425, 429})
_Finish = Literal["stop", "length", "blocked"]
_FINISHES: Final[Mapping[str, _Finish]] = {"length": "length", "content_filter": "blocked"}


class _RetryableError(Exception):
    """Failure that a retry may fix."""

    def __init__(self, reason: str, sentence: str, wait: float | None = None) -> None:
        super().__init__(sentence)
        self.failure = Failure(reason, sentence)
        self.wait = wait
        """Delay in seconds that the server requested."""


class ServerCaptioner:
    """Captioner that sends chat completion requests with images as JPEG data URLs."""

    def __init__(self, params: CaptionerParams) -> None:
        if not params.url:
            raise BadConfig(
                "caption.captioner.url is empty; give the server's base URL such as "
                "http://127.0.0.1:8000/v1"
            )
        try:
            httpx.URL(params.url)
        except httpx.InvalidURL as error:
            raise BadConfig(f"caption.captioner.url is no URL: {error}") from error
        self._params = params
        self.label = params.model  # servers do not report a revision
        self.settings = {
            "max_new_tokens": params.max_new_tokens,
            "temperature": 0,
            "json_output": params.json_output,
        }
        self.follows_prompts = True
        self._offers_json = params.json_output
        self._pause: Callable[[float], None] = time.sleep
        self._slots = _connection_slots(params.url, params.concurrency)
        self._breaker = breaker_of(params.url)

    def ask(self, requests: Sequence[Request]) -> Iterator[tuple[int, Reply]]:
        """Yields replies as they arrive, with up to ``concurrency`` parallel requests."""
        if not (self._key.isascii() and self._key.isprintable()):
            raise BadConfig(
                f"the environment variable {self._params.api_key_env} holds characters that a key "
                "cannot have; set it anew"
            )
        authorization = {"Authorization": f"Bearer {self._key}"} if self._key else {}
        limit = self._params.concurrency
        with (
            httpx.Client(
                base_url=self._params.url.rstrip("/") + "/",
                headers={**authorization, "Accept-Encoding": "identity"},
                timeout=self._params.timeout_seconds,
                limits=httpx.Limits(max_connections=limit, max_keepalive_connections=limit),
            ) as client,
            ThreadPoolExecutor(limit) as pool,
        ):
            futures = {
                pool.submit(self._reply, client, request): index
                for index, request in enumerate(requests)
            }
            try:
                for future in as_completed(futures):
                    yield futures[future], future.result()
            finally:
                for future in futures:
                    future.cancel()

    def _reply(self, client: httpx.Client, request: Request) -> Reply:
        """Sends a request until it has an answer or a failure that retries do not fix."""
        retrying = tenacity.Retrying(
            stop=tenacity.stop_after_attempt(self._params.retries + 1),
            wait=self._wait,
            retry=tenacity.retry_if_exception_type(_RetryableError),
            sleep=self._pause,
            reraise=True,
        )
        with self._breaker.request():
            try:
                reply: Reply = retrying(self._send, client, request)
            except _RetryableError as error:
                if error.failure.reason in _DOWN:
                    self._breaker.fail()
                return error.failure
            return reply

    def _wait(self, state: tenacity.RetryCallState) -> float:
        """Returns the delay that the server requested, or exponential backoff with jitter."""
        error = state.outcome.exception() if state.outcome else None
        if isinstance(error, _RetryableError) and error.wait is not None:
            return min(error.wait, MAX_WAIT_SECONDS)
        doubled = self._params.backoff_seconds * 2.0 ** (state.attempt_number - 1)
        return min(doubled * random.uniform(1.0, 1.25), MAX_WAIT_SECONDS)  # noqa: S311 - not a secret

    def _send(self, client: httpx.Client, request: Request) -> Reply:
        """Sends a request once.

        Raises:
            _RetryableError: The server is unavailable, busy, or its answer is malformed.
            BadConfig: The server rejects the key or the model.
        """
        if self._breaker.is_open:
            return Failure(
                "unreachable", "The captioning server does not respond; not asked again."
            )
        schema = request.json_schema if self._offers_json else None
        with self._slots:
            response = self._post(client, self._body(request, schema))
        status = response.status_code
        if status < HTTPStatus.INTERNAL_SERVER_ERROR:
            self._breaker.succeed()
        if status == HTTPStatus.OK:
            return self._answer(response)
        error = _error_of(response)
        if schema and status in {HTTPStatus.BAD_REQUEST, HTTPStatus.UNPROCESSABLE_ENTITY}:
            if _is_blocked(error):
                return Answer(text="", finish="blocked")
            log.info("%s offers no JSON schema; asking for plain text", self._clean_url)
            self._offers_json = False
            return self._send(client, request)
        text = (
            cast("dict[str, Any]", error).get("message", "") if isinstance(error, dict) else error
        )
        message = self._clean(" ".join((str(text) or response.reason_phrase).split()))
        sentence = f"The captioning server answers {status}: {message[:_LONGEST_MESSAGE]}"
        if status in _BUSY:
            raise _RetryableError("busy", sentence, _retry_after(response))
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            raise _RetryableError("server_error", sentence, _retry_after(response))
        if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
            raise BadConfig(
                f"{self._clean_url} refuses the key ({status}); put the right one in the "
                f"environment variable {self._params.api_key_env}"
            )
        if status == HTTPStatus.NOT_FOUND:
            raise BadConfig(
                f"{self._clean_url} knows no model {self._params.model!r} or no chat completions "
                "(404); check caption.captioner.url and caption.captioner.model"
            )
        if _is_blocked(error):
            return Answer(text="", finish="blocked")
        return Failure("bad_request", sentence)

    def _body(self, request: Request, schema: Mapping[str, object] | None) -> dict[str, object]:
        """Returns the JSON body of a chat completion request."""
        content: list[dict[str, object]] = [
            {
                "type": "image_url",
                "image_url": {
                    "url": "data:image/jpeg;base64," + base64.b64encode(picture).decode("ascii")
                },
            }
            for picture in request.pictures
        ]
        content.append({"type": "text", "text": request.prompt})
        body: dict[str, object] = {
            "model": self._params.model,
            "messages": [{"role": "user", "content": content}],
            "max_tokens": self._params.max_new_tokens,
            "temperature": 0,
        }
        if schema:
            body["response_format"] = {
                "type": "json_schema",
                "json_schema": {"name": "caption", "strict": True, "schema": schema},
            }
        return body

    def _post(self, client: httpx.Client, body: Mapping[str, object]) -> httpx.Response:
        """Sends a request and reads the response within the size and time limits."""
        data = bytearray()
        try:
            with client.stream("POST", "chat/completions", json=body) as response:
                if response.headers.get("content-encoding", "identity") != "identity":
                    raise _RetryableError(
                        "nonsense", "The captioning server's answer is compressed."
                    )
                until = time.monotonic() + self._params.timeout_seconds
                for chunk in response.iter_raw():
                    data += chunk
                    if len(data) > _LARGEST_BODY or time.monotonic() > until:
                        raise _RetryableError(
                            "nonsense", "The captioning server's answer does not end."
                        )
        except httpx.TransportError as error:  # refused, dropped, timed out, not HTTP
            raise _RetryableError(
                "unreachable",
                "The captioning server does not answer: "
                f"{type(error).__name__}: {self._clean(str(error))}",
            ) from error
        return httpx.Response(response.status_code, headers=response.headers, content=bytes(data))

    def _answer(self, response: httpx.Response) -> Answer:
        """Returns the first choice of a completion.

        Raises:
            _RetryableError: The body is not a completion, is too long, or has no text.
        """
        body = _text_of(response)
        try:
            completion = _parse_json(body)
            choice = cast("dict[str, Any]", completion["choices"][0])
            message = cast("dict[str, Any]", choice["message"])
            refusal, content = message.get("refusal"), message.get("content")
            if isinstance(content, list):
                parts = cast("list[dict[str, Any]]", content)
                content = "".join(str(part["text"]) for part in parts if part.get("type") == "text")
            text = "" if content is None else str(content)
            finish: _Finish = _FINISHES.get(str(choice.get("finish_reason")), "stop")
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            quote = self._clean(body)[:_LONGEST_QUOTE]
            raise _RetryableError(
                "nonsense", f"The captioning server's answer is no completion: {quote!r}"
            ) from error
        note_usage(completion.get("usage"))
        if len(text) > _LONGEST_TEXT:
            raise _RetryableError("nonsense", "The captioning server's answer is too long.")
        if refusal:
            return Answer(text=self._clean_caption(str(refusal)[:_LONGEST_TEXT]), finish="refused")
        if not text.strip() and finish == "stop":
            raise _RetryableError("nothing", "The captioning server's answer is empty.")
        return Answer(text=self._clean_caption(text), finish=finish)

    @property
    def _key(self) -> str:
        return os.environ.get(self._params.api_key_env, "")

    def _clean(self, text: str) -> str:
        """Removes the key and other secrets from a server's text."""
        return redact_text(_writable(text), (self._key, *url_secrets(self._params.url)))

    def _clean_caption(self, text: str) -> str:
        """Removes the key from a caption, unless the key may be an ordinary word."""
        is_word = self._key.isalpha() or len(self._key) < _SHORTEST_KEY
        return _writable(text if is_word else text.replace(self._key, HIDDEN))

    @property
    def _clean_url(self) -> str:
        return self._clean(redact_url(self._params.url))


CAPTIONER = ServerCaptioner


@lru_cache(maxsize=16)
def _connection_slots(url: str, concurrency: int) -> threading.BoundedSemaphore:
    """Returns the connection limit that all sources in this process share per server."""
    assert url, "captioners without an address are refused"
    return threading.BoundedSemaphore(concurrency)


def _writable(text: str) -> str:
    """Replaces lone surrogates, which JSON permits but files cannot store."""
    return text.encode(errors="replace").decode()


def _text_of(response: httpx.Response) -> str:
    """Returns a body as UTF-8, whatever its headers say."""
    return response.content.decode(errors="replace")


def _parse_json(text: str) -> Any:
    """Parses JSON.

    Raises:
        ValueError: The text is not JSON, or is nested too deeply.
    """
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("JSON too deep to be read") from error


def _error_of(response: httpx.Response) -> object:
    """Returns the error that a server reports, as JSON if it is JSON."""
    text = _text_of(response)
    try:
        body = _parse_json(text)
    except ValueError:
        return text
    return cast("dict[str, Any]", body).get("error", body) if isinstance(body, dict) else body


def _is_blocked(error: object) -> bool:
    """Checks if an error is that of a hosted server's content filter."""
    code = json.dumps(error).lower()
    return "content_filter" in code or "content_policy" in code


def _retry_after(response: httpx.Response) -> float | None:
    """Returns the seconds in ``Retry-After``, or None for its date form."""
    try:
        seconds = float(response.headers["retry-after"])
    except (KeyError, ValueError):
        return None
    return max(0.0, seconds) if math.isfinite(seconds) else None
