"""The segment that is being written, what of it may not be on the medium, and the file layer beneath it."""

from __future__ import annotations

import errno
import os
import threading
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


class Disk:
    """What the journal asks of the operating system. A test puts one beneath that fails or blocks on demand."""

    def create(self, path: Path) -> int:
        """Make a new file for appending; its descriptor."""
        return os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def write(self, fd: int, data: bytes | memoryview) -> int:
        """Append; how many bytes went in."""
        return os.write(fd, data)

    def sync(self, fd: int) -> None:
        """Return when what was written is on the medium."""
        if hasattr(os, "fdatasync"):
            os.fdatasync(fd)
        else:
            os.fsync(fd)

    def sync_folder(self, folder: Path) -> None:
        """The same for the names in a folder."""
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def truncate(self, fd: int, size: int) -> None:
        """Cut a file back."""
        os.ftruncate(fd, size)

    def close(self, fd: int) -> None:
        """Close a file."""
        os.close(fd)


class Tail:
    """One segment open for appending. One thread at a time writes."""

    def __init__(self, path: Path, number: int, disk: Disk) -> None:
        self.path = path
        self.number = number
        self.size = 0
        """Bytes of whole records."""
        self.head = 0
        """Bytes of records copied from the segment before."""
        self.spoilt = False
        """Nothing more may be appended: its end is not known, or what was written may not be there."""
        self._disk = disk
        self._fd = disk.create(path)
        self._named = False

    def begin(self, head: bytes) -> None:
        """Write what the segment starts with. Raises `OSError`."""
        if head:
            self.write(head)
        self.head = self.size

    def write(self, data: bytes) -> None:
        """All of it or, as far as the disk lets us, nothing. Raises `OSError`."""
        if self.spoilt:
            raise OSError(errno.EIO, "this segment was given up")
        try:
            if (written := self._disk.write(self._fd, data)) != len(data):
                self._rest(memoryview(data)[written:])
        except OSError:
            self._cut()
            raise
        self.size += len(data)

    def _rest(self, data: memoryview) -> None:
        while data:
            if (written := self._disk.write(self._fd, data)) <= 0:
                raise OSError(errno.EIO, "the disk takes nothing")
            data = data[written:]

    def _cut(self) -> None:
        """Take back a record that went in by half, so that the next begins on a line of its own."""
        try:
            self._disk.truncate(self._fd, self.size)
        except OSError:
            self.spoilt = True

    def sync(self) -> None:
        """Return when every record is on the medium, and the segment's name with them. Raises `OSError`."""
        try:
            self._disk.sync(self._fd)
            if not self._named:
                self._disk.sync_folder(self.path.parent)
                self._named = True
        except OSError:
            # After a failed fsync Linux marks the pages clean: the next one would succeed and mean nothing.
            self.spoilt = True
            raise

    def close(self) -> None:
        """Close the file. Raises `OSError`."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            self._disk.close(fd)

    def drop(self) -> None:
        """Close the file and take it away, as if it had never been begun."""
        try:
            self.path.unlink(missing_ok=True)
        finally:
            self.close()

    def forget(self) -> None:
        """Close the inherited descriptor in a forked child."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


class Unsynced:
    """Lines in segments that no flush has brought to the medium: they are written again when one fails.

    It holds `most` bytes, and one line. Beyond that it lets go of the oldest: should their flush fail they stay in the
    segment that was given up, and whoever waits for them is not told that they are safe.
    """

    def __init__(self, most: int) -> None:
        self.lost = 0
        """The last round of which something was not written again."""
        self._most = most
        self._mutex = threading.Lock()
        self._lines: deque[tuple[int, int, bytes]] = deque()
        """Round, bytes of all lines until the end of this one, and the line."""
        self._bytes = 0
        self._let_go = 0

    def add(self, number: int, line: bytes) -> None:
        """A line of this round is in a segment."""
        with self._mutex:
            self._bytes += len(line)
            self._lines.append((number, self._bytes, line))
            while self._bytes - self._lines[0][1] > self._most:
                self._let_go = self._lines.popleft()[0]

    def reached(self, number: int) -> None:
        """Everything up to this round is on the medium."""
        with self._mutex:
            while self._lines and self._lines[0][0] <= number:
                self._lines.popleft()
            if self._let_go <= number:
                self._let_go = 0

    def again(self) -> list[bytes]:
        """What has to be written again, for a flush has failed."""
        with self._mutex:
            self.lost = max(self.lost, self._let_go)
            return [line for _, _, line in self._lines]
