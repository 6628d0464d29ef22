"""What we test with, and what you can: the suite every store must pass."""
