"""Plans: arithmetic by hand, intervals that say where they are from, refusals."""

import json
import math

import pytest

from twinscale.benchmarks.planning.plan import plan
from twinscale.common import cli
from twinscale.common.errors import BadInput
from twinscale.common.machine.flops import train_flops
from twinscale.common.recipe.schema import Recipe, positions

PRICES = 'date = 2026-01-31\ncurrency = "EUR"\nsource = "a contract"\n[chips]\n'
POD = 256 * 197e12  # v5e-256


def recipe_of(**train):
    return Recipe.model_validate({
        "name": "tiny", "data": {"source": "stdlib", "sequence": 128, "cross_documents": True},
        "model": {"family": "decoder", "layers": 2, "width": 64, "heads": 4}, "train": {"global_batch": 32, **train}})


@pytest.fixture
def planned(tmp_path):
    """planned(recipe, **options): what plan.json says."""

    def make(recipe=None, topologies=("v5e-256",), **options):
        assert plan(recipe, topologies=topologies, out=tmp_path, **options) == 0
        return json.loads((tmp_path / "plan.json").read_text())

    return make


def prices(tmp_path, chips, head=PRICES):
    path = tmp_path / "prices.toml"
    path.write_text(head + chips)
    return str(path)


def test_days_and_cost_of_a_budget(planned, tmp_path, capsys):
    """1e21 operations on 256 chips of 197e12: 5.5 hours at the peak."""
    found = planned(flops=1e21, mfu="0.5:0.25", prices=prices(tmp_path, 'v5e = {price = 1.5, per = "chip"}'))
    row, hours = found["rows"][0], 1e21 / POD / 3600
    assert row["days"]["ceiling"] == pytest.approx(hours / 24)
    assert row["days"]["inside"] == pytest.approx([2 * hours / 24, 4 * hours / 24])
    assert row["chip_hours"]["ceiling"] == pytest.approx(256 * hours)
    assert row["cost"]["inside"] == pytest.approx([1.5 * 256 * 2 * hours, 1.5 * 256 * 4 * hours])
    assert row["mfu"] == {"ceiling": 1.0, "ceiling_from": "the peak of TPU v5e", "inside": [0.25, 0.5],
                          "inside_from": "stated"}
    said = capsys.readouterr().out
    assert "25.0% to 50.0% (stated)" in said and "EUR at least 2,115" in said and "of 2026-01-31: a contract" in said
    assert "days old" in said


@pytest.mark.parametrize("value, shown", [
    ("0", "0"), ("0.0", "0.0"), ("-0.0", "-0.0"), ("-1.5", "-1.5"), ("nan", "nan"), ("inf", "inf"),
    ("1e9", "1000000000.0"), ("true", "true"), ('"1.50"', '"1.50"'), ("[1.5]", "a list")])
def test_a_price_that_is_none_is_named_with_its_file_key_value_and_what_to_write(tmp_path, capsys, value, shown):
    """A chip for nothing would make a plan of nothing, whatever it takes."""
    path = prices(tmp_path, f'v5p = {{price = 4.0, per = "chip"}}\nv5e = {{price = {value}, per = "chip"}}')
    assert cli.main(["plan", "--flops", "1e21", "--topology", "v5e-256", "--prices", path]) == 2
    said = capsys.readouterr().err
    assert f"--prices {path}: chips.v5e.price = {shown}: expected " in said and '{price = 1.2, per = "chip"}' in said
    assert len(said.splitlines()) == 1


def test_a_price_of_cores_is_doubled_where_a_chip_has_two(planned, tmp_path):
    path = prices(tmp_path, 'v5p = {price = 2.0, per = "core"}\nv5e = {price = 2.0, per = "core"}')
    pod, flat = planned(flops=1e21, topologies=("v5p-8", "v5e-4"), prices=path)["rows"]
    assert (pod["chips"], pod["cores"], flat["chips"], flat["cores"]) == (4, 8, 4, 4)
    assert pod["cost"]["ceiling"] == pytest.approx(2 * 2.0 * pod["chip_hours"]["ceiling"])
    assert flat["cost"]["ceiling"] == pytest.approx(2.0 * flat["chip_hours"]["ceiling"])


def test_a_recipe_says_its_own_work(planned):
    recipe = recipe_of(steps=500)
    work = planned(recipe)["work"]
    assert work["tokens"] == 500 * positions(recipe) and work["convention"] == "causal"
    assert work["flops"] == pytest.approx(500 * 32 * train_flops(recipe.model, 257, (128,), "causal"))


def test_a_law_says_the_tokens_of_a_size_and_the_size_of_a_budget(planned):
    from twinscale.benchmarks.planning.laws import LAWS

    law = LAWS["besiroglu2024"]
    assert planned(recipe_of(), law="besiroglu2024")["work"]["tokens"] == pytest.approx(
        law.tokens_for(planned(recipe_of())["work"]["parameters"]))
    budget = planned(flops=1e21, law="besiroglu2024")["work"]
    assert (budget["parameters"], budget["tokens"]) == pytest.approx(law.best(1e21))


