"""The server captioner against a real server that misbehaves."""

from __future__ import annotations

import base64
import contextlib
import gzip
import io
import json
import logging
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from PIL import Image

from iclora.captioning.breaker import COOLDOWN, MAX_FAILURES, CircuitBreaker
from iclora.captioning.captioners import Failure, Request, captioner_kinds, load_captioner
from iclora.captioning.captioners.server import MAX_WAIT_SECONDS, ServerCaptioner
from iclora.captioning.stage import shrunk_jpeg
from iclora.errors import BadConfig
from schemas.caption import Answer
from schemas.captioning import CaptionerParams

PICTURE = shrunk_jpeg(Image.new("RGB", (200, 100), "red"), 64)
ASKED = Request((PICTURE,), "What is seen?")
SHAPED = ASKED._replace(json_schema={"type": "object"})


def ask_all(captioner, requests):
    """Returns the replies in the order of the requests."""
    replies = dict(captioner.ask(requests))
    return [replies[index] for index in range(len(requests))]


@pytest.fixture
def captioner(server):
    def make(**changes):
        known = {"url": server.url, "model": "m", "retries": 2, "backoff_seconds": 0.01}
        known |= {"timeout_seconds": 5.0} | changes
        return ServerCaptioner(CaptionerParams(kind="server", **known))

    return make


def test_a_request_is_a_chat_completion_with_a_shrunk_jpeg(server, captioner, monkeypatch):
    monkeypatch.setenv("MY_KEY", "s3cret")
    server.default = (200, {}, b'{"choices":[{"message":{"content":"red"}}]}')
    assert ask_all(captioner(api_key_env="MY_KEY"), [ASKED]) == [Answer(text="red")]
    (body,) = server.seen
    picture, text = body["messages"][0]["content"]
    head, _, data = picture["image_url"]["url"].partition(",")
    assert head == "data:image/jpeg;base64"
    assert Image.open(io.BytesIO(base64.b64decode(data))).size == (64, 32)
    assert text == {"type": "text", "text": "What is seen?"}
    assert (body["model"], body["temperature"], body["max_tokens"]) == ("m", 0, 768)
    assert server.keys == ["Bearer s3cret"]


def test_the_key_is_in_no_setting_log_or_message(server, captioner, monkeypatch, caplog):
    monkeypatch.setenv("MY_KEY", "s3cret")
    server.default = (401, {}, b'{"error":{"message":"bad key"}}')
    asked = captioner(api_key_env="MY_KEY")
    caplog.set_level(logging.DEBUG)
    with pytest.raises(BadConfig, match="MY_KEY") as caught:
        ask_all(asked, [ASKED])
    assert "s3cret" not in f"{caught.value} {asked.settings} {asked.label} {caplog.text}"


KEY = "sk-Zx9/s3cr3t+0123"  # of nobody


def echoing(shape):
    """A body in which the server says the key that it was sent."""
    return json.dumps(shape).replace("KEY", KEY).encode()


@pytest.mark.parametrize("status", [400, 413, 429, 500, 503])
@pytest.mark.parametrize(
    "body",
    [
        echoing({"error": {"message": "bad request of Bearer KEY"}}),
        echoing({"error": "KEY"}),
        echoing({"KEY": "KEY"}),
        echoing(["KEY"]),
        b"x" * 193 + KEY.encode(),  # across the length that is told
        KEY.replace("/", "%2F").replace("+", "%2B").encode(),
        f"http://user:{KEY}@host/v1?key={KEY}".encode(),
    ],
)
def test_a_key_that_a_server_echoes_is_in_no_failure(server, captioner, monkeypatch, status, body):
    monkeypatch.setenv("MY_KEY", KEY)
    server.default = (status, {}, body)
    (failure,) = ask_all(captioner(api_key_env="MY_KEY", retries=0), [ASKED])
    assert "s3cr3t" not in failure.sentence
    assert "sk-Z" not in failure.sentence
    assert len(failure.sentence) < 300


@pytest.mark.parametrize(
    "body",
    [
        KEY.encode(),
        b"x" * 70 + KEY.encode(),
        echoing({"choices": [{"message": {"content": "a sign KEY on a wall"}}]}),
        echoing({"choices": [{"message": {"refusal": "not with KEY"}}]}),
    ],
)
def test_a_key_that_a_server_echoes_is_in_no_answer(server, captioner, monkeypatch, body):
    monkeypatch.setenv("MY_KEY", KEY)
    server.default = (200, {}, body)
    (reply,) = ask_all(captioner(api_key_env="MY_KEY", retries=0), [ASKED])
    assert "s3cr3t" not in str(reply)
    assert "sk-Z" not in str(reply)


