"""Tokenizers of labelled text: files of others, and vocabularies that are learnt."""

import hashlib
import subprocess
import sys

import pytest
import tokenizers

from twinscale.common.data.word_pieces import SPECIAL, learnt, of_file, opened, path_of, wordpiece
from twinscale.common.errors import BadInput
from twinscale.common.sources import Data

TEXTS = ["Anna went home.", "Going home, Anna?", "home-made bread is bread", "Zoë went on"] * 3


@pytest.fixture
def vocabulary(tmp_path):
    """vocabulary(pieces): the path of a vocab.txt."""

    def make(*pieces):
        (tmp_path / "vocab.txt").write_text("\n".join([*SPECIAL, *pieces]) + "\n")
        return tmp_path / "vocab.txt"

    return make


def test_a_vocabulary_is_learnt_and_keeps_case_and_spells_no_special_piece():
    pieces = opened(learnt(TEXTS, 300), "x")
    known = pieces.model.get_vocab()
    assert [known[name] for name in SPECIAL] == list(range(5)) and known.keys() >= {"Anna", "home", "##m"}
    assert (pieces.before, pieces.after, pieces.pad, pieces.unknown) == ((2,), (3,), 0, 1)
    assert pieces.vocabulary == len(known) <= 300
    ids = pieces.of_texts(["[SEP] [PAD] home", "\u200b", ""])
    assert known["home"] == ids[0][-1] and not {0, 2, 3, 4} & {i for row in ids for i in row}
    assert ids[1] == ids[2] == [1]  # what is no piece at all is unknown


def test_the_same_texts_give_the_same_bytes_in_another_process():
    program = ("import hashlib, sys; from twinscale.common.data.word_pieces import learnt; "
               f"print(hashlib.sha256(learnt({TEXTS!r}, 300)).hexdigest())")
    other = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert other.strip() == hashlib.sha256(learnt(TEXTS, 300)).hexdigest()


def test_rare_characters_leave_room_for_pieces():
    content = learnt([*TEXTS, *(chr(0x4E00 + i) for i in range(500))], 300)
    pieces = opened(content, "x")
    assert pieces.vocabulary <= 300 and "home" in pieces.model.get_vocab()


def test_words_are_what_the_library_makes_of_words():
    """Each word by itself, as `is_pretokenized` has them."""
    pieces, rows = opened(learnt(TEXTS, 60), "x"), [["Anna", "is", "home-made"], ["is"], ["\u200b", "Zoë"]]
    found = pieces.of_words(rows)
    whole = pieces.model.encode(rows[0], is_pretokenized=True)
    assert [i for word in found[0] for i in word] == [
        i for i, special in zip(whole.ids, whole.special_tokens_mask, strict=True) if not special]
    assert len(found[0][2]) > 2 and found[2][0] == [pieces.unknown] and [len(row) for row in found] == [3, 1, 2]


def test_a_vocab_txt_is_a_tokenizer_of_its_own_case(vocabulary):
    lower = opened(of_file(vocabulary("the", "cat", "##s", ".")), "x")
    assert lower.of_texts(["The CATS."]) == [[5, 6, 7, 8]]
    cased = opened(of_file(vocabulary("The", "cat", "##s")), "x")
    assert cased.of_texts(["The cats", "the"]) == [[5, 6, 7], [1]]


def test_a_tokenizer_json_is_taken_as_it_is_but_for_its_padding_and_truncation(tmp_path):
    model = opened(wordpiece({name: i for i, name in enumerate([*SPECIAL, "a", "b"])}, False), "x").model
    model.enable_truncation(3)
    model.enable_padding(length=12)
    model.save(str(tmp_path / "tokenizer.json"))
    pieces = opened(of_file(tmp_path / "tokenizer.json"), "x")
    assert pieces.of_texts(["a b a b"]) == [[5, 6, 5, 6]] and pieces.vocabulary == 7


def test_what_is_no_tokenizer_is_one_line(tmp_path, vocabulary):
    (tmp_path / "tokenizer.json").write_text("{}")
    (tmp_path / "few.txt").write_text("[UNK]\na\n")
    with pytest.raises(BadInput, match="here: is no tokenizer of the library"):
        opened(of_file(tmp_path / "tokenizer.json"), "here")
    with pytest.raises(BadInput, match=r"few.txt: has no piece \[CLS\]"):
        of_file(tmp_path / "few.txt")
    with pytest.raises(BadInput, match="vocab.txt: has a piece twice"):
        of_file(vocabulary("a", "a"))
    assert path_of(Data(tokenizer="wordpiece")) is None
    for name, said in (("none.json", "data.tokenizer: .*cannot be read"), ("x.json", "is a folder")):
        (tmp_path / "x.json").mkdir(exist_ok=True)
        with pytest.raises(BadInput, match=said):
            path_of(Data(tokenizer=str(tmp_path / name)))


def test_ids_are_known_by_whether_they_begin_a_word_and_what_hides_them():
    pieces = opened(learnt(TEXTS, 300), "x")
    known, table = pieces.model.get_vocab(), pieces.table()
    assert table.mask == pieces.mask == known["[MASK]"] and table.unknown == known["[UNK]"]
    assert table.special.tolist() == [True] * 5 + [False] * (len(known) - 5)
    assert table.begins[known["home"]] and not table.begins[known["##m"]]
    assert pieces.pair == ((2,), (3,), (3,), 1) and pieces.halves(16) == (6, 8)


def roberta():
    """A byte-level tokenizer as RoBERTa's, whose pairs have no types and two ends between them."""
    model = tokenizers.Tokenizer(tokenizers.models.BPE())
    model.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    model.train_from_iterator(TEXTS, tokenizers.trainers.BpeTrainer(
        vocab_size=300, special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>"], show_progress=False,
        initial_alphabet=sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())))
    model.post_processor = tokenizers.processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    return model.to_str().encode()


def test_a_tokenizer_of_bytes_has_marks_where_words_begin():
    pieces = opened(roberta(), "x")
    known, table = pieces.model.get_vocab(), pieces.table()
    assert pieces.pair == ((0,), (2, 2), (2,), 0) and pieces.halves(16) == (6, 9)
    assert (table.mask, table.unknown, table.special[:6].tolist()) == (4, 3, [True] * 5 + [False])
    assert table.begins[known["\u0120home"]] and not table.begins[known["home"]]
