"""Answers are kept by everything they depend on."""

from __future__ import annotations

from pathlib import Path

import pytest

from iclora.captioning.caption_cache import FOLDER, ask_cached
from iclora.captioning.captioners import Failure, Request
from schemas.caption import Answer


class Counter:
    """A captioner that numbers its answers."""

    def __init__(self, label="m@1", **settings):
        self.label = label
        self.settings = settings
        self.asked = []
        self.follows_prompts = True

    def ask(self, requests):
        for place, request in reversed(list(enumerate(requests))):
            self.asked.append(request)
            if request.prompt == "fail":
                yield place, Failure("busy", "no")
            else:
                yield place, Answer(text=f"{request.prompt} {len(self.asked)}")


ASKED = Request((b"jpeg",), "what")


def ask(captioner, store, *requests):
    """Returns the replies in the order of the requests."""
    replies = dict(ask_cached(captioner, store, requests))
    return [replies[index] for index in range(len(requests))]


def test_an_answer_is_given_again_by_another_captioner_of_the_same_model(store):
    first = ask(Counter(), store, ASKED)
    another = Counter()
    assert ask(another, store, ASKED) == first
    assert another.asked == []
    (file,) = Path(store.root, FOLDER).rglob("*.json")
    assert file.parent.name == file.stem[:2]
    assert len(file.stem) == 64


@pytest.mark.parametrize(
    ("captioner", "request_"),
    [
        (Counter("m@2"), ASKED),
        (Counter(batch=2), ASKED),
        (Counter(), ASKED._replace(prompt="why")),
        (Counter(), ASKED._replace(pictures=(b"other",))),
        (Counter(), ASKED._replace(pictures=(b"jpeg", b"jpeg"))),
        (Counter(), ASKED._replace(json_schema={"type": "object"})),
    ],
)
def test_whatever_is_different_is_asked_anew(store, captioner, request_):
    ask(Counter(), store, ASKED)
    ask(captioner, store, request_)
    assert captioner.asked == [request_]


def test_failures_are_asked_again_and_replies_stay_in_place(store):
    fail = ASKED._replace(prompt="fail")
    captioner = Counter()
    ask(captioner, store, ASKED)
    replies = ask(captioner, store, fail, ASKED, ASKED._replace(prompt="b"))
    assert replies == [Failure("busy", "no"), Answer(text="what 1"), Answer(text="b 2")]
    ask(captioner, store, fail)
    assert [request.prompt for request in captioner.asked] == ["what", "b", "fail", "fail"]


@pytest.mark.parametrize("damage", [b"", b"{", b'{"text": 3}', b"\xff"])
def test_a_damaged_file_is_no_answer(store, damage):
    ask(Counter(), store, ASKED)
    (file,) = Path(store.root, FOLDER).rglob("*.json")
    good = file.read_bytes()
    file.write_bytes(damage)
    ask(Counter(), store, ASKED)
    assert file.read_bytes() == good
