"""Fed by a broker: processors that see the log through its copy, and commands that come as messages."""
