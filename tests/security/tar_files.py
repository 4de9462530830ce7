"""Writes tar files from members and their contents."""

from __future__ import annotations

import io
import tarfile


def write_tar(path, members):
    """Writes (`TarInfo`, bytes) pairs to a tar file."""
    with tarfile.open(path, "w") as archive:
        for member, content in members:
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
