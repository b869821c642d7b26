"""`intravid knn`: k-nearest-neighbour classification."""

from launch.commands._measure import run


def main(arguments: list[str]) -> int:
    """Run the command."""
    return run("knn", "k-nearest-neighbour classification", arguments)
