"""Facts: all that is told of in the stream, by what it is about."""