def test_a_deadline_allows_tokens(planned):
    found = planned(recipe_of(), days=2.0, mfu="0.4")
    deadline, each = found["rows"][0]["deadline"], found["work"]["flops_per_token"]
    assert deadline["flops"]["ceiling"] == pytest.approx(2 * 86400 * POD)
    assert deadline["tokens"]["inside"] == pytest.approx([0.4 * 2 * 86400 * POD / each] * 2)
    alone = planned(days=2.0, law="hoffmann2022", mfu="0.4")["rows"][0]["deadline"]
    assert 6 * alone["parameters"]["ceiling"] * alone["tokens"]["ceiling"] == pytest.approx(2 * 86400 * POD)


def ceiling_file(tmp_path, share=0.6):
    path = tmp_path / "preflight.json"
    rows = [{"backend": backend, "topology": "v5e:16x16", "slices": 1, "compiles": compiles, "mfu_ceiling": value}
            for backend, compiles, value in (("jax", True, share), ("keras", True, share / 2), ("jax", False, None))]
    path.write_text(json.dumps({"recipe": recipe_of().model_dump(mode="json"), "results": rows}))
    return str(path)


def test_a_roofline_is_the_ceiling(planned, tmp_path):
    """By causal FLOPs for a recipe; converted to 6 N D for a bare budget."""
    path, recipe = ceiling_file(tmp_path), recipe_of()
    assert planned(recipe, ceiling=path)["rows"][0]["mfu"]["ceiling"] == 0.6
    bare = planned(flops=1e21, ceiling=path)["rows"][0]["mfu"]["ceiling"]
    assert bare == pytest.approx(0.6 * train_flops(recipe.model, 257, (128,), "6N") / train_flops(
        recipe.model, 257, (128,), "causal"))


def test_an_mfu_above_the_ceiling_is_refused(tmp_path):
    with pytest.raises(BadInput, match=r"70.0% \(stated\) is above the ceiling of 60.0% \(roofline of tiny in jax"):
        plan(recipe_of(), topologies=("v5e-256",), ceiling=ceiling_file(tmp_path), mfu="0.7")


def test_what_was_measured_on_that_chip_is_inside(planned, tmp_path):
    path = tmp_path / "run.json"
    path.write_text(json.dumps({"performance": {
        "mfu": 0.41, "mfu_convention": "causal FLOPs / bfloat16 peak of TPU v5 lite"}}))
    row = planned(recipe_of(), measured=str(path))["rows"][0]
    assert row["mfu"]["inside"] == [0.41, 0.41] and row["mfu"]["inside_from"] == f"measured, {path}"
    with pytest.raises(BadInput, match="no MFU of a TPU v5p, but of causal FLOPs / bfloat16 peak of TPU v5 lite"):
        planned(recipe_of(), topologies=("v5p-8",), measured=str(path))


def test_both_sides_of_a_bench_are_the_interval(planned, tmp_path):
    path = tmp_path / "bench.json"
    path.write_text(json.dumps({"sides": {
        name: {"mfu": {"causal": share, "6N": share - 0.1}, "mfu_convention": "causal FLOPs / bfloat16 peak of TPU v5e"}
        for name, share in (("keras", 0.4), ("jax", 0.5))}}))
    assert planned(recipe_of(), measured=str(path))["rows"][0]["mfu"]["inside"] == [0.4, 0.5]
    assert planned(flops=1e21, measured=str(path))["rows"][0]["mfu"]["inside"] == pytest.approx([0.3, 0.4])


def test_a_bench_as_it_is_written_has_its_sides_by_name(planned, tmp_path):
    path = tmp_path / "bench.json"
    told = {"mfu": {"causal": 0.4}, "mfu_convention": "causal FLOPs / bfloat16 peak of TPU v5e"}
    path.write_text(json.dumps({"sides": {"jax": told, "keras": told | {"mfu": {"causal": 0.3}}}}))
    assert planned(recipe_of(), measured=str(path))["rows"][0]["mfu"]["inside"] == [0.3, 0.4]


ODD = (math.nan, math.inf, -math.inf, -1.0, 0.0, True, 1e300)


@pytest.mark.parametrize("option", ["flops", "tokens", "days"])
@pytest.mark.parametrize("value", ODD)
def test_what_is_no_number_above_0_is_no_figure(option, value):
    with pytest.raises(BadInput, match=f"--{option} .*: a number above 0 and at most .* is wanted"):
        plan(recipe_of(), topologies=("v5e-256",), **{option: value})


