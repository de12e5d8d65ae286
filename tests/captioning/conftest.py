"""A real captioning server on this machine that does as it is told, and stitched sets."""

from __future__ import annotations

import hashlib
import io
import json
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from PIL import Image

from iclora.captioning.breaker import breaker_of
from iclora.pipeline.stage import Stage, run_stage
from iclora.presets import load_config
from schemas.frame import Frame, ImageSet
from schemas.sample import PanelRecord
from schemas.source import Source
from schemas.stage import Canvas, StageRef, Stitched

CLEAN = (
    "a day at the sea in soft light; [SCENE-1] <Ann>, a girl with red hair, waves from a pier, "
    "[SCENE-2] <Ann> walks with <Ben>, a boy in a cap, along the beach, [SCENE-3] <Ben> flies a "
    "kite in the evening sun."
)


def says(text, finish="stop", **message):
    """A completion with this text."""
    choice = {"finish_reason": finish, "message": {"content": text, **message}}
    return 200, {}, json.dumps({"choices": [choice]}).encode()


class CaptionServer:
    """Answers from a script first, then by ``default``; remembers what it was sent."""

    def __init__(self):
        self.script = []
        self.default = says(f"[MOVIE-SHOTS] {CLEAN}")
        self.seen = []
        self.keys = []
        self.answered = 0
        self.active = self.most_active = 0
        self.lock = threading.Lock()
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with server.lock:
                    server.seen.append(body)
                    server.keys.append(self.headers.get("Authorization"))
                    server.active += 1
                    server.most_active = max(server.most_active, server.active)
                    reply = server.script.pop(0) if server.script else server.default
                try:
                    self.reply(reply(body) if callable(reply) else reply)
                finally:
                    with server.lock:
                        server.active -= 1

            def reply(self, reply):
                if reply == "cut":
                    self.connection.close()
                    self.close_connection = True
                    return
                status, headers, data = reply
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                with server.lock:
                    server.active -= 1
                self.wfile.write(data)
                with server.lock:
                    server.active += 1
                    server.answered += 1

            def log_message(self, *args):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.http.handle_error = lambda *_: None
        self.url = f"http://127.0.0.1:{self.http.server_port}/v1"
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()


@pytest.fixture
def server():
    """A captioning server; nothing listens there afterwards."""
    breaker_of.cache_clear()  # an earlier test's server may have had the same port
    running = CaptionServer()
    yield running
    running.http.shutdown()
    running.http.server_close()


@pytest.fixture
def completion():
    """``completion(text, finish="stop", **message)``: what a server sends."""
    return says


@pytest.fixture
def slowly():
    """``slowly(seconds, reply)``: the reply after a while."""

    def make(seconds, reply) -> Callable[[object], object]:
        def answer(_body):
            time.sleep(seconds)
            return reply

        return answer

    return make


@pytest.fixture
def config_of():
    """``config_of(server, **overrides)``: captions from a server, quick to give up."""

    def make(server, preset="movie-shots", **overrides):
        known = {
            "layout.panel_width": 64,
            "layout.panel_height": 32,
            "caption.mode": "canvas",
            "caption.captioner.kind": "server",
            "caption.captioner.model": "test-model",
            "caption.captioner.url": server.url if server else "http://127.0.0.1:9/v1",
            "caption.captioner.retries": 2,
            "caption.captioner.backoff_seconds": 0.01,
            "caption.captioner.timeout_seconds": 5.0,
        }
        known |= {f"caption.{name.replace('__', '.')}": value for name, value in overrides.items()}
        return load_config(preset, known)

    return make


@pytest.fixture
def stitch():
    """``stitch(store, config, captions)``: a stitch stage with one canvas a caption."""
    return stitch_sets


def stitch_sets(store, config, captions) -> StageRef:
    """A stitched source; an empty caption is one that has to be made."""
    source = Source(url="x", name="film@1", kind="film", content="1")

    def work(folder):
        canvases = tuple(
            _canvas(folder, config.layout, number, caption)
            for number, caption in enumerate(captions)
        )
        return Stitched(source=source, canvases=canvases, seen=len(canvases), verdicts=())

    inputs = [f"{len(captions)}", *captions]
    return run_stage(store, Stage("stitch", 1), config.layout, inputs, work)


def _canvas(folder, layout, number, caption):
    picture = Image.new("RGB", (layout.width, layout.height))
    for panel, box in enumerate(layout.boxes):
        picture.paste((40 * panel, (25 * number) % 256, 200), box)
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=95, subsampling=0)
    (folder / f"set-{number}.jpg").write_bytes(file.getvalue())
    frames = tuple(
        Frame(
            id=f"frame-{number}-{panel}",
            source="film@1",
            file="x.png",
            content="1",
            width=64,
            height=32,
            crop=(0, 0, 64, 32),
        )
        for panel in range(layout.panels)
    )
    panels = tuple(
        PanelRecord(
            marker=marker,
            box=box,
            caption="",
            source="film@1",
            source_box=(0, 0, 64, 32),
            shot=0,
            time=0.0,
            sha256="0",
        )
        for marker, box in zip(layout.markers, layout.boxes, strict=True)
    )
    return Canvas(
        key=f"set-{number}",
        file=f"set-{number}.jpg",
        image_sha256=hashlib.sha256(file.getvalue()).hexdigest(),
        panels=panels,
        masks=(),
        set=ImageSet(key=f"set-{number}", source="film@1", frames=frames, caption=caption),
    )
