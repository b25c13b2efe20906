from __future__ import annotations

import importlib.util
import json
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pageshare import figures, scan, synth
from pageshare.commands import main
from pageshare.figures import Figure4, Figure5

PAGESHARE = [sys.executable, "-m", "pageshare"]


@pytest.fixture(scope="module")
def made() -> tuple[Figure4, Figure5]:
    """Both figures, made once: the second is of one workload."""
    figure_4 = figures.figure_4()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(figures, "FIGURE_5", figures.FIGURE_5[2:])
        return figure_4, figures.figure_5()


@pytest.fixture
def ready(made: tuple[Figure4, Figure5], monkeypatch: pytest.MonkeyPatch) -> None:
    """The command finds the figures made."""
    monkeypatch.setattr(figures, "figure_4", lambda *_: made[0])
    monkeypatch.setattr(figures, "figure_5", lambda *_: made[1])


@pytest.fixture
def never(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing may be made."""

    def fail(*_: Any) -> None:
        raise AssertionError("something was made")

    monkeypatch.setattr(figures, "figure_4", fail)
    monkeypatch.setattr(figures, "figure_5", fail)


@pytest.fixture(scope="module")
def dumps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with three dumps of guests."""
    folder = tmp_path_factory.mktemp("dumps")
    synth.make(synth.Spec(images=3, size=1 << 20, base=0.3, format="elf"), folder)
    return folder


def test_figure_4_as_a_program_sees_it() -> None:
    done = subprocess.run([*PAGESHARE, "figures", "4", "--json"], check=True, capture_output=True, text=True)
    assert done.stderr == ""
    document = json.loads(done.stdout)
    assert document["format"] == "pageshare-figures/1"
    assert (document["figure"], document["guest_mb"], document["fitted_to"]) == (4, 40, [1, 2, 4, 8])
    assert [each["count"] for each in document["guests"]] == list(range(1, 11))
    for each in document["guests"]:
        assert each["fitted"] is (each["count"] in (1, 2, 4, 8))
        published = each["published"]
        assert set(published) == {"shared", "reclaimed", "zero_mb"}
        assert abs(each["shared"] - published["shared"]) <= 2
        assert abs(each["reclaimed"] - published["reclaimed"]) <= 2
        assert 100 * abs(each["zero_mb"] - published["zero_mb"]) / each["mb"] <= 2
    assert synth.Spec.of_table(document["spec"]).images == 10
    assert document["convergence"]["rates"] == [200, 10_000]
    one_pass = next(each for each in document["convergence"]["found"] if each["visits"] == 1)
    assert one_pass["minutes"] == [pytest.approx(8.533, abs=0.001), pytest.approx(0.1707, abs=0.0001)]
    assert one_pass["permutation"] == 1
    assert "real" not in document


@pytest.mark.usefixtures("ready")
def test_figure_4_as_people_see_it(made: tuple[Figure4, Figure5], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["figures", "4"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    lines = out.splitlines()
    assert max(map(len, lines)) <= 80
    marks = {int(line[:6]): line.split()[-1] for line in lines if line.endswith(("fitted", "predicted"))}
    assert marks == {count: "fitted" if count in (1, 2, 4, 8) else "predicted" for count in range(1, 11)}
    seven = next(line.split() for line in lines if line.startswith("     7 "))
    point = made[0].points[6]
    assert seven[1:3] == ["66.4", f"{point.shared:.1f}"]
    assert seven[4:6] == ["56.9", f"{point.reclaimed:.1f}"]
    assert seven[7:9] == ["17.2", f"{point.zero_mb:.1f}"]
    assert any(line.startswith("predicted 3, 5, 6, 7, 9, 10 ") for line in lines)
    assert any(line.startswith("How fast ESX finds it") for line in lines)


@pytest.mark.usefixtures("ready")
def test_figure_5_says_what_was_set(made: tuple[Figure4, Figure5], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["figures", "5", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["figure"], document["page_size"]) == (5, 512)
    (workload,) = document["workloads"]
    assert workload["published"] == {
        **{"mb": 1658, "shared": 165, "shared_percent": 10.0},
        **{"reclaimed": 120, "reclaimed_percent": 7.2, "zero": 25},
    }
    assert workload["shared"] == made[1].workloads[0].shared
    assert main(["figures", "5"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert max(map(len, out.splitlines())) <= 80
    assert "Set from the paper: " in out
    assert "predicts nothing" in out
    assert "each is made 512 bytes long" in out


@pytest.mark.usefixtures("ready")
def test_the_curve_of_dumps(dumps: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = [f"first={dumps}/guest2.elf", f"{dumps}/guest1.elf", f"{dumps}/guest3.elf"]
    assert main(["figures", "4", "--json", "--guests", *given]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    real = json.loads(out)["real"]
    assert real["owners"] == ["first", "guest1.elf", "guest3.elf"]
    paths = [dumps / f"guest{number}.elf" for number in (2, 1, 3)]
    for count, point in enumerate(real["guests"], start=1):
        pages = scan(paths[:count]).pages
        assert point == {
            **{"count": count, "mb": float(count), "shared": 100 * pages.shared / pages.known},
            **{"reclaimed": 100 * pages.reclaimed / pages.known, "zero_mb": pages.zero / 256},
        }
    assert main(["figures", "4", "--guests", str(dumps)]) == 0
    out, err = capsys.readouterr()
    assert err.startswith(f"pageshare: note: {dumps}/truth.json: not known as a dump")
    assert max(map(len, out.splitlines())) <= 80
    assert "the guests, in this order: guest1.elf, guest2.elf, guest3.elf" in out


@pytest.mark.usefixtures("ready")
def test_a_dump_that_was_cut_off(dumps: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cut = tmp_path / "cut.elf"
    cut.write_bytes((dumps / "guest1.elf").read_bytes()[: 512 << 10])
    assert main(["figures", "4", "--json", "--quiet", "--guests", str(cut), f"{dumps}/guest2.elf"]) == 3
    out, err = capsys.readouterr()
    assert len(json.loads(out)["real"]["guests"]) == 2
    assert err.startswith(f"pageshare: incomplete: {cut}: the file ends at ")


@pytest.mark.usefixtures("never")
def test_dumps_that_are_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["figures", "4", "--guests", "/none.elf"]) == 1
    assert capsys.readouterr() == ("", "pageshare figures: /none.elf: No such file or directory\n")


@pytest.mark.usefixtures("never")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["5", "--guests", "x"], "--guests belongs to figure 4"),
        (["4", "--full"], "--full belongs to figure 5: figure 4 always has whole pages"),
        (["4", "--seed", "-1"], "--seed -1: must be a whole number from 0 to 2^63 - 1"),
        (["4", "--svg", "x", "--png", "x"], "name a file of its own for each of --svg, --png and --html"),
    ],
)
def test_arguments_that_make_no_sense(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["figures", *arguments]) == 2
    assert capsys.readouterr() == ("", f"pageshare figures: {message}\n")


@pytest.mark.usefixtures("ready")
@pytest.mark.parametrize("figure", ["4", "5"])
def test_plots_are_whole_and_private(
    figure: str, dumps: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    svg, png = tmp_path / "plot.svg", tmp_path / "plot.png"
    more = ["--guests", f"{dumps}/guest1.elf"] if figure == "4" else []
    assert main(["figures", figure, "--svg", str(svg), "--png", str(png), *more]) == 0
    assert capsys.readouterr().out.startswith(f"Figure {figure}: ")
    assert sorted(tmp_path.iterdir()) == [png, svg]
    assert [stat.S_IMODE(path.stat().st_mode) for path in (svg, png)] == [0o600, 0o600]
    assert png.read_bytes().startswith(b"\x89PNG")
    first = svg.read_bytes()
    assert first.rstrip().endswith(b"</svg>")
    assert main(["figures", figure, "--svg", str(svg), "--force", *more]) == 0
    assert svg.read_bytes() == first


@pytest.mark.usefixtures("never")
def test_a_plot_that_exists_stays(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "mine.svg"
    path.write_text("mine")
    assert main(["figures", "4", "--svg", str(path)]) == 1
    assert capsys.readouterr() == (
        "",
        f"pageshare figures: {path} exists: choose another name, or use --force\n",
    )
    assert path.read_text() == "mine"
    assert main(["figures", "4", "--svg", str(tmp_path / "none" / "x.svg")]) == 1
    assert capsys.readouterr().err == f"pageshare figures: {tmp_path}/none: there is no such folder\n"


@pytest.mark.usefixtures("ready")
def test_a_plot_that_fails_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    from matplotlib.figure import Figure

    monkeypatch.setattr(Figure, "savefig", full)
    assert main(["figures", "4", "--png", str(tmp_path / "plot.png")]) == 1
    assert capsys.readouterr() == ("", "pageshare figures: [Errno 28] No space left on device\n")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("never")
def test_without_matplotlib_it_is_said_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "matplotlib" else find(name))
    assert main(["figures", "4", "--svg", str(tmp_path / "plot.svg")]) == 1
    assert capsys.readouterr() == (
        "",
        "pageshare figures: plots need matplotlib: pip install 'pageshare[plot]'\n",
    )


@pytest.mark.usefixtures("ready")
def test_plotting_is_loaded_only_when_asked_for() -> None:
    code = (
        "import sys; from pageshare import figures; from pageshare.commands import main\n"
        "figures.FIGURE_5 = ()\n"
        "assert main(['figures', '5', '--json']) == 0; assert 'matplotlib' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
