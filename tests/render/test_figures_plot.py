"""The plots of the paper's figures, on figures made for them."""

from matplotlib.figure import Figure

from pageshare.figures import FIGURE_5, Convergence, Figure5, Found, Made
from pageshare.render.figures_plot import draw


def made(workload, pages):
    found = tuple(Found(visits, visits / 5, visits / 5) for visits in (1.0, 4.0))
    return Made(workload, workload.spec(page_size=512), workload.mb, 10, 5, 0, 1, 4, Convergence(pages, found))


def test_figure_5_says_what_was_not_published_and_where_curves_end():
    canvas = Figure()
    draw(Figure5(512, tuple(made(workload, 1000 * (i + 1)) for i, workload in enumerate(FIGURE_5))), canvas)
    bars, curves = canvas.axes
    (said,) = [text for text in bars.texts if text.get_text() == "not published"]
    assert [workload.zero is None for workload in FIGURE_5].index(True) == int(said.xy[0])
    assert "each curve ends after 4 visits of every page" in curves.get_xlabel()
    canvas = Figure()
    draw(Figure5(512, (made(FIGURE_5[2], 1000),)), canvas)
    assert "ends" not in canvas.axes[1].get_xlabel()
    assert not [text for text in canvas.axes[0].texts if text.get_text() == "not published"]
