"""What a run leaves when it ends: the page of its chain, events, and a person's answer."""

from __future__ import annotations

import io
from types import SimpleNamespace

import pytest
from PIL import Image
from prefect.client.orchestration import get_client

from iclora.presets import load_config
from iclora.store import Store
from schemas.adapter import RunRecord
from schemas.evaluation import Decision, EvaluationReport, ReportRef
from schemas.job import EvaluateJob
from tasks import approval, lineage, report

pytestmark = pytest.mark.usefixtures("prefect")

REF = ReportRef(name="film", version="r1", url="", outcome="promoted")


@pytest.fixture
def evaluated(store: Store) -> Store:
    """An adapter ``film@aa`` and a report that found it better than the base."""
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "JPEG")
    config = load_config("miniature")
    run = RunRecord(
        name="film", version="aa", dataset="films@1", base="b", config=config, steps=9,
        loss=0.25, seconds=1.0,
    )  # fmt: skip
    content = EvaluationReport(
        adapter="film@aa", against="base", dataset="films@1", base="b",
        decision=Decision(outcome="promoted", reasons=("It is better.",), checks=()),
        scores={}, arms=(), paired={}, remarks=(), worst=(), nearest=(), judges={},
        params=config.evaluate, limits={}, sampling={}, prompts=(), sheets=("sheets/0.jpg",),
    )  # fmt: skip
    for path, data in {
        "adapters/film/aa/run.json": run.to_text().encode(),
        "adapters/film/aa/renders/step-00000009.jpg": buffer.getvalue(),
        "adapters/film/LATEST": b"aa\n",
        "reports/film/r1/report.json": content.to_text().encode(),
        "reports/film/r1/manifest.json": b"{}",
        "reports/film/r1/sheets/0.jpg": buffer.getvalue(),
    }.items():
        store.write(path, data)
    return store


@pytest.fixture
def events(monkeypatch):
    """The events that were announced, with their payloads."""
    sent = []
    monkeypatch.setattr(report, "emit_event", lambda **event: sent.append(event) or True)
    return sent


def page() -> str:
    """The newest lineage page of ``film``."""
    body = {"artifacts": {"key": {"any_": ["lineage-film"]}}, "sort": "CREATED_DESC"}
    with get_client(sync_client=True) as client:
        return client.request("POST", "/artifacts/filter", json=body).json()[0]["data"]


def test_a_report_leaves_the_whole_chain_and_an_event(evaluated, events):
    job = EvaluateJob(store=evaluated.url, adapter="film", promote=True)
    report.show_report.fn(REF, job)
    text = page()
    assert text.startswith("# film@aa: promoted\n\n## 1. Dataset films@1\n\n## 2. Adapter film@aa")
    assert "9 steps, loss 0.2500" in text
    assert "against base: It is better." in text
    assert text.count("](data:image/jpeg;base64,") == 2
    (event,) = events
    assert event["event"] == "adapter.promoted"
    assert event["resource"]["prefect.resource.id"] == "adapter.film"
    assert event["payload"]["adapter"] == "film@aa"


def test_new_footage_a_missing_report_or_a_missing_answer_is_work_to_do(evaluated):
    def is_settled(dataset="films@1", name="film", *, approve=False):
        return lineage.is_settled.fn(dataset, name, evaluated.url, approve=approve)

    assert is_settled()
    assert not is_settled("films@2")
    assert not is_settled(name="other")
    assert not is_settled(approve=True), "nobody has answered"
    evaluated.write(f"{REF.path}/{lineage.ANSWER}", b"refuse\n")
    assert is_settled(approve=True)
    evaluated.remove("reports")
    assert not is_settled()
    said = lineage.say_nothing_new.fn("films@1", "film", evaluated.url)
    assert said == "Nothing new: films@1 is unchanged and film@aa has its report."
    assert said in page()


@pytest.mark.parametrize("promote", [False, True])
def test_a_persons_answer_is_kept_and_decides(evaluated, events, monkeypatch, promote):
    asked, promoted = [], []

    def pause(*, wait_for_input, timeout):
        asked.append(wait_for_input.model_fields)
        return SimpleNamespace(promote=promote)

    monkeypatch.setattr(approval, "pause_flow_run", pause)
    monkeypatch.setattr(approval, "promote", lambda *named: promoted.append(named))
    ref = approval.ask_and_promote("film@aa", REF, evaluated.url)
    assert len(asked) == 1
    assert promoted == ([("film@aa", evaluated.url)] if promote else [])
    assert ref.champion == ("aa" if promote else "")
    assert events[0]["event"] == ("adapter.promoted" if promote else "adapter.refused")
    answer = evaluated.read(f"{REF.path}/{lineage.ANSWER}")
    assert answer == (b"promote\n" if promote else b"refuse\n")
    question = approval.describe_question("film@aa", REF, evaluated)
    assert question.startswith("### Promote film@aa?\n\n* It is better.\n\n")
    assert "![sheet 1](data:image/jpeg;base64," in question
