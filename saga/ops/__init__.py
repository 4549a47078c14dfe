"""Ops: what operators ask of the whole."""
