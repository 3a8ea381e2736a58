"""What plugins are held to, as classes to subclass: one pytest test for each rule."""

import sys

if "pytest" in sys.modules:  # a test imports this: its failures are to show the values that were compared
    import pytest

    pytest.register_assert_rewrite(f"{__name__}.executors")
