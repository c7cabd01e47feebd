"""`python -m tests.hostile.part OUT`: runs the part of the cases that the suite has time for, and those that the
harness itself is tried with; their rows are OUT/rows.json.

A process of its own: a case forked from the suite's would find other threads' locks held, and memory by the gigabyte.
"""

import json
import sys
from pathlib import Path

from tests.hostile import code, corpora, plans, recipes
from tests.hostile.pristine import lay
from tests.hostile.stage import Case, imported, play

# Every so-manieth of each reader's, so that all kinds of damage have a share.
SHARES = {code.written: 3, code.named: 1,
          recipes.recipes: 16, recipes.recipes_odd: 6, recipes.arguments: 20, recipes.arguments_odd: 6,
          corpora.corpora: 9, corpora.corpora_odd: 6, plans.plans: 30, plans.plans_odd: 3, plans.goldens: 10}
UNWANTED = ("tfds", "3 MB", "50,000")  # which take seconds
# By the name of what is to be seen: code that does just that.
SEEN = [("silent", "pass"), ("traceback", "1 / 0"), ("executed", "open('CANARY', 'w')"),
        ("touched", "open('mine/letter.txt', 'w'); sys.exit(print('twinscale: x', file=sys.stderr) or 2)"),
        ("otherwise", "sys.exit(3)"), ("hang", "import time; time.sleep(99)"),
        ("otherwise", "print('twinscale: \\x1b[31m', file=sys.stderr); sys.exit(2)"),
        ("ok", "print('twinscale: no', file=sys.stderr); sys.exit(2)")]


def chosen():
    """The suite's part of the cases that need no trained inputs."""
    return [case for make, share in SHARES.items() for case in list(make())[::share]
            if not any(word in case.name for word in UNWANTED)]


def seen():
    """What the harness is tried with. The one that hangs alone may not take the time that the others have."""
    return [Case("self", name, ("hostile-self", code), **({"longest": 1.0} if name == "hang" else {}))
            for name, code in SEEN]


def main(out):
    """Plays both and writes {"chosen": rows, "seen": rows}."""
    ready = out / "pristine"
    ready.mkdir(parents=True)
    lay(ready)
    imported("none")
    rows = {"chosen": play(chosen(), ready, out / "chosen", 2), "seen": play(seen(), ready, out / "seen", len(SEEN))}
    (out / "rows.json").write_text(json.dumps(rows))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
