"""`make bench`: every benchmark of this folder, one after the other."""

from benchmarks import overhead, transport

if __name__ == "__main__":
    transport.main()
    overhead.main()
