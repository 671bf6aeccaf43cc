"""What the tests of the whole share: real processes on free ports, and modules beside the tests."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

sys.path.insert(0, str(Path(__file__).parent))
pytest.register_assert_rewrite("installation")

if TYPE_CHECKING:
    from installation import Installation


@pytest.fixture
def installation(root: None, tmp_path: Path) -> Iterator[Installation]:
    """A data directory with nothing started yet; whatever is started dies with the test."""
    from installation import Installation

    del root  # asked for so that it skips
    here = Installation(tmp_path)
    yield here
    here.close()
