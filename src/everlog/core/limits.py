"""What one event and one batch may hold. Named, so that an error can say which limit was met."""

EVENT_BYTES = 256 * 1024
BATCH_EVENTS = 500
BATCH_BYTES = 1024 * 1024
JSON_DEPTH = 64
LARGEST_INTEGER = 2**63 - 1
SMALLEST_INTEGER = -(2**63)
EVENT_TAGS = 50
BOUNDARY_TERMS = 500
"""Types and tags over all matches of one boundary: it is checked while everybody waits for the head."""
PAGE_BYTES = 4 * 1024 * 1024
"""A page of events that is read or handled at once ends here, however few they are: memory stays flat in bytes too."""
