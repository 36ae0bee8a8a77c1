from __future__ import annotations

import dataclasses
import errno
import hashlib
import io
import json
import os
import stat
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from benchmark.datasets import food101
from benchmark.datasets.contract import SourceFile, _found, find_dataset
from benchmark.datasets.storage import download as downloads
from benchmark.datasets.storage.archives import unpack
from benchmark.datasets.storage.download import download
from benchmark.datasets.storage.pins import pinned_checksums
from benchmark.datasets.storage.prepare import prepare, verify
from benchmark.errors import MissingError, RequestError
from tests.unit.benchmark.datasets import published_files as files
from tests.unit.benchmark.datasets.file_server import FileServer, running_server
from tests.unit.benchmark.datasets.image_files import make_folder, png_bytes
from tuning.cli.app import app, run

CONTENT = bytes(range(256)) * 40
CHECKSUM = f"md5:{hashlib.md5(CONTENT).hexdigest()}"


@pytest.fixture
def server() -> Iterator[FileServer]:
    with running_server() as running:
        running.files["/a.bin"] = CONTENT
        yield running


@pytest.fixture(autouse=True)
def data_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ADAPTERTUNE_DATA", str(tmp_path / "data-root"))
    return tmp_path / "data-root"


def test_file_is_whole_and_reported_when_downloaded(server: FileServer, tmp_path: Path) -> None:
    seen: list[tuple[str, int, int | None]] = []
    found = download(server.url("/a.bin"), tmp_path / "new" / "a.bin", CHECKSUM, lambda *facts: seen.append(facts))
    assert found == CHECKSUM
    assert (tmp_path / "new" / "a.bin").read_bytes() == CONTENT
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.bin"]
    assert seen[0] == ("a.bin", 0, len(CONTENT))
    assert seen[-1] == ("a.bin", len(CONTENT), len(CONTENT))


def test_only_the_rest_is_fetched_when_a_download_broke_off(server: FileServer, tmp_path: Path) -> None:
    server.breaks_after = 1000
    with pytest.raises(MissingError, match=r"1000 bytes are kept in .*a\.bin\.part, run the command again"):
        download(server.url("/a.bin"), tmp_path / "a.bin", CHECKSUM)
    assert not (tmp_path / "a.bin").exists()
    download(server.url("/a.bin"), tmp_path / "a.bin", CHECKSUM)
    assert (tmp_path / "a.bin").read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=1000-"]


def test_download_begins_anew_when_the_server_knows_no_ranges(server: FileServer, tmp_path: Path) -> None:
    (tmp_path / "a.bin.part").write_bytes(CONTENT[:1000])
    server.knows_ranges = False
    download(server.url("/a.bin"), tmp_path / "a.bin", CHECKSUM)
    assert (tmp_path / "a.bin").read_bytes() == CONTENT


def test_part_is_taken_when_it_is_whole_already(server: FileServer, tmp_path: Path) -> None:
    (tmp_path / "a.bin.part").write_bytes(CONTENT)
    assert download(server.url("/a.bin"), tmp_path / "a.bin", CHECKSUM) == CHECKSUM


def test_file_is_kept_aside_when_its_checksum_is_wrong(server: FileServer, tmp_path: Path) -> None:
    with pytest.raises(
        RequestError, match=r"a\.bin: found 'md5:.*must be md5:0000; the file is kept as a\.bin\.corrupt"
    ):
        download(server.url("/a.bin"), tmp_path / "a.bin", "md5:0000")
    assert [path.name for path in tmp_path.glob("a.bin*")] == ["a.bin.corrupt"]


class FullDisk(io.FileIO):
    """A file on a disk that takes 3,000 bytes, then reports ENOSPC as the kernel does."""

    def write(self, chunk: Any) -> int:
        room = max(0, 3000 - self.tell())
        written = super().write(bytes(chunk)[:room])
        if written < len(chunk):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return written


