"""Every kind of page in a browser, at a phone's width and a desk's, light and dark, all details open; `make pages`."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.benchmarks.preflight.test_init import ANSWER, OVER, fly  # noqa: F401
from tests.whole.test_pages import KINDS
from twinscale.benchmarks.preflight.report import write_report as write_preflight

OUT = Path("build/pages").absolute()
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or "/usr/bin/chromium"
MODULES = OUT / "node_modules"
MISSING = [name for name, there in (
    ("chromium", os.access(CHROMIUM, os.X_OK)), ("node", shutil.which("node")),
    ("axe-core and playwright-core, which `make pages` installs", (MODULES / "playwright-core").is_dir())) if not there]
PAGES = [*KINDS, "preflight-fits", "preflight-over"]
pytestmark = [pytest.mark.pages, pytest.mark.skipif(bool(MISSING), reason=f"not here: {', '.join(MISSING)}")]


@pytest.fixture
def flown(fly, tmp_path):  # noqa: F811
    """The preflights of a recipe that fits its chips, and of one that does not fit all of them."""
    return {"preflight-fits": fly({"jax": [ANSWER], "keras": [ANSWER]})[1], "preflight-over": fly(
        {"jax": [ANSWER, OVER], "keras": [ANSWER, ANSWER]}, topologies=("v5e-4", "v4-8"))[1]}


def test_no_page_scrolls_sideways_nor_hides_its_cause_nor_has_what_axe_forbids(flown, tmp_path):
    files = {}
    for name in PAGES:
        write, called, make = KINDS.get(name) or (write_preflight, "report", lambda name=name: flown[name])
        folder = OUT / name
        folder.mkdir(parents=True, exist_ok=True)
        write(make(), folder)
        files[str(folder / f"{called}.html")] = name
    said = subprocess.run(["node", Path(__file__).with_name("look.mjs"), MODULES, tmp_path / "profile", *files],
                          capture_output=True, text=True, timeout=900, env=os.environ | {"CHROMIUM": CHROMIUM})
    assert said.returncode == 0, said.stderr
    found = {files[file]: views for file, views in json.loads(said.stdout).items()}
    assert {name: len(views) for name, views in found.items()} == dict.fromkeys(PAGES, 4)
    wrong = [f"{name}, {view['width']} px, {view['scheme']}: {line}" for name, views in found.items()
             for view in views for line in faults(view)]
    assert not wrong, "\n".join(wrong)
    assert all(view["lead"] for view in found["planted"])
    assert sum(view["copied"] is not None for views in found.values() for view in views) >= 4 * 4


def faults(view):
    """What is wrong with a view of a page, in words."""
    if view["page"] > view["window"]:
        yield f"scrolls sideways, {view['page']} px"
    yield from (f"reaches out: {each}" for each in view["outside"])
    yield from (f"scrolls and cannot be focused: {each}" for each in view["unreached"])
    yield from (f"is cut in its figure: {each}" for each in view["cut"])
    yield from view["violations"]
    if view["copied"] != view["command"]:
        yield f"copied {view['copied']!r} in place of {view['command']!r}"
    lead = view["lead"]
    if lead and view["width"] > view["height"] and max(lead["bottom"], lead["link"]) > view["height"]:
        yield f"the cause ends at {lead['bottom']:.0f} px"
