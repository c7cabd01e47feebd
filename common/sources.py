"""Sources of data: all that is asked of one stands in one object, found by how `data.source` is written."""

import difflib
import importlib.util
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, TypeGuard

from pydantic import AfterValidator, Field, PositiveInt
from pydantic_core import PydanticKnownError, core_schema

from twinscale.common.errors import BadInput
from twinscale.common.files.hub import check_fetched, is_hub
from twinscale.common.own import a_function
from twinscale.common.quality import Rule, Subset, Thresholds
from twinscale.common.registry import Registry, file_of, is_reference, load, names, pinned, short
from twinscale.common.section import ByName, Count, Fraction, FreeTable, Section

SOURCES = Registry("sources", "data.source", {
    "stdlib": "twinscale.common.data.text_files:STDLIB", "text:GLOB": "twinscale.common.data.text_files:TEXT",
    "jsonl:GLOB": "twinscale.common.data.text_files:JSONL", "digits": "twinscale.common.data.digits:DIGITS",
    "mnist5k": "twinscale.common.data.digits:MNIST5K", "folder:DIR": "twinscale.common.data.pictures:FOLDER",
    "idx:DIR": "twinscale.common.data.idx:IDX",
    "csv:FILE": "twinscale.common.data.tables:CSV", "parquet:GLOB": "twinscale.common.data.parquet:PARQUET",
    "conll:PATH": "twinscale.common.data.conll:CONLL",
    "tfds:NAME": "twinscale.common.data.tfds_source:TFDS",
    "arrays:FILE": "twinscale.common.data.arrays:ARRAYS", "random": "twinscale.common.data.arrays:RANDOM"},
    "twinscale.common.sources:Source")


ANYTHING = Registry(SOURCES.kind, SOURCES.key, {})  # a reference's object, whatever it is
HOLDS = ("text", "images", "either", "arrays", "labelled")
PACKED = ("bytes", "bpe")  # tokenizers of text that is packed
OF_PIECES = ("word-dropout", "span-mask")  # augmentations of word pieces; others are of images
TRAINED = "wordpiece"  # the tokenizer of labelled text that is learnt from it
MIXUP = "mixup"
MIXED = ("mixed_labels", "mixed_share")  # what a batch of mixtures has besides: the other rows' labels, the own shares
STRONGEST = 30  # the magnitude of rand-augment at which each of its operations is at its strongest
NAME = r"^[A-Za-z_][A-Za-z0-9_-]{0,63}$"  # of an array


def a_tokenizer(name: str) -> str:
    """A tokenizer of ours by its name, the path of a file that describes one, or a name on a hub."""
    if is_hub(name):
        return check_fetched(name, "data.tokenizer")
    if name not in (*PACKED, TRAINED) and not name.endswith((".json", ".txt")):
        raise PydanticKnownError("literal_error", {"expected": "'bytes', 'bpe', 'wordpiece', or the path of a "
                                                               "tokenizer.json or vocab.txt"})
    return name


def a_rewriter(name: str) -> str:
    """A pinned reference to a function of texts; "" stays."""
    return a_function(name) if name else name


class Drawn(Section):
    """An array of `random`: ids below a bound, masks with padding, or else normal numbers."""

    shape: tuple[PositiveInt, ...] = Field((), strict=False, description="of one row")
    below: Count = Field(0, description="whole numbers from 0 and below this one; 0: none are meant")
    padding: bool = Field(False, description="ones, and in all rows but the first zeros at the end of the last axis")
    dtype: Literal["", "bool", "int32", "float32"] = Field("", description="unless said int32 of ids and masks")


class Augmenting(Section):
    """How strongly images are augmented, by the names in `data.augment`."""

    padding: Annotated[int, Field(ge=1, le=64)] = Field(4, description="of crop: pixels put around an image")
    border: Literal["zeros", "reflect"] = Field("zeros", description="of crop: what they are")
    smallest: Annotated[float, Field(gt=0, le=1)] = Field(0.08, description="of resized-crop: the least share of the "
                                                                           "area that it takes")
    operations: Annotated[int, Field(ge=1, le=16)] = Field(2, description="of rand-augment: operations an image")
    magnitude: Annotated[float, Field(ge=0, le=STRONGEST)] = Field(9.0, description="of rand-augment, from 0 to 30")
    mixup: Annotated[float, Field(gt=0, le=16)] = Field(0.2, description="of mixup: a of Beta(a, a), the distribution "
                                                                         "of shares")


