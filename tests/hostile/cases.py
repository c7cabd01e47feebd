"""All cases."""

from tests.hostile import caches, code, corpora, exports, models, places, plans, recipes, runs, tables


def cases():
    """The cases of every reader, the hostile ones before the odd ones."""
    made = [case for make in (
        recipes.recipes, recipes.recipes_odd, corpora.corpora, corpora.corpora_odd, tables.tables, tables.tables_odd,
        caches.caches, caches.caches_odd,
        runs.runs, runs.runs_odd, runs.states, runs.checkpoints, runs.checkpoints_odd, exports.exports,
        exports.inputs, exports.images, models.models, exports.odd, plans.plans, plans.plans_odd, plans.goldens,
        plans.verdicts, plans.verdicts_odd, recipes.arguments, recipes.arguments_odd, places.directories,
        places.directories_odd, places.working, code.written, code.read_back, code.named) for case in make()]
    names = [(case.kind, case.name, case.benign) for case in made]
    twice = {name for name in names if names.count(name) > 1}
    assert not twice, f"two cases have one name: {sorted(twice)[:5]}"
    return made
