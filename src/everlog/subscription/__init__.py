"""Following the log: start, lease, checkpoint, wake-up, give up. Projections and processors are its handlers."""
