"""The whole way from films to a dataset, on both executors, with everything real but the captioner.

The captioner is a server of our own that always gives the same good caption: what it is asked, and
how often, can be counted.
"""

from __future__ import annotations

import json
import logging
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from iclora.build import MAX_WORKERS, build_dataset
from iclora.captioning.breaker import MAX_FAILURES
from iclora.dataset import open_dataset
from iclora.dataset.verify import verify_dataset
from iclora.errors import BadConfig, BadInput, BuildStopped
from iclora.presets import load_config
from iclora.store import Store
from schemas.dataset import DatasetRef
from schemas.verdict import Tally

CAPTION = (
    "[MOVIE-SHOTS] a day by the sea with <Ann>, [SCENE-1] <Ann> wakes up early, "
    "[SCENE-2] <Ann> walks to the beach, [SCENE-3] <Ann> swims far out."
)
SHOTS = 11


class Captioner(ThreadingHTTPServer):
    """Answers every request with the same caption, after ``delay`` seconds."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: Counter[str] = Counter()
        self.delay = 0.0
        self.status = 200
        self.heard: Callable[[], object] = int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"


class Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        server = self.server
        assert isinstance(server, Captioner)
        server.heard()
        server.asked[body.decode()] += 1
        time.sleep(server.delay)
        choice = {"message": {"content": CAPTION}, "finish_reason": "stop"}
        answer = json.dumps({"choices": [choice]}).encode()
        self.send_response(server.status)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def captioner() -> Iterator[Captioner]:
    server = Captioner()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="session")
def films(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The first shots of three films."""
    from iclora.miniature.film import encode_film
    from iclora.miniature.script import film_script

    folder = tmp_path_factory.mktemp("short-films")
    paths = [folder / f"film-{seed}.mp4" for seed in (1, 2, 3)]
    for seed, path in enumerate(paths, 1):
        film = film_script(seed)
        encode_film(film.model_copy(update={"shots": film.shots[:SHOTS]}), path)
    return paths


def settings(url: str, family: Path, **more: object) -> dict[str, object]:
    return {
        "filter.clip": str(family / "clip"),
        "filter.sets.similarity": {
            "min_adjacent": -0.9,
            "near_duplicate": 0.99999,
            "min_first_last": -1.0,
        },
        "filter.max_set_similarity": 1.0,
        "caption.mode": "canvas",
        "caption.captioner": {"kind": "server", "url": url, "model": "stub"},
        "caption.captioner.json_output": False,
        "caption.captioner.retries": 0,
    } | more


@pytest.fixture(params=["threads", "prefect"])
def build(request: pytest.FixtureRequest, store: Store) -> Callable[..., DatasetRef]:
    """Builds as the command line does, and as the flow does."""
    if request.param == "threads":
        return lambda locations, changes, name="films": build_dataset(
            store, [str(one) for one in locations], load_config("miniature", changes), name
        )
    request.getfixturevalue("prefect")
    from flows.build_dataset import build_dataset as flow

    return lambda locations, changes, name="films": flow(
        [str(one) for one in locations], "miniature", "", name, store.url, changes
    )


def files_of(store: Store, name: str) -> dict[str, bytes]:
    folder = Path(open_dataset(store, name).url)
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def work_of(caplog: pytest.LogCaptureFixture) -> Counter[str]:
    """The stages that were worked on since the last call."""
    said = [record for record in caplog.records if record.name == "iclora.pipeline.stage"]
    caplog.clear()
    return Counter(str(one.args[0]) for one in said if one.msg.endswith("done") and one.args)


class Listener:
    def __init__(self) -> None:
        self.heard: list[tuple[str, str]] = []
        self.totals: dict[str, Tally] = {}

    def started(self, stage: str, parts: int) -> None:
        self.heard.append(("started", f"{stage} {parts}"))

    def advanced(self, stage: str, part: Tally) -> None:
        self.heard.append(("advanced", stage))

    def finished(self, stage: str, total: Tally) -> None:
        self.totals[stage] = total


