"""Texts to train on that a function of the user's own has written anew, as by translating them there and back (Sennrich
et al. 2016, back-translation; Xie et al. 2020)."""

from dataclasses import replace

import numpy as np

from twinscale.common.errors import BadInput
from twinscale.common.files.access import shown
from twinscale.common.own import applied
from twinscale.common.sources import Data, Labelled, as_written

WANTED = "a list of as many texts"


def rewritten(data: Data, found: Labelled, held_out: np.ndarray) -> tuple[Labelled, np.ndarray, dict[str, int]]:
    """(texts and those that `data.rewrite` makes of what is trained on, with the labels of theirs; which rows are held
    out, bool (rows,); {"rewritten": how many were added, "unchanged": how many came back as they were}).

    Of pairs both texts are written anew, each in a call of its own. A text that comes back empty or as it was adds no
    row. Raises BadInput where the function breaks or gives anything else than a text for each.
    """
    if not data.rewrite:
        return found, held_out, {}
    if not isinstance(found.texts[0], str):
        raise BadInput(f"data.rewrite: {as_written(data)} has a label for each word, which no text written anew has: "
                       "leave it out")
    rows = np.flatnonzero(~held_out).tolist()
    columns = [found.texts, *([found.seconds] if found.seconds else [])]
    before = [*zip(*([column[i] for i in rows] for column in columns), strict=True)]
    after = [*zip(*(written(data, [column[i] for i in rows]) for column in columns), strict=True)]
    kept = [place for place, (old, new) in enumerate(zip(before, after, strict=True))
            if all(map(str.strip, new)) and new != old]
    source, told = [rows[place] for place in kept], {"rewritten": len(kept), "unchanged": len(rows) - len(kept)}
    fresh = [*zip(*(after[place] for place in kept), strict=True)] or [()] * len(columns)

    def longer(column, more):
        return [*column, *more]

    whole = replace(found, texts=longer(found.texts, fresh[0]),
                    labels=longer(found.labels, [found.labels[i] for i in source]),
                    places=longer(found.places, [f"{found.places[i]} (data.rewrite)" for i in source]), held_out=None,
                    seconds=longer(found.seconds, fresh[1]) if found.seconds else None)
    return whole, np.concatenate([held_out, np.zeros(len(kept), bool)]), told


def written(data: Data, texts: list[str]) -> list[str]:
    """What the function makes of some texts; BadInput where that is no text for each."""
    made = applied("data.rewrite", data.rewrite, WANTED, list(texts))
    if not isinstance(made, list | tuple) or len(made) != len(texts) or not all(isinstance(x, str) for x in made):
        what = (f"{len(made):,} values of {len(texts):,} texts" if isinstance(made, list | tuple) else
                type(made).__name__)
        raise BadInput(f"data.rewrite: gives {shown(what)}: {WANTED} is wanted")
    return list(made)
