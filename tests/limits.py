"""What a test can't do as it is: be short of disk or of rights."""

import os
import resource
from contextlib import contextmanager


@contextmanager
def full_disk(left):
    """A limit on files' sizes, in bytes, is for a writer what a full disk is."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (left, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@contextmanager
def nobody():
    """A user whom the rights of files bind, unlike root."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


def let_in(folder):
    """Have :func:`nobody` come as far as this folder."""
    for place in (folder, *folder.parents):
        if place.stat().st_uid == os.geteuid() and not place.stat().st_mode & 0o001:
            place.chmod(0o755)
