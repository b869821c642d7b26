"""Process group, optimizer, schedule, checkpoint, log, the loop and evaluation."""
