"""`intravid linear`: linear probe of the frozen backbone."""

from launch.commands._measure import run


def main(arguments: list[str]) -> int:
    """Run the command."""
    return run("linear", "linear probe of the frozen backbone", arguments, one_frame=False)