def test_a_build_tells_its_listener_what_the_ledger_says(store, films, captioner, family):
    config = load_config("miniature", settings(captioner.url, family))
    listener = Listener()
    build_dataset(store, [str(film) for film in films[:2]], config, "films", listener)
    known = open_dataset(store, "films").manifest
    assert not known.preview, "no miniature model took part"
    assert listener.totals == {k: v for k, v in known.ledger.items() if k != "shard"}
    assert ("started", "ingest 2") in listener.heard
    assert Counter(what for what, _ in listener.heard)["advanced"] == 2 + 5 * 2


def test_a_build_and_what_reruns_cost(build, store, films, captioner, family, caplog):
    caplog.set_level(logging.INFO, "iclora.pipeline.stage")
    chosen = settings(captioner.url, family)
    ref = build(films[:2], chosen)
    assert ref.samples > 2
    found = verify_dataset(open_dataset(store, "films"))
    assert found.ok, found.problems
    known = open_dataset(store, "films").manifest
    work = work_of(caplog)
    assert (work["ingest"], work["quality"], work["choose"], work["caption"]) == (2, 2, 1, 2)
    asked = sum(captioner.asked.values())
    assert asked == ref.samples + known.ledger["caption"].rejected

    # Nothing changed: nothing is done.
    assert build(films[1::-1], chosen) == ref
    assert work_of(caplog) == {}
    assert sum(captioner.asked.values()) == asked

    # A changed threshold: from that stage on.
    assert build(films[:2], chosen | {"filter.max_sets": 2}, "few").samples == 2
    work = work_of(caplog)
    assert not {"ingest", "measure", "quality"} & set(work)
    assert work["choose"] == 1
    assert sum(captioner.asked.values()) == asked

    # One more film: one film's work.
    more = build(films, chosen)
    assert more.samples > ref.samples
    work = work_of(caplog)
    assert (work["ingest"], work["quality"], work["sets"]) == (1, 1, 1)
    assert (work["stitch"], work["caption"]) == (1, 1)
    assert sum(captioner.asked.values()) == asked + more.samples - ref.samples

    # The same from nothing, elsewhere, in another order: the same bytes.
    elsewhere = Store(f"{store.root}-2")
    config = load_config("miniature", chosen)
    build_dataset(elsewhere, [str(film) for film in films[::-1]], config, "films")
    assert files_of(elsewhere, "films") == files_of(store, "films")


def test_captions_do_not_wait_for_the_last_film(build, store, films, captioner, family):
    known: list[list[str]] = []
    captioner.heard = lambda: known.append(store.listdir("stages/choose"))
    ref = build(films, settings(captioner.url, family, **{"filter.max_sets": 0}))
    assert known[0] == [], "asked before it was known what all films hold"
    assert len(known) == ref.samples, "and nothing was asked in vain or twice"


BUILD = """
import json, sys
from iclora.build import build_dataset
from iclora.presets import load_config
from iclora.store import Store
if __name__ == "__main__":
    store, films, settings = json.loads(sys.argv[1])
    build_dataset(Store(store), films, load_config("miniature", settings), "films")
"""


def test_kill_at_any_moment_then_the_same_bytes(tmp_path, films, captioner, family):
    captioner.delay = 0.1
    chosen = settings(captioner.url, family, **{"caption.captioner.concurrency": 1})
    two = [str(film) for film in films[:2]]
    undisturbed, killed = Store(str(tmp_path / "calm")), Store(str(tmp_path / "killed"))
    build_dataset(undisturbed, two, load_config("miniature", chosen), "films")
    calm = captioner.asked.copy()
    captioner.asked.clear()

    arguments = json.dumps([killed.root, two, chosen])
    finished: dict[str, int] = {}
    for moment in (f"{killed.root}/stages/measure", f"{killed.root}/cache/captions"):
        child = subprocess.Popen([sys.executable, "-c", BUILD, arguments])
        deadline = time.monotonic() + 120
        while not Path(moment).exists() and child.poll() is None:
            assert time.monotonic() < deadline, f"{moment} did not appear"
            time.sleep(0.005)
        child.send_signal(signal.SIGKILL)
        assert child.wait() == -signal.SIGKILL, "it was killed, and had not ended by itself"
        assert not killed.exists("datasets")
        finished |= _stages(killed)
    build_dataset(killed, two, load_config("miniature", chosen), "films")
    assert files_of(killed, "films") == files_of(undisturbed, "films")
    assert finished.items() <= _stages(killed).items(), "what was finished was not done again"
    repeated = sum(captioner.asked.values()) - sum(calm.values())
    assert repeated <= MAX_WORKERS, "only what was on its way was asked again"


