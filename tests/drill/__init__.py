"""The fault drill: trainings that are killed, stopped, starved and lied to, each run again and held against the same
training left alone. `python -m tests.drill --list` says what is done to them.

    moments.py   in a training's process: where it is, and what is done to it there
    stage.py     starts and watches those processes
    oracle.py    what must be true afterwards
    faults.py    the fourteen classes of faults
    controls.py  the drill of the drill: what must turn it red
"""
