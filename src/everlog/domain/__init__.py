"""Business code's own words: events, upcasters, deciders, and the codec between them and stored bytes. No I/O."""
