"""Where a database may lie."""

from __future__ import annotations

from pathlib import Path

import pytest

from turnout.errors import StoreFailed
from turnout.storage import address, mounts
from turnout.storage.store import Store


def test_network_file_systems(tmp_path: Path) -> None:
    """The innermost mount decides what a folder is on, and a network one is refused with a way out."""
    table = tmp_path / "mounts"
    table.write_text(
        "/dev/sda / ext4 rw 0 0\nserver:/home /home nfs4 rw 0 0\n/dev/sdb /home/my\\040data xfs rw 0 0\n"
    )
    kinds = [
        mounts.file_system(Path(folder), table)
        for folder in ("/srv/turnout", "/home", "/home/anna/x", "/home/my data/x", "/homes")
    ]
    assert kinds == ["ext4", "nfs4", "nfs4", "xfs", "ext4"]
    assert mounts.file_system(Path("/srv"), tmp_path / "nothing") == ""


def test_a_network_folder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is created on a network file system; the error names PostgreSQL and TURNOUT_HOME."""
    monkeypatch.setattr(mounts, "NETWORK", frozenset({mounts.file_system(tmp_path.resolve())}))
    store = Store(address.read(None, tmp_path / "home"))
    with pytest.raises(StoreFailed, match="network file system") as caught:
        store.open()
    assert "TURNOUT_HOME" in caught.value.hint
    assert not (tmp_path / "home").exists()
