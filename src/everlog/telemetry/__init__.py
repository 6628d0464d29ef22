"""Logs, traces and metrics in our words."""

from everlog.telemetry.counters import Counters

__all__ = ["Counters"]
