"""The promises, one module a topic: plain functions over the fixtures of `suite`."""
