"""Mutation testing: would the tests notice if a line of the record were wrong? `python -m tests.mutations`."""
