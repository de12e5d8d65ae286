"""CHAMPION moves by a report that compared with the one in force, or by force; and back."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import pytest

from iclora.errors import BadInput
from iclora.evaluation import promotion
from iclora.evaluation.promotion import champion_of, pin_rule, promote, undo
from iclora.evaluation.rule import rule_digest, rule_in
from iclora.store import Store
from schemas.adapter import RunRecord
from schemas.config import Config
from schemas.evaluation import EvaluateParams, HistoryEntry, PromotionRule

RULE = rule_in(Config())


def add_versions(store, *versions, config=None):
    for version in versions:
        run = RunRecord(
            name="film",
            version=version,
            dataset="scenes",
            base="flux",
            config=config or Config(),
            steps=1,
            loss=0.1,
            seconds=1.0,
        )
        store.write(f"adapters/film/{version}/run.json", run.to_text().encode())


@pytest.fixture
def versions(store):
    add_versions(store, "v1", "v2", "v3")
    return store


def add_report(store, version, *, against="base", outcome="promoted", name="", age=0, **fields):
    """A report as far as promotion reads it; ``age`` in seconds."""
    name = name or f"{version}-{against}-{outcome}".replace("@", "-")
    reasons = [f"{version} is {outcome}."]
    report = {
        "adapter": f"film@{version}",
        "against": against,
        "decision": {"outcome": outcome, "reasons": reasons},
        "rule": rule_digest(RULE),
        "overrides": [],
        **fields,
    }
    store.write(f"reports/film/{name}/report.json", json.dumps(report).encode())
    store.write(f"reports/film/{name}/manifest.json", b"{}")
    if age:
        path = Path(store.path(f"reports/film/{name}/manifest.json"))
        written = path.stat().st_mtime - age
        os.utime(path, (written, written))
    return name


def history_of(store):
    lines = store.read("adapters/film/HISTORY.jsonl").splitlines()
    return [HistoryEntry.from_text(line) for line in lines]


def test_no_champion_at_first(versions):
    assert champion_of(versions, "film") == ""
    for name in ("film", "other"):
        with pytest.raises(BadInput, match="has no champion"):
            undo(versions, name)
    assert not versions.exists("adapters/other")


def test_champions_succeed_each_other_and_step_back_one_by_one(versions):
    for version in ("v1", "v2", "v3"):
        assert promote(versions, "film", version, force=True) == version
    assert [undo(versions, "film") for _ in range(3)] == ["v2", "v1", ""]
    assert champion_of(versions, "film") == ""
    assert not versions.exists("adapters/film/CHAMPION")


def test_champion_is_one_line(versions):
    promote(versions, "film", "v1", force=True)
    assert versions.read("adapters/film/CHAMPION") == b"v1\n"


def test_promoting_the_champion_again_changes_nothing(versions):
    promote(versions, "film", "v1", force=True)
    promote(versions, "film", "v2", force=True)
    before = history_of(versions)
    promote(versions, "film", "v2")
    assert history_of(versions) == before
    assert undo(versions, "film") == "v1"


def test_a_former_champion_can_come_back(versions):
    for version in ("v1", "v2", "v1"):
        promote(versions, "film", version, force=True)
    assert undo(versions, "film") == "v2"
    assert undo(versions, "film") == "v1"


@pytest.mark.parametrize("force", [False, True])
def test_only_a_finished_version_becomes_champion(versions, force):
    with pytest.raises(BadInput, match="not a finished adapter"):
        promote(versions, "film", "v9", force=force)
    assert champion_of(versions, "film") == ""


def test_a_crash_between_the_two_writes_of_a_promotion_costs_nothing(versions):
    promote(versions, "film", "v1", force=True)
    versions.write("adapters/film/CHAMPIONS", b"v1\nv2\n")  # v2 never came into force
    assert champion_of(versions, "film") == "v1"
    promote(versions, "film", "v3", force=True)
    assert undo(versions, "film") == "v1"


def test_a_crash_between_the_two_writes_of_an_undo_costs_nothing(versions):
    for version in ("v1", "v2", "v1"):
        promote(versions, "film", version, force=True)
    versions.write("adapters/film/CHAMPION", b"v2\n")  # CHAMPIONS still ends with v1
    assert undo(versions, "film") == "v1"
    assert undo(versions, "film") == ""


def test_a_champion_named_by_hand_is_respected(versions):
    versions.write("adapters/film/CHAMPION", b"v2\n")
    promote(versions, "film", "v3", force=True)
    assert undo(versions, "film") == "v2"


# By a report.


def test_a_report_against_the_champion_in_force_promotes(versions):
    add_report(versions, "v1")
    assert promote(versions, "film", "v1") == "v1"
    add_report(versions, "v2", against="film@v1")
    assert promote(versions, "film", "v2") == "v2"


def test_without_a_report_nobody_is_promoted(versions):
    add_report(versions, "v2")
    with pytest.raises(
        BadInput,
        match=r"film@v1 was never evaluated: evaluate it against the base "
        r"\(`iclora evaluate film@v1 --promote`\), or promote it with --force",
    ):
        promote(versions, "film", "v1")
    assert champion_of(versions, "film") == ""
    assert not versions.exists("adapters/film/RULE.json")
    assert not versions.exists("adapters/film/HISTORY.jsonl")


def test_a_report_that_refused_promotes_nobody_and_tells_its_reasons(versions):
    add_report(versions, "v1", outcome="refused")
    with pytest.raises(
        BadInput,
        match=r"film@v1 was refused in comparison with the base: v1 is refused\. \(--force",
    ):
        promote(versions, "film", "v1")
    assert champion_of(versions, "film") == ""


def test_a_comparison_with_a_former_champion_promotes_nobody(versions):
    report = add_report(versions, "v1")
    promote(versions, "film", "v3", force=True)
    for version in ("", report):
        with pytest.raises(
            BadInput,
            match=r"film@v1 was found better in comparison with the base, but film has the "
            r"champion film@v3 now: evaluate it against film@v3",
        ):
            promote(versions, "film", "v1", report=version)
    assert champion_of(versions, "film") == "v3"
    undo(versions, "film")
    assert promote(versions, "film", "v1") == "v1", "the comparison counts again"


def test_a_comparison_with_a_champion_that_was_taken_back_promotes_nobody(versions):
    promote(versions, "film", "v1", force=True)
    add_report(versions, "v2", against="film@v1")
    undo(versions, "film")
    with pytest.raises(BadInput, match="film has no champion now: evaluate it against the base"):
        promote(versions, "film", "v2")


@pytest.mark.parametrize(
    ("first", "last", "champion"), [("refused", "promoted", "v1"), ("promoted", "refused", "")]
)
def test_the_newest_comparison_with_the_champion_in_force_counts(versions, first, last, champion):
    add_report(versions, "v1", outcome=last, name="a")
    add_report(versions, "v1", outcome=first, name="b", age=60)
    add_report(versions, "v1", outcome=first, name="c", against="film@v3")
    if champion:
        assert promote(versions, "film", "v1") == champion
    else:
        with pytest.raises(BadInput, match="was refused"):
            promote(versions, "film", "v1")
    assert champion_of(versions, "film") == champion


def test_a_report_that_is_not_whole_counts_for_nothing(versions):
    report = add_report(versions, "v1")
    versions.fs.rm(versions.path(f"reports/film/{report}/manifest.json"))
    with pytest.raises(BadInput, match="was never evaluated"):
        promote(versions, "film", "v1")


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"overrides": ["evaluate.seeds"]}, r"not its rule's \(evaluate.seeds\): evaluate it"),
        ({"rule": "another"}, "by another rule than it has now: evaluate it"),
    ],
)
def test_a_report_by_other_settings_than_the_rules_promotes_nobody(versions, fields, why):
    add_report(versions, "v1", **fields)
    with pytest.raises(BadInput, match=why):
        promote(versions, "film", "v1")
    add_report(versions, "v1", name="by-the-rule", age=60)
    assert promote(versions, "film", "v1") == "v1", "the newer one does not count"


def test_a_report_from_before_there_were_rules_promotes_nobody(versions):
    report = add_report(versions, "v1")
    path = f"reports/film/{report}/report.json"
    content = json.loads(versions.read(path))
    del content["rule"], content["overrides"]
    versions.write(path, json.dumps(content).encode())
    with pytest.raises(BadInput, match="by another rule than it has now"):
        promote(versions, "film", "v1")


# One at a time.


def test_of_many_that_beat_the_same_champion_one_is_promoted(store):
    many = [f"v{number}" for number in range(8)]
    add_versions(store, *many)
    for version in many:
        add_report(store, version)
    start, results = threading.Barrier(len(many)), []

    def ask(version):
        start.wait()
        try:
            results.append(promote(Store(store.root), "film", version))
        except BadInput as error:
            results.append(error)

    threads = [threading.Thread(target=ask, args=(version,)) for version in many]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (promoted,) = [item for item in results if isinstance(item, str)]
    assert champion_of(store, "film") == promoted
    assert all(
        f"the champion film@{promoted} now" in str(item) for item in results if item != promoted
    )
    assert len(history_of(store)) == 1


def test_an_object_store_is_read_again_just_before_champion_is_written(tmp_path, monkeypatch):
    monkeypatch.setenv("ICLORA_WORK", str(tmp_path))
    store = Store("memory://promotions")
    add_versions(store, "v1", "v2")
    add_report(store, "v1")
    plain = promotion.promotion_objection

    def overtaken(*arguments):
        store.write("adapters/film/CHAMPION", b"v2\n")  # by another machine
        return plain(*arguments)

    monkeypatch.setattr(promotion, "promotion_objection", overtaken)
    with pytest.raises(BadInput, match="the champion of film changed just now"):
        promote(store, "film", "v1")
    assert champion_of(store, "film") == "v2"
    monkeypatch.undo()
    monkeypatch.setenv("ICLORA_WORK", str(tmp_path))
    add_report(store, "v1", against="film@v2")
    assert promote(store, "film", "v1") == "v1"
    assert undo(store, "film") == "v2"


# The rule and the record.


def test_the_first_promotion_pins_the_rule_and_no_later_one_changes_it(versions):
    strict = Config(evaluate=EvaluateParams(confidence=0.99))
    add_versions(versions, "strict", config=strict)
    promote(versions, "film", "strict", force=True)
    assert PromotionRule.from_text(versions.read("adapters/film/RULE.json")) == rule_in(strict)
    undo(versions, "film")
    promote(versions, "film", "v1", force=True)
    assert PromotionRule.from_text(versions.read("adapters/film/RULE.json")) == rule_in(strict)


def test_where_a_champion_came_before_rules_its_settings_are_the_rule(versions):
    add_versions(versions, "old", config=Config(evaluate=EvaluateParams(confidence=0.99)))
    versions.write("adapters/film/CHAMPION", b"old\n")
    promote(versions, "film", "v1", force=True)
    pinned = PromotionRule.from_text(versions.read("adapters/film/RULE.json"))
    assert pinned.evaluate.confidence == 0.99


def test_a_rule_that_cannot_be_read_is_one_sentence(versions):
    versions.write("adapters/film/RULE.json", b'{"evaluate": {"seeds": "none"}, "sample": {}}')
    with pytest.raises(BadInput, match=r"RULE\.json cannot be read: evaluate\.seeds: .*--repin"):
        promote(versions, "film", "v1", force=True)


def test_every_change_is_recorded(versions):
    refusal = add_report(versions, "v1", outcome="refused")
    promote(versions, "film", "v1", force=True)
    better = add_report(versions, "v2", against="film@v1")
    promote(versions, "film", "v2", force=True)
    undo(versions, "film")
    undo(versions, "film")
    other = PromotionRule(evaluate=EvaluateParams(confidence=0.9), sample=RULE.sample)
    pin_rule(versions, "film", other)
    pin_rule(versions, "film", other)
    entries = history_of(versions)
    assert [(item.change, item.before, item.champion, item.report) for item in entries] == [
        ("forced", "", "v1", refusal),
        ("promoted", "v1", "v2", better),
        ("undone", "v2", "v1", ""),
        ("undone", "v1", "", ""),
        ("rule", "", "", ""),
    ]
    assert entries[0].rule == rule_digest(RULE) != entries[-1].rule
    assert all(item.when.endswith("+00:00") for item in entries)


def test_what_lies_beside_the_versions_is_taken_for_none(versions):
    from iclora.sampling.adapters import find_stored

    promote(versions, "film", "v1", force=True)
    with pytest.raises(BadInput, match="it has v1, v2, v3$"):
        find_stored(versions, "film@v9")
