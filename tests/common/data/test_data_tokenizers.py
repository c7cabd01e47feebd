import json
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.data.tokenizers import bpe_tokenizer, byte_tokenizer

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
    program = ("import json, sys; from common.data.tokenizers import bpe_tokenizer; "
               "print(bpe_tokenizer(300, 'another process', lambda: iter(json.load(sys.stdin))).hash)")
    assert subprocess.run([sys.executable, "-c", program], input=json.dumps(TEXTS), capture_output=True, text=True,
                          check=True).stdout.strip() == bpe.hash