class Data(Section):
    """What a training reads: rows of `sequence` tokens, or images in the shape that the source has; a source's own
    options derive from this."""

    source: str = Field("stdlib", description="stdlib | digits | mnist5k | text:GLOB | jsonl:GLOB | folder:DIR | "
                                              "idx:DIR | csv:FILE | parquet:GLOB | conll:PATH | tfds:NAME | "
                                              "arrays:FILE | random")
    field: str = Field("text", description="key of the text in each line of a jsonl source, or column of a csv; for "
                                           "images the csv's column of paths, which is \"path\" unless this is set")
    label: str = Field("label", description="column of a csv, or key of a jsonl, with the labels; where columns have "
                                            "no names their number: 1 the first, -1 the last, which it is unless set")
    field_2: str = Field("", description="key or column of a second text, where labels are of pairs of texts")
    header: bool = Field(True, description="whether a csv begins with the names of its columns")
    quotes: bool = Field(True, description="whether quotation marks of a csv enclose fields, or are text")
    labels: tuple[str, ...] = Field((), strict=False, description="the labels, or types of entities, there may be; "
                                                                  "unless said, those that are found")
    tags: Literal["", "IOB1", "IOB2", "BIOES", "plain"] = Field(
        "", description="how a conll source writes entities; unless said, it is found; plain: a tag is a class")
    tokenizer: Annotated[str, AfterValidator(a_tokenizer)] = Field(
        "bytes", description="of text that is packed bytes or bpe; of labelled text wordpiece, or the path of a "
                             "tokenizer.json or vocab.txt, or hub:ORG/NAME@REVISION")
    vocabulary: Annotated[int, Field(ge=257, le=65536)] = Field(
        1024, description="entries of the vocabulary that bpe or wordpiece learns")
    sequence: Annotated[int, Field(ge=2, le=1 << 20)] = Field(256, description="tokens a row (text only)")
    cross_documents: bool = Field(False, description="may attention and labels cross a document's end")
    held_out: Annotated[float, Field(gt=0, lt=1)] = Field(0.02, description="fraction of documents held out")
    masked: Fraction = Field(0.0, description="share of the pieces of a text without labels that are hidden and to be "
                                              "predicted, such as 0.15; 0: labels are the source's")
    masked_by: Literal["piece", "word", "span"] = Field(
        "piece", description="what is hidden at a time: a piece, all of a word, or a span of words")
    next_sentence: bool = Field(False, description="of a text without labels: whether its second half follows, class "
                                                   "0, or is another row's, class 1")
    span: Annotated[float, Field(ge=1)] = Field(3.0, description="mean number of words of a span")
    max_documents: Count = Field(0, description="read only the first documents of the source; 0 reads all")
    augment: tuple[Literal["flip", "shift", "cutout", "crop", "resized-crop", "rand-augment", "mixup", "word-dropout",
                           "span-mask"], ...] = Field(
        (), strict=False, description="of images flip to mixup, in this order, mixup last wherever it stands; of word "
                                      "pieces word-dropout and span-mask")
    standardise: Literal["none", "channels"] = Field("none", description="channels: each channel of images less its "
                                                                         "mean and divided by its deviation")
    mean: tuple[Annotated[float, Field(allow_inf_nan=False)], ...] = Field(
        (), strict=False, description="of each channel of pixels from 0 to 1, such as a pretrained model's; unless "
                                      "given, with data.standardise that of the training images")
    deviation: tuple[Annotated[float, Field(gt=0, allow_inf_nan=False)], ...] = Field(
        (), strict=False, description="of each channel, with data.mean")
    augmenting: Augmenting = Field(Augmenting(), description="how strongly images are augmented")
    size: Annotated[int, Field(ge=0, le=4096)] = Field(0, description="pixels of the sides that pictures in files are "
                                                                      "brought to; 0: they are of one size")
    augment_share: Fraction = Field(0.1, description="share of a row's pieces that word-dropout, or span-mask, takes")
    rewrite: Annotated[str, AfterValidator(a_rewriter)] = Field(
        "", description="FILE.py:OBJECT, a function of texts that gives as many others, such as one that translates "
                        "there and back: each text to train on is trained on in both ways")
    inputs: Annotated[dict[Annotated[str, Field(pattern=NAME)], Drawn], AfterValidator(FreeTable)] = Field(
        default_factory=FreeTable, description="the arrays of `random`, by name; one that is called labels is labels")
    rows: PositiveInt = Field(256, description="rows of `random`")
    seed: Count = Field(0, description="of `random`'s numbers")
    quality: tuple[Rule, ...] = Field((), strict=False, description="rules that remove texts to train on, in the order "
                                                                    "length, symbols, repetition, c4, exact, near")
    quality_options: Thresholds = Field(Thresholds(), description="the thresholds of these rules")
    subset: Subset = Field(Subset(), description="which of the texts to train on are taken")

    @property
    def unlabelled(self) -> bool:
        """Whether labels are made of text that has none."""
        return self.masked > 0 or self.next_sentence

    @property
    def chooses(self) -> bool:
        """Whether some texts to train on may be left out."""
        return bool(self.quality) or self.subset != Subset()


