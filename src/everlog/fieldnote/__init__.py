"""Fieldnote, a small reporting product sold per seat: what an application on everlog looks like.

It uses nothing that you could not import. Read `users` first (a `Decider`: two pure functions), then `tenants` (the
same as an `Aggregate` class), `team` (rules that no single stream can keep), `upcasters` (what earlier releases
stored), `directory` (read models), `reactions` (processors) and `app`, which puts it all together. `story` is what
happens in the demo, `demo` runs and tells it.

Processes that wait for days are in `welcome`, `provisioning`, `trial_end` and `dunning`, what they command in `mailing`
and `billing`; `waiting` puts these together.
"""
