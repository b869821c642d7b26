"""`python -m tests.killed_build N ARGUMENTS...`: the build command, killed by SIGKILL when its N-th video begins."""

import itertools
import os
import signal
import sys

from data_process import build_shards as build
from launch.cli import main

transcode, count = build.transcode, itertools.count(1)
fatal = int(sys.argv[1])


def watched(*arguments):
    if next(count) == fatal:
        os.kill(os.getpid(), signal.SIGKILL)
    return transcode(*arguments)


build.transcode = watched
sys.exit(main(["build", *sys.argv[2:]]))
