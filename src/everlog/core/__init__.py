"""The words everyone uses, as frozen values: no I/O."""