def nothing_more(data: Data, argument: str) -> tuple[()]:
    """`Source.more` of a source whose text and images have the same fingerprint."""
    return ()


@dataclass(frozen=True)
class Labelled:
    """Texts and what is to be predicted of them, as they are written: `common/data/labelled.py` makes arrays of them.

    texts: of each row a text, or the words of one, each of which then has a label.
    labels: of each row a text, or one for each word.
    places: where each row is written, "FILE:LINE", for messages.
    held_out: of each row whether it is held out; None where its content is to decide it.
    entities: whether the labels are tags of entities in IOB2.
    told: what else a manifest is to say (JSON-able).
    seconds: of each row the second text of a pair; None where texts are single.
    """

    texts: Sequence
    labels: Sequence
    places: Sequence[str]
    held_out: Sequence[bool] | None = None
    entities: bool = False
    told: Mapping[str, Any] = field(default_factory=dict)
    seconds: Sequence[str] | None = None


@dataclass(frozen=True)
class Source:
    """One source. Its functions take [data] and what follows the colon in `data.source`, which may be "".

    holds: "text", "images", "either" of the two, "arrays", or "labelled" text, of which arrays are made.
    fingerprint: to what tells, in milliseconds, whether it has changed since it was last read (JSON-able), such as
      `common.data.cache.stamp` of its files; None of what never changes.
    documents: to an iterator of (name, text), in an order that stays.
    images: to (uint8 (N, H, W, C), labels int (N,), classes), and where classes have names, a list of them; then may
      follow, bool (N,), which are held out, where their content is not to decide it.
    arrays: to {name: array (rows, ...)}, of which "labels" and "weights" are such, and all others inputs.
    labelled: to a Labelled, which a source of text may have besides.
    more: to what else its images' fingerprint has, as a tuple, where texts have less.
    shape: (classes, (H, W, C)), where they are known without reading anything.
    file_of: from a document's name to its file's.
    options: a class derived from `Data`, where [data] has keys of the source's own.
    """

    holds: str
    fingerprint: Callable
    documents: Callable | None = None
    images: Callable | None = None
    more: Callable = nothing_more
    shape: tuple | None = None
    file_of: Callable = str
    options: type | None = None
    arrays: Callable | None = None
    labelled: Callable | None = None

    def __post_init__(self):
        lacks = [name for name, kinds in {"documents": ("text", "either"), "images": ("images", "either"),
                                          "arrays": ("arrays",), "labelled": ("labelled",)}.items()
                 if self.holds in kinds and getattr(self, name) is None]
        if self.holds not in HOLDS or lacks:
            raise BadInput(f"a Source that holds {self.holds}: " + (
                f"it has no {lacks[0]}" if lacks else f"holds is one of {', '.join(HOLDS)}"))
        if self.options and not issubclass(self.options, Data):
            raise BadInput("a Source: options: a class derived from common.sources.Data is wanted")


class OfSource(ByName):
    """`ByName` of a [data], whose own sources have an argument and one class of options."""

    def __get_pydantic_core_schema__(self, source, handler):
        return core_schema.no_info_wrap_validator_function(self.of_any, handler(source))

    def of_any(self, values: Any, own: Callable[[Any], Data]) -> Data:
        """The options that values make; `own` makes those of own sources."""
        if not isinstance(values, dict) or not is_added(values.get(self.key)):
            return own(values)
        values = values | {self.key: pinned(values[self.key])}
        kind = self.options(values)
        return own(values) if kind is Data else kind.model_validate(values)

    def options(self, values: Mapping[str, Any]) -> type[Data]:
        source = values.get(self.key)
        return is_added(source) and source_named(source).options or Data


def source_named(source: str) -> Source:
    """The Source of SOURCES that a name or a reference stands for, or of a function that makes {name: array}. Raises as
    `registry.load` does."""
    found = load(ANYTHING, source) if source not in SOURCES.builtin and is_reference(source) else None
    if callable(found) and not isinstance(found, type):
        return Source("arrays", nothing_more, arrays=lambda data, argument: found())
    return load(SOURCES, source)


