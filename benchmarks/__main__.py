"""`make bench`: the benchmarks of this folder that take seconds, one after the other; `reports` takes minutes."""

import runpy

if __name__ == "__main__":
    for name in ("transport", "overhead", "journal", "record", "ledger"):
        print(f"== {name}")
        runpy.run_module(f"benchmarks.{name}", run_name="__main__")
