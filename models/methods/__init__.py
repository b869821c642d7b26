"""One self-supervised method a file."""
