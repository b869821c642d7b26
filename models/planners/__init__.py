"""Which clips methods ask for, free of torch, so that planners travel to worker processes cheaply."""
