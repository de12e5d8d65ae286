"""Who changed a value is known from what was declared last; a person's change stays."""

from __future__ import annotations

import pytest

from tasks.merge import Items, digest, digests, merge, merge_items

OLD, NEW, MINE = {"limit": 1}, {"limit": 2}, {"limit": 7}


@pytest.mark.parametrize(
    ("last", "now", "declared", "result", "kept"),
    [
        (OLD, OLD, OLD, OLD, []),
        (OLD, OLD, NEW, NEW, []),
        (OLD, MINE, OLD, MINE, ["limit stays 7; declared: 1"]),
        (OLD, MINE, NEW, MINE, ["limit stays 7; declared: 2"]),
        (OLD, NEW, NEW, NEW, []),
        ({}, {}, NEW, NEW, []),
        ({}, MINE, {}, MINE, ["limit stays 7; declared: unset"]),
        (OLD, OLD, {}, {}, []),
        (OLD, {}, OLD, {}, ["limit stays unset; declared: 1"]),
        (OLD, {}, NEW, {}, ["limit stays unset; declared: 2"]),
        (OLD, {}, {}, {}, []),
        (OLD, MINE, {}, MINE, ["limit stays 7; declared: unset"]),
        (None, MINE, NEW, MINE, ["limit stays 7; declared: 2"]),
        (None, {}, NEW, NEW, []),
        (None, MINE, {}, MINE, ["limit stays 7; declared: unset"]),
    ],
)
def test_a_persons_change_stays_and_the_rest_follows(last, now, declared, result, kept):
    merged = merge(None if last is None else digests(last), now, declared)
    assert (merged.values, merged.kept) == (result, kept)


def test_a_change_of_one_value_leaves_the_others_to_the_declaration():
    last, declared = {"a": 1, "b": 1}, {"a": 2, "b": 2, "c": 2}
    merged = merge(digests(last), {"a": 7, "b": 1, "mine": 0}, declared)
    assert merged.values == {"a": 7, "b": 2, "c": 2, "mine": 0}
    assert len(merged.kept) == 2


def test_what_may_be_secret_or_long_is_named_and_not_printed():
    now = {"job_variables/env/TOKEN": "hunter2", "url": "http://hunter2", "text": "hunter2" * 20}
    kept = merge({}, now, {}).kept
    assert [one.split()[0] for one in kept] == ["job_variables.env.TOKEN", "url", "text"]
    assert "hunter2" not in "".join(kept)


def test_a_digest_does_not_depend_on_an_order_that_means_nothing():
    assert digest({"a": {1, 2}, "b": 3}) == digest({"b": 3, "a": {2, 1}})
    assert digest([1, 2]) != digest([2, 1])
    assert digest(1) != digest("1")


@pytest.fixture
def shelf():
    """Things on a server, and the log of what was done to them."""
    done = []
    now = {"ours": OLD, "edited": MINE, "added": MINE, "gone": OLD, "changed and gone": MINE}
    return done, Items(
        kind="schedule",
        now=now,
        create=lambda name, values: done.append(("create", name, values)),
        update=lambda name, values: done.append(("update", name, values)),
        delete=lambda name: done.append(("delete", name)),
    )


def test_things_with_names_are_made_updated_and_deleted_unless_a_person_did(shelf):
    done, items = shelf
    names = ("ours", "edited", "deleted", "gone", "changed and gone")
    last = {name: digests(OLD) for name in names}
    kept = merge_items(last, items, dict.fromkeys(("ours", "edited", "deleted", "new"), NEW))
    assert done == [("update", "ours", NEW), ("delete", "gone"), ("create", "new", NEW)]
    assert kept == [
        "schedule edited: limit stays 7; declared: 2",
        "schedule added stays, although it is not declared",
        "schedule changed and gone stays, although it is not declared",
        "schedule deleted was deleted and stays so, although it is declared",
    ]


def test_without_a_memory_everything_there_is_a_persons_and_the_rest_is_new(shelf):
    done, items = shelf
    kept = merge_items(None, items, {"edited": NEW, "new": NEW})
    assert done == [("create", "new", NEW)]
    assert "schedule edited: limit stays 7; declared: 2" in kept
