"""Sources on web servers: what fails is a verdict, and no redirect leads into this machine."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import fsspec
import pytest
from PIL import Image

from iclora.errors import BadInput
from iclora.ingest import ingest_source, resolve_sources
from iclora.pipeline.stage import result_of
from iclora.presets import load_config
from iclora.web import MAX_REDIRECTS, ForbiddenAddress, class_of, options_within
from schemas.ingest import IngestParams
from schemas.stage import Ingested

METADATA = "http://169.254.169.254/latest/meta-data/iam/security-credentials/role"

Answer = Callable[[BaseHTTPRequestHandler], None]


class Site:
    """A real server on loopback: answers by path, and what it was asked."""

    def __init__(self) -> None:
        self.answers: dict[str, Answer] = {}
        self.asked: list[str] = []
        self.headers: list[dict[str, str]] = []
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                site.asked.append(self.path)
                site.headers.append({name.lower(): value for name, value in self.headers.items()})
                answer = site.answers.get(self.path.partition("?")[0])
                if answer is None:
                    self.send_error(404)
                else:
                    answer(self)

            def do_HEAD(self) -> None:
                self.do_GET()

            def log_message(self, *_) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_port
        self.url = f"http://127.0.0.1:{self.port}"
        Thread(target=self.server.serve_forever, daemon=True).start()

    def serve(self, path: str, body: bytes, kind: str = "application/octet-stream") -> None:
        def answer(request):
            request.send_response(200)
            request.send_header("Content-Type", kind)
            request.send_header("Content-Length", str(len(body)))
            request.end_headers()
            if request.command == "GET":
                request.wfile.write(body)

        self.answers[path] = answer

    def redirect(self, path: str, target: str) -> None:
        def answer(request):
            request.send_response(302)
            request.send_header("Location", target)
            request.send_header("Content-Length", "0")
            request.end_headers()

        self.answers[path] = answer

    def index(self, path: str, *names: str) -> None:
        links = "".join(f'<a href="{name}">{name}</a>' for name in names)
        self.serve(path, f"<html>{links}</html>".encode(), "text/html")


@pytest.fixture
def open_site() -> Iterator[Callable[[], Site]]:
    sites: list[Site] = []

    def make() -> Site:
        sites.append(Site())
        return sites[-1]

    yield make
    for one in sites:
        one.server.shutdown()
        one.server.server_close()


@pytest.fixture
def site(open_site) -> Site:
    return open_site()


@pytest.fixture
def resolve(tmp_path):
    def run(*places):
        return resolve_sources([str(place) for place in places], IngestParams(), tmp_path / "work")

    return run


def status(code):
    return lambda request: request.send_error(code)


def raw(data):
    def answer(request):
        request.wfile.write(data)
        request.close_connection = True

    return answer


FAILURES = {
    "500": status(500),
    "401": status(401),
    "close": raw(b""),
    "badhdr": raw(b"HTTP/1.1 200 OK\r\nContent-Type: video/mp4\r\nContent-Length: abc\r\n\r\nxx"),
    "junk": raw(bytes(range(256)) * 40),
    "biglen": raw(
        b"HTTP/1.1 200 OK\r\nContent-Type: video/mp4\r\nContent-Length: 999999\r\n\r\nshort"
    ),
}


@pytest.mark.parametrize("failure", FAILURES)
def test_a_failing_server_is_a_verdict_and_the_others_go_on(
    site, resolve, write_film, shots, failure
):
    site.serve("/good.mp4", write_film(shots(1)).read_bytes(), "video/mp4")
    site.answers["/bad.mp4"] = FAILURES[failure]
    bad = f"http://someone:hunter2@127.0.0.1:{site.port}/bad.mp4?token=hunter2"
    sources, verdicts = resolve(f"{site.url}/good.mp4", bad)
    assert [source.name.split("@")[0] for source in sources] == ["good.mp4"]
    assert [(v.outcome, v.reason) for v in verdicts] == [("kept", ""), ("failed", "unreadable")]
    assert (verdicts[1].id, verdicts[1].source) == ("bad.mp4", "bad.mp4")
    assert f"127.0.0.1:{site.port}/bad.mp4" in verdicts[1].detail
    assert "hunter2" not in str(verdicts)
    assert verdicts[1].detail.isprintable()


def test_a_build_of_a_failing_source_is_one_sentence(site, tmp_path):
    site.answers["/bad.mp4"] = status(500)
    command = [sys.executable, "-m", "iclora", "build", f"{site.url}/bad.mp4?sig=hunter2", "--json"]
    command += ["--store", str(tmp_path / "store"), "--name", "films", "--preset", "miniature"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert "Traceback" not in ended.stderr
    assert "bad.mp4?*** cannot be read: the server" in json.loads(ended.stdout)["error"]
    assert "500" in ended.stdout
    assert "hunter2" not in ended.stdout + ended.stderr


@pytest.mark.parametrize("kind", ["text/html", None])
def test_a_page_without_end_is_a_verdict_or_a_file(site, resolve, kind):
    def endless(request):
        request.send_response(200)
        if kind:
            request.send_header("Content-Type", kind)
        request.end_headers()
        try:
            for _ in range(1 << 6):  # 64 MiB
                request.wfile.write(b"<a href='x.mp4'>x</a>" * 50_000)
        except OSError:
            pass

    site.answers["/set/"] = endless
    sources, (verdict,) = resolve(f"{site.url}/set/")
    if kind:
        assert (sources, verdict.reason) == ((), "unreadable")
        assert "its listing is longer than 32 MiB" in verdict.detail
    else:
        assert sources[0].kind == "film"


@pytest.mark.parametrize("names", [("deeper/",), ("a/", "b/", "c.mp4")])
def test_folders_without_end_are_a_verdict(site, resolve, monkeypatch, names):
    monkeypatch.setattr("iclora.ingest.download._MAX_FOLDERS", 200)

    class Everywhere(dict):
        def get(self, path, default=None):
            site.index(path, *names)
            return self[path]

    site.answers = Everywhere()
    sources, (verdict,) = resolve(f"{site.url}/set/")
    assert (sources, verdict.reason) == ((), "unreadable")
    assert "its folders do not end" in verdict.detail
    assert len(site.asked) < 900


def test_what_a_server_does_not_have_is_a_mistyped_name(site, resolve):
    with pytest.raises(BadInput, match=r"/nothing\.mp4\?\*\*\* does not exist"):
        resolve(f"{site.url}/nothing.mp4?sig=hunter2")


def test_a_dead_link_of_a_listing_is_a_verdict(site, resolve, write_film, shots):
    site.serve("/films/a.mp4", write_film(shots(1)).read_bytes(), "video/mp4")
    site.index("/films", "a.mp4", "gone.mp4")
    sources, verdicts = resolve(f"{site.url}/films")
    assert len(sources) == 1
    assert sorted(v.reason for v in verdicts) == ["", "unreadable"]


@pytest.mark.parametrize(
    "target",
    [METADATA, "http://[fe80::1]/x", "http://[fd00:ec2::254]/x", "http://10.0.0.1/x",
     "http://[::ffff:169.254.169.254]/x", "http://[64:ff9b::a9fe:a9fe]/x", "file:///etc/passwd",
     "ftp://127.0.0.1/x"],
)  # fmt: skip
def test_a_redirect_to_another_class_of_address_is_refused(site, resolve, target):
    site.redirect("/film.mp4", target)
    sources, (verdict,) = resolve(f"{site.url}/film.mp4")
    assert (sources, verdict.outcome) == ((), "failed")
    assert verdict.reason == "forbidden_address"
    assert f"{site.url}/film.mp4" in verdict.detail


def test_an_address_of_a_metadata_service_is_refused_even_if_it_is_named(resolve):
    _, (verdict,) = resolve(METADATA)
    assert (verdict.outcome, verdict.reason) == ("failed", "forbidden_address")


@pytest.mark.parametrize("beside", ["a.txt", "a.png.toml", "set.toml"])
def test_files_beside_a_source_are_not_read_elsewhere_either(site, resolve, tmp_path, beside):
    Image.new("RGB", (64, 64), "red").save(tmp_path / "a.png")
    site.serve("/set/a.png", (tmp_path / "a.png").read_bytes(), "image/png")
    site.index("/set", "a.png", "a.txt")
    site.serve("/set/a.txt", b"a story", "text/plain")
    assert len(resolve(f"{site.url}/set")[0]) == 1
    path = f"/{beside}" if beside == "set.toml" else f"/set/{beside}"
    site.redirect(path, METADATA)
    site.index("/set", *{"a.png", "a.txt"} - {beside}, *{beside} - {"set.toml"}, "new.txt")
    site.serve("/set/new.txt", b"another story", "text/plain")
    place = f"{site.url}/set/a.png" if beside == "a.png.toml" else f"{site.url}/set"
    sources, (verdict,) = resolve(place)
    assert (sources, verdict.outcome) == ((), "failed")
    assert verdict.reason == "forbidden_address"


def test_redirects_within_a_class_are_followed_up_to_a_bound(site, resolve, write_film, shots):
    site.serve("/0.mp4", write_film(shots(1)).read_bytes(), "video/mp4")
    for number in range(1, MAX_REDIRECTS + 2):
        site.redirect(f"/{number}.mp4", f"http://localhost:{site.port}/{number - 1}.mp4")
    sources, _ = resolve(f"{site.url}/{MAX_REDIRECTS}.mp4")
    assert len(sources) == 1
    _, (verdict,) = resolve(f"{site.url}/{MAX_REDIRECTS + 1}.mp4")
    assert (verdict.outcome, verdict.reason) == ("failed", "unreadable")
    assert "redirect" in verdict.detail


def test_credentials_do_not_follow_to_another_host(open_site, resolve, write_film, shots):
    named, other = open_site(), open_site()
    other.serve("/film.mp4", write_film(shots(1)).read_bytes(), "video/mp4")
    named.redirect("/film.mp4", f"{other.url}/film.mp4")
    sources, _ = resolve(f"http://someone:hunter2@127.0.0.1:{named.port}/film.mp4")
    assert len(sources) == 1
    assert any("authorization" in headers for headers in named.headers)
    assert other.asked
    assert not any({"authorization", "cookie"} & set(headers) for headers in other.headers)


@pytest.mark.parametrize("home", ["public", "private"])
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0.0.0.0", "[::ffff:127.0.0.1]"])  # noqa: S104 - a target
def test_a_connection_to_another_class_is_never_made(site, tmp_path, home, host):
    """A name that was public when it was named and is this machine when it is asked."""
    site.serve("/secret.mp4", b"secret", "video/mp4")
    fs = fsspec.filesystem("http", **options_within(home))
    with pytest.raises(ForbiddenAddress, match="loopback"):
        fs.get_file(f"http://{host}:{site.port}/secret.mp4", str(tmp_path / "copy"))
    assert site.asked == []
    fs = fsspec.filesystem("http", **options_within("loopback"))
    fs.get_file(f"http://127.0.0.1:{site.port}/secret.mp4", str(tmp_path / "copy"))
    assert (tmp_path / "copy").read_bytes() == b"secret"


@pytest.mark.parametrize("reason", ["forbidden_address", "unreadable"])
def test_archives_on_servers_are_read_within_the_same_bounds(site, resolve, reason):
    site.redirect("/films.zip", METADATA)
    if reason == "unreadable":
        site.answers["/films.zip"] = status(500)
    _, (verdict,) = resolve(f"zip://a.mp4::{site.url}/films.zip?sig=hunter2")
    assert (verdict.outcome, verdict.reason) == ("failed", reason)
    assert "hunter2" not in str(verdict)


@pytest.mark.parametrize(
    ("address", "kind"),
    [
        ("8.8.8.8", "public"),
        ("2001:4860:4860::8888", "public"),
        ("10.1.2.3", "private"),
        ("172.16.0.1", "private"),
        ("192.168.1.1", "private"),
        ("100.64.0.1", "private"),
        ("fd12::1", "private"),
        ("127.0.0.1", "loopback"),
        ("::1", "loopback"),
        ("0.0.0.0", "loopback"),  # noqa: S104 - nothing is bound
        ("::", "loopback"),
        ("::ffff:127.0.0.1", "loopback"),
        ("2002:7f00:1::", "loopback"),
        ("169.254.169.254", "reserved"),
        ("fe80::1%eth0", "reserved"),
        ("fd00:ec2::254", "reserved"),
        ("fd20:ce::254", "reserved"),
        ("100.100.100.200", "reserved"),
        ("168.63.129.16", "reserved"),
        ("192.0.0.192", "reserved"),
        ("::ffff:169.254.169.254", "reserved"),
        ("64:ff9b::a9fe:a9fe", "reserved"),
        ("64:ff9b::808:808", "public"),
        ("224.0.0.1", "reserved"),
        ("255.255.255.255", "reserved"),
    ],
)
def test_classes_of_addresses(address, kind):
    assert class_of(address) == kind


def test_https_is_not_left(site, tmp_path):
    """A server with a certificate of its own would need one of its own; the rule is asked alone."""
    from yarl import URL

    from iclora.web import check_redirect

    check_redirect(URL("https://a.example/x"), "https://b.example/x")
    check_redirect(URL("https://a.example/x"), "/y")
    check_redirect(URL("http://a.example/x"), "https://a.example/x")
    for target in ("http://a.example/x", "file:///etc/passwd", "data:text/plain,x"):
        with pytest.raises(ForbiddenAddress, match="leads from"):
            check_redirect(URL("https://a.example/x"), target)


def test_a_source_that_is_refused_later_is_read_once_it_is_not(
    site, store, write_film, shots, monkeypatch
):
    """Another machine copies the source itself; what it meets there is not remembered."""
    data = write_film(shots(1)).read_bytes()
    site.serve("/film.mp4", data, "video/mp4")
    config = load_config("movie-shots")
    (source,), _ = resolve_sources(
        [f"{site.url}/film.mp4"], config.ingest, store.work_folder / "there"
    )
    site.redirect("/film.mp4", METADATA)
    found = result_of(store, ingest_source(store, source, config), Ingested)
    assert [v.reason for v in found.verdicts] == ["forbidden_address"]
    site.serve("/film.mp4", data, "video/mp4")
    found = result_of(store, ingest_source(store, source, config), Ingested)
    assert [v.outcome for v in found.verdicts] == ["kept"]


def test_a_picture_behind_a_signed_url_is_read_under_its_plain_name(site, resolve, tmp_path):
    Image.new("RGB", (64, 64), "red").save(tmp_path / "a.png")
    site.serve("/a.png", (tmp_path / "a.png").read_bytes(), "image/png")
    site.serve("/a.png.toml", b'licence = "CC0"', "text/plain")
    (source,), _ = resolve(f"{site.url}/a.png?X-Amz-Signature={'5' * 300}")
    assert (source.kind, source.name.split("@")[0]) == ("pictures", "a.png")
    assert source.rights.licence == "CC0"
    assert not any("5555" in str(path) for path in tmp_path.rglob("*"))


def test_a_server_that_is_not_there_is_a_verdict(resolve):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    _, (verdict,) = resolve(f"http://127.0.0.1:{port}/film.mp4")
    assert (verdict.outcome, verdict.reason) == ("failed", "unreadable")
