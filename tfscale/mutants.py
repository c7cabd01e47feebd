"""Semantic errors and harmless changes to plant in this backend; see `common/planted/mutants.py`."""

from twinscale.common.planted.mutants import CHANGES as COMMON
from twinscale.tfscale import mutants_devices, mutants_step, mutants_tensorflow, mutants_tuning
from twinscale.tfscale.mutants_program import PORTABLE

ALL = (COMMON | PORTABLE | mutants_step.CHANGES | mutants_devices.CHANGES | mutants_tuning.CHANGES
       | mutants_tensorflow.CHANGES)
MUTANTS = {name: change for name, change in ALL.items() if change.operation}
NEUTRAL = {name: change for name, change in ALL.items() if not change.operation}
