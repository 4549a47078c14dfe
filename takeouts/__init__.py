"""Takeouts: each behaviour that the guarantees promise, taken out of a copy of the code, to see its tests fail.

A test that passes without the behaviour it is named for proves nothing. `make takeouts` finds such tests.
"""
