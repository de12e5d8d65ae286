"""The server that captions goes away in the middle of a build."""

from __future__ import annotations

import json
import time

import pytest
from drill_tools import files_of, start_build, until

from iclora.dataset import open_dataset
from iclora.store import Store

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

ONE_BY_ONE = {"caption.captioner.concurrency": 1}
"""One question at a time: some find nobody there."""

IMPATIENT = ONE_BY_ONE | {"caption.captioner.backoff_seconds": 0.05}
"""The waits of two minutes in a twentieth of them."""


def test_a_minute_without_a_captioner_is_waited_out(store, films, overrides, calm, captioner):
    captioner.delay = 0.05
    child = start_build(store.url, films, overrides | ONE_BY_ONE)
    until(lambda: captioner.asked, what="nothing was captioned")
    captioner.stop()
    time.sleep(60)
    captioner.start()
    heard = child.communicate(timeout=250)[1]
    assert child.returncode == 0, heard
    ledger = open_dataset(store, "films").manifest.ledger["caption"]
    assert ledger.failed == 0
    assert samples(files_of(store)) == samples(calm)


def test_a_captioner_that_stays_away_is_told_and_the_next_run_completes(
    store, films, overrides, calm, captioner
):
    captioner.delay = 0.05
    child = start_build(store.url, films, overrides | IMPATIENT | {"ingest.max_failed_share": 1.0})
    until(lambda: captioner.asked, what="nothing was captioned")
    captioner.stop()
    said, heard = child.communicate(timeout=250)
    if child.returncode == 0:  # a part was captioned before
        told = json.loads(said)["ledger"]["caption"]
        assert told["failed"] > 0
        assert told["kept"] + told["rejected"] + told["failed"] == told["in"]
    else:  # nothing was
        assert "unreachable" in heard
    captioner.start()
    child = start_build(store.url, films, overrides)
    heard = child.communicate(timeout=250)[1]
    assert child.returncode == 0, heard
    assert files_of(Store(store.url)) == calm


def samples(files):
    """Without the settings of the waits, which manifest and card tell."""
    return {name: data for name, data in files.items() if name.endswith((".tar", ".parquet"))}
