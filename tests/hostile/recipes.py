"""Hostile and odd recipes, overrides and arguments of `launch`: what is read before anything else."""

import os
import shlex
import socket

from tests.hostile.damage import BIDI, CONTROL, HUGE, bytes_damaged
from tests.hostile.pristine import MLP
from tests.hostile.stage import Case

SHOW = ("recipe", "show", "r.toml")
WRONG = {  # a key of the recipe, and values that it cannot have
    "seed": ("-1", "1.5", "true", '"7"', str(2**63), str(HUGE)),
    "name": ("7", "[]", '""', '"../../etc"', '"a b"'),
    "data.source": ('"nowhere"', "7", '"text:"', '"folder"', "[]"),
    "data.held_out": ("0", "1", "nan", "-0.1", "inf", "true", '"0.2"'),
    "data.sequence": ("1", "0.5", "-3", "99999999999", "true"),
    "data.tokenizer": ('"words"', "7"),
    "data.augment": ('["melt"]', '"flip"', "{}", "[[]]"),
    "model.family": ('"tree"', "7", "[]"),
    "model.hidden": ("[0]", "[-1]", '["a"]', "[1.5]", "[true]", "{}"),
    "model.dropout": ("1", "nan", "-0.1", "true"),
    "optimizer.learning_rate": ("nan", "inf", "-1", "true", '"0.1"', str(HUGE)),
    "optimizer.name": ('"adagrad"', "{}"),
    "optimizer.epsilon": ("0", "-1e-8", "nan"),
    "schedule.warmup": ("99", "-1", "1.5"),
    "train.steps": ("0", "-1", "1e3", "true", str(2**63)),
    "train.global_batch": ("0", "-8", '"8"'),
    "train.accumulate": ("3", "0"),
    "train.precision": ('"float16"', "32"),
    "train.save_minutes": ("nan", "inf", "-1"),
    "devices.data": ("-1", "1.5", "true"),
    "jax.memory_fraction": ("2", "nan", "-1"),
    "compare.margin": ("7", "{loss = 0}", "{loss = nan}"),
    "compress.stages": ('[{kind = "melt"}]', "7", "[7]", '[{kind = "prune", sparsity = nan}]', "[{}]")}
OVERRIDES = ("=3", "train.steps", "train.steps=", "train..steps=3", ".=3", "a.b.c.d.e.f.g.h.i.j=1", "__class__=3",
             "train.step=3", "train.steps=3\nname=4", "train.steps=1e999", f"seed={'9' * 5000}",
             f"data.source={'[' * 3000}", f"data.source=text:{CONTROL}", f"{CONTROL}=3", "tráin.steps=3",
             "data.source=" + "x" * 200_000)
TWO = ("mlp.toml", "devices.data=2", "--backend", "jax", "--run", "runs/a", "--hosts", "2")
LOCAL, SLURM = ("launch", "local", *TWO), ("launch", "slurm", *TWO)
TPU = ("launch", "tpu", "mlp.toml", "devices.data=0", "--backend", "jax", "--run", "gs://b/r", "--hosts", "4",
       "--name", "t", "--zone", "us-central2-b", "--project", "my-project", "--workdir", "w")
GKE = ("launch", "gke", "mlp.toml", "devices.data=0", "train.global_batch=16", "--backend", "jax", "--run", "gs://b/r")
POD = ("--hosts", "4", "--name", "t", "--image", "i", "--accelerator", "tpu-v6e-slice", "--topology", "4x4")
EVIL = ("a\nb", "$(touch CANARY)", "`touch CANARY`", "; touch CANARY", "-rf", "--help", "", " ", CONTROL, BIDI,
        "a'b", 'a"b', "é" * 10, "a" * 10_000, "a\x01b", "a/../b", "a b")


def written(text, name="r.toml"):
    """Writes a recipe: text or bytes."""
    def make(here, _):
        (here / name).write_bytes(text.encode() if isinstance(text, str) else text)
    return make


