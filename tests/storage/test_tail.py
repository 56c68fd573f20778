"""The file layer, and one segment that is being written."""

from __future__ import annotations

import fcntl
import os
from typing import TYPE_CHECKING

import pytest

from tests.storage.journals import FaultyDisk, no_space
from turnout.storage.tail import Disk, Tail

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Counting(FaultyDisk):
    """Knows which descriptors it closed."""

    def __init__(self) -> None:
        super().__init__()
        self.closed: list[int] = []

    def close(self, fd: int) -> None:
        """See `Disk`."""
        self.closed.append(fd)
        super().close(fd)


@pytest.fixture
def disk() -> Counting:
    """The file layer of `tail`."""
    return Counting()


@pytest.fixture
def tail(tmp_path: Path, disk: Counting) -> Iterator[Tail]:
    """A segment just begun."""
    made = Tail(tmp_path / "o.00000001.jnl", 1, disk)
    yield made
    made.close()


def test_a_new_file(tmp_path: Path) -> None:
    """A segment is made, never taken over; it is the user's alone, only appended to, and no child inherits it."""
    path, disk = tmp_path / "segment", Disk()
    fd = disk.create(path)
    try:
        with pytest.raises(FileExistsError):
            disk.create(path)
        assert path.stat().st_mode & 0o777 == 0o600
        assert fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_APPEND
        assert not os.get_inheritable(fd)
    finally:
        disk.close(fd)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


@pytest.mark.parametrize("way", ["fdatasync", "fsync"])
def test_the_medium_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    """A flush flushes that very file, by `fdatasync` where there is one; a folder's flush, that folder."""
    asked: list[tuple[str, int]] = []
    for name in ("fdatasync", "fsync"):
        monkeypatch.setattr(os, name, lambda fd, name=name: asked.append((name, os.fstat(fd).st_ino)))
    if way == "fsync":
        monkeypatch.delattr(os, "fdatasync")
    path, disk = tmp_path / "segment", Disk()
    fd = disk.create(path)
    disk.sync(fd)
    disk.sync_folder(tmp_path)
    disk.close(fd)
    assert asked == [(way, path.stat().st_ino), ("fsync", tmp_path.stat().st_ino)]


def test_a_folder_is_a_folder(tmp_path: Path) -> None:
    """Flushing the names in something that is no folder is an error, and leaves nothing open."""
    (tmp_path / "file").touch()
    Disk().sync_folder(tmp_path)
    with pytest.raises(NotADirectoryError):
        Disk().sync_folder(tmp_path / "file")
    assert not any(same(fd, tmp_path) or same(fd, tmp_path / "file") for fd in range(3, 256))


def test_head_and_size(tail: Tail) -> None:
    """The size is that of all lines, the head that of those copied from the segment before."""
    assert (tail.size, tail.head) == (0, 0)
    tail.begin(b"")
    assert (tail.size, tail.head) == (0, 0)
    tail.begin(b"copied\n")
    tail.write(b"new\n")
    assert (tail.size, tail.head) == (11, 7)
    assert tail.path.read_bytes() == b"copied\nnew\n"


def test_a_write_in_pieces(tail: Tail, disk: Counting) -> None:
    """A disk that takes three bytes at a time gets all of them, in order."""
    disk.most = 3
    tail.write(b"0123456789")
    assert (tail.path.read_bytes(), tail.size) == (b"0123456789", 10)


def test_a_disk_that_takes_nothing(tail: Tail, disk: Counting) -> None:
    """Half a line on a disk that then takes no byte more is an error, and is taken back."""
    tail.write(b"whole\n")
    disk.most = 3

    def stop(_name: str, n: int) -> None:
        if n == 3:
            disk.most = 0

    disk.fault = stop
    with pytest.raises(OSError, match="takes nothing"):
        tail.write(b"half\n")
    assert (tail.path.read_bytes(), tail.size, tail.spoilt) == (b"whole\n", 6, False)


def test_half_a_line_that_stays(tail: Tail, disk: Counting) -> None:
    """Where half a line cannot be taken back, the segment is given up and never written to again."""
    disk.most, disk.truncates = 3, False

    def fail(name: str, n: int) -> None:
        if (name, n) == ("write", 2):
            raise no_space()

    disk.fault = fail
    with pytest.raises(OSError, match="No space left"):
        tail.write(b"half\n")
    assert tail.spoilt
    with pytest.raises(OSError, match="given up"):
        tail.write(b"more\n")
    assert tail.path.read_bytes() == b"hal"


def test_the_name_is_flushed_once(tail: Tail, disk: Counting) -> None:
    """The folder is flushed with the first flush that works, and not again; a failed one gives the segment up."""

    def fail(name: str, n: int) -> None:
        if (name, n) == ("folder", 1):
            raise no_space()

    disk.fault = fail
    with pytest.raises(OSError, match="No space left"):
        tail.sync()
    assert tail.spoilt
    tail.sync()
    tail.sync()
    assert disk.count == {"create": 1, "write": 0, "sync": 3, "folder": 2}


def test_closed_once(tail: Tail, disk: Counting) -> None:
    """However often a segment is closed, dropped or forgotten, its descriptor is closed once, and no other is."""
    (fd,) = (fd for fd in range(3, 256) if same(fd, tail.path))
    tail.drop()
    tail.drop()
    tail.close()
    tail.forget()
    assert disk.closed == [fd]
    assert not tail.path.exists()


def test_forgotten_once(tail: Tail, disk: Counting) -> None:
    """A forked child closes its copy of the descriptor and leaves the file where it is."""
    tail.write(b"line\n")
    tail.forget()
    assert not any(same(fd, tail.path) for fd in range(3, 256))
    tail.forget()
    os.fstat(1)
    assert disk.closed == []
    assert tail.path.read_bytes() == b"line\n"


def same(fd: int, path: Path) -> bool:
    """This descriptor is open on that file."""
    try:
        return os.path.samestat(os.fstat(fd), path.stat())
    except OSError:
        return False
