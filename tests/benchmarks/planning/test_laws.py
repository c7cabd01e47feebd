"""Laws of loss: their optima are optima, and published numbers come out."""

import pytest

from twinscale.benchmarks.planning.laws import LAWS, read_law
from twinscale.common.errors import BadInput


@pytest.mark.parametrize("law", LAWS.values(), ids=LAWS)
@pytest.mark.parametrize("flops", [1e18, 1e21, 6e24])
def test_no_other_size_of_the_same_cost_is_better(law, flops):
    size, tokens = law.best(flops)
    assert 6 * size * tokens == pytest.approx(flops)
    best = law.loss(size, tokens)
    assert all(law.loss(size * factor, tokens / factor) > best for factor in (0.5, 0.99, 1.01, 2.0))


@pytest.mark.parametrize("law", LAWS.values(), ids=LAWS)
def test_the_tokens_of_a_size_are_those_it_is_best_at(law):
    size, tokens = law.best(3e22)
    assert law.tokens_for(size) == pytest.approx(tokens)


def test_what_the_papers_print_comes_out():
    """Hoffmann et al. 2022, table A3 by approach 3: 40B for Gopher's 5.76e23; Besiroglu et al. 2024: about 20 tokens a
    parameter there."""
    assert LAWS["hoffmann2022"].best(5.76e23)[0] == pytest.approx(40e9, rel=0.2)
    size, tokens = LAWS["besiroglu2024"].best(5.76e23)
    assert 15 < tokens / size < 25


def test_a_file_is_a_law(tmp_path):
    path = tmp_path / "law.toml"
    path.write_text("e = 1.69\na = 406.4\nb = 410.7\nalpha = 0.34\nbeta = 0.28\n")
    assert read_law(str(path)) == LAWS["hoffmann2022"]


@pytest.mark.parametrize("text, words", [
    ("e = 1.0", "a: missing"), ("e = ", "not TOML"),
    ("e = 1\na = 1\nb = 1\nalpha = -1\nbeta = 1", "alpha = -1.*a value above 0; --law wants five"),
    ("e = 1\na = 1\nb = 1\nalpha = true\nbeta = 1", "alpha = true: expected a number"),
    ("e = 1\na = 1\nb = nan\nalpha = 1\nbeta = 1", "b = nan: expected a finite number")])
def test_what_is_no_law_is_refused(tmp_path, text, words):
    path = tmp_path / "law.toml"
    path.write_text(text)
    with pytest.raises(BadInput, match=words):
        read_law(str(path))


def test_an_unknown_name_is_refused():
    with pytest.raises(BadInput, match='neither a file nor one of hoffmann2022, besiroglu2024; did you mean'):
        read_law("hofmann2022")


def test_a_directory_of_a_fit_is_its_law(tmp_path):
    with pytest.raises(BadInput, match="law.toml: is not there"):
        read_law(str(tmp_path))
    (tmp_path / "law.toml").write_text("e = 1.69\na = 406.4\nb = 410.7\nalpha = 0.34\nbeta = 0.28\n")
    assert read_law(str(tmp_path)) == LAWS["hoffmann2022"]
