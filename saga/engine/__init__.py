"""Engine: the only writer of progress."""
