"""Order of samples, clip plans and the executors that carry them out."""
