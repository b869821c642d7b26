"""The two ways a run ends for the user's attention: wrong input (exit status 2) and a failed run (exit status 1)."""


class InputError(Exception):
    """What was given is wrong: a path, a setting, a file.

    The text says what was given, what was expected and what mends it.

    The command line prints the text as one paragraph, without a traceback, and exits with status 2.
    """


class RunError(Exception):
    """The run itself failed (disk full, lost peer, non-finite loss); what was finished is kept.

    The command line prints the text as one paragraph and exits with status 1.
    """
