"""The digits that libraries bring."""

import json

import numpy as np
import pytest

from twinscale.common.data import open_dataset
from twinscale.common.data.sources import images
from twinscale.common.recipe.schema import Data


@pytest.mark.parametrize(("source", "shape", "count"), [("digits", (8, 8, 1), 1797), ("mnist5k", (28, 28, 1), 5000)])
def test_images(recipe, source, shape, count):
    dataset = open_dataset(recipe(source, held_out=0.1))
    assert (dataset.kind, dataset.classes, dataset.example_shape) == ("images", 10, shape)
    assert len(dataset.train) + len(dataset.held_out) == count
    assert 0.07 < len(dataset.held_out) / count < 0.13
    batch = dataset.train.take(np.arange(len(dataset.train)))
    assert batch["inputs"].dtype == batch["weights"].dtype == np.float32 and batch["labels"].dtype == np.int32
    assert batch["inputs"].min() == 0 and batch["inputs"].max() == 1
    assert set(batch["labels"]) == set(range(10))
    train, held_out = ({image.tobytes() for image in part.images[part.members]}
                       for part in (dataset.train, dataset.held_out))
    assert not train & held_out
    json.dumps(dataset.manifest)


def test_max_documents_limits_images():
    assert images(Data(source="digits", max_documents=50))[0].shape == (50, 8, 8, 1)
