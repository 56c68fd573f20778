"""A server that forks after its client was used: `python -m tests.journeys.fork_worker WAY CHILDREN CALLS`.

WAY is `fork` (`os.fork`; children leave as any program does), `process` (`multiprocessing`) or `unused` (the parent
has only made its client). It says a JSON object a line: who (pid and owner of the journal) made which call. When its
children have ended it waits for its stdin to close between its last two calls.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sys

from turnout import llm_client
from turnout.storage.record import DiskRecord


def call(session: str) -> None:
    """One call, and whose journal it is in."""
    reply = llm_client.sync.call_with_fallback(
        "dojo", [{"role": "user", "content": f"<{session}> hi"}], session_id=session
    )
    assert isinstance(llm_client.record, DiskRecord)
    status = llm_client.record.status()
    assert status is not None
    owner = status[0].owner
    said = {"session": session, "owner": owner, "pid": os.getpid(), "attempt": reply.attempts[-1].id}
    os.write(1, json.dumps(said).encode() + b"\n")


def child(number: int, calls: int) -> None:
    """What each child does."""
    for at in range(calls):
        call(f"child{number}-{at}")


def forked(number: int, calls: int) -> int:
    """A child made by `os.fork`; its pid."""
    pid = os.fork()
    if not pid:
        child(number, calls)
        sys.exit(0)
    return pid


def main(way: str, children: int, calls: int) -> None:
    """Fork, and go on."""
    if way == "unused":
        _ = llm_client.settings
    else:
        call("parent-before")
    if way == "process":
        fork = multiprocessing.get_context("fork")
        processes = [fork.Process(target=child, args=(n, calls)) for n in range(children)]
        for process in processes:
            process.start()
        call("parent-meanwhile")
        for process in processes:
            process.join()
        statuses = [process.exitcode for process in processes]
    else:
        pids = [forked(number, calls) for number in range(children)]
        call("parent-meanwhile")
        statuses = [os.waitpid(pid, 0)[1] for pid in pids]
    os.write(1, json.dumps({"ended": statuses}).encode() + b"\n")
    sys.stdin.read()
    call("parent-after")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
