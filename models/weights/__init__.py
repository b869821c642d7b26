"""Weights in and out: files of other programs to our names, our names to files that others read."""
