"""Settings, wiring, worker runtime: the only floor that knows which technologies exist."""
