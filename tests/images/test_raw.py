"""Raw memory: every byte is where it lies; holes are found, not read."""

import pytest

import pageshare
from dumps import PAGE, coverage, raw, true_to
from other_readers import our_pages, volatility_pages
from pageshare.images import ImageError, image_of_buffer, open_image
from pageshare.images.ranges import State
from pageshare.space import Coverage


def test_holes_are_found(tmp_path):
    path = raw(tmp_path / "sparse", "data 16p\n hole 64p\n data 16p\n hole 32p")
    with open_image(path) as image:
        assert true_to(image)
        assert coverage(image) == Coverage(data=32, zero_inferred=96)
        assert image.ranges["state"].tolist() == [State.DATA, State.ZERO_INFERRED] * 2
    with open_image(path, holes="unknown") as image:
        assert coverage(image) == Coverage(data=32, excluded=96)


@pytest.mark.parametrize("text", ["hole 64p", "hole 64p\n data 16p", "data 16p\n hole 64p", "data 16p"])
def test_holes_at_either_end(tmp_path, text):
    with open_image(raw(tmp_path / "sparse", text)) as image:
        assert true_to(image)
        figures = coverage(image)
        assert figures.data == (16 if "data" in text else 0)
        assert figures.zero_inferred == (64 if "hole" in text else 0)


def test_a_page_that_is_data_in_part_is_read_whole(tmp_path):
    """The file system's blocks may be smaller than the pages that are asked for."""
    path = raw(tmp_path / "sparse", "data 16p\n hole 64p\n data 16p\n hole 32p")
    size = 64 * PAGE
    with open_image(path, page_size=size) as image:
        assert coverage(image, size) == Coverage(data=2)
        report = pageshare.scan(path, page_size=size)
        assert (report.pages.known, report.pages.unique) == (2, 2)


@pytest.mark.parametrize("extra", [1, 100, PAGE - 1])
def test_the_end_of_a_page_is_partial(tmp_path, extra):
    path = tmp_path / "cut.raw"
    path.write_bytes(b"\1" * (3 * PAGE + extra))
    with open_image(path) as image:
        assert coverage(image) == Coverage(data=3, partial=1, partial_bytes=extra)
        report = pageshare.scan(image)
    assert (report.pages.known, report.pages.partial, report.coverage.partial_bytes) == (3, 1, extra)


def test_less_than_a_page(tmp_path):
    path = tmp_path / "tiny"
    path.write_bytes(b"\0hell")
    with pytest.raises(ImageError, match="tiny: its 5 bytes are less than one page; .* say --format raw"):
        open_image(path)
    with open_image(path, format="raw") as image:
        assert "less than one page" in image.warnings[0]
        assert coverage(image) == Coverage(partial=1, partial_bytes=5)


def test_volatility3_reads_the_same(tmp_path):
    path = raw(tmp_path / "sparse", "data 16p\n hole 64p\n data 16p\n data 100")
    theirs = volatility_pages(path)
    with open_image(path) as image:
        assert our_pages(image, (State.DATA, State.ZERO_INFERRED)) == theirs


def test_buffers_of_any_sort():
    import array
    import mmap

    import numpy as np

    memory = np.arange(2 * PAGE // 8, dtype=np.uint64)
    with mmap.mmap(-1, 2 * PAGE) as mapped:
        mapped.write(memory.tobytes())
        for buffer in (
            memory,
            memory.reshape(2, -1),
            memory.astype(">u8").view(">f8"),
            memory.tobytes(),
            bytearray(memory.tobytes()),
            memoryview(memory.tobytes()),
            array.array("Q", memory.tolist()),
            mapped,
        ):
            with image_of_buffer(buffer) as image:
                assert image.source.size == 2 * PAGE
                assert pageshare.scan(image).pages.known == 2
            del image, buffer


def test_buffers_that_will_not_do():
    import numpy as np

    with pytest.raises(pageshare.ImageError, match="not C-contiguous"):
        image_of_buffer(np.zeros((64, 128))[:, ::2])
    with pytest.raises(pageshare.ImageError, match="empty"):
        image_of_buffer(b"")
    with pytest.raises(TypeError):
        image_of_buffer("text")  # type: ignore[arg-type]