def _stages(store: Store) -> dict[str, int]:
    """Finished stages, and when they were."""
    manifests = Path(store.root).glob("stages/*/*/manifest.json")
    return {str(path): path.stat().st_mtime_ns for path in manifests}


def test_captions_that_mostly_fail_stop_a_build(build, store, films, captioner, family):
    captioner.status = 500
    with pytest.raises(
        BuildStopped, match=r"stage caption: (\d+) of \1 failed \(.*max_failed_share = 0.5"
    ):
        build(films[:1], settings(captioner.url, family))
    assert not store.exists("datasets")
    assert not store.exists("stages/publish")


def test_a_captioner_that_is_down_is_not_asked_for_every_film(build, store, films, family):
    """It accepts connections and closes them; a film alone would ask it a dozen times."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        connections = 0

        def hang_up() -> None:
            nonlocal connections
            with suppress(OSError):
                while True:
                    listening.accept()[0].close()
                    connections += 1

        threading.Thread(target=hang_up, daemon=True).start()
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/v1"
        chosen = settings(url, family) | {
            "caption.captioner.retries": 1,
            "caption.captioner.backoff_seconds": 0.01,
        }
        with pytest.raises(BuildStopped, match=r"stage caption: (\d+) of \1 failed"):
            build(films, chosen)
        listening.shutdown(socket.SHUT_RDWR)
    assert 1 <= connections <= 2 * MAX_FAILURES


def test_a_stage_that_mostly_fails_stops_a_build_before_the_next(
    build, store, films, captioner, family, tmp_path
):
    broken = [tmp_path / f"broken-{number}.mp4" for number in range(2)]
    for number, path in enumerate(broken):
        path.write_bytes(b"not a film at all %d" % number)
    with pytest.raises(BuildStopped, match=r"stage (ingest|quality): .* failed"):
        build(
            [films[0], *broken],
            settings(captioner.url, family, **{"ingest.max_failed_share": 0.01}),
        )
    assert store.exists("stages/ingest")
    assert not store.exists("stages/choose"), "no dearer stage begins"


def test_sources_that_fail_do_not_stop_the_rest(build, store, films, captioner, family, tmp_path):
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"not a film at all")
    build([films[0], broken], settings(captioner.url, family))
    known = open_dataset(store, "films").manifest
    assert sum(known.ledger[stage].failed for stage in ("sources", "ingest")) == 1
    strict = settings(captioner.url, family, **{"ingest.max_failed_share": 0.0})
    with pytest.raises(BuildStopped, match=r"more than ingest\.max_failed_share = 0\.0"):
        build([films[0], broken], strict)


def test_nothing_readable_is_the_users_mistake(build, tmp_path):
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"not a film at all")
    with pytest.raises(BadInput, match=r"broken\.mp4"):
        build([broken], {})
    with pytest.raises(BadConfig, match="cannot be a dataset's name"):
        build([broken], {}, "My Films")


def test_when_every_source_is_refused_one_sentence_says_why(build, films, tmp_path):
    reserved = tmp_path / "reserved.mp4"
    shutil.copy(films[0], reserved)
    Path(f"{reserved}.toml").write_text('opt_out = "noai"\n')
    with pytest.raises(BadInput, match=r"nothing was kept: 1 opt_out \(sources\)"):
        build([reserved], {})