def test_a_key_that_is_any_word_is_left_in_captions(server, captioner, completion, monkeypatch):
    monkeypatch.setenv("MY_KEY", "whatever")
    server.default = completion("whatever the weather")
    asked = captioner(api_key_env="MY_KEY")
    assert ask_all(asked, [ASKED]) == [Answer(text="whatever the weather")]


@pytest.mark.parametrize("status", [401, 403, 404])
def test_the_secrets_of_an_address_are_in_no_message(server, captioner, monkeypatch, status):
    monkeypatch.setenv("MY_KEY", KEY)
    server.default = (status, {}, echoing({"error": {"message": "KEY"}}))
    url = server.url.replace("http://", "http://me:hunter2@") + "?key=s3cr3t"
    with pytest.raises(BadConfig) as caught:
        ask_all(captioner(url=url, api_key_env="MY_KEY"), [ASKED])
    assert "127.0.0.1" in str(caught.value)
    for secret in ("s3cr3t", "sk-Z", "hunter2"):
        assert secret not in str(caught.value)


def test_a_server_that_cannot_be_reached_tells_no_secret_of_its_address(captioner):
    url = "http://me:hunter2@127.0.0.1:9/v1"
    (failure,) = ask_all(captioner(url=url, retries=0), [ASKED])
    assert failure.reason == "unreachable"
    assert "hunter2" not in failure.sentence


def test_the_log_has_no_secret_of_the_address(server, captioner, completion, caplog):
    server.script = [(400, {}, b'{"error": "response_format is not supported"}')]
    server.default = completion("plain")
    caplog.set_level(logging.INFO, "iclora")
    ask_all(captioner(url=server.url.replace("//", "//me:hunter2@")), [SHAPED])
    assert "offers no JSON schema" in caplog.text
    assert "hunter2" not in caplog.text


@pytest.mark.parametrize("key", ["with\nline", "caf\xe9"])
def test_a_key_that_no_header_can_hold_is_one_sentence(captioner, monkeypatch, key):
    monkeypatch.setenv("MY_KEY", key)
    with pytest.raises(BadConfig, match="MY_KEY holds characters") as caught:
        ask_all(captioner(api_key_env="MY_KEY"), [ASKED])
    assert key not in str(caught.value)


@pytest.mark.parametrize("url", ["http://\x00", "http://[::1", "http://a b:x"])
def test_an_address_that_is_none_is_one_sentence(captioner, url):
    with pytest.raises(BadConfig, match=r"caption\.captioner\.url is no URL"):
        captioner(url=url)


DEEP = b"[" * 100_000


@pytest.mark.parametrize(
    ("reply", "why"),
    [
        ((200, {}, DEEP), "nonsense"),
        ((500, {}, DEEP), "server_error"),
        ((200, {}, b'{"choices":[{"message":{"content":"' + b"a" * 100_000 + b'"}}]}'), "nonsense"),
        ((200, {}, b" " * (5 << 20)), "nonsense"),
        ((200, {"Content-Encoding": "gzip"}, gzip.compress(bytes(64 << 20))), "nonsense"),
        ((200, {}, b'{"choices":[{"message":{"content":' + b"9" * 5000 + b"}}]}"), "nonsense"),
    ],
)
def test_an_answer_that_is_too_much_is_a_failure(server, captioner, reply, why):
    server.default = reply
    (failure,) = ask_all(captioner(retries=0), [ASKED])
    assert failure.reason == why
    assert len(failure.sentence) < 300


def test_an_answer_that_trickles_is_given_up(captioner, trickle):
    (failure,) = ask_all(captioner(url=trickle, retries=0, timeout_seconds=0.5), [ASKED])
    assert (failure.reason, "does not end" in failure.sentence) == ("nonsense", True)


