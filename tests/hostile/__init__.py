"""Hostile inputs: whatever a reader reads (recipes, corpora, caches, runs, checkpoints, exports, images, models, plans,
goldens, arguments) is damaged in every way that generators know, and each verb must refuse it in one line. Odd inputs
that are in order must be taken. `python -m tests.hostile --list` says what there is.

    pristine.py  the inputs in order: tiny runs, exports, corpora; made once
    damage.py    what may be done to a file, to JSON, TOML, safetensors, images
    cases.py     the cases of each reader: what is laid out, the command, and what is to come of it
    stage.py     lays a case out, runs it in a process of its own, and holds it to what must be true of all
    part.py      those that the suite runs, in a process that has imported nothing else
"""
