"""Read models: folded or SQL, inline, asynchronous or live; effect and checkpoint in one transaction."""
