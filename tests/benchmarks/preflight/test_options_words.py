"""What people are shown of XLA's options."""

from twinscale.benchmarks.preflight import options_words as words

KIND = {"kind": "all-gather", "network": "ici", "count": 3, "asynchronous": 1, "sparsecore": 0}
OFF = {"hbm_bytes_per_device": 2**30, "bytes_sent": 2**20, "bytes_waited_for": 2**20, "bytes_per_link": 2**19,
       "collectives": [KIND], "compile_seconds": 10.2}
ON = OFF | {"bytes_waited_for": 2**10, "collectives": [KIND | {"asynchronous": 3, "sparsecore": 2}]}
LINES = [{"option": "xla_one", "set": True, "effect": "helps", "state": "compiled", "said": None, "off": OFF, "on": ON},
         {"option": "xla_two", "set": False, "effect": None, "state": "refused", "said": "it hangs", "off": None,
          "on": None},
         {"option": "xla_three", "set": False, "effect": None, "state": "fails", "said": "it died", "off": OFF,
          "on": dict.fromkeys(OFF)}]
RESULT = {"recipe": {"name": "tiny"}, "libtpu": "0.0.45",
          "topologies": [{"topology": "v5p:2x2x1", "slices": 2, "options": LINES}]}


def test_a_figure_stands_twice_only_where_the_option_changes_it():
    first, second, third = words.lines_of(RESULT["topologies"][0])
    assert first == ["xla_one", "yes", "helps", "1 GiB", "1 MiB", "1 MiB → 1 KiB", "512 KiB",
                     "1 of 3 → 3 of 3, 2 on SparseCores", "10"]
    assert second[1:3] == ["no", "refused"] and set(second[3:]) == {"–"}
    assert third[2:4] == ["fails", "1 GiB → –"] and third[-1] == "10 → –"


def test_the_page_has_a_line_for_each_option_and_the_reasons_below():
    page = words.markdown(RESULT)
    head, *_ = page.splitlines()
    assert "tiny" in head and "2 x v5p:2x2x1" in head and "libtpu 0.0.45" in head
    table = [line for line in page.splitlines() if line.startswith("|")]
    assert len(table) == 2 + len(LINES) and len({line.count("|") for line in table}) == 1
    assert page.endswith("- xla_two: refused: it hangs\n- xla_three: fails: it died\n")


def test_a_terminal_sees_the_same(capsys):
    words.show_options(RESULT)
    said = capsys.readouterr().out
    assert "2 x v5p:2x2x1" in said and "xla_two: refused: it hangs" in said and "3 of 3, 2 on SparseCores" in said
