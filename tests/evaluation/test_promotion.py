from __future__ import annotations

import pytest

from iclora.errors import BadInput
from iclora.evaluation.promotion import champion_of, promote, undo


@pytest.fixture
def versions(store):
    for version in ("v1", "v2", "v3"):
        store.write(f"adapters/film/{version}/run.json", b"{}")
    return store


def test_no_champion_at_first(versions):
    assert champion_of(versions, "film") == ""
    with pytest.raises(BadInput, match="has no champion"):
        undo(versions, "film")


def test_champions_succeed_each_other_and_step_back_one_by_one(versions):
    for version in ("v1", "v2", "v3"):
        assert promote(versions, "film", version) == version
    assert [undo(versions, "film") for _ in range(3)] == ["v2", "v1", ""]
    assert champion_of(versions, "film") == ""
    assert not versions.exists("adapters/film/CHAMPION")


def test_champion_is_one_line(versions):
    promote(versions, "film", "v1")
    assert versions.read("adapters/film/CHAMPION") == b"v1\n"


def test_promoting_the_champion_again_changes_nothing(versions):
    promote(versions, "film", "v1")
    promote(versions, "film", "v2")
    promote(versions, "film", "v2")
    assert undo(versions, "film") == "v1"


def test_a_former_champion_can_come_back(versions):
    for version in ("v1", "v2", "v1"):
        promote(versions, "film", version)
    assert undo(versions, "film") == "v2"
    assert undo(versions, "film") == "v1"


def test_only_a_finished_version_becomes_champion(versions):
    with pytest.raises(BadInput, match="not a finished adapter"):
        promote(versions, "film", "v9")
    assert champion_of(versions, "film") == ""


def test_a_crash_between_the_two_writes_of_a_promotion_costs_nothing(versions):
    promote(versions, "film", "v1")
    versions.write("adapters/film/CHAMPIONS", b"v1\nv2\n")  # v2 never came into force
    assert champion_of(versions, "film") == "v1"
    promote(versions, "film", "v3")
    assert undo(versions, "film") == "v1"


def test_a_crash_between_the_two_writes_of_an_undo_costs_nothing(versions):
    for version in ("v1", "v2", "v1"):
        promote(versions, "film", version)
    versions.write("adapters/film/CHAMPION", b"v2\n")  # CHAMPIONS still ends with v1
    assert undo(versions, "film") == "v1"
    assert undo(versions, "film") == ""


def test_a_champion_named_by_hand_is_respected(versions):
    versions.write("adapters/film/CHAMPION", b"v2\n")
    promote(versions, "film", "v3")
    assert undo(versions, "film") == "v2"
