"""What is asked of MaxText, and what is read of its compiled step; MaxText itself is another environment's."""

from types import SimpleNamespace

import pytest

from twinscale.benchmarks.peers import maxtext_compile


def test_a_configuration_is_maxtexts_command_line():
    assert maxtext_compile.words({"base_emb_dim": 8, "packing": False}) == [
        "train_compile", "base_emb_dim=8", "packing=False"]


def test_a_slice_of_another_shape_under_the_same_name_is_refused():
    maxtext_compile.checked("4x4x4", "v5:4x4x4")
    with pytest.raises(ValueError, match="is v5e:2x8, and not of 4x4"):
        maxtext_compile.checked("4x4", "v5e:2x8")


def test_its_memory_and_module_are_the_compilers(tmp_path):
    sizes = {f"{name}_size_in_bytes": n for n, name in enumerate((
        "argument", "temp", "output", "alias", "generated_code", "host_argument", "host_temp"), 1)}
    compiled = SimpleNamespace(as_text=lambda: "HloModule step", memory_analysis=lambda: SimpleNamespace(**sizes),
                               cost_analysis=lambda: {"flops": 9.0})
    found = maxtext_compile.figures(compiled, str(tmp_path / "module"))
    assert found["compiles"] and found["compiler_flops"] == 9.0
    assert found["memory"] == {"arguments": 1, "temporaries": 2, "output": 3, "alias": 4, "code": 5, "host": 13}
    assert (tmp_path / "module").read_text() == "HloModule step"
