"""The compilers of a preflight: which libtpu, and what becomes of their processes."""

from pathlib import Path

import pytest

from twinscale.benchmarks import preflight as flight
from twinscale.benchmarks.preflight import compilers
from twinscale.common import cli
from twinscale.common.errors import BadInput, MissingEnvironment
from twinscale.common.machine.topology import CHIPS, LIBTPU, library_version, too_old
from twinscale.common.recipe.file import dumps
from twinscale.common.recipe.schema import Recipe


def recipe_of(**sections):
    values = {"name": "tiny", "data": {"source": "digits"}, "model": {"family": "mlp", "hidden": [8]},
              "train": {"global_batch": 32}}
    for section, changes in sections.items():
        values[section] = {**values.get(section, {}), **changes}
    return Recipe.model_validate(values)


def test_without_libtpu_one_line_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setattr(compilers.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(compilers.sys, "prefix", str(tmp_path))
    with pytest.raises(MissingEnvironment) as caught:
        compilers.find_libtpu({})
    assert f"pip install --no-deps --target {tmp_path}/libtpu 'libtpu==" in str(caught.value)
    with pytest.raises(MissingEnvironment, match="TPU_LIBRARY_PATH=/none: no such file"):
        compilers.find_libtpu({"TPU_LIBRARY_PATH": "/none"})
    kept = tmp_path / "libtpu" / "libtpu"
    kept.mkdir(parents=True)
    (kept / "libtpu.so").touch()
    for version in ("1.2.3", "1.2.20", "1.2.9"):  # of all that pip has put there, the last
        (tmp_path / "libtpu" / f"libtpu-{version}.dist-info").mkdir()
    assert compilers.find_libtpu({}) == kept / "libtpu.so" and library_version(kept / "libtpu.so") == "1.2.20"


@pytest.mark.parametrize("wanted, said", [
    (["numpy>=1", 'libtpu==0.0.42.*; extra == "tpu"'], LIBTPU["tpu7x"]), (["numpy>=1"], LIBTPU["tpu7x"]),
    (['libtpu==0.0.50.*; extra == "tpu"'], "0.0.50.*")])
def test_the_libtpu_that_is_named_belongs_to_jax_and_compiles_for_every_chip(monkeypatch, wanted, said):
    monkeypatch.setattr(compilers.metadata, "requires", lambda package: wanted)
    assert compilers.libtpu_of_jax() == f"libtpu=={said}"


@pytest.mark.parametrize("lock", ["requirements-tpu.lock", "requirements-tpu-newest.lock"])
def test_what_is_pinned_is_new_enough_for_every_chip(lock):
    pinned = dict(line.split("==") for line in Path(lock).read_text().splitlines() if "==" in line)["libtpu"]
    assert [chip.name for chip in CHIPS.values() if too_old(chip, pinned)] == []


def test_a_module_that_jaxlib_cannot_read_is_no_internal_error(monkeypatch):
    """What jaxlib 0.10.2 says of a TPU7x's decoder that libtpu 0.0.46.3 has compiled."""
    import jax

    from twinscale.jaxscale import lower

    class Compiled:
        def as_text(self):
            raise jax.errors.JaxRuntimeError("INTERNAL: RET_CHECK failure (hlo_instruction.cc:390) async-update "
                                             "instruction should have 1 operands but sees 15\n*** Begin stack trace")

    monkeypatch.setattr(lower, "libtpu_version", lambda environment: "0.0.46.3")
    with pytest.raises(MissingEnvironment) as caught:
        lower.text_of(Compiled())
    said = str(caught.value)
    assert said.startswith("libtpu 0.0.46.3: jaxlib ") and "sees 15): take one that is less new" in said
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize("topologies, version, refused", [
    (["tpu7x:2x2x1"], "0.0.42.1", True), (["v5e:2x2", "tpu7x-8"], "0.0.9", True), (["tpu7x-8"], "0.0.45", False),
    (["tpu7x-8"], "0.1.0", False), (["tpu7x-8"], None, False), (["v4-8", "v5e:2x2", "v5p-8"], "0.0.42.1", False)])
def test_a_libtpu_too_old_for_a_chip_is_refused_before_anything_is_compiled(topologies, version, refused, tmp_path,
                                                                            monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "r.toml").write_text(dumps(recipe_of()))
    library = tmp_path / "libtpu" / "libtpu.so"
    library.parent.mkdir()
    library.touch()
    if version:
        (tmp_path / f"libtpu-{version}.dist-info").mkdir()
    monkeypatch.setenv("TPU_LIBRARY_PATH", str(library))
    monkeypatch.setattr(flight, "check_packages", lambda backends: None)

    def compiles(*_):
        raise BadInput("it compiles")

    monkeypatch.setattr(flight, "compile_all", compiles)
    words = [word for name in topologies for word in ("--topology", name)]
    code = cli.main(["preflight", "r.toml", *words, "--backend", "jax", "--out", "o"])
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1 and not (tmp_path / "o").exists()
    if refused:
        assert code == 4 and f"libtpu {version} is too old for TPU7x" in said and "0.0.45 or newer" in said
        assert f"pip install --no-deps --upgrade --target {compilers.beside()} 'libtpu==" in said
    else:
        assert code == 2 and "it compiles" in said


def test_the_stack_is_as_it_was(monkeypatch):
    limits = compilers.resource.getrlimit(compilers.resource.RLIMIT_STACK)
    with compilers.deep_stack():
        assert compilers.resource.getrlimit(compilers.resource.RLIMIT_STACK)[0] == limits[1]
    assert compilers.resource.getrlimit(compilers.resource.RLIMIT_STACK) == limits


@pytest.mark.parametrize("said, used, of", [
    ("the total memory required for HLO temporaries (1.31T) exceeds available HBM (95.74G).", 1.31 * 2**40, 95.74),
    ("total memory of the program (16.08G) exceeds available HBM (15.75G)", 16.08 * 2**30, 15.75),
    ("RESOURCE_EXHAUSTED: E1000: CompileTimeHbmOom: Ran out of memory on HBM, the total memory required for HLO "
     "temporaries (335.31G) exceeds available HBM (94.74G). HLO module: jit__lambda.",  # libtpu 0.0.50.1 of a TPU7x
     335.31 * 2**30, CHIPS["tpu7x"].hbm_bytes / 2**30),
    ("Used 512.00M of 15.75G hbm", 2**29, 15.75)])
def test_a_refusals_figures_are_read_whatever_their_unit(said, used, of):
    from twinscale.jaxscale.lower import refusal
    assert refusal(said) == {"error": said, "over_bytes": round(used), "capacity_bytes": round(of * 2**30)}
