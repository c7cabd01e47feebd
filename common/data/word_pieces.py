"""Word pieces of labelled text: a tokenizer.json, a vocab.txt as of BERT, or a vocabulary learnt from the texts."""

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from twinscale.common.data.paths import is_file, read_utf8
from twinscale.common.data.tokenizers import told
from twinscale.common.errors import BadInput
from twinscale.common.files.access import shown
from twinscale.common.files.hub import is_hub, tokenizer_in
from twinscale.common.sources import TRAINED, Data

WITHIN, AHEAD = "##", ("\u0120", "\u2581")  # marks of pieces within a word, and of those that begin one
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")  # of a vocab.txt and of a vocabulary that is learnt


class PieceKinds(NamedTuple):
    """What the ids of a tokenizer are, where a row is changed piece by piece."""

    begins: np.ndarray  # bool (vocabulary,): whether a piece begins a word; all, where pieces have no mark of it
    special: np.ndarray  # bool (vocabulary,)
    mask: int  # the id that hides a piece; -1: there is none
    unknown: int


class WordPieces(NamedTuple):
    """A tokenizer of the library `tokenizers`, and what stands around a row."""

    model: Any
    before: tuple[int, ...]  # ids ahead of each row, such as [CLS]
    after: tuple[int, ...]  # and behind it, such as [SEP]
    pad: int
    unknown: int  # for a word that is no piece at all
    vocabulary: int  # ids are below it
    content: bytes  # of its tokenizer.json
    mask: int = -1  # such as [MASK]; -1: there is none
    pair: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...], int] = ((), (), (), 0)
    # ids ahead of two texts, between and behind them, and the token type of the second and what is behind it

    def of_texts(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of each text, without those around it."""
        return [found.ids or [self.unknown] for found in self.model.encode_batch(list(texts), add_special_tokens=False)]

    def halves(self, length: int) -> tuple[int, int]:
        """(pieces of each of two texts that share a row of `length` evenly, the column at which the second begins)."""
        before, between, after, _ = self.pair
        half = (length - len(before) - len(between) - len(after)) // 2
        return half, len(before) + half + len(between)

    def table(self) -> PieceKinds:
        """What each id is."""
        known = self.model.get_vocab(with_added_tokens=True)
        begins, special = np.ones(self.vocabulary, bool), np.zeros(self.vocabulary, bool)
        within = any(piece.startswith(WITHIN) for piece in known)
        ahead = not within and any(piece.startswith(AHEAD) for piece in known)
        for piece, i in known.items():
            begins[i] = not piece.startswith(WITHIN) if within else piece.startswith(AHEAD) if ahead else True
        added = self.model.get_added_tokens_decoder().items()
        special[[*self.before, *self.after, self.pad, *(i for i, token in added if token.special)]] = True
        return PieceKinds(begins, special, self.mask, self.unknown)

    def of_words(self, rows: Sequence[Sequence[str]]) -> list[list[list[int]]]:
        """The ids of each word of each row; one id at least for each."""
        words = list(dict.fromkeys(word for row in rows for word in row))
        known = dict(zip(words, self.model.encode_batch([[word] for word in words], is_pretokenized=True,
                                                        add_special_tokens=False), strict=True))
        pieces = {word: found.ids or [self.unknown] for word, found in known.items()}
        return [[pieces[word] for word in row] for row in rows]


def path_of(data: Data) -> Path | None:
    """The file that `data.tokenizer` names, None where it is learnt. Raises BadInput where it is no file."""
    if data.tokenizer == TRAINED:
        return None
    if is_hub(data.tokenizer):
        return tokenizer_in(data.tokenizer)
    path, fix = Path(os.path.expanduser(data.tokenizer)), "give the path of a tokenizer.json or vocab.txt"
    if not is_file(path, fix, "data.tokenizer: "):
        raise BadInput(f"data.tokenizer: {shown(path)} is a folder: {fix}")
    return path


def opened(content: bytes, where: str) -> WordPieces:
    """The WordPieces of a tokenizer.json's content. Raises BadInput, which begins with `where`, where it is none."""
    import tokenizers

    try:
        model = tokenizers.Tokenizer.from_str(content.decode())
    except Exception as error:  # the library raises nothing narrower
        raise BadInput(f"{where}: is no tokenizer of the library `tokenizers` ({shown(str(error)[:120])}): give a "
                       "tokenizer.json or a vocab.txt") from None
    model.no_truncation()
    model.no_padding()
    ids, mask = around(model)
    inner = [i for i, special in enumerate(mask) if not special] or [len(mask)]
    pair = around_pair(model)
    known = model.get_vocab(with_added_tokens=True)
    pad = next((known[name] for name in ("[PAD]", "<pad>") if name in known), 0)
    unknown = next((known[name] for name in ("[UNK]", "<unk>") if name in known), pad)
    hides = next((known[name] for name in ("[MASK]", "<mask>") if name in known), -1)
    model.encode_special_tokens = True  # what a text spells is text
    return WordPieces(model, tuple(ids[:inner[0]]), tuple(ids[inner[-1] + 1:]), pad, unknown, max(known.values()) + 1,
                      content, hides, pair)


def around(model: Any) -> tuple[list[int], list[int]]:
    """(ids, mask of the special ones) of a row that has one piece or more."""
    found = model.encode("a")
    return found.ids, found.special_tokens_mask


def around_pair(model: Any) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...], int]:
    """`WordPieces.pair` of a tokenizer."""
    found, first = model.encode("a", "a"), len(model.encode("a", add_special_tokens=False).ids)
    inner = [i for i, special in enumerate(found.special_tokens_mask) if not special]
    if not inner:
        return (), (), (), 0
    start, end = inner[first - 1] + 1, inner[first]
    return tuple(found.ids[:inner[0]]), tuple(found.ids[start:end]), tuple(found.ids[inner[-1] + 1:]), (
        found.type_ids[inner[-1]])


