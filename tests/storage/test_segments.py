"""The file format and the spool folder."""

from __future__ import annotations

import fcntl
import logging
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.storage.journals import CLOCK, ROOT, end, note, start
from turnout.storage.frames import framed, scan
from turnout.storage.segments import Dead, Lock, Spool, read, segment_name, segment_number
from turnout.types import Event, Kind

if TYPE_CHECKING:
    from collections.abc import Callable

TEXTS = st.text(st.characters(exclude_categories=()), max_size=20)
ODD = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | TEXTS
    | st.binary(max_size=9)
    | st.builds(object)
    | st.complex_numbers(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)


def decoded(lines: bytes) -> list[Event]:
    """The events in some lines."""
    return [msgspec.json.decode(payload, type=Event) for payload in scan(lines).payloads]


@pytest.fixture
def segment(tmp_path: Path) -> tuple[Path, list[Event], list[bytes]]:
    """Five events of one segment, and their lines."""
    first, second = start(), start()
    events = [first, second, end(first), note("ünïcödé \n\r\x00 \u2028"), end(second)]
    lines = [framed(event) for event in events]
    path = tmp_path / segment_name(CLOCK.new_id(), 1)
    path.write_bytes(b"".join(lines))
    return path, events, lines


def test_torn_at_every_byte(segment: tuple[Path, list[Event], list[bytes]]) -> None:
    """Cut anywhere, every record before the cut is read, and `torn` says whether the cut went through one."""
    path, events, lines = segment
    whole = path.read_bytes()
    for cut in range(len(whole), -1, -1):
        os.truncate(path, cut)
        ends = [len(b"".join(lines[: n + 1])) for n in range(len(lines))]
        complete = sum(end <= cut for end in ends)
        batch = read(path)
        assert batch.events == events[:complete]
        assert batch.end == (ends[complete - 1] if complete else 0)
        assert batch.torn == (batch.end < cut)
        assert not batch.damaged


def test_a_torn_tail_is_read_when_the_rest_arrives(segment: tuple[Path, list[Event], list[bytes]]) -> None:
    """A reader that met half a record goes on from where it stood once the rest is there."""
    path, events, _ = segment
    whole = path.read_bytes()
    for cut in range(0, len(whole), 7):
        path.write_bytes(whole[:cut])
        before = read(path)
        path.write_bytes(whole)
        assert before.events + read(path, before.end).events == events


