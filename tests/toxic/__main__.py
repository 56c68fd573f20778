"""Run the server by hand: `python -m tests.toxic --default stream-stall-mid`."""

import argparse
import asyncio
import contextlib

from tests.toxic.faults import FAULTS
from tests.toxic.server import Toxic, last_words


async def serve(options: argparse.Namespace) -> None:
    """Print the URL, then serve until interrupted."""
    toxic = Toxic(
        options.default,
        replies=last_words if options.echo else None,
        port=options.port,
        enforce_reasoning=options.enforce_reasoning,
    )
    async with toxic:
        print(toxic.url, flush=True)
        await asyncio.Event().wait()


def main() -> None:
    """Read the options and serve, or list the faults."""
    parser = argparse.ArgumentParser(prog="python -m tests.toxic", description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--default", default="ok", help="the fault where nothing else is chosen")
    parser.add_argument("--enforce-reasoning", action="store_true", help="DeepSeek's rule for histories")
    parser.add_argument("--echo", action="store_true", help="answer with the last message")
    parser.add_argument("--list", action="store_true", help="list the faults")
    options = parser.parse_args()
    if options.list:
        for fault in FAULTS.values():
            print(f"{fault.name:30} {'/'.join(sorted(fault.kinds)):13} {fault.about}")
        return
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(options))


if __name__ == "__main__":
    main()