def of_file(path: Path) -> bytes:
    """The content of a tokenizer.json, or of one that is made of a vocab.txt: a piece a line, `##` within a word. It
    lowers the case of texts where no piece has a capital letter. Raises BadInput where it is neither."""
    text = read_utf8(path)
    if path.suffix == ".json":
        return text.encode()
    pieces = [line.rstrip("\r") for line in text.removesuffix("\n").split("\n")]
    lacks = [name for name in ("[UNK]", "[CLS]", "[SEP]") if name not in pieces]
    if lacks or len(set(pieces)) != len(pieces):
        raise BadInput(f"data.tokenizer: {shown(path)}: " + (
            f"has no piece {lacks[0]}" if lacks else "has a piece twice") + ": give the vocab.txt of a BERT, or its "
            "tokenizer.json")
    lower = not any(piece != piece.lower() for piece in pieces if piece[:1] + piece[-1:] != "[]")
    return wordpiece({piece: i for i, piece in enumerate(pieces)}, lower)


def wordpiece(vocabulary: dict[str, int], lower: bool) -> bytes:
    """The tokenizer.json of WordPiece (Schuster & Nakajima 2012) with BERT's way of parting words."""
    import tokenizers

    model = bare(tokenizers.models.WordPiece(vocabulary, unk_token="[UNK]", max_input_chars_per_word=100), lower)
    model.add_special_tokens([name for name in SPECIAL if name in vocabulary])
    model.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(name, vocabulary[name]) for name in ("[CLS]", "[SEP]")])
    return model.to_str().encode()


def bare(kind: Any, lower: bool) -> Any:
    """A tokenizer with BERT's way of parting words, for a model of pieces."""
    import tokenizers

    model = tokenizers.Tokenizer(kind)
    model.normalizer = tokenizers.normalizers.BertNormalizer(lowercase=lower)
    model.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    model.decoder = tokenizers.decoders.WordPiece()
    return model


def learnt(texts: Sequence[str], vocabulary: int) -> bytes:
    """The tokenizer.json of WordPiece learnt from texts, which keeps their case: `vocabulary` pieces at most, half of
    them characters. The same texts give the same bytes.

    The library numbers the characters within words in the order of a hash table, which is another in each process, and
    parts ties by these numbers; so they are given to it, as if they were special.
    """
    import tokenizers

    model = bare(tokenizers.models.WordPiece(unk_token="[UNK]"), False)
    counts = Counter(character for text in texts for character in model.normalizer.normalize_str(text))
    ranked = sorted((c for c in counts if not c.isspace()), key=lambda c: (-counts[c], c))
    kept, rare = sorted(ranked[:vocabulary // 4]), {ord(c): " " for c in ranked[vocabulary // 4:]}
    fixed = [*SPECIAL, *kept, *(f"##{c}" for c in kept)]
    trainer = tokenizers.trainers.WordPieceTrainer(vocab_size=vocabulary, special_tokens=fixed, show_progress=False)
    model.train_from_iterator((text.translate(rare) for text in told(texts, vocabulary)), trainer)
    return wordpiece(model.get_vocab(with_added_tokens=False), False)
