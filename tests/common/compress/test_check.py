"""What is refused of a compression before anything is trained."""

import pytest

from tests.common.compress.test_rules import described
from tests.pair_of_nobody import foreign
from twinscale.common.compress import check as compress_check
from twinscale.common.data import open_dataset
from twinscale.common.errors import BadInput
from twinscale.common.recipe.schema import Recipe


@pytest.mark.parametrize(("stages", "sections", "said"), [
    ([{"kind": "prune", "names": ["block_*"]}], {}, 'names "block_\\*" matches no parameter; there are layer_0.kernel'),
    ([{"kind": "prune", "names": ["*.bias"]}], {}, "matches layer_0.bias, which cannot be pruned"),
    ([{"kind": "cluster", "names": ["*"]}], {}, "matches layer_0.bias, which cannot be clustered"),
    ([{"kind": "prune", "pattern": "2:4", "names": ["layer_1.kernel"]}], {"model": {"hidden": [18, 12]}},
     "multiple of 4, but layer_1.kernel has 18"),
    ([{"kind": "prune", "pattern": "4x4"}], {"family": "convnet"}, "kernels of two axes, but stem.conv.kernel"),
    ([{"kind": "quantize"}], {"train": {"precision": "bfloat16"}}, 'set train.precision="float32"'),
    ([{"kind": "prune", "pattern": "2:4", "names": ["layer_1.kernel"]}], {"train": {"precision": "float64"}},
     'set train.precision="float32"'),
    ([{"kind": "quantize"}, {"kind": "prune"}], {}, "make it the last stage"),
    ([{"kind": "distil", "hidden": 1.0}], {}, "of decoders, but the model is a mlp"),
    ([{"kind": "distil", "hidden": 1.0, "student": {"width": 8}}], {"family": "decoder"}, "the teacher's width 16"),
    ([{"kind": "distil", "attention": 1.0, "student": {"heads": 4}}], {"family": "decoder"}, "the teacher's 2 heads"),
    ([{"kind": "distil", "labels": 0.0, "logits": 0.0}], {}, "nothing to learn")])
def test_what_cannot_be_done_is_refused_by_name(stages, sections, said):
    recipe = described(*stages, **sections)
    with pytest.raises(BadInput, match=said):
        compress_check.check_stages(recipe, open_dataset(recipe))


def test_programs_of_somebodys_own_are_not_compressed(tmp_path):
    recipe = foreign(tmp_path, compress={"stages": [{"kind": "prune"}]})
    with pytest.raises(BadInput, match='compress.stages: model.family = "pair": TF-MOT wraps layers of its own Keras'):
        compress_check.check_stages(recipe, None)


def test_what_reads_arrays_is_not_compressed():
    recipe = Recipe.model_validate({"name": "x", "data": {"source": "random"}, "model": {"family": "encoder"},
                                    "compress": {"stages": [{"kind": "prune"}]}})
    with pytest.raises(BadInput, match='compress.stages: model.family = "encoder" reads arrays'):
        compress_check.check_stages(recipe, None)
