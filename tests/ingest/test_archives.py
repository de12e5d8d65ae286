"""Archives: what is sound comes out, nothing else does, and nothing gets out of the folder."""

from __future__ import annotations

import io
import os
import tarfile
import zipfile
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iclora.ingest.archives import safe_name, unpack
from iclora.ingest.result import UnreadableInput
from schemas.ingest import IngestParams

USUAL = IngestParams()


@pytest.fixture
def place(tmp_path):
    folder = tmp_path / "inside" / "out"
    folder.mkdir(parents=True)
    return folder


def zipped(path, members, compression=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return path


def tarred(path, members, mode="w"):
    with tarfile.open(path, mode) as archive:
        for name, data in members:
            info = name if isinstance(name, tarfile.TarInfo) else tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def link(name, target, kind=tarfile.SYMTYPE):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def files_in(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if not p.is_dir())


OUTSIDE = ["../evil.png", "/evil.png", "a/../../evil.png", "C:/evil.png"]


@pytest.mark.parametrize(
    ("kind", "name"),
    # In a tar a backslash is a letter of the name.
    [*product(("zip", "tar"), OUTSIDE), ("zip", "..\\evil.png")],
)
def test_a_path_out_of_the_archive_is_refused(tmp_path, place, png, name, kind):
    members = [("good.png", png(1)), (name, png(2))]
    if kind == "zip":
        archive = zipped(tmp_path / "a.zip", members)
    else:
        archive = tarred(tmp_path / "a.tar", members)
    refused = unpack(archive, place, USUAL)
    assert files_in(place) == ["good.png"]
    assert [why.reason for _, why in refused] == ["unsafe_path"]
    assert not list((tmp_path / "inside").glob("*.png"))
    assert not (tmp_path / "evil.png").exists()


@pytest.mark.parametrize(
    "member",
    [
        link("evil.png", "/etc/passwd"),
        link("evil.png", "good.png", tarfile.LNKTYPE),
        link("evil.png", "", tarfile.FIFOTYPE),
        link("evil.png", "", tarfile.CHRTYPE),
    ],
)
def test_links_and_devices_in_a_tar_are_refused(tmp_path, place, png, member):
    archive = tarred(tmp_path / "a.tar", [("good.png", png(1)), (member, b"")])
    refused = unpack(archive, place, USUAL)
    assert files_in(place) == ["good.png"]
    assert refused[0][1].reason in ("link", "special_file")


@pytest.mark.parametrize("name", ["bad\udcff.png", "bad\x9b31m.png", "bad\n.png"], ids=ascii)
def test_a_name_that_cannot_be_printed_is_refused(tmp_path, png, ingest, name):
    members = [("good.png", png(1)), (name, png(2)), (link("l.png", name), b"")]
    found = ingest(tarred(tmp_path / "a.tar", members))
    assert sorted(v.reason for v in found.verdicts) == ["", "link", "unsafe_path"]
    assert all(v.detail.isprintable() for v in found.verdicts)
    assert found.to_text().encode()


def test_a_file_cannot_be_written_through_a_link(tmp_path, place, png):
    archive = tarred(
        tmp_path / "a.tar", [(link("d", str(tmp_path)), b""), ("d/through.png", png(1))]
    )
    unpack(archive, place, USUAL)
    assert not (tmp_path / "through.png").exists()


def test_links_in_a_zip_are_refused(tmp_path, place, png):
    info = zipfile.ZipInfo("evil.png")
    info.create_system, info.external_attr = 3, 0o120777 << 16
    archive = zipped(tmp_path / "a.zip", [("good.png", png(1)), (info, "/etc/passwd")])
    assert [why.reason for _, why in unpack(archive, place, USUAL)] == ["link"]
    assert files_in(place) == ["good.png"]


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_a_bomb_is_not_unpacked(tmp_path, place, png, kind):
    zeros = bytes(20_000_000)
    members = [("good.png", png(1)), ("bomb.png", zeros)]
    if kind == "zip":
        archive = zipped(tmp_path / "a.zip", members)
    else:
        archive = tarred(tmp_path / "a.tar.gz", members, "w:gz")
    refused = unpack(archive, place, USUAL)
    assert files_in(place) == ["good.png"]
    assert [why.reason for _, why in refused] == ["archive_bomb"]


def test_the_ratio_is_exact(tmp_path, place):
    data = bytes(200_000)
    archive = zipped(tmp_path / "a.zip", [("x.bmp", data), ("noise.bin", os.urandom(100_000))])
    with zipfile.ZipFile(archive) as opened:
        info = opened.getinfo("x.bmp")
    ratio = info.file_size / info.compress_size
    assert unpack(archive, place, IngestParams(max_archive_ratio=ratio + 0.01)) == []
    for file in place.iterdir():
        file.unlink()
    refused = unpack(archive, place, IngestParams(max_archive_ratio=ratio - 0.01))
    assert [name for name, _ in refused] == ["x.bmp"]
    assert round(refused[0][1].value, 2) == round(ratio, 2)


def test_many_small_members_cannot_add_up_to_a_bomb(tmp_path, place):
    members = [(f"{n}.bin", bytes(60_000)) for n in range(200)]  # each too small to be one
    archive = zipped(tmp_path / "a.zip", members)
    refused = unpack(archive, place, IngestParams(max_archive_ratio=50.0))
    assert refused
    total = sum(file.stat().st_size for file in place.iterdir())
    assert total <= 50 * archive.stat().st_size


def test_the_limit_on_bytes_holds(tmp_path, place):
    archive = zipped(tmp_path / "a.zip", [(f"{n}", os.urandom(1000)) for n in range(5)])
    refused = unpack(archive, place, IngestParams(max_archive_bytes=3000))
    assert len(files_in(place)) == 3
    assert {why.reason for _, why in refused} == {"archive_bomb"}


def test_a_member_that_lies_about_its_size_is_stopped(tmp_path, place):
    archive = zipped(tmp_path / "a.zip", [("liar.png", bytes(5_000_000))])
    data = bytearray(archive.read_bytes())
    true = (5_000_000).to_bytes(4, "little")
    while (at := data.find(true)) >= 0:
        data[at : at + 4] = (1000).to_bytes(4, "little")
    archive.write_bytes(bytes(data))
    refused = unpack(archive, place, USUAL)
    assert [why.reason for _, why in refused] == ["broken_member"]
    assert files_in(place) == []


def test_an_encrypted_member_is_refused(tmp_path, place, png):
    archive = zipped(tmp_path / "a.zip", [("a.png", png(1))])
    data = bytearray(archive.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.find(signature) + offset] |= 1
    archive.write_bytes(bytes(data))
    assert [why.reason for _, why in unpack(archive, place, USUAL)] == ["encrypted"]


def test_names_that_collide_are_refused(tmp_path, place, png):
    with pytest.warns(UserWarning, match="Duplicate name"):
        archive = zipped(
            tmp_path / "a.zip", [("a.png", png(1)), ("a.png", png(2)), ("a.png/b.png", png(3))]
        )
    reasons = [why.reason for _, why in unpack(archive, place, USUAL)]
    assert reasons == ["duplicate_name", "unsafe_path"]
    assert (place / "a.png").read_bytes() == png(1)


@pytest.mark.parametrize("data", [b"", b"no archive at all" * 100])
def test_what_is_no_archive_is_unreadable(tmp_path, place, data):
    (tmp_path / "a.zip").write_bytes(data)
    with pytest.raises(UnreadableInput, match=r"a\.zip"):
        unpack(tmp_path / "a.zip", place, USUAL)


def test_a_truncated_tar_gives_what_it_has(tmp_path, place, png):
    archive = tarred(tmp_path / "a.tar", [(f"{n}.png", png(n)) for n in range(4)])
    archive.write_bytes(archive.read_bytes()[: archive.stat().st_size // 2])
    reasons = [why.reason for _, why in unpack(archive, place, USUAL)]
    assert reasons in (["broken_member"], ["broken_archive"], ["broken_member", "broken_archive"])
    assert files_in(place)


@given(st.text(min_size=1, max_size=40))
def test_a_safe_name_stays_below_its_folder(name):
    try:
        path = safe_name(name)
    except UnreadableInput:
        return
    assert not path.is_absolute()
    assert ".." not in path.parts
    assert "\0" not in name


def test_an_archive_is_read_like_a_folder(tmp_path, png, ingest, write_film, shots):
    film = write_film(shots(2))
    archive = zipped(
        tmp_path / "all.zip",
        [
            ("__MACOSX/._1.png", b"junk"),
            (".DS_Store", b"junk"),
            ("scene a/1.png", png(1)),
            ("scene a/2.png", png(2)),
            ("film.mp4", film.read_bytes()),
            ("bad.mp4", b"text"),
            ("inner.zip", b"PK"),
            ("../out.png", png(4)),
            ("README.md", b"hello"),
            ("phone.heic", b"x"),
            ("plain", png(5)),
        ],
    )
    found = ingest(archive)
    assert [frame.scene for frame in found.frames] == ["film.mp4"] * 2 + ["scene a"] * 2
    assert sorted(v.reason for v in found.verdicts) == [
        "",
        "",
        "",
        "",
        "nested_archive",
        "not_a_film",
        "unknown_format",
        "unknown_format",
        "unsafe_path",
    ]
    assert len({v.id for v in found.verdicts}) == found.seen == 9


def test_an_archive_of_nothing_is_a_failed_source(tmp_path, ingest):
    found = ingest(zipped(tmp_path / "a.zip", [("README.md", b"hello")]))
    assert [v.reason for v in found.verdicts] == ["nothing_inside"]
    assert found.frames == ()
