"""`intravid retrieve`: video retrieval: recall at k by cosine of clip-averaged features."""

from launch.commands._measure import run


def main(arguments: list[str]) -> int:
    """Run the command."""
    return run("retrieve", "video retrieval: recall at k by cosine of clip-averaged features", arguments)
