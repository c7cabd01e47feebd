"""What a recipe has, by which a change is planted where it shows."""

from twinscale.common.planted.planting import HAS, Change
from twinscale.common.recipe.schema import Recipe

MLP = Recipe.model_validate({"name": "mine", "data": {"source": "digits"}, "model": {"family": "mlp", "hidden": [8]},
                             "train": {"steps": 8, "global_batch": 4, "precision": "float64"}})
TEXT = Recipe.model_validate({"name": "mine", "model": {"family": "decoder", "layers": 1, "width": 16, "heads": 2},
                              "optimizer": {"weight_decay": 0.1}, "train": {"precision": "float64"}})


def test_what_a_recipe_has_is_read_from_it():
    both = {word: (has(MLP), has(TEXT)) for word, has in HAS.items() if word != "an epoch that ends"}
    assert {word for word, (mlp, _) in both.items() if mlp} == {
        "pictures", "classes", "mlp", "ReLU", "biases", "a scan", "documents kept apart", "AdamW",
        "more than three updates"}
    assert {word for word, (_, text) in both.items() if text} == {
        "text", "classes", "decoder", "a norm", "layer norm", "GELU", "learned positions", "a tied head", "biases",
        "key heads of their own", "a scan", "documents kept apart", "weight decay", "AdamW", "more than three updates"}


def test_who_tells_no_accuracy_has_no_accuracy_to_spoil():
    judged = Recipe.model_validate({**TEXT.model_dump(), "objective": {"name": "probe"}})
    assert HAS["classes"](TEXT) and not HAS["classes"](judged)


def test_what_is_in_an_encoders_lines_asks_for_no_decoder():
    def nothing():
        yield

    masked = Change(nothing, "padded", "attention mask", more="encoder")
    assert masked.needs == ("encoder",) and Change(nothing, "layer", "attention mask").needs == ("decoder",)
    assert Change(nothing, "layer", "attention mask", more="decoder, a scan").needs == ("decoder", "a scan")
    encoder = Recipe.model_validate({"name": "mine", "data": {"source": "random"}, "model": {"family": "encoder"}})
    assert HAS["encoder"](encoder) and not HAS["pooled tokens"](encoder) and not HAS["decoder"](encoder)
    assert not HAS["encoder"](TEXT) and HAS["pooled tokens"](encoder.with_values(model={"head": "embedding"}))