def test_part_is_kept_and_resumed_when_the_disk_is_full(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(downloads, "_opened", lambda part, have: FullDisk(part, "ab"))
        with pytest.raises(MissingError, match=r"a\.bin\.part: the disk is full; what is there is kept: free some"):
            download(server.url("/a.bin"), tmp_path / "a.bin", CHECKSUM)
    assert (tmp_path / "a.bin.part").stat().st_size == 3000
    download(server.url("/a.bin"), tmp_path / "a.bin", CHECKSUM)
    assert server.ranges == [None, "bytes=3000-"]
    assert (tmp_path / "a.bin").read_bytes() == CONTENT


def test_address_is_named_when_the_server_has_no_such_file(server: FileServer, tmp_path: Path) -> None:
    with pytest.raises(MissingError, match=r"/none\.bin: the server answers 404"):
        download(server.url("/none.bin"), tmp_path / "none.bin", None)
    assert list(tmp_path.glob("none*")) == []


def test_other_addresses_are_refused_when_they_are_not_http(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="only http and https"):
        download("file:///etc/hostname", tmp_path / "x", None)


@pytest.mark.parametrize("name", ["../out.txt", "/tmp/out.txt", "a/../../out.txt"])
@pytest.mark.parametrize("kind", ["tar.gz", "zip"])
def test_nothing_leaves_the_folder_when_an_archive_is_unsafe(tmp_path: Path, name: str, kind: str) -> None:
    archive = tmp_path / "below" / f"unsafe.{kind}"
    archive.parent.mkdir()
    writers = {"zip": write_zip, "tar.gz": write_tar}
    writers[kind](archive, name)
    with pytest.raises(RequestError, match=rf"unsafe\.{kind}: found '{name}'; a member's name must be relative"):
        unpack(archive, tmp_path / "below")
    assert not (tmp_path / "out.txt").exists()


def write_zip(path: Path, name: str) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(name, "x")


def write_tar(path: Path, name: str) -> None:
    with tarfile.open(path, "w:gz") as archive:
        member = tarfile.TarInfo(name)
        member.size = 1
        archive.addfile(member, io.BytesIO(b"x"))


def test_link_is_refused_when_it_leads_out_of_a_tar(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "links.tar", "w") as archive:
        member = tarfile.TarInfo("inside")
        member.type, member.linkname = tarfile.SYMTYPE, "../../etc/passwd"
        archive.addfile(member)
    with pytest.raises(RequestError, match=r"links\.tar: an unsafe member was refused"):
        unpack(tmp_path / "links.tar", tmp_path / "to")


@pytest.mark.parametrize("kind", [tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE])
def test_hard_links_and_devices_are_refused_when_a_tar_holds_them(tmp_path: Path, kind: bytes) -> None:
    with tarfile.open(tmp_path / "special.tar", "w") as archive:
        member = tarfile.TarInfo("inside")
        member.type, member.linkname = kind, "/etc/passwd"
        archive.addfile(member)
    with pytest.raises(RequestError, match=r"special\.tar: an unsafe member was refused"):
        unpack(tmp_path / "special.tar", tmp_path / "to")
    assert list((tmp_path / "to").iterdir()) == []


def test_link_is_refused_when_a_zip_holds_one(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "links.zip", "w") as archive:
        member = zipfile.ZipInfo("inside")
        member.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(member, "../../etc/passwd")
    with pytest.raises(RequestError, match=r"links\.zip: the member 'inside' is a link"):
        unpack(tmp_path / "links.zip", tmp_path / "to")
    assert list((tmp_path / "to").iterdir()) == []


def test_folder_is_named_when_the_disk_is_full_while_unpacking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    write_tar(tmp_path / "a.tar.gz", "train/a.png")
    monkeypatch.setattr(tarfile.TarFile, "extract", fail)
    with pytest.raises(MissingError, match=r"to: a\.tar\.gz cannot be unpacked: No space left"):
        unpack(tmp_path / "a.tar.gz", tmp_path / "to")


@pytest.mark.parametrize("name", ["broken.tar.gz", "broken.zip", "broken.tar"])
def test_archive_is_named_when_it_is_damaged(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"not an archive")
    with pytest.raises(RequestError, match=rf"{name}: the archive is damaged"):
        unpack(tmp_path / name, tmp_path / "to")


def small_food101(server: FileServer, tmp_path: Path, checksum: str | None = "right", url: str | None = "") -> Any:
    """Return Food-101 with a small archive on the server."""
    files.write_food101(tmp_path / "published")
    archive = tmp_path / "food-101.tar.gz"
    files.pack_tar_gz(archive, tmp_path / "published" / "food-101")
    server.files["/food-101.tar.gz"] = archive.read_bytes()
    known = {"right": f"md5:{hashlib.md5(archive.read_bytes()).hexdigest()}", "wrong": "md5:0", None: None}
    source = SourceFile(
        "food-101.tar.gz", server.url("/food-101.tar.gz") if url == "" else url, known[checksum], "test"
    )
    return files.small(food101.DATASET, {"train": 20, "test": 4}, files=(source,))


def test_data_set_is_ready_when_prepared(server: FileServer, tmp_path: Path, data_root: Path) -> None:
    kind = small_food101(server, tmp_path)
    outcome = prepare(kind())
    assert outcome["num_images"] == {"train": 18, "validation": 2, "test": 4}
    assert outcome["root"] == str(data_root / "food101")
    prepare(kind())
    assert len(server.ranges) == 1  # the second time nothing is fetched
    assert verify(kind()).num_decoded == 24


def test_checksum_is_pinned_when_nobody_states_one(server: FileServer, tmp_path: Path, data_root: Path) -> None:
    kind = small_food101(server, tmp_path, checksum=None)
    prepare(kind())
    pinned = pinned_checksums(data_root / "food101")["food-101.tar.gz"]
    assert pinned == f"sha256:{hashlib.sha256(server.files['/food-101.tar.gz']).hexdigest()}"
    (data_root / "food101" / "food-101.tar.gz").unlink()
    server.files["/food-101.tar.gz"] = b"another file"
    with pytest.raises(RequestError, match=f"must be {pinned}"):
        prepare(kind())


def test_archive_is_not_unpacked_when_its_checksum_is_wrong(
    server: FileServer, tmp_path: Path, data_root: Path
) -> None:
    with pytest.raises(RequestError, match=r"food-101\.tar\.gz: found 'md5:.*must be md5:0"):
        prepare(small_food101(server, tmp_path, checksum="wrong")())
    assert not (data_root / "food101" / "food-101").exists()


def test_file_and_place_are_named_when_it_is_fetched_by_hand(
    server: FileServer, tmp_path: Path, data_root: Path
) -> None:
    dataset = small_food101(server, tmp_path, url=None)()
    with pytest.raises(MissingError, match=rf"put into {data_root / 'food101'} first: food-101\.tar\.gz"):
        prepare(dataset)


def test_advice_is_where_to_put_the_file_when_the_server_cannot_be_reached(
    server: FileServer, tmp_path: Path, data_root: Path
) -> None:
    # Port 9 (discard) of the loopback interface: nothing listens there.
    dataset = small_food101(server, tmp_path, url="http://127.0.0.1:9/food-101.tar.gz")()
    with pytest.raises(MissingError, match=rf"download failed.*put into {data_root / 'food101'} first"):
        prepare(dataset)


def test_images_are_named_when_they_are_bad_or_in_train_and_test(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "pets")
    (folder / "test" / "cat" / "001.png").write_bytes(png_bytes(3)[:50])
    (folder / "test" / "dog" / "000.png").write_bytes((folder / "train" / "dog" / "003.png").read_bytes())
    result = verify(find_dataset(f"image_folder:{folder}"))
    assert (result.num_bad_images, result.num_decoded, result.is_sound) == (1, 24, False)
    assert "test/cat/001.png" in result.bad_images[0]
    assert result.shared_images == [("train/dog/003.png", "test/dog/000.png")]


def test_checksum_is_compared_again_when_verifying(server: FileServer, tmp_path: Path, data_root: Path) -> None:
    dataset = small_food101(server, tmp_path)()
    prepare(dataset)
    (data_root / "food101" / "food-101.tar.gz").write_bytes(b"rotten")
    with pytest.raises(RequestError, match=r"food-101\.tar\.gz: found"):
        verify(dataset)


def test_command_verifies_a_folder_when_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = make_folder(tmp_path / "pets")
    assert run(["data", "verify", f"image_folder:{folder}", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["datasets"]
    assert (row["num_images"], row["is_sound"]) == ({"train": 18, "validation": 2, "test": 5}, True)
    (folder / "train" / "cat" / "000.png").write_bytes(b"")
    _found.cache_clear()
    assert run(["data", "verify", f"image_folder:{folder}"]) == 1
    assert "train/cat/000.png" in capsys.readouterr().err


def test_command_ends_with_3_when_the_data_are_fetched_by_hand(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["data", "prepare", "vtab_dmlab"]) == 3
    assert "vtab-1k.zip" in capsys.readouterr().err
    assert run(["data", "prepare", "cifar11"]) == 2
    assert "cifar10" in capsys.readouterr().err


@pytest.mark.parametrize("command", [["list", "datasets", "--json"], ["data", "list", "--json"]])
def test_facts_are_listed_when_asked(command: list[str]) -> None:
    rows = {row["name"]: row for row in json.loads(CliRunner().invoke(app, command).stdout)["datasets"]}
    assert rows["cifar100"]["num_images"] == {"train": 45_000, "validation": 5_000, "test": 10_000}
    assert rows["cifar100"]["checksum"] == {"cifar-100-python.tar.gz": "md5:eb9058c3a382ffc7106e4002c42a8d85"}
    assert rows["vtab_dmlab"]["checksum"] == {"vtab-1k.zip": "unknown"}
    assert all(row["licence"] and row["source"] for row in rows.values())
    assert dataclasses.asdict(find_dataset("svhn").info)["num_classes"] == rows["svhn"]["num_classes"] == 10