def with_value(key, value, text=MLP):
    """A recipe's text with another value of a dotted key, in place of the one it has."""
    table, _, leaf = key.rpartition(".")
    kept, inside = [], ""
    for line in text.splitlines():
        inside = line.strip("[]") if line.startswith("[") else inside
        if not (inside == table and line.partition("=")[0].strip() == leaf):
            kept.append(line)
    if not table:
        return "\n".join([f"{leaf} = {value}", *kept]) + "\n"
    head = f"[{table}]"
    if head in kept:
        kept.insert(kept.index(head) + 1, f"{leaf} = {value}")
    else:
        kept += [head, f"{leaf} = {value}"]
    return "\n".join(kept) + "\n"


def contents():
    """Files that are no TOML or no recipe."""
    plain = MLP.encode()
    for name, content in bytes_damaged(plain):
        if name == "cut in half":
            content = plain[:plain.index(b"mlp") + 1]
        yield Case("recipes", name, SHOW, written(content))
    for key, values in WRONG.items():
        for value in values:
            yield Case("recipes", f"{key} = {value[:24]}", SHOW, written(with_value(key, value)))
    more = {
        "brackets nested 100,000 deep": MLP + "\nx = " + "[" * 100_000 + "]" * 100_000,
        "tables nested 2,000 deep": MLP + f"\n[{'.'.join('a' * 1 for _ in range(2000))}]\nx = 1\n",
        "50,000 unknown keys": MLP + "".join(f"[u{i}]\n" for i in range(50_000)),
        "an integer of 10,000 digits": MLP.replace("steps = 4", "steps = " + "9" * 10_000),
        "a key twice": MLP + "\n[train]\nsteps = 5\n",
        "a key of control characters": MLP + '\n["\\u001b[31m"]\nx = 1\n',
        "a key of 100,000 characters": MLP + f"\n[{'k' * 100_000}]\nx = 1\n",
        "a value of control characters": with_value("data.source", '"text:\\u001b]0;owned\\u0007"'),
        "two megabytes": MLP + "#" * (2 << 20),
        "a carriage return inside": MLP.replace("steps = 4", "steps\r = 4")}
    for name, text in more.items():
        yield Case("recipes", name, SHOW, written(text))
    yield Case("recipes", "bidirectional characters in a value", SHOW, written(
        with_value("data.source", '"text:\\u202etxt.exe"').replace('"mlp"', '"decoder"').replace("hidden = [8]", "")),
        codes=(0, 2))


def extending():
    """Files that extend what they cannot, or too much."""
    def chain(here, _):
        for number in range(3000):
            (here / f"{number}.toml").write_text(f'extends = ["{number + 1}.toml"]\n')
        (here / "3000.toml").write_text(MLP)

    def round_trip(here, _):
        (here / "r.toml").write_text('extends = ["b.toml"]\n' + MLP)
        (here / "b.toml").write_text('extends = ["r.toml"]\n')

    def fifo_below(here, _):
        os.mkfifo(here / "base.toml")
        (here / "r.toml").write_text('extends = ["base.toml"]\n' + MLP)

    texts = {
        "extends itself": 'extends = ["r.toml"]\n' + MLP,
        "extends a number": "extends = 7\n" + MLP,
        "extends a list of numbers": "extends = [7]\n" + MLP,
        "extends what is not there": 'extends = ["none.toml"]\n' + MLP,
        "extends a directory": 'extends = ["mine"]\n' + MLP,
        "extends a device": 'extends = ["/dev/zero"]\n' + MLP,
        "extends a name of control characters": 'extends = ["\\u001b[31m.toml"]\n' + MLP,
        "extends a name of 5,000 characters": f'extends = ["{"n" * 5000}"]\n' + MLP}
    for name, text in texts.items():
        yield Case("recipes", name, SHOW, written(text))
    yield Case("recipes", "a chain of 3,000 files", ("recipe", "show", "0.toml"), chain)
    yield Case("recipes", "two that extend each other", SHOW, round_trip)
    yield Case("recipes", "a FIFO that is extended", SHOW, fifo_below)


