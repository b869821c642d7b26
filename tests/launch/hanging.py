"""IIC whose samples rank 1 cannot draw once a file is there: the thread that draws ends, and Python learns nothing."""

import ctypes
import os
from pathlib import Path

from models.methods.iic import IIC

FATAL = "INTRAVID_TEST_FATAL"
"""Environment variable that names the file."""


class UnreadableIIC(IIC):
    def planner(self):
        plan, fatal = super().planner(), Path(os.environ[FATAL])

        def planned(rng, record):
            if os.environ.get("RANK") == "1" and fatal.exists():
                ctypes.CDLL(None).syscall(60, 0)  # exit of this one thread, on x86-64
            return plan(rng, record)

        return planned
