"""everlog against other libraries and against raw SQL, in one interleaved run: `python -m benchmarks --help`."""
