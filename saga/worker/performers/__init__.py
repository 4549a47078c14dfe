"""Performers: who makes an attempt and says what came of it; none of them records it."""
