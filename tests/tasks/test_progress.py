"""What the UI shows of a running build or training."""

from __future__ import annotations

import json
import shutil

import pytest
from prefect import flow

from iclora.log_lines import StepProgress
from iclora.pipeline.ledger import RESULTS
from iclora.pipeline.progress import SharedReports, SourceShare
from iclora.presets import load_config
from iclora.store import Store
from schemas.adapter import AdapterRef, CheckpointState, RunIdentity, TrainingProgress
from schemas.job import BuildJob, TrainJob
from schemas.source import Source
from schemas.verdict import Tally
from tasks.artifacts import (
    MAX_INTERVAL,
    MIN_INTERVAL,
    LiveArtifact,
    update_interval,
    updating,
)
from tasks.build_progress import ROWS, TITLES, BuildArtifacts, rows
from tasks.evaluation import EvaluationArtifact
from tasks.training_progress import TrainingArtifacts, find_running, loss_table


def tally(seen, kept, rejected=0):
    counts = {"in": seen, "kept": kept, "rejected": rejected, "failed": seen - kept - rejected}
    return Tally.model_validate(counts)


def test_updates_are_rare_in_a_long_run():
    assert update_interval(0) == MIN_INTERVAL
    assert update_interval(500) == 10
    assert update_interval(100_000) == MAX_INTERVAL


def test_a_stages_table_begins_with_the_sum_and_the_sources_that_lost_most():
    parts = [
        SourceShare("a", tally(5, 5), {}),
        SourceShare("b", tally(5, 1, 3), {"blurred": 3, "unreadable": 1}),
    ]
    first, second, third = rows(parts)
    assert first == {
        "source": "all", "in": 10, "kept": 6, "rejected": 3, "failed": 1,
        "reasons": "blurred 3, unreadable 1",
    }  # fmt: skip
    assert [second["source"], third["source"]] == ["b", "a"]
    many = [SourceShare(str(number), tally(1, 1), {}) for number in range(ROWS + 5)]
    assert len(rows(many)) == ROWS + 1
    assert set(RESULTS) < set(TITLES), "every table's card has a title"
    assert rows(many)[0]["in"] == ROWS + 5


def test_losses_are_means_between_rows_with_the_validation_where_it_was_made():
    journal = [{"step": step, "loss": float(step)} for step in range(1, 41)]
    journal.insert(20, {"step": 20, "validation": {"all": 0.5}})
    journal[4] = {"step": 5, "loss": None}
    table = loss_table(journal)
    assert len(table) == 20
    assert table[-1] == {"step": 40, "loss": 39.5, "validation": ""}
    assert [row["step"] for row in table if row["validation"] == 0.5] == [20]
    assert loss_table([]) == []


def start(store, name, version, config):
    """The folder of running work of a training that has begun."""
    identity = RunIdentity(name=name, version=version, dataset="d@1", base="b", config=config)
    folder = store.work_folder / "training" / f"{name}-{version}"
    checkpoint = folder / "checkpoints" / "step-00000000"
    checkpoint.mkdir(parents=True)
    state = CheckpointState(identity=identity, progress=TrainingProgress(step=0))
    (checkpoint / "state.json").write_text(state.to_text())
    return folder


def test_the_running_work_of_a_job_is_found_by_what_it_is(store: Store):
    config = load_config("miniature")
    job = TrainJob(store=store.url, name="films", config=config, dataset="films")
    other = load_config("miniature", {"train.steps": 7})
    for version, known in (("aa", other), ("bb", config)):
        start(store, "films", version, known)
    found = find_running(store, job)
    assert found == store.work_folder / "training" / "films-bb"
    journal = [{"step": 1, "loss": 0.25}, {"step": 1, "validation": {"all": 0.5}}]
    assert "step 1 of 900, loss 0.2500, validation 0.5000" in TrainingArtifacts(job).describe(
        journal
    )
    assert find_running(store, job.model_copy(update={"name": "others"})) is None


