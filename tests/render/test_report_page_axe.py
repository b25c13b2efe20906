"""Pages in Chromium, light, dark and narrow: axe-core finds nothing, nothing is fetched, nothing runs; what they offer
for download can be had."""

import json
import shutil
import subprocess
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

import pageshare
from made_up import HOSTILE, made_up_sections, random_report
from pageshare.render import course_plot, plot, policies_page, report_page
from policy_runs import COSTS, PAGE, history, like_guests
from read_views import Page

AXE = Path(__file__).parent.parent / "pages"


def pages(monkeypatch):
    """The pages that are looked at, by name."""
    yield "one", report_page.page(random_report(seed=1, owners=1))
    yield "two", report_page.page(random_report(seed=2, owners=2, domain_per_owner=True))
    yield "hundred", report_page.page(random_report(seed=3, owners=100, pages=20))
    yield "names", report_page.page(random_report(seed=7, names=HOSTILE))
    yield "empty", report_page.page(pageshare.scan(b"less than a page"))
    yield "partial", report_page.page(random_report(seed=4, owners=3, policy="random", limit=40))
    found = random_report(seed=5, owners=3)
    unknown = replace(found.pages, unknown=found.pages.known)
    lacking = replace(found, pages=unknown, incomplete=HOSTILE, warnings=HOSTILE, interrupted=True)
    yield "lacking", report_page.page(lacking)
    monkeypatch.setattr("pageshare.render.sections.answered", lambda _: made_up_sections())
    yield "full", report_page.page(random_report(seed=6, names=HOSTILE))
    yield "policies", policies()
    yield from labs()


def policies():
    from pageshare.replay.compare import compare, compared, jobs_of
    from pageshare.replay.course import Settings
    from pageshare.replay.report import policies_document

    memory, names = history(like_guests(guests=2, pages=128)), ["sequential", "random", "oracle"]
    settings = Settings(by_bytes=False, visits=300)
    found = compared(names, list(compare(memory, jobs_of(names, settings, [1]), COSTS, processes=1)))
    document = policies_document(
        found,
        pages=256,
        page_size=PAGE,
        owners=list(HOSTILE),
        possible=100,
        possible_nonzero=50,
        pace=None,
        duration=None,
        seeds=[1],
        peek_price=0.04,
        costs=COSTS,
    )
    draw = partial(course_plot.draw_comparison, found, "", over_time=False, order=names)
    return policies_page.page(document, "", {"": plot.drawn(draw, "svg", (9, 4.2)).decode()})


def labs():
    """A host's course, and a study of estimators."""
    from pageshare.lab import course, estimation, report, scenario
    from pageshare.render import lab_page, lab_plot, lab_study

    names = [name for name in HOSTILE if 0 < len(name) <= 40 and name.isprintable() and name == name.strip()]
    program = {"name": "phases", "length": 2}
    guests = [{"name": name, "memory": "1 MiB", "program": [program]} for name in names]
    host = {"memory": f"{len(names) * 768} KiB", "sharing": True}
    changes = [{"at": 5, "tax": 0.5}]
    table = {"about": "<b>bold</b>", "duration": 10, "host": host, "guest": guests, "change": changes}
    ran = course.run(scenario.of_table(table, name="<x>", folder=Path()))
    drawn = plot.drawn(partial(lab_plot.draw, ran, titled=False), "svg", lab_plot.size(ran)).decode()
    yield "lab", lab_page.page(report.document([ran]), drawn)
    study = {"program": [{"name": "steady"}], "estimator": [{"name": "esx", "label": "<i>esx"}], "memory": "1 MiB"}
    spec = estimation.of_table({"duration": 60, "study": study}, name="study", folder=Path())
    told = estimation.document(spec, estimation.Study(spec, [1]).go(), [1], interrupted=False)
    yield (
        "study",
        lab_page.study_page(told, plot.drawn(partial(lab_study.draw, told), "svg", lab_study.size(told)).decode()),
    )


def needed(command, package):
    return shutil.which(command) or pytest.skip(f"no {command}: apt-get install {package}")


def test_axe_finds_nothing(tmp_path, monkeypatch):
    node, chromium = needed("node", "nodejs"), needed("chromium", "chromium")
    if not (AXE / "node_modules" / "axe-core").is_dir():
        pytest.skip("no axe-core: npm ci --prefix tests/pages")
    monkeypatch.setattr(report_page, "MOST_ROWS", report_page.LONG + 5)  # rows are alike, and each takes axe its time
    paths, downloads = [], tmp_path / "downloads"
    for name, text in pages(monkeypatch):
        paths.append(tmp_path / f"{name}.html")
        paths[-1].write_text(text, encoding="utf-8")
    command = [node, AXE / "run_axe.mjs", chromium, downloads, *paths]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["violations"] == []
    assert (found["requests"], found["errors"]) == ([], [])
    assert found["checked"] > 20 * 2 * len(paths)  # rules that were held: it did look
    for path in paths:
        offered = Page(path.read_text(encoding="utf-8")).links()
        got = {each.name: each.read_bytes() for each in (downloads / path.stem).glob("*")}
        assert got.items() <= offered.items()
        assert len(got) == min(len(offered), 2)
    assert max(found["loaded"].values()) < 5000