def special():
    """What is no file, and names of none."""
    def fifo(here, _):
        os.mkfifo(here / "r.toml")

    def linked(target):
        return lambda here, _: (here / "r.toml").symlink_to(target)

    def listening(here, _):
        os.chdir(here)  # the name of a socket may be 108 bytes long
        with socket.socket(socket.AF_UNIX) as opened:
            opened.bind("r.toml")

    yield Case("recipes", "a FIFO", SHOW, fifo)
    yield Case("recipes", "a link to itself", SHOW, linked("r.toml"))
    yield Case("recipes", "a link to /dev/zero", SHOW, linked("/dev/zero"))
    yield Case("recipes", "a link to nowhere", SHOW, linked("nowhere"))
    yield Case("recipes", "a socket", SHOW, listening)
    yield Case("recipes", "a directory", ("recipe", "show", "mine"))
    yield Case("recipes", "not there", SHOW)
    yield Case("recipes", "a name of 4,000 characters", ("recipe", "show", "n" * 4000))
    yield Case("recipes", "a name of control characters", ("recipe", "show", CONTROL))
    yield Case("recipes", "an empty name", ("recipe", "show", ""))


def recipes():
    for part in (contents, extending, special):
        yield from part()
    for text in OVERRIDES:
        yield Case("recipes", f"override {ascii(text)[1:33]}", (*SHOW, text), written(MLP))


def recipes_odd():
    def shows(*words):
        def check(_, out):
            return next((f"{word!r} is not shown" for word in words if word not in out), None)
        return check

    texts = {
        "a byte order mark": b"\xef\xbb\xbf" + MLP.encode(),
        "Windows' line ends": MLP.replace("\n", "\r\n").encode(),
        "no line end at its end": MLP.rstrip().encode(),
        "inline tables": b'name = "tiny"\ndata = {source = "digits"}\nmodel = {family = "mlp", hidden = [8,]}\n',
        "dotted keys": b'name = "tiny"\ndata.source = "digits"\nmodel.family = "mlp"\nmodel.hidden = [8]\n',
        "numbers with underscores, hexadecimal": MLP.replace("steps = 4", "steps = 0x4").encode()
        + b"\n[devices]\nwatchdog = 1_000.0\n",
        "comments in all scripts": MLP.encode() + "\n# шаг 步 خطوة 🦉\n".encode(),
        "a name of 64 characters": MLP.replace('"tiny"', f'"{"t" * 64}"').encode(),
        "empty tables": MLP.encode() + b"\n[keras]\n[jax]\n"}
    for name, content in texts.items():
        yield Case("recipes", name, SHOW, written(content), benign=True, codes=(0,), check=shows('"digits"'))
    for name in ("with spaces.toml", "[br]ack*ets?.toml", "步 рецепт.toml", "-dash.toml", os.fsdecode(b"high\xff.toml"),
                 "#.toml", "quote'\".toml"):
        path = f"./{name}" if name.startswith("-") else name
        yield Case("recipes", f"a file {ascii(name)}", ("recipe", "show", path), written(MLP, name), benign=True,
                   codes=(0,), check=shows('"digits"'))

    def diamond(here, _):
        (here / "base.toml").write_text(MLP)
        for name in "ab":
            (here / f"{name}.toml").write_text('extends = ["base.toml"]\n')
        (here / "r.toml").write_text('extends = ["a.toml", "b.toml"]\n')

    def linked(here, _):
        (here / "deep" / "real.toml").parent.mkdir()
        (here / "deep" / "real.toml").write_text(MLP)
        (here / "r.toml").symlink_to("deep/real.toml")

    yield Case("recipes", "extends a diamond", SHOW, diamond, benign=True, codes=(0,), check=shows('"digits"'))
    yield Case("recipes", "a link", SHOW, linked, benign=True, codes=(0,), check=shows('"digits"'))
    for text, word in ((" train.steps = 5 ", "steps = 5"), ("data.source=digits", '"digits"'), ("seed=0", "seed = 0"),
                       ("optimizer.learning_rate=1", "learning_rate = 1.0"), ("model.hidden=[]", "hidden = []")):
        yield Case("recipes", f"override {text}", (*SHOW, text), written(MLP), benign=True, codes=(0,),
                   check=shows(word))


# ---- launch

