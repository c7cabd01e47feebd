"""Verbs of this package alone: what several verbs of the command line do before they start a framework, by itself."""

import sys


def read_data(recipe, *overrides):
    """Opens a recipe's data and prints what is there: the counts, and a hash of the first batches."""
    import json

    from twinscale.common.data import held_out_batches, open_dataset, training_batches
    from twinscale.common.recipe.file import load

    described = load(recipe, list(overrides))
    dataset = open_dataset(described)
    batches = [digest for _, _, digest in training_batches(dataset, described, 0, 3)]
    held_out = next(held_out_batches(dataset, 4))
    print(json.dumps({"train": len(dataset.train), "held_out": len(dataset.held_out), "classes": dataset.classes,
                      "batches": batches, "held": [int(x) for x in held_out["inputs"].flat[:64]],
                      "documents": dataset.manifest["train"].get("documents", 0)
                      + dataset.manifest["held_out"].get("documents", 0)}))
    return 0


def run_code(code):
    """Runs Python: what the harness is tested with."""
    exec(code, {"sys": sys})
    return 0


VERBS = {"read-data": read_data, "hostile-self": run_code}


def main(words):
    """Calls a verb as the command line does, with its messages and exit codes."""
    from twinscale.common.verbs.shared import failed

    try:
        return VERBS[words[0]](*words[1:])
    except Exception as error:
        return failed(error)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
