"""Second names under which published networks hold the same entry once more."""

from __future__ import annotations

import re


def second_name(name: str) -> str | None:
    """The other name of an entry; None for almost all.

    S3D of CoCLR, DualVar and CSTP registers every layer under its own name and in a sequence of its stage: after the
    stage's pooling, which is number 0, come layers b, c, ... (their ``backbone/s3dg.py``; the first stage has no
    pooling and begins with a).

    >>> second_name("Mixed_4c.branch0.0.bn.weight")
    'block4.2.branch0.0.bn.weight'
    """
    found = re.fullmatch(r"(?:Conv|Mixed)_(\d)([a-f])\.(.+)", name)
    return f"block{found[1]}.{ord(found[2]) - ord('a')}.{found[3]}" if found else None