def test_every_flipped_bit_is_found(segment: tuple[Path, list[Event], list[bytes]]) -> None:
    """One wrong bit anywhere costs at most the record it is in, and is counted."""
    path, events, lines = segment
    whole = path.read_bytes()
    which = [number for number, line in enumerate(lines) for _ in line]
    for bit in range(len(whole) * 8):
        flipped = bytearray(whole)
        flipped[bit // 8] ^= 1 << bit % 8
        found = scan(bytes(flipped))
        kept = [msgspec.json.decode(payload, type=Event) for payload in found.payloads]
        hit = which[bit // 8]
        assert kept in (events, events[:hit] + events[hit + 1 :])
        assert found.damaged or found.end < len(whole)


@given(st.lists(st.tuples(st.integers(0, 5), st.binary(min_size=1, max_size=300)), max_size=4))
@settings(max_examples=200, deadline=None)
def test_garbage_in_the_middle_hides_nothing(garbage: list[tuple[int, bytes]]) -> None:
    """Whatever lies between the records, every record behind it is found and the rest is counted."""
    events = [note(str(number)) for number in range(5)]
    pieces = [framed(event) for event in events]
    for place, junk in sorted(garbage, key=lambda entry: entry[0], reverse=True):
        pieces.insert(place, junk + b"\n")
    found = scan(b"".join(pieces))
    assert decoded(b"".join(pieces)) == events
    assert found.damaged == sum(len(junk) + 1 for _, junk in garbage)


def test_damage_is_logged(
    segment: tuple[Path, list[Event], list[bytes]], caplog: pytest.LogCaptureFixture
) -> None:
    """A bad record in the middle is counted and logged with its segment."""
    path, events, lines = segment
    path.write_bytes(lines[0] + lines[1].replace(b"hold_nano", b"hold_pico") + b"".join(lines[2:]))
    with caplog.at_level(logging.ERROR, "turnout"):
        batch = read(path)
    assert batch.events == [events[0], *events[2:]]
    assert batch.damaged == len(lines[1])
    assert [record.getMessage() for record in caplog.records] == ["journal_damaged"]


def test_zeros_at_the_end_are_torn(segment: tuple[Path, list[Event], list[bytes]]) -> None:
    """What a power cut leaves at the end, zeros, is a torn tail."""
    path, events, _ = segment
    path.write_bytes(path.read_bytes() + bytes(5_000))
    batch = read(path)
    assert (batch.events, batch.torn) == (events, True)


def test_a_newer_version_is_counted(tmp_path: Path) -> None:
    """A whole record that this version cannot understand is counted as damage; its neighbours are read."""
    events = [note("a"), note("b")]
    odd = framed(msgspec.structs.replace(events[0], kind="FROM_THE_FUTURE"))
    path = tmp_path / segment_name("o", 1)
    path.write_bytes(framed(events[0]) + odd + framed(events[1]))
    batch = read(path)
    assert (batch.events, batch.damaged > 0) == (events, True)


def test_pieces(segment: tuple[Path, list[Event], list[bytes]]) -> None:
    """Read a few bytes at a time, a segment gives the same events, and nothing looks torn on the way."""
    path, events, _ = segment
    for limit in (1, 100, 500, 1_000):
        found, offset = [], 0
        while (batch := read(path, offset, limit=limit)).events:
            assert not batch.torn
            found += batch.events
            offset = batch.end
        assert found == events


@given(ODD, TEXTS)
@settings(max_examples=300, deadline=None)
def test_any_facts(facts: object, user: str) -> None:
    """Whatever an application puts into an event, there is one line that can be read back, of the same event."""
    event = Event(id="i", trace="t", kind=Kind.USER_INPUT, at=5, user=user, facts={"it": facts})
    (back,) = decoded(framed(event))
    assert (back.id, back.trace, back.kind, back.at) == ("i", "t", Kind.USER_INPUT, 5)


def test_facts_beyond_json() -> None:
    """Facts that go in circles are replaced by the reason; those with a lone surrogate keep everything else."""
    circle: dict[str, object] = {}
    circle["it"] = circle
    (back,) = decoded(framed(Event(id="i", trace="t", kind=Kind.ERROR, at=1, facts=circle)))
    assert list(back.facts) == ["unrecorded"]
    odd = {"text": "a\ud800b", "cost": 7}
    (back,) = decoded(framed(Event(id="i", trace="t", kind=Kind.ERROR, at=1, facts=odd)))
    assert back.facts == {"text": "a?b", "cost": 7}


def test_facts_beyond_both() -> None:
    """What is no number of JSON and no text in Unicode, in facts or beside facts that go in circles, is one line."""
    odd = {"text": "a\ud800b", "cost": float("nan")}
    (back,) = decoded(framed(Event(id="i", trace="t", kind=Kind.ERROR, at=1, facts=odd)))
    assert list(back.facts) == ["unrecorded"]
    odd["it"] = odd
    (back,) = decoded(framed(Event(id="i", trace="t", kind=Kind.ERROR, at=1, user="\ud800", facts=odd)))
    assert (back.user, list(back.facts)) == ("?", ["unrecorded"])


def test_an_empty_line() -> None:
    """A line with nothing in it, also the first, is a byte of damage and hides nothing."""
    line = framed(note())
    for lines in (b"\n" + line, line + b"\n", b"\n"):
        found = scan(lines)
        assert (len(found.payloads), found.end, found.damaged) == (lines.count(line), len(lines), 1)


def test_names_sort_as_written() -> None:
    """The name of a segment says whose it is and the how many-th."""
    names = [segment_name("o", number) for number in (1, 9, 10, 123_456)]
    assert names == sorted(names)


def test_modes(tmp_path: Path) -> None:
    """The folder is the user's alone, and so are the lock files."""
    spool = Spool(tmp_path / "a" / "spool")
    lock = spool.enter("owner")
    assert spool.folder.stat().st_mode & 0o777 == 0o700
    assert lock.path.stat().st_mode & 0o777 == 0o600
    lock.release()


def test_adopters_race(tmp_path: Path) -> None:
    """Of eight who look at once exactly one gets a dead owner, round after round."""
    spool = Spool(tmp_path)
    for number in range(20):
        spool.enter(f"owner{number}").release()
        (tmp_path / segment_name(f"owner{number}", 1)).write_bytes(framed(note()))
        got: list[Dead] = []
        barrier = threading.Barrier(8)

        def look(got: list[Dead] = got, barrier: threading.Barrier = barrier) -> None:
            barrier.wait()
            for dead in spool.dead():
                if dead.segments:
                    got.append(dead)
                else:
                    dead.close()

        threads = [threading.Thread(target=look) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [dead.owner for dead in got] == [f"owner{number}"]
        got[0].close()
        assert [path.name for path in tmp_path.iterdir()] == []


def test_the_living_are_not_adopted(tmp_path: Path) -> None:
    """Another process's segments are never offered while it lives, and always once it is killed."""
    code = (
        "import sys; from pathlib import Path; from turnout.clock import Clock;"
        "from turnout.storage.journal import Journal; from tests.storage.journals import note;"
        "j = Journal(Path(sys.argv[1]), Clock()); j.append(note()); j.settled(); print(j.owner, flush=True);"
        "sys.stdin.read()"
    )
    with subprocess.Popen(  # noqa: S603
        [sys.executable, "-c", code, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    ) as child:
        assert child.stdout
        owner = child.stdout.readline().strip()
        assert list(Spool(tmp_path).dead()) == []
        child.kill()
        child.wait()
        (dead,) = Spool(tmp_path).dead()
        assert dead.owner == owner
        assert len(read(dead.segments[0]).events) == 1
        dead.close()
    assert list(tmp_path.iterdir()) == []


def test_released_means_offered_again(tmp_path: Path) -> None:
    """An adopter that gives up leaves everything to the next."""
    spool = Spool(tmp_path)
    path = tmp_path / segment_name("owner", 1)
    path.write_bytes(framed(note()))
    for dead in spool.dead():
        with dead:
            assert dead.segments == [path]
    assert [dead.segments for dead in spool.dead()] == [[path]]


def test_already_taken_away(tmp_path: Path) -> None:
    """An adopter whose segments somebody else took away closes all the same."""
    spool = Spool(tmp_path)
    for number in (1, 2):
        (tmp_path / segment_name("owner", number)).write_bytes(framed(note()))
    (dead,) = spool.dead()
    dead.segments[0].unlink()
    dead.close()
    assert list(tmp_path.iterdir()) == []


def test_looking_leaves_nothing_open(tmp_path: Path) -> None:
    """Who looks for the dead keeps no descriptor of a living owner's lock file."""
    spool = Spool(tmp_path)
    lock = spool.enter("living")
    for _ in range(3):
        assert list(spool.dead()) == []
    assert sum(fd.resolve() == lock.path for fd in Path("/proc/self/fd").iterdir()) == 1
    lock.remove()


def test_a_lock_lets_go_once(tmp_path: Path) -> None:
    """A lock taken away or let go keeps no descriptor, and doing it again closes nobody else's."""
    for lets_go in (Lock.remove, Lock.release):
        lock = Spool(tmp_path).enter("owner")
        fd = lock._fd
        lets_go(lock)
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)
        assert (tmp_path / "owner.lock").exists() == (lets_go is Lock.release)
        lets_go(lock)
        os.fstat(1)


def interposed(monkeypatch: pytest.MonkeyPatch, once: Callable[[], object]) -> None:
    """Let something happen between the opening of the next lock file and its locking."""
    real, first = fcntl.flock, iter([once])

    def flock(fd: int, how: int) -> None:
        for happens in first:
            happens()
        real(fd, how)

    monkeypatch.setattr(fcntl, "flock", flock)


def test_a_lock_taken_away_is_no_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who opened a lock file that its adopter removed before it could be locked gets nothing by locking it."""
    spool = Spool(tmp_path)
    spool.enter("owner").release()
    (first,) = spool.dead()
    interposed(monkeypatch, first.close)
    assert list(spool.dead()) == []
    assert list(tmp_path.iterdir()) == []


def test_a_lock_file_swept_away_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A new owner whose lock file is taken for a crashed one's just before it is locked makes it anew."""
    spool = Spool(tmp_path)
    interposed(monkeypatch, (tmp_path / "new.tmp").unlink)
    lock = spool.enter("new")
    assert [path.name for path in tmp_path.iterdir()] == ["new.lock"]
    assert list(spool.dead()) == []
    lock.remove()


def test_swept_before_it_was_locked(tmp_path: Path) -> None:
    """A lock file that a crash left without its name is swept away, and a living one's is not."""
    spool = Spool(tmp_path)
    (tmp_path / "crashed.tmp").touch()
    living = spool.enter("living")
    assert list(spool.dead()) == []
    assert [path.name for path in tmp_path.iterdir()] == ["living.lock"]
    living.remove()


def test_set_aside(tmp_path: Path) -> None:
    """A damaged segment is kept under another name: not read again, not deleted, and counted in the size."""
    spool = Spool(tmp_path)
    path = tmp_path / segment_name("owner", 1)
    path.write_bytes(b"?" * 100)
    spool.set_aside(path)
    spool.set_aside(path)
    assert spool.mine("owner") == []
    assert spool.size() == 100
    assert [dead.segments for dead in spool.dead()] == []


def test_number_of_a_segment(tmp_path: Path) -> None:
    """The number in a name can be read back, and removing what is gone is no error."""
    path = tmp_path / segment_name("owner", 42)
    assert segment_number(path) == 42
    Spool(tmp_path).remove([path])
