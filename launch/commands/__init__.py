"""One sub-command a file: `main(arguments)` returns an exit status."""
