"""From a command to appended events."""
