import json
import re
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinscale.common.data.tokenizers import LONGEST, bpe_tokenizer, byte_tokenizer, pieces

TEXTS = ["the cat sat on the mat\n" * 5, "a café, naïve; <|endoftext|> 日本語\n" * 3, "def f(x):\r\n\treturn x"]


@pytest.fixture(scope="module")
def bpe(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TWINSCALE_CACHE", str(tmp_path_factory.mktemp("bpe")))
        yield bpe_tokenizer(300, "texts", lambda: iter(TEXTS))


@given(text=st.text())
def test_any_text_comes_back(bpe, text):
    for tokenizer in (byte_tokenizer(), bpe):
        ids = tokenizer.encode(text)
        assert ids.dtype == np.int32
        assert tokenizer.decode([*ids, tokenizer.end]) == text
        assert tokenizer.token_bytes[ids].sum() == len(text.encode())
        assert tokenizer.end not in ids


def test_the_vocabulary_counts_the_end(bpe):
    for tokenizer, size in ((byte_tokenizer(), 257), (bpe, 300)):
        assert tokenizer.vocabulary == len(tokenizer.token_bytes) == tokenizer.end + 1 == size
        assert tokenizer.token_bytes[tokenizer.end] == 0


def test_bpe_is_shorter_than_bytes_on_its_own_text(bpe):
    assert len(bpe.encode(TEXTS[0])) < len(TEXTS[0]) / 3


def test_bpe_trains_once_and_the_same_in_any_process(bpe, empty_cache):
    def again():
        raise AssertionError("trained twice")

    assert bpe_tokenizer(300, "texts", lambda: iter(TEXTS)).hash == bpe.hash
    assert bpe_tokenizer(300, "texts", again).hash == bpe.hash
    program = ("import json, sys; from twinscale.common.data.tokenizers import bpe_tokenizer; "
               "print(bpe_tokenizer(300, 'another process', lambda: iter(json.load(sys.stdin))).hash)")
    assert subprocess.run([sys.executable, "-c", program], input=json.dumps(TEXTS), capture_output=True, text=True,
                          check=True).stdout.strip() == bpe.hash


def test_a_long_line_without_spaces_is_learnt_and_comes_back(empty_cache, capsys):
    letters = "".join(np.random.default_rng(0).choice(list("abcdé"), 1 << 18))
    tokenizer = bpe_tokenizer(300, "a long line", lambda: iter([letters]))
    ids = tokenizer.encode(letters)
    assert tokenizer.decode(ids) == letters and len(ids) < len(letters) * 0.8
    assert "learning a vocabulary of 300 from 262,144 characters" in capsys.readouterr().err


@given(words=st.lists(st.sampled_from(
    ["word", " ", "x" * 5000, "1" * 2049, "\t" * 4097, "-" * 2048, "é" * 2100, "_" * 3000])))
def test_only_what_is_long_is_cut_and_nothing_is_lost(words):
    text = "".join(words)
    parts = pieces(text)
    assert "".join(parts) == text
    runs = re.findall(r"[^\W\d_]+|\d+|\s+|_+|[^\w\s]+", text)
    assert len(parts) == 1 + sum((len(run) - 1) // LONGEST for run in runs)