@pytest.mark.parametrize("share", ["nan", "inf", "-0.4", "0", "True", "0.4:nan", "1e999", "0.4:", ":", "0.1:0.2:0.3"])
def test_what_is_no_share_is_no_mfu(share):
    with pytest.raises(BadInput, match="--mfu .*a share from 0 to 1"):
        plan(None, topologies=("v5e-256",), flops=1e21, mfu=share)


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "-1.0", "0", "true", '"1"', "[]", "1.5e999"])
def test_what_is_no_number_above_0_is_none_in_a_file(tmp_path, value):
    law = tmp_path / "law.toml"
    law.write_text(f"e = 1.0\na = 400.0\nb = 400.0\nalpha = 0.3\nbeta = {value}\n")
    priced = prices(tmp_path, f'v5e = {{price = {value}, per = "chip"}}')
    in_json = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}.get(value, value)
    measured, ceiling = tmp_path / "run.json", tmp_path / "preflight.json"
    measured.write_text('{"performance": {"mfu": %s, "mfu_convention": "peak of TPU v5e"}}' % in_json)  # noqa: UP031
    described = json.dumps(recipe_of().model_dump(mode="json"))
    ceiling.write_text(f'''{{"recipe": {described}, "results": [{{"backend": "jax", "topology": "v5e:16x16",
                           "slices": 1, "compiles": true, "mfu_ceiling": {in_json}}}]}}''')
    for option, path in {"law": law, "prices": priced, "measured": measured, "ceiling": ceiling}.items():
        with pytest.raises(BadInput) as caught:
            plan(None, topologies=("v5e-256",), flops=1e21, **{option: str(path)})
        said = str(caught.value)
        assert str(path) in said and f"--{option}" in said and said.isprintable()


@pytest.mark.parametrize("law", ["alpha = 10.0\nbeta = 1e-3", "alpha = 300.0\nbeta = 0.01"])
def test_a_law_that_leads_nowhere_is_refused(tmp_path, law):
    path = tmp_path / "law.toml"
    path.write_text(f"e = 1.0\na = 400.0\nb = 400.0\n{law}\n")
    with pytest.raises(BadInput, match="--law .*beyond what can be computed"):
        plan(recipe_of(), topologies=("v5e-256",), law=str(path))


@pytest.mark.parametrize("option", ["prices", "measured", "ceiling", "law"])
@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"3", b"\xff", b"[" * 10**5, b'{"results": 3}', b"{}"])
def test_a_file_that_is_none_of_its_kind_is_one_line(tmp_path, option, content):
    path = tmp_path / "x"
    path.write_bytes(content)
    with pytest.raises(BadInput) as caught:
        plan(None, topologies=("v5e-256",), flops=1e21, **{option: str(path)})
    assert str(path) in str(caught.value) and str(caught.value).isprintable()


@pytest.mark.parametrize("options, words", [
    ({}, "nothing to plan"), ({"tokens": 1e9}, "of which model"), ({"flops": 1e21, "topologies": ()}, "--topology"),
    ({"flops": 1e21, "mfu": "40"}, "a share from 0 to 1"), ({"flops": 1e21, "mfu": "high"}, "--mfu high"),
    ({"flops": 1e21, "mfu": "0.4", "measured": "run.json"}, "leave one out"),
    ({"flops": 1e21, "measured": "none.json"}, "none.json: cannot be read"),
    *(({name: value}, f"--{name} {value:g}: a number above 0")
      for name in ("flops", "days") for value in (math.nan, math.inf, -1.0)),
    ({"flops": 1e21, "slices": 100_000}, "--slices 100000: from 1 to 1,000"),
    ({"flops": 1e21, "topologies": ("v5e:4x4\n",)}, "no such slice"),
    ({"flops": 1e21, "law": "none"}, "neither a file"), ({"flops": 1e21, "prices": "none.toml"}, "cannot be read")])
def test_what_says_nothing_or_too_much_is_refused(options, words):
    with pytest.raises(BadInput, match=words):
        plan(None, **{"topologies": ("v5e-256",), **options})


@pytest.mark.parametrize("head, chips, words", [
    ('currency = "EUR"\n', "", "date: missing"), ("date = 2026-01-31\n", "", "currency: missing"),
    (PRICES, 'v9 = {price = 1.0, per = "chip"}', "chips.v9: no such chip"),
    (PRICES, 'v5e = {price = 1.0}', 'per = "chip"'), (PRICES, 'v5e = 1.0', "for an hour")])
def test_a_price_file_that_leaves_questions_is_refused(tmp_path, head, chips, words):
    with pytest.raises(BadInput, match=words):
        plan(None, topologies=("v5e-256",), flops=1e21, prices=prices(tmp_path, chips, head))


def test_the_price_file_that_ships_can_be_read(planned):
    assert planned(flops=1e21, prices="recipes/tpu/prices.toml")["rows"][0]["cost"]["ceiling"] > 0
