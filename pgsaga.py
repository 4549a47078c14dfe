"""The console script ``saga``. It stands outside the package, whose import takes a while: a Ctrl-C meanwhile ends it in silence."""

from __future__ import annotations

import os
import signal

_INTERRUPTED = 130


def main() -> None:
    """Run the command line."""
    heeded = signal.getsignal(signal.SIGINT) is signal.default_int_handler  # not in the background of a script
    if heeded:
        # Not by an exception, which some of what is imported would take for its own.
        signal.signal(signal.SIGINT, lambda *_: os._exit(_INTERRUPTED))
    from saga.cli import main as run

    if heeded:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    run()


if __name__ == "__main__":
    main()
