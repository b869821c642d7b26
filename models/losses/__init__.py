"""One loss a file, of tensors alone."""
