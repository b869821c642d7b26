"""`python start.py -u -m MODULE ...` runs a module with the code beside this file, wherever it is started.

A snapshot has a copy of this file at its root: Python puts the folder of a script before all others, where `-m` would
put the working directory, in which the code of a checkout may have changed since the submission.
"""

import runpy
import sys

if __name__ == "__main__":
    words = sys.argv[1:]
    while words[0] != "-m":
        words.pop(0)  # options of Python itself, which submitit writes before -m
    sys.argv = words[1:]
    runpy.run_module(words[1], run_name="__main__", alter_sys=True)
