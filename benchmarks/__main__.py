"""`make bench`: every benchmark of this folder, one after the other."""

from benchmarks import transport

if __name__ == "__main__":
    transport.main()
