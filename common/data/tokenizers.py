"""Text to ids and back: raw bytes, or byte-level byte-pair encoding trained on the train split.

Every tokenizer has one id that no text encodes to, `end`, which follows each document.
"""

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np

from twinscale.common.data.cache import cached, key
from twinscale.common.errors import one_of
from twinscale.common.files.output import tell
from twinscale.common.sources import Data

# What byte-level BPE merges within: letters, digits, spaces or other characters in a row. Merging costs the square of
# their number, and a line of megabytes without a space may be one piece: longer ones are cut before it.
LONGEST = 2048  # characters
SPACES = re.compile(rf"(?<!\s)\s{{{LONGEST + 1}}}")
LONG = re.compile("|".join(rf"(?<!{kind}){kind}{{{LONGEST + 1},}}" for kind in (r"[^\W\d_]", r"\d", r"\s", r"[^\w\s]"))
                  + rf"|(?<!_)_{{{LONGEST + 1},}}")
LARGE = 1 << 18  # characters whose learning takes long enough to be told of


class Tokenizer(NamedTuple):
    """Ids are 0 to `vocabulary` - 1. `encode` never gives `end`, whatever a text spells. `hash` is a SHA-256 (hex), of
    the `file` where there is one."""

    vocabulary: int  # ids, `end` included
    end: int  # the end-of-document id
    encode: Callable[[str], np.ndarray]  # str -> int32 ids, shape (tokens,)
    decode: Callable[[Iterable[int]], str]  # ids -> str; ends are dropped, broken UTF-8 becomes U+FFFD
    token_bytes: np.ndarray  # int32 (vocabulary,): bytes of text that each id stands for; 0 for `end` and unused ids
    hash: str
    file: Path | None = None  # what describes it, in the format of the library `tokenizers`; None: bytes


def open_tokenizer(data: Data, content: str, texts: Callable[[], Iterable[str]]) -> Tokenizer:
    """The tokenizer `data` asks for. `content`: hash of the train split; `texts()`: an iterator over its texts."""
    made = {"bytes": byte_tokenizer, "bpe": lambda: bpe_tokenizer(data.vocabulary, content, texts)}
    return one_of(made, data.tokenizer, "data.tokenizer")()


def byte_tokenizer() -> Tokenizer:
    """UTF-8 bytes are ids 0..255 and the end is 256."""
    return Tokenizer(
        vocabulary=257,
        end=256,
        encode=lambda text: np.frombuffer(text.encode(), np.uint8).astype(np.int32),
        decode=lambda ids: bytes(int(i) for i in ids if i < 256).decode(errors="replace"),
        token_bytes=np.array([1] * 256 + [0], np.int32),
        hash=hashlib.sha256(b"bytes").hexdigest(),
    )


def bpe_tokenizer(vocabulary: int, content: str, texts: Callable[[], Iterable[str]]) -> Tokenizer:
    """Byte-level BPE (Sennrich et al. 2016; Radford et al. 2019), trained once for each train split and cached.

    The end is `vocabulary - 1` and no token of the library's, so that no text can spell it. Where the text is too
    small for `vocabulary` entries, the ids left over are never used.
    """
    import tokenizers

    def build(folder):
        model = tokenizers.Tokenizer(tokenizers.models.BPE())
        model.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
        model.decoder = tokenizers.decoders.ByteLevel()
        alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
        trainer = tokenizers.trainers.BpeTrainer(
            vocab_size=vocabulary - 1, initial_alphabet=sorted(alphabet), show_progress=False)
        model.train_from_iterator(told(texts(), vocabulary), trainer)
        model.save(str(folder / "tokenizer.json"))

    return cached(f"bpe-{key(1, content, vocabulary, tokenizers.__version__)}", build,
                  lambda folder: read_bpe(folder / "tokenizer.json", vocabulary))


def told(texts: Iterable[str], vocabulary: int) -> Iterator[str]:
    """The pieces of `texts`; once they are all read, a line on stderr says of what is large what follows."""
    count = 0
    for text in texts:
        count += len(text)
        yield from pieces(text)
    if count >= LARGE:
        tell("data", f"learning a vocabulary of {vocabulary} from {count:,} characters")


def pieces(text: str) -> list[str]:
    """`text` in order, cut inside of what is longer than LONGEST in a row and nowhere else."""
    if len(text) <= LONGEST or (max(map(len, text.split()), default=0) <= LONGEST and not SPACES.search(text)):
        return [text]
    cuts = [i for run in LONG.finditer(text) for i in range(run.start() + LONGEST, run.end(), LONGEST)]
    return [text[i:j] for i, j in pairwise([0, *cuts, len(text)])]


def kept_bpe(content: bytes, vocabulary: int) -> Tokenizer:
    """The byte-level BPE of a file's content (bytes) that a run has kept."""
    return cached(f"bpe-{hashlib.sha256(content).hexdigest()}",
                  lambda folder: (folder / "tokenizer.json").write_bytes(content),
                  lambda folder: read_bpe(folder / "tokenizer.json", vocabulary))


def read_bpe(path: Path, vocabulary: int) -> Tokenizer:
    """The byte-level BPE of a file that `bpe_tokenizer` has written."""
    import tokenizers

    model, end = tokenizers.Tokenizer.from_file(str(path)), vocabulary - 1
    token_bytes = np.zeros(vocabulary, np.int32)
    for token, i in model.get_vocab().items():
        token_bytes[i] = len(token)  # a character of the byte-level alphabet is a byte
    return Tokenizer(
        vocabulary=vocabulary,
        end=end,
        encode=lambda text: np.concatenate([  # fast: without offsets
            np.array(piece.ids, np.int32) for piece in model.encode_batch_fast(pieces(text))]),
        decode=lambda ids: model.decode([int(i) for i in ids if i != end], skip_special_tokens=False),
        token_bytes=token_bytes,
        hash=hashlib.sha256(path.read_bytes()).hexdigest(),
        file=path,
    )