def holds_for(source: Source, wanted: str | Callable, unlabelled: bool = False) -> bool:
    """Whether a Source has what a family reads; `unlabelled`: its text, of which labels are made."""
    if unlabelled:
        return wanted == "arrays" and source.documents is not None
    if wanted == "arrays":
        return source.arrays is not None or source.labelled is not None
    return source.holds in (wanted, "either")


def unfit(data: Data, source: Source | None, reads: str | Callable, family: str) -> str | None:
    """What a model of a `family` that `reads` text, images or arrays cannot read of a [data], in words; None where it
    can. `source` is the one of its name, None where that is not known yet."""
    model, start = f'model.family="{short(family)}"', f'data.source="{short(data.source)}"'
    odd = [choice for choice in data.augment if reads != ("arrays" if choice in OF_PIECES else "images")]
    if odd:
        of = "word pieces" if odd[0] in OF_PIECES else "images"
        return f'data.augment is for {of}, but {model} reads {reads}: leave out "{odd[0]}"'
    if (data.mean or data.deviation) and (len(data.mean) != len(data.deviation) or data.standardise != "none"):
        return (f"data.mean has {len(data.mean)} values and data.deviation {len(data.deviation)}: give one of each for "
                "each channel, and leave out data.standardise, which measures them")
    if (data.mean or data.standardise != "none") and reads != "images":
        return f"data.{'mean' if data.mean else 'standardise'} is for images, but {model} reads {reads}: leave it out"
    made = f"data.masked={data.masked}" if data.masked else "data.next_sentence"
    if data.unlabelled and reads != "arrays":
        return f"{made} is of word pieces, but {model} reads {reads}: leave it out"
    if data.masked and data.next_sentence:
        return f"{made} and data.next_sentence both make the labels of a row: leave one out"
    if data.rewrite and (reads != "arrays" or data.unlabelled or source is not None and not source.labelled):
        return f'data.rewrite is for texts with a label, which {start} has not for {model}: leave it out'
    of_text = source is None or (source.documents if reads == "text" or data.unlabelled else source.labelled)
    if data.chooses and (reads == "images" or not of_text):
        key = "quality" if data.quality else "subset"
        return f"data.{key} is of texts, which {start} has not for {model}: leave it out"
    if source is None or holds_for(source, reads, data.unlabelled):
        return None
    if data.unlabelled:
        return f"{start} holds {source.holds}, and no text, which {made} is of: leave it out"
    fix = "; to train on text without labels, set data.masked = 0.15" if reads == "arrays" and source.documents else ""
    return f"{start} holds {source.holds}, which {model} does not read: it reads {reads}{fix}"


def is_added(source: object) -> TypeGuard[str]:
    """Whether a `data.source` is somebody else's: FILE.py:OBJECT, MODULE:OBJECT or the name of an installed one."""
    own = {name.partition(":")[0] for name in SOURCES.builtin}
    if not isinstance(source, str) or source.partition(":")[0] in own:
        return False
    if file_of(source) or not is_reference(source):
        return bool(file_of(source)) or ":" not in source and source in names(SOURCES)
    module = source.partition(":")[0]
    if "." in module:
        return True
    spec = None if module in sys.stdlib_module_names else importlib.util.find_spec(module)
    return spec is not None and spec.origin is not None  # else it is a source's name that is misspelt


def source_of(source: str) -> tuple[str | None, str | None]:
    """(how a `data.source` is written, of SOURCES, or None; else what is wrong with it and what was meant)."""
    scheme, colon, argument = source.partition(":")
    own = {name.partition(":")[0]: name for name in SOURCES.builtin}
    name = own.get(scheme)
    if name and (":" in name) == bool(colon) == bool(argument):
        return name, None
    if is_added(source):
        return source, None
    near = difflib.get_close_matches(scheme[:80], own, n=1, cutoff=0.4)
    meant = f'did you mean "{own[near[0]]}"?' if near else f"take one of {', '.join(SOURCES.builtin)}"
    return None, f'data.source="{source}" is unknown: {meant}'


def opened(data: Data) -> tuple[Source, str]:
    """(the Source of a [data], what follows the colon); BadInput where it is unknown."""
    name, unknown = source_of(data.source)
    if name is None:
        raise BadInput(unknown)
    return source_named(name), data.source.partition(":")[2] if name in SOURCES.builtin else ""


def own_values(data: Data) -> tuple[dict[str, Any], ...]:
    """The values of a [data] that only its source knows, as a tuple for a cache's key; () where there are none."""
    values = data.model_dump(mode="json", exclude=set(Data.model_fields))
    return (values,) if values else ()


def as_written(data: Data) -> str:
    """`data.source="..."`, as messages begin."""
    return f'data.source="{short(data.source)}"'
