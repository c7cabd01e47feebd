"""Hostile and odd files and figures of `plan`, goldens of `preflight`, and verdicts that `bisect` goes on from."""

import json
import os

from tests.hostile.damage import BIDI, CONTROL, HUGE, bytes_damaged, json_damaged, json_shapes, with_value
from tests.hostile.stage import ROOT, Case

PLAN = ("plan", "--flops", "1e21", "--topology", "v5e-256")
NUMBERS = ("nan", "inf", "-inf", "-1", "0", "1e400", "true", "", "1e", "0x10", "１e21x", CONTROL)
LAW = {"e": "1.69", "a": "406.4", "b": "410.7", "alpha": "0.34", "beta": "0.28"}
HOFFMANN = "".join(f"{key} = {value}\n" for key, value in LAW.items())
PRICES = 'date = 2026-01-31\ncurrency = "EUR"\nsource = "a contract"\n[chips]\nv5e = {price = 1.5, per = "chip"}\n'
GOLDEN = (ROOT / "recipes" / "goldens" / "mlp-digits.json").read_bytes()


def file(name, content):
    def make(here, _):
        (here / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return make


def special(name, kind):
    """Something in a file's place that is no file."""
    def make(here, _):
        path = here / name
        if kind == "a FIFO":
            os.mkfifo(path)
        elif kind == "a directory":
            path.mkdir()
        else:
            path.symlink_to({"a link to itself": name, "a link to /dev/zero": "/dev/zero"}[kind])
    return make


SPECIALS = ("a FIFO", "a directory", "a link to itself", "a link to /dev/zero")


def ceiling(here=None):
    """A preflight.json of what `plan` reads."""
    from twinscale.common.recipe.file import load

    recipe = load(ROOT / "recipes" / "decoder-stdlib.toml").model_dump(mode="json")
    rows = [{"backend": "jax", "topology": "v5e:16x16", "slices": 1, "compiles": True, "fits": True,
             "mfu_ceiling": 0.6, "collectives": []}]
    return json.dumps({"schema_version": 1, "recipe": recipe, "hash": "0" * 64, "results": rows}).encode()


RUN = json.dumps({"schema_version": 1, "backend": "jax", "recipe_hash": "0" * 64, "state": "finished", "starts": 1,
                  "performance": {"mfu": 0.41, "mfu_convention": "causal FLOPs / bfloat16 peak of TPU v5e"}}).encode()
BENCH = json.dumps({"schema_version": 1, "sides": {"jax": {
    "mfu": {"causal": 0.4, "6N": 0.3, "full": 0.42},
    "mfu_convention": "causal FLOPs / bfloat16 peak of TPU v5e"}}}).encode()


def figures():
    """Of the command line."""
    for option in ("--flops", "--tokens", "--days"):
        for value in NUMBERS:
            words = ["plan", "--topology", "v5e-256", f"{option}={value}"]
            if option == "--tokens":
                words.insert(1, "text.toml")
            if option == "--days":
                words.append("--law=hoffmann2022")
            yield Case("plan files", f"{option} {ascii(value)[1:-1]}", tuple(words), needs=("text.toml",))
    for value in ("nan", "0", "0:0", "0.3:nan", "-0.1", "1.5", "0.1:0.2:0.3", "", "inf", "40%", CONTROL):
        yield Case("plan files", f"--mfu {ascii(value)[1:-1]}", (*PLAN, f"--mfu={value}"))
    for value in ("v5e:0x0", "v5e-0", "v5e:-1x4", "v5e:99999999999999x2", "", CONTROL, "v5e:" + "4x" * 3000, BIDI,
                  "v5p:٤x٤x٤", "v4:4x4x4000000000000", "v5e:4x4\n"):
        yield Case("plan files", f"--topology {ascii(value)[1:25]}", ("plan", "--flops", "1e21", "--topology", value))
    for value in ("0", "-1", str(10**30)):
        yield Case("plan files", f"--slices {value[:6]}", (*PLAN, f"--slices={value}"))


def laws():
    words = (*PLAN, "--law", "law.toml")
    for name, content in bytes_damaged(HOFFMANN.encode()):
        if name != "cut in half":
            yield Case("plan files", f"a law {name}", words, file("law.toml", content))
    for key in LAW:
        for value in ("", "0", "-1", "nan", "inf", "true", '"1"', str(HUGE), "[1]", "1e-320"):
            text = "".join(f"{k} = {value if k == key else v}\n" for k, v in LAW.items() if k != key or value)
            codes = (2,) if value != "1e-320" else (0, 2)  # where it is finite it may be taken
            yield Case("plan files", f"a law whose {key} is {value[:8] or 'missing'}", words, file("law.toml", text),
                       codes=codes, check=finite_plan)
    yield Case("plan files", "a law of no such name", (*PLAN, "--law", CONTROL))


def specials():
    """In each file's place what is no file."""
    for kind in SPECIALS:
        yield Case("plan files", f"a law: {kind}", (*PLAN, "--law", "law.toml"), special("law.toml", kind))
        yield Case("plan files", f"prices: {kind}", (*PLAN, "--prices", "p.toml"), special("p.toml", kind))
        yield Case("plan files", f"--measured: {kind}", (*PLAN, "--measured", "m.json"), special("m.json", kind))
        if kind != "a directory":
            yield Case("plan files", f"--ceiling: {kind}", (*PLAN, "--ceiling", "c.json"), special("c.json", kind))


def prices():
    words = (*PLAN, "--mfu=0.4", "--prices", "p.toml")
    for name, content in bytes_damaged(PRICES.encode()):
        yield Case("plan files", f"prices {name}", words, file("p.toml", content))
    for value in ("nan", "inf", "-1", "0", "-0.0", "true", '"1"', str(HUGE), "[1]", "{}"):
        yield Case("plan files", f"a price {value[:8]}", words, file("p.toml", PRICES.replace("1.5", value)))
    for old, new, name in (("2026-01-31", '"yesterday"', "a date of text"), ("2026-01-31", "7", "a date of a number"),
                           ('"EUR"', "7", "a currency of a number"), ('"chip"', '"pod"', "per pod"),
                           ('"chip"', "[1]", "per list"), ('"chip"', "{}", "per table"),
                           ("v5e", "v9", "an unknown chip"),
                           ('{price = 1.5, per = "chip"}', "7", "a chip that is a number"),
                           ("[chips]\nv5e", "chips", "chips that are a price"),
                           ("[chips]\nv5e = {price = 1.5, per = \"chip\"}", "chips = [1]", "chips that are a list"),
                           ("v5e", '"\\u001b[31m"', "a chip of control characters")):
        yield Case("plan files", f"prices with {name}", words, file("p.toml", PRICES.replace(old, new)))
    for old in ("EUR", "a contract"):
        for name, new in (("control", "\\u001b[31mX"), ("bidirectional", "\\u202eX")):
            yield Case("plan files", f"prices whose {old!r} has {name} characters", words,
                       file("p.toml", PRICES.replace(old, new)), codes=(0, 2))


def measured():
    for what, content, places in (
            ("a run.json", RUN, [("performance",), ("performance", "mfu"), ("performance", "mfu_convention")]),
            ("a bench.json", BENCH, [("sides",), ("sides", "jax"), ("sides", "jax", "mfu"),
                                     ("sides", "jax", "mfu", "6N"), ("sides", "jax", "mfu_convention")])):
        words = (*PLAN, "--measured", "m.json")
        for name, damaged in json_damaged(content, places):
            yield Case("plan files", f"{what}, {name}", words, file("m.json", damaged))
        for value in ("5.0", "0.0"):
            place = places[1] if what == "a run.json" else places[3]
            yield Case("plan files", f"{what} with an MFU of {value}", words,
                       file("m.json", with_value(content, place, value)))
    for name, damaged in [*json_shapes(), *bytes_damaged(RUN)]:
        yield Case("plan files", f"--measured {name}", (*PLAN, "--measured", "m.json"), file("m.json", damaged))


def ceilings():
    plain = ceiling()
    places = [("recipe",), ("results",), ("results", 0, "topology"), ("results", 0, "slices"),
              ("results", 0, "compiles"), ("results", 0, "mfu_ceiling")]
    words = (*PLAN, "--ceiling", "c.json")
    for name, damaged in json_damaged(plain, places, 6):
        yield Case("plan files", f"--ceiling, {name}", words, file("c.json", damaged))
    for value in ("7.0", "0.0", "-0.5", "NaN", "1e999"):
        yield Case("plan files", f"--ceiling of {value}", words,
                   file("c.json", with_value(plain, ("results", 0, "mfu_ceiling"), value)),
                   codes=(0, 2) if value == "7.0" else (2,))
    for place, text in ((("recipe", "model", "layers"), '"many"'), (("recipe", "model"), "{}"),
                        (("recipe", "data", "source"), '"\\u001b[31m"'), (("recipe", "name"), '"\\u001b[31m"')):
        yield Case("plan files", f"--ceiling whose {'.'.join(place)} is {ascii(text)}", words,
                   file("c.json", with_value(plain, place, text)))
    for name, damaged in json_shapes():
        yield Case("plan files", f"--ceiling {name}", words, file("c.json", damaged))


def plans():
    for part in (figures, laws, specials, prices, measured, ceilings):
        yield from part()
    yield Case("plan files", "a plan.json of another's", (*PLAN, "--out", "mine"), file("mine/plan.json", "a letter"),
               writes=())


def finite_plan(_, out):
    return "nan or infinity is printed" if any(w in out.lower().split() for w in ("nan", "inf", "nant",
                                                                                  "inft")) else None


def plans_odd():
    def says(*words):
        return lambda _, out: next((f"{word!r} is not said" for word in words if word not in out), None)

    yield Case("plan files", "a bench.json as bench writes it", (*PLAN, "--measured", "m.json"), file("m.json", BENCH),
               benign=True, codes=(0,), check=says("30.0%"))
    yield Case("plan files", "a run.json", ("plan", "text.toml", "--tokens", "1e9", "--topology", "v5e-256",
               "--measured", "m.json"), file("m.json", RUN), ("text.toml",), benign=True, codes=(0,),
               check=says("41.0%"))
    yield Case("plan files", "a ceiling", (*PLAN, "--ceiling", "c.json"), file("c.json", ceiling()), benign=True,
               codes=(0,), check=says("roofline of decoder-stdlib"))
    yield Case("plan files", "a law with a byte order mark", (*PLAN, "--law", "law.toml"),
               file("law.toml", b"\xef\xbb\xbf" + HOFFMANN.encode()), benign=True, codes=(0,), check=says("parameters"))
    yield Case("plan files", "a law of whole numbers and other keys", (*PLAN, "--law", "law.toml"),
               file("law.toml", "e = 2\na = 400\nb = 400\nalpha = 0.3\nbeta = 0.3\nsource = \"me\"\n"), benign=True,
               codes=(0,), check=says("parameters"))
    yield Case("plan files", "prices of next to nothing", (*PLAN, "--prices", "p.toml"),
               file("p.toml", PRICES.replace("1.5", "1e-9")), benign=True, codes=(0,), check=says("EUR"))
    yield Case("plan files", "prices without chips", (*PLAN, "--prices", "p.toml"),
               file("p.toml", PRICES.split("[chips]")[0]), benign=True, codes=(0,), check=says("a contract"))
    yield Case("plan files", "figures as Python writes them", ("plan", "--flops", "1_000e18", "--topology", "V5E-256",
               "--mfu", "0.5:0.3"), benign=True, codes=(0,), check=says("30.0% to 50.0%"))
    yield Case("plan files", "prices in another script", (*PLAN, "--prices", "価格 表.toml"),
               file("価格 表.toml", PRICES.replace("EUR", "円")), benign=True, codes=(0,), check=says("円"))


# ---- goldens

def goldens():
    words = ("preflight", "mlp.toml", "--check", "g.json", "--out", "out")
    for name, damaged in [*json_shapes(), *bytes_damaged(GOLDEN)]:
        yield Case("goldens", name, words, file("g.json", damaged), ("mlp.toml",))
    places = [("schema_version",), ("results",), ("results", 0), ("results", 0, "backend"),
              ("results", 0, "topology"), ("results", 0, "slices"), ("results", 0, "compiles"), ("results", 0, "fits"),
              ("results", 0, "collectives"), ("results", 0, "collectives", 0, "kind"),
              ("results", 0, "collectives", 0, "count"), ("results", 0, "collectives", 0, "bytes"), ("versions",)]
    for name, damaged in json_damaged(GOLDEN, places, 2):
        if name not in ("results.0.fits is null", "without versions", "versions is null", "without results.0.fits",
                        "without results.0.collectives"):  # what does not compile has neither
            yield Case("goldens", name, words, file("g.json", damaged), ("mlp.toml",))
    for value in ('"moon"', '"v5e:99999999x2"', '"\\u001b[31m"'):
        yield Case("goldens", f"a topology {value}", words,
                   file("g.json", with_value(GOLDEN, ("results", 0, "topology"), value)), ("mlp.toml",))
    for kind in SPECIALS:
        yield Case("goldens", kind, words, special("g.json", kind), ("mlp.toml",))
    yield Case("goldens", "not there", words, needs=("mlp.toml",))
    yield Case("goldens", "a preflight.json of another's", (*words[:2], "--topology", "v5e:2x2", "--out", "mine"),
               file("mine/preflight.json", "a letter"), ("mlp.toml",), writes=())


# ---- verdicts

def verdicts():
    words = ("bisect", "compared")

    def damaged(content):
        def make(here, _):
            (here / "compared" / "verdict.json").write_bytes(content)
        return make

    def case(name, content):
        return Case("verdicts", name, words, damaged(content), ("compared",))

    plain = b'{"schema_version": 1, "agrees": true, "rungs": [], "plant": null}'
    for name, content in [*json_shapes(), *bytes_damaged(plain)]:
        yield case(name, content)
    for name, content in json_damaged(plain, [("agrees",), ("rungs",)]):
        yield case(name, content)
    for kind in SPECIALS:
        def make(here, chance, kind=kind):
            (here / "compared" / "verdict.json").unlink()
            special("compared/verdict.json", kind)(here, chance)
        yield Case("verdicts", kind, words, make, ("compared",))
    for name, content in (("emptied", b""), ("of control characters", b"\x1b[31m"),
                          ("another recipe", b'name = "x"\n')):
        def make(here, _, content=content):
            (here / "compared" / "recipe.toml").write_bytes(content)
            (here / "compared" / "verdict.json").write_bytes(plain.replace(b"true", b"false"))
        yield Case("verdicts", f"whose recipe is {name}", words, make, ("compared",))
    yield Case("verdicts", "a directory of something else", ("bisect", "mine"), writes=())


def verdicts_odd():
    yield Case("verdicts", "as it is", ("bisect", "compared"), needs=("compared",), benign=True, codes=(0, 3))
