"""A part of the hostile inputs (`make hostile` is all of them): those that need no trained inputs, and the harness
itself."""

import pytest

from tests.hostile import code, corpora, plans, recipes
from tests.hostile.pristine import lay
from tests.hostile.stage import Case, imported, play

# Every so-manieth of each reader's, so that all kinds of damage have a share.
SHARES = {code.written: 3, code.named: 1,
          recipes.recipes: 16, recipes.recipes_odd: 6, recipes.arguments: 20, recipes.arguments_odd: 6,
          corpora.corpora: 9, corpora.corpora_odd: 6, plans.plans: 30, plans.plans_odd: 3, plans.goldens: 10}
UNWANTED = ("tfds", "3 MB", "50,000")  # which take seconds


@pytest.fixture(scope="module")
def ready(tmp_path_factory):
    made = tmp_path_factory.mktemp("pristine")
    lay(made)
    imported("none")
    return made


def chosen():
    return [case for make, share in SHARES.items() for case in list(make())[::share]
            if not any(word in case.name for word in UNWANTED)]


def test_hostile_inputs_are_refused_in_a_line_and_odd_ones_taken(ready, tmp_path):
    cases = chosen()
    assert sum(not case.benign for case in cases) >= 30 and sum(case.benign for case in cases) >= 8
    rows = play(cases, ready, tmp_path, 2)
    assert len(rows) == len(cases)
    assert not [(row["kind"], row["case"], row["detail"], row["said"]) for row in rows if row["result"] != "ok"]


def test_what_must_not_be_is_seen(ready, tmp_path, monkeypatch):
    """A verb that swallows, dumps, writes, runs, or shows what it should not turns the harness red, by its name."""
    monkeypatch.setattr("tests.hostile.stage.LONGEST", 3.0)

    def case(name, code):
        return Case("self", name, ("hostile-self", code))

    cases = [case("silent", "pass"), case("traceback", "1 / 0"), case("executed", "open('CANARY', 'w')"),
             case("touched", "open('mine/letter.txt', 'w'); sys.exit(print('twinscale: x', file=sys.stderr) or 2)"),
             case("otherwise", "sys.exit(3)"), case("hang", "import time; time.sleep(99)"),
             case("otherwise", "print('twinscale: \\x1b[31m', file=sys.stderr); sys.exit(2)"),
             case("ok", "print('twinscale: no', file=sys.stderr); sys.exit(2)")]
    rows = play(cases, ready, tmp_path, 8)
    assert [row["result"] for row in rows] == [row["case"] for row in rows]