@pytest.fixture
def trickle():
    """The URL of a server whose answer goes on for ever, a byte now and then."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve():
            connection, _ = listening.accept()
            with connection, contextlib.suppress(OSError):
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 9999999\r\n\r\n")
                while True:
                    connection.sendall(b" ")
                    time.sleep(0.05)

        threading.Thread(target=serve, daemon=True).start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/v1"


@pytest.mark.parametrize("usage", ['{"prompt_tokens": "x"}', '{"prompt_tokens": 1e999}', "[]", "7"])
def test_a_usage_that_makes_no_sense_costs_nothing(server, captioner, usage):
    body = f'{{"choices":[{{"message":{{"content":"red"}}}}],"usage":{usage}}}'
    server.default = (200, {}, body.encode())
    assert ask_all(captioner(), [ASKED]) == [Answer(text="red")]


def test_half_a_surrogate_pair_can_be_written(server, captioner, completion):
    server.default = completion("a \ud800 b")
    (answer,) = ask_all(captioner(), [ASKED])
    assert answer.text.encode() == b"a ? b"
    server.default = completion(None, refusal="no \ud800")
    (answer,) = ask_all(captioner(), [ASKED])
    assert answer.text.encode() == b"no ?"


def test_no_key_sends_none(server, captioner, monkeypatch):
    monkeypatch.delenv("ICLORA_CAPTIONER_KEY", raising=False)
    ask_all(captioner(), [ASKED])
    assert server.keys == [None]


def test_a_busy_server_is_waited_for_as_long_as_it_says(server, captioner, completion):
    server.script = [(429, {"Retry-After": "0.4"}, b""), completion("now")]
    start = time.monotonic()
    assert ask_all(captioner(), [ASKED]) == [Answer(text="now")]
    assert 0.4 <= time.monotonic() - start < 5
    assert len(server.seen) == 2


def test_no_wait_is_longer_than_the_longest(server, captioner):
    server.default = (429, {"Retry-After": "99999"}, b"")
    waits = []
    asked = captioner()
    asked._pause = waits.append
    ask_all(asked, [ASKED])
    assert waits == [MAX_WAIT_SECONDS, MAX_WAIT_SECONDS]


def test_waits_double(server, captioner):
    server.default = (503, {}, b"")
    waits = []
    asked = captioner(backoff_seconds=1.0, retries=3)
    asked._pause = waits.append
    ask_all(asked, [ASKED])
    for wait, least in zip(waits, (1.0, 2.0, 4.0), strict=True):
        assert least <= wait <= 1.25 * least


@pytest.mark.parametrize(
    ("reply", "why"),
    [
        ((429, {}, b""), "busy"),
        ((500, {}, b"<html>oops</html>"), "server_error"),
        ((503, {"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}, b""), "server_error"),
        ((200, {}, b"nonsense"), "nonsense"),
        ((200, {}, b"[]"), "nonsense"),
        ((200, {}, b'{"choices": []}'), "nonsense"),
        ((200, {}, b'{"choices": [{"message": "hm"}]}'), "nonsense"),
        ((200, {}, b'{"choices": [{"message": {"content": null}}]}'), "nothing"),
        ((200, {}, b'{"choices": [{"message": {"content": "  "}}]}'), "nothing"),
        ((200, {}, b""), "nonsense"),
        ("cut", "unreachable"),
    ],
)
def test_what_may_pass_is_tried_again_and_then_a_failure(server, captioner, completion, reply, why):
    server.script = [reply, completion("fine")]
    assert ask_all(captioner(), [ASKED]) == [Answer(text="fine")]
    server.seen.clear()
    server.default = reply
    (failure,) = ask_all(captioner(), [ASKED])
    assert isinstance(failure, Failure)
    assert failure.reason == why
    assert failure.sentence
    assert "127.0.0.1" not in failure.sentence  # verdicts are published
    assert len(server.seen) == 3  # once and two retries


def test_a_silent_server_times_out(server, captioner, completion, slowly):
    server.default = slowly(1.0, completion("too late"))
    (failure,) = ask_all(captioner(timeout_seconds=0.1, retries=1), [ASKED])
    assert failure.reason == "unreachable"
    assert "ReadTimeout" in failure.sentence


def test_a_server_that_is_down_is_asked_by_few_requests_of_all_sources(server, captioner):
    server.default = "cut"
    sources = [captioner(concurrency=4, retries=1) for _ in range(3)]
    with ThreadPoolExecutor(3) as pool:
        replies = list(pool.map(lambda one: ask_all(one, [ASKED] * 20), sources))
    assert {reply.reason for some in replies for reply in some} == {"unreachable"}
    assert len(server.seen) == 2 * MAX_FAILURES


def test_a_server_that_comes_back_is_asked_again(server, captioner, completion):
    now = 0.0
    asked = captioner(retries=0)
    asked._breaker = CircuitBreaker(lambda: now)
    server.default = "cut"
    ask_all(asked, [ASKED] * 9)
    assert len(server.seen) == MAX_FAILURES
    server.default = completion("back")
    now = COOLDOWN - 0.1
    assert {reply.reason for reply in ask_all(asked, [ASKED] * 9)} == {"unreachable"}
    now = COOLDOWN
    assert ask_all(asked, [ASKED] * 9) == [Answer(text="back")] * 9


@pytest.mark.parametrize("fault", ["cut", (500, {}, b"")])
def test_a_picture_that_the_server_cannot_bear_costs_that_picture_only(
    server, captioner, completion, fault
):
    server.script = [fault] * (MAX_FAILURES - 1)
    server.default = completion("fine")
    replies = ask_all(captioner(retries=0, concurrency=1), [ASKED] * 9)
    assert sum(reply == Answer(text="fine") for reply in replies) == 9 - (MAX_FAILURES - 1)


@pytest.mark.parametrize(
    ("reply", "answer"),
    [
        (("too long", "length"), Answer(text="too long", finish="length")),
        (("", "content_filter"), Answer(text="", finish="blocked")),
        (("", "length"), Answer(text="", finish="length")),
    ],
)
def test_how_an_answer_ended_is_told(server, captioner, completion, reply, answer):
    server.default = completion(*reply)
    assert ask_all(captioner(), [ASKED]) == [answer]
    assert len(server.seen) == 1


def test_a_refusal_is_an_answer(server, captioner, completion):
    server.default = completion(None, refusal="I will not.")
    assert ask_all(captioner(), [ASKED]) == [Answer(text="I will not.", finish="refused")]


def test_content_in_parts_is_joined(server, captioner, completion):
    parts = [{"type": "text", "text": "a "}, {"type": "x"}, {"type": "text", "text": "b"}]
    server.default = completion(parts)
    assert ask_all(captioner(), [ASKED]) == [Answer(text="a b")]


def test_a_blocked_prompt_and_a_bad_request_are_told_apart(server, captioner):
    server.default = (400, {}, b'{"error": {"code": "content_filter", "message": "no"}}')
    assert ask_all(captioner(), [ASKED]) == [Answer(text="", finish="blocked")]
    server.default = (413, {}, b'{"error": {"message": "picture too large"}}')
    (failure,) = ask_all(captioner(), [ASKED])
    assert failure.reason == "bad_request"
    assert "picture too large" in failure.sentence
    assert len(server.seen) == 2  # neither is tried again


def test_json_is_asked_for_until_the_server_says_it_has_none(server, captioner, completion):
    server.script = [(400, {}, b'{"error": "response_format is not supported"}')]
    server.default = completion("plain")
    asked = captioner(concurrency=1)
    assert ask_all(asked, [SHAPED, SHAPED]) == [Answer(text="plain")] * 2
    assert ["response_format" in body for body in server.seen] == [True, False, False]
    assert server.seen[0]["response_format"]["json_schema"]["schema"] == {"type": "object"}


def test_an_unknown_model_stops_everything(server, captioner):
    server.default = (404, {}, b'{"error": {"message": "no such model"}}')
    with pytest.raises(BadConfig, match=r"caption\.captioner\.model"):
        ask_all(captioner(), [ASKED] * 5)


def test_a_server_needs_an_address():
    with pytest.raises(BadConfig, match="url is empty"):
        ServerCaptioner(CaptionerParams(kind="server"))


def test_a_kind_is_a_module_or_refused(server):
    assert captioner_kinds() == ["existing", "local", "server"]
    params = CaptionerParams(kind="server", url=server.url, model="m")
    assert isinstance(load_captioner(params), ServerCaptioner)
    with pytest.raises(BadConfig, match=r"kind 'sever' is unknown; known are existing, local, ser"):
        load_captioner(CaptionerParams(kind="sever"))


def test_no_more_requests_at_once_than_allowed_even_from_two_sources(
    server, captioner, completion, slowly
):
    server.default = slowly(0.05, completion("x"))
    threads = [
        threading.Thread(target=ask_all, args=(captioner(concurrency=3), [ASKED] * 9))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(server.seen) == 18
    assert server.most_active == 3


def test_replies_are_in_the_order_of_the_requests(server, captioner, completion):
    def echo(body):
        text = body["messages"][0]["content"][-1]["text"]
        time.sleep(0.02 * (int(text) % 3))
        return completion(f"said {text}")

    server.default = echo
    requests = [Request((PICTURE,), str(number)) for number in range(12)]
    replies = ask_all(captioner(), requests)
    assert [reply.text for reply in replies] == [f"said {number}" for number in range(12)]
