"""The store in memory: the whole log in one process, by a clock that moves only when it is told to."""
