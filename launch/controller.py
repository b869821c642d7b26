"""Whether SLURM's controller is away: then nothing is known about a job for a while, and nothing is lost.

Jobs go on without it. It comes back from a restart, an update or a change-over with all of them. Only the standard
library is needed here.
"""

from __future__ import annotations

AWAY = "UNREACHED"
"""State of a job while nobody answers; no word of SLURM's."""

_SAYINGS = ("Unable to contact slurm controller", "Unexpected message received", "Socket timed out", "Zero Bytes were")
"""What squeue and scontrol of SLURM 22.05 print when they have given up, after some 20 s of their own."""


def is_away(said: str) -> bool:
    """Whether a tool of SLURM failed because it reached nobody.

    Args:
        said: what it printed on standard error.
    """
    return any(saying in said for saying in _SAYINGS)