def artifact(key):
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        answer = client.request("POST", "/artifacts/filter", json={}).json()
    (found,) = [one for one in answer if one["key"] == key]
    return found


def test_a_build_counts_what_is_read_of_sources_in_progress(store: Store, monkeypatch):
    monkeypatch.setattr(SharedReports, "PAUSE", 0.0)
    sources = tuple(
        Source(url="", name=f"{name}.mp4@0", kind="film", content=name) for name in ("a", "b")
    )
    config = load_config("miniature")
    job = BuildJob(store=store.url, name="films", config=config, sources=sources, refused=())
    shown = BuildArtifacts(job)
    shown.progress.expect(2, "ingest", "quality", "sets", "stitch", "caption")
    shown.progress.expect(1, "choose")
    assert shown.share() == 0.0
    elsewhere = SharedReports(store, job.setup.run)  # as a worker has it
    with (
        elsewhere.track("ingest", "a.mp4@0") as ingest,
        elsewhere.track("caption", "b.mp4@0") as caption,
    ):
        ingest(0.5)
        caption(0.75)  # may be early, which is no part of the build
        assert shown.share() == pytest.approx(0.5 / (5 * 2 + 1))
        assert "now ingest a.mp4 50%, caption b.mp4 75%" in shown.sentence()
    assert shown.share() == pytest.approx(0.5 / (5 * 2 + 1)), "it never falls"
    assert "now" not in shown.sentence()


@pytest.mark.usefixtures("prefect")
def test_a_training_shows_100_when_it_ended_well_and_not_before(store: Store):
    """Its folder of running work is gone at the end, often before the last step was shown."""
    config = load_config("miniature", {"train.steps": 900})
    job = TrainJob(store=store.url, name="ends", config=config, dataset="films")
    running = start(store, "ends", "aa", config)
    (running / "metrics.jsonl").write_text('{"step": 899, "loss": 0.5}\n')
    shown = TrainingArtifacts(job)
    shown.show()
    assert artifact("train-ends")["data"] == 99.9
    with updating(shown.show):
        shutil.rmtree(running)
        store.write("adapters/ends/aa/metrics.jsonl", b'{"step": 900, "loss": 0.25}\n')
        shown.end(AdapterRef(name="ends", version="aa", url="", steps=900, loss=0.25))
    ended = artifact("train-ends")
    assert ended["data"] == 100
    assert ended["description"].startswith("Training so far: step 900 of 900")
    assert json.loads(artifact("losses-ends")["data"])[-1]["step"] == 900


@pytest.mark.usefixtures("prefect")
def test_an_evaluation_shows_the_step_that_its_child_reports_and_100_at_the_end():
    evaluation = EvaluationArtifact("film@aa")
    for change, percent, text in (
        (lambda: None, 0, "loading; "),
        (lambda: evaluation.advance(StepProgress("any step", 3, 8)), 37.5, "any step: 3 of 8; "),
        (evaluation.end, 100, "measured and decided; "),
    ):
        change()
        evaluation.show()
        shown = artifact("evaluate-film-aa")
        assert shown["data"] == percent
        assert shown["description"].startswith(f"Evaluation so far: {text}")


@pytest.mark.usefixtures("prefect")
def test_an_artifact_is_made_once_under_a_key_that_prefect_takes_and_then_updated():
    table = LiveArtifact("table", "Stage_of-films")

    @flow
    def shows():
        table.show([{"kept": 1}], "one")
        table.show([{"kept": 1}], "one")
        table.show([{"kept": 2}], "two")

    shows()
    found = artifact("stage-of-films")
    assert json.loads(found["data"]) == [{"kept": 2}]
    assert found["description"] == "two"
    assert found["flow_run_id"]


def test_what_cannot_be_shown_never_fails_the_work():
    called = []

    def update():
        called.append(1)
        raise OSError("the server is away")

    with updating(update):
        pass
    assert called == [1]
    with pytest.raises(KeyError), updating(update):
        raise KeyError
    assert called == [1, 1]