def arguments():
    for option, words in (("--name", SLURM), ("--partition", SLURM), ("--account", SLURM), ("--time", SLURM),
                          ("--zone", TPU), ("--project", TPU)):
        for value in EVIL:
            yield Case("launch arguments", f"{option} {ascii(value)[1:25]}", (*words, f"{option}={value}"),
                       needs=("mlp.toml",))
    for value in ("a\nb", "", " ", CONTROL, BIDI, "-rf", "~/runs", "\u2028"):
        for option, words in (("--run", SLURM), ("--workdir", SLURM), ("--env", TPU)):
            yield Case("launch arguments", f"{option} {ascii(value)[1:25]}", (*words, f"{option}={value}"),
                       needs=("mlp.toml",))
    for option, values in (("--hosts", ("0", "-1", "65536", str(10**20), "1.5", "nan", "two")),
                           ("--gpus-per-host", ("0", "-1", str(10**20))), ("--grace", ("-1", str(10**9), "inf")),
                           ("--time", ("1:99:99", "nan", "-5", "１:00", "1:0:0:0", "0x10"))):
        for value in values:
            yield Case("launch arguments", f"{option} {value}", (*SLURM, f"{option}={value}"), needs=("mlp.toml",))
    for value in ("0x0", "4x4x4x4", "", "４x４", "-4x4", "4X4", "9999x9999", CONTROL, "4x4\n", "2x3"):
        yield Case("launch arguments", f"--topology {ascii(value)[1:-1]}", (*GKE, *POD[:-1], value),
                   needs=("mlp.toml",))
    for value in ("tpu-v9", "", CONTROL, "tpu-v6e-slice\n", "a" * 5000):
        yield Case("launch arguments", f"--accelerator {ascii(value)[1:25]}", (*GKE, *POD, "--accelerator", value),
                   needs=("mlp.toml",))
    for value in ("i\nj", "$(touch CANARY)", "-i", "", "i j", CONTROL, "é"):
        yield Case("launch arguments", f"--image {ascii(value)[1:25]}", (*GKE, *POD, f"--image={value}"),
                   needs=("mlp.toml",))
    for value in ("0", "-1", "3", str(10**20)):
        yield Case("launch arguments", f"--slices {value}", (*GKE, *POD, f"--slices={value}"), needs=("mlp.toml",))
    yield Case("launch arguments", "a target that is none", ("launch", "moon", *TWO), needs=("mlp.toml",))
    yield Case("launch arguments", "an option of another target", (*LOCAL, "--zone", "z"),
               needs=("mlp.toml",))
    yield Case("launch arguments", "a backend that is none", (*SLURM, "--backend", CONTROL), needs=("mlp.toml",))
    yield Case("launch arguments", "an unknown option", (*SLURM, "--evil"), needs=("mlp.toml",))
    yield Case("launch arguments", "an unknown option of control characters", (*SLURM, f"--{CONTROL}"),
               needs=("mlp.toml",))
    yield Case("launch arguments", "an unknown verb of control characters", (CONTROL, "x"))
    yield Case("launch arguments", "devices.hosts given twice", (*SLURM, "devices.hosts=3"), needs=("mlp.toml",))


def arguments_odd():
    """Values with what a shell would act on are quoted: a shell's words hold them again."""
    def quoted(value):
        def check(_, out):
            lines = [line for line in out.splitlines() if value.split("\n")[0][:3] in line and not line.startswith("#")]
            words = [word for line in lines for word in shlex.split(line)]
            inner = [part for word in words if " " in word for part in split(word)]
            return None if value in words or value in inner else f"{value!r} is no word of what is printed"
        return check

    for name, words in (("slurm", SLURM), ("tpu", TPU), ("gke", (*GKE, *POD)), ("local", LOCAL)):
        yield Case("launch arguments", f"as they should be, for {name}", words, needs=("mlp.toml",), benign=True,
                   codes=(0,))
    for value in ("runs/with space", "runs/步骤", "runs/$(touch CANARY)", "runs/`touch CANARY`", "runs/a;b",
                  "runs/it's", 'runs/"x"', "runs/[a]*?", "runs/a\\b", "runs/#x", "runs/&"):
        yield Case("launch arguments", f"--run {value}", (*LOCAL, f"--run={value}"),
                   needs=("mlp.toml",), benign=True, codes=(0,), check=quoted(value))
    for value in ("my dir", "$HOME/x", "it's"):
        yield Case("launch arguments", f"tpu --workdir {value}", (*TPU[:-1], value), needs=("mlp.toml",), benign=True,
                   codes=(0,), check=quoted(value))


def split(word):
    try:
        return shlex.split(word)
    except ValueError:
        return []
