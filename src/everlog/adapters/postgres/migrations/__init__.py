"""Numbered SQL: what `everlog store migrate` runs, each file once and in order."""
