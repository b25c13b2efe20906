"""What the readers' tests share."""

import contextlib

import pytest

from pageshare.images import open_image


@pytest.fixture
def opened(tmp_path):
    """Write bytes, open them as an image; all closed at the end."""
    with contextlib.ExitStack() as stack:

        def open_bytes(data):
            path = tmp_path / "dump"
            path.write_bytes(data)
            return stack.enter_context(open_image(path))

        yield open_bytes
