"""What both backends share of what can be planted."""

from twinscale.common.planted.mutants import CHANGES
from twinscale.common.planted.planting import HAS, PHASES


def test_every_shared_change_says_what_it_needs_in_known_words_and_its_phase():
    assert {word for c in CHANGES.values() for word in c.needs} <= HAS.keys()
    assert {c.phase for c in CHANGES.values() if c.operation} >= {"data", "schedule", "evaluation", "checkpoint"}
    assert not [name for name, c in CHANGES.items() if bool(c.phase) != bool(c.operation)]
    assert CHANGES["data_from_the_start"].phase == "checkpoint" != PHASES["data"]
