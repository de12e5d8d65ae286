"""Sources that share task runs: none is lost, and no core stands still for it."""

from __future__ import annotations

import fsspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iclora.errors import BadConfig
from iclora.ingest.download import size_of
from tasks.executor import MAX_BATCH_BYTES, MAX_BATCH_SOURCES, SHARES, UNBATCHED, batch_sizes, each

SMALL = 4 << 20
SIZES = st.lists(
    st.none()
    | st.sampled_from([0, SMALL, MAX_BATCH_BYTES // 2, MAX_BATCH_BYTES, MAX_BATCH_BYTES + 1]),
    max_size=600,
)


def divide(sizes, cores):
    batches = batch_sizes(sizes, cores)
    assert sum(batches) == len(sizes), "nothing is lost"
    return list(batches)


@pytest.mark.parametrize("cores", [1, 2, 16])
def test_few_sources_have_task_runs_of_their_own(cores):
    assert divide([SMALL] * UNBATCHED * cores, cores) == [1] * UNBATCHED * cores
    assert max(divide([SMALL] * (UNBATCHED * cores + 1), cores)) > 1


def test_a_batch_has_room_for_so_many_sources():
    assert divide([SMALL // 4] * 2000, 2)[:9] == [MAX_BATCH_SOURCES] * 9
    enough = MAX_BATCH_SOURCES * SHARES
    assert divide([SMALL // 4] * enough, 1)[0] == MAX_BATCH_SOURCES
    assert divide([SMALL // 4] * (enough - 1), 1)[0] == MAX_BATCH_SOURCES - 1


def test_a_batch_has_room_for_so_many_bytes():
    half = MAX_BATCH_BYTES // 2
    assert divide([half, half, *[0] * 100], 1)[0] > 1
    assert divide([half, half + 1, *[0] * 100], 1)[0] == 1
    assert divide([MAX_BATCH_BYTES, *[0] * 100], 1)[0] > 1
    assert divide([MAX_BATCH_BYTES + 1, *[0] * 100], 1)[0] == 1
    assert divide([0, MAX_BATCH_BYTES + 1, *[0] * 100], 1)[:2] == [1, 1]


def test_a_source_of_unknown_size_stands_alone():
    assert divide([0, 0, None, *[0] * 100], 1)[:3] == [2, 1, MAX_BATCH_SOURCES]
    assert divide([None] * 100, 1) == [1] * 100


def test_the_last_sources_are_spread_over_the_cores():
    """No core waits for a batch of many while another has none left."""
    assert divide([SMALL] * 40, 2) == [10, 7, 5, 4, 3, 2, 2, 1, 1, 1, 1, 1, 1, 1]


@settings(deadline=None, max_examples=60)
@given(sizes=SIZES, cores=st.integers(1, 70))
def test_every_batch_keeps_the_bounds(sizes, cores):
    begin = 0
    for count in divide(sizes, cores):
        held, left = sizes[begin : begin + count], len(sizes) - begin
        begin += count
        if count > 1:
            assert count <= MAX_BATCH_SOURCES
            assert sum(held) <= MAX_BATCH_BYTES, "and none of unknown size"
            assert count * cores * SHARES <= left
            assert len(sizes) > UNBATCHED * cores


def test_the_size_of_what_is_here_or_was_copied_is_known(tmp_path):
    work = tmp_path / "work"
    folder = tmp_path / "pictures" / "more"
    folder.mkdir(parents=True)
    (folder / "a.png").write_bytes(b"12345")
    (folder.parent / "b.png").write_bytes(b"123")
    assert size_of(str(folder / "a.png"), work) == 5
    assert size_of(str(folder.parent), work) == 8
    fsspec.filesystem("memory").pipe_file("/sizes/a.mp4", b"1234567")
    assert size_of("memory://sizes/a.mp4", work) == 7
    for elsewhere in ("memory://sizes/b.mp4", "owner/dataset", f"{tmp_path}/{{0..9}}.tar"):
        assert size_of(elsewhere, work) is None


def test_a_source_that_fails_does_not_take_its_neighbours_along(caplog):
    tried = []

    def work(letter):
        tried.append(letter)
        if letter == "b":
            raise OSError("the disk")
        if letter == "c":
            raise BadConfig("no such model")
        return letter.upper()

    with pytest.raises(OSError, match="the disk"):
        each(["a.mp4", "b.mp4", "c.mp4", "d.mp4"], work, "abcd")
    assert tried == ["a", "b", "c", "d"]
    assert "b.mp4 failed" in caplog.text
    assert "no such model" in caplog.text, "what is not raised is not lost"
    assert each(["a.mp4", "d.mp4"], work, "ad") == ["A", "D"]
