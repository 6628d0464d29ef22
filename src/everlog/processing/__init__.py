"""Processors: side effects in order per key, at least once, and parked lanes for what keeps failing."""
