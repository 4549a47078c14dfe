"""The user as which a server runs, if root starts it: `nobody`, with only the rights that it needs to reach its files."""

from __future__ import annotations

import os
import pwd
import stat
from collections.abc import Iterable
from pathlib import Path

CAP_DAC_OVERRIDE = 1
CAP_DAC_READ_SEARCH = 2


def server_user(program: Path, folder: Path) -> str:
    """What ``launch`` takes as USER: ``-`` to stay who we are, else ``uid:gid`` or, with a right kept, ``uid:gid:right``.

    Postgres refuses to run as root; yet root's checkout, virtual environment and data often lie below a folder that only
    root may enter. The one right that is kept then leaves those folders' modes alone.
    """
    if os.geteuid() != 0:
        return "-"
    nobody = pwd.getpwnam("nobody")
    user = f"{nobody.pw_uid}:{nobody.pw_gid}"
    if not program.stat().st_mode & stat.S_IXOTH:
        return f"{user}:{CAP_DAC_OVERRIDE}"
    passed = (*program.resolve().parents, folder, *folder.parents)
    if all(path.stat().st_mode & stat.S_IXOTH for path in passed):
        return user
    return f"{user}:{CAP_DAC_READ_SEARCH}"


def give_away(paths: Iterable[Path], user: str) -> None:
    """Have files of ours belong to that user."""
    if user != "-":
        uid, gid, *_ = map(int, user.split(":"))
        for path in paths:
            os.chown(path, uid, gid, follow_symlinks=False)
