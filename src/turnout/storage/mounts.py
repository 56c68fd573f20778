"""On which file systems a database may lie."""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path

from turnout.errors import StoreFailed

NETWORK = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "lustre", "gpfs", "fuse.sshfs", "ceph", "afs", "9p"}
)
"""File systems on which WAL's shared memory does not work or loses data."""


def refuse_network(folder: Path) -> None:
    """Raise `StoreFailed` when a folder lies on one that other hosts write to."""
    kind = file_system(folder.resolve())
    if kind in NETWORK:
        raise StoreFailed(
            f"{folder} is on a network file system ({kind}), where SQLite loses data",
            hint="set TURNOUT_HOME to a local folder, or TURNOUT_DATABASE_URL to a postgresql:// address",
        )


def file_system(folder: Path, mounts: Path = Path("/proc/mounts")) -> str:
    """The kind of file system that holds a folder, where the system says so; else ''."""
    if sys.platform != "linux":
        return ""
    best, kind = "", ""
    with suppress(OSError):
        for line in mounts.read_text(encoding="utf-8", errors="replace").splitlines():
            _device, place, found, *_rest = [*line.split(" "), "", "", ""]
            place = place.replace("\\040", " ")
            if len(place) >= len(best) and (folder == Path(place) or Path(place) in folder.parents):
                best, kind = place, found
    return kind
