"""The suite for what comparing projections needs: states and tables with their checkpoints, and shadows.

Joined in one line an adapter, as `everlog.testing.conformance.following` is.
"""

import pytest

# Before the modules that assert are imported, or a failure would show no values.
for _topic in ("shadows", "states", "tables"):
    pytest.register_assert_rewrite(f"{__name__}.{_topic}")

from everlog.testing.conformance.verifying.suite import OpenPlace, verifying_conformance  # noqa: E402
from everlog.testing.conformance.verifying.words import Place  # noqa: E402

__all__ = ["OpenPlace", "Place", "verifying_conformance"]
