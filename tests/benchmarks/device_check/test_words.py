"""The table has every step with its result and reason, the sentence names what does not hold."""

from twinscale.benchmarks.device_check import words


def test_the_sentence_names_all_but_those_that_hold(row):
    steps = [row("parity"), row("bench", "open", 3), row("attention", "skipped"), row("bfloat16", "no", 1)]
    assert words.sentence(steps) == ("1 of 4 steps hold; 1 do not (bfloat16); 1 stay open (bench); 1 were skipped "
                                     "(attention).")
    assert words.sentence(steps[:1]) == "1 of 1 steps hold."


def test_the_table_has_each_step_in_its_order(row, capsys):
    steps = [row("parity", backends=("keras",)), row("attention", "skipped")]
    words.show({"rehearsed": True, "steps": steps, "sentence": "one."})
    shown = capsys.readouterr().out
    assert "rehearsed on the CPU" in shown and shown.index("parity") < shown.index("attention")
    assert "Keras" in shown and "skipped" in shown and "[was]" in shown and shown.rstrip().endswith("one.")
    assert words.told(steps[1]) == "Attention: skipped: attention [was] seen"
