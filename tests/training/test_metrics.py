"""The journal and TensorBoard's copy of it."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from iclora.train import train_adapter
from iclora.training.metrics import TENSORBOARD, MetricsLog, read_metrics


def curves(folder):
    """Tag to step to value; TensorBoard shows every step once."""
    seen = EventAccumulator(str(folder)).Reload()
    drawn = {}
    for tag in seen.Tags()["scalars"]:
        events = seen.Scalars(tag)
        drawn[tag] = {event.step: event.value for event in events}
        assert len(drawn[tag]) == len(events)
    return drawn


def test_tensorboard_reads_what_the_journal_says(store, dataset, config):
    folder = Path(train_adapter(store, dataset, config, "mine").url)
    rows = read_metrics(folder / "metrics.jsonl")
    drawn = curves(folder / TENSORBOARD)
    steps = {row["step"]: row["loss"] for row in rows if "loss" in row}
    assert len(steps) == 4
    assert drawn["loss"] == pytest.approx(steps)
    assert drawn["panel/1"] == pytest.approx(
        {row["step"]: row["panels"][0] for row in rows if "panels" in row}
    )
    (validation,) = (row for row in rows if "validation" in row)
    for name, value in validation["validation"].items():
        assert drawn[f"validation/{name}"] == pytest.approx({4: value})
    assert {"norm", "lr"} < drawn.keys()


def test_a_resumed_journal_forgets_what_came_after_and_gives_the_same_bytes(tmp_path):
    rows = [{"step": step, "loss": 1.0 / step, "panels": [0.5, -1.0]} for step in range(1, 6)]

    def written(name, *, kill):
        path = tmp_path / name / "metrics.jsonl"
        path.parent.mkdir()
        journal = MetricsLog(path, 0)
        for row in rows[:kill]:
            journal.write(row)
        if kill < len(rows):  # killed within a line, and goes on after step 2
            with path.open("a") as file:
                file.write('{"step": 9')
            journal = MetricsLog(path, 2)
            for row in rows[2:]:
                journal.write(row)
        journal.close()
        return path.read_bytes(), curves(path.with_name(TENSORBOARD))

    straight = written("straight", kill=5)
    assert straight[1]["loss"] == pytest.approx(
        {row["step"]: row["loss"] for row in rows}, rel=1e-5
    )
    assert written("killed", kill=4) == straight


def test_points_have_the_time_at_which_they_were_written(tmp_path):
    began = time.time()
    log = MetricsLog(tmp_path / "metrics.jsonl", 0)
    log.write({"step": 1, "loss": 0.5})
    log.close()
    log = MetricsLog(tmp_path / "metrics.jsonl", 1)
    log.write({"step": 2, "loss": 0.25})
    log.close()
    seen = EventAccumulator(str(tmp_path / TENSORBOARD)).Reload()
    times = [event.wall_time for event in seen.Scalars("loss")]
    assert began <= times[0] < times[1] <= time.time()


def test_a_log_that_came_without_its_copy_is_copied_again(tmp_path):
    """Another machine gets the metrics log of an interrupted run, and no TensorBoard files."""
    rows = [{"step": 1, "loss": 0.5}, {"step": 2, "loss": 0.25}]
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    MetricsLog(path, 1).close()
    assert curves(tmp_path / TENSORBOARD) == {"loss": {1: 0.5}}


def test_a_skipped_step_has_no_point(tmp_path):
    journal = MetricsLog(tmp_path / "metrics.jsonl", 0)
    journal.write({"step": 1, "loss": None})
    journal.write({"step": 2, "loss": 0.25, "panels": [-1.0, 0.25]})
    journal.close()
    drawn = curves(tmp_path / TENSORBOARD)
    assert drawn == {"loss": {2: 0.25}, "panel/2": {2: 0.25}}
