"""The relay: copies what may leave from the log to a message broker, in order, and mends the copy when it breaks."""
