"""`twinscale generate`: a run's decoder writes text."""

from typing import Annotated, Any, Literal

import typer

from twinscale.common.errors import BadInput
from twinscale.common.verbs import shared

Backend = Literal["jax", "keras"]


def generate(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A decoder's run, or what convert made of one.")],
    other: Annotated[str | None, typer.Argument(metavar="[RUN]", help="Another: are their tokens equal?")] = None,
    *,
    prompt: Annotated[list[str], typer.Option(metavar="TEXT", help="What to go on from; several are a batch.")],
    tokens: Annotated[int | None, typer.Option(metavar="N", min=1, help="At most, a prompt; 64.")] = None,
    backend: Annotated[Backend | None, typer.Option(help="The run's own unless another is named.")] = None,
    both: Annotated[bool, typer.Option("--both", help="Both backends: are their tokens equal?")] = False,
    greedy: Annotated[bool, typer.Option("--greedy", help="The likeliest token each time.")] = False,
    temperature: Annotated[float, typer.Option(metavar="T", help="Logits are divided by it.")] = 1.0,
    top_k: Annotated[int, typer.Option(metavar="K", help="Of the K likeliest; 0: of all.")] = 0,
    top_p: Annotated[float, typer.Option(metavar="P", help="Of the likeliest that sum to P.")] = 1.0,
    seed: Annotated[int, typer.Option(metavar="N", help="Of the bits that draw.")] = 0,
    stop: Annotated[list[str] | None, typer.Option(metavar="TEXT", help="Ends a row, before it.")] = None,
    no_cache: Annotated[bool, typer.Option("--no-cache", help="Read all tokens anew for each.")] = False,
    check: Annotated[bool, typer.Option("--check", help="Hold it to the trainer with and without a cache.")] = False,
    precision: shared.Precision = None,
    json: Annotated[bool, typer.Option("--json", help="Print all figures as JSON in place of the text.")] = False,
) -> None:
    """Go on from prompts with a run's decoder, token by token as it comes, and hold what it wrote to the trainer.

    Tokens are drawn by shared bits from float64 log-probabilities, so that both backends write the same. Afterwards the
    log-probability of each token is compared with that of the trainer's forward pass, within what rounding may do.
    --both, or a second run, says how many tokens are the same, and whether one that differs is a near tie.

    \b
    Exit code: 0 sampler and trainer agree, and the tokens of two, 1 they do not, 3 but near ties part them.
    \b
    Examples:
      twinscale generate runs/jax --prompt 'def main('
      twinscale generate runs/jax --prompt 'def ' --prompt 'class ' --temperature 0.8 --top-p 0.95 --stop 'return'
      twinscale generate runs/jax --prompt 'def main(' --both
      twinscale generate runs/keras runs/jax --prompt 'def main(' --greedy
      twinscale generate runs/keras --prompt 'import ' --check --precision bfloat16 --json
    """
    from twinscale.common.generation.run import Wanted
    from twinscale.common.generation.sample import Drawing

    if not all(stop or ()):
        raise BadInput("--stop: empty: name what is meant, or leave it out")
    drawing = Drawing(greedy, temperature, top_k, top_p, seed)
    wanted = Wanted(tuple(prompt), tokens, tuple(stop or ()), drawing, not no_cache, check)
    if other is not None and both:
        raise BadInput("--both: not for two runs, each of which has its backend")
    if (both or other is not None) and backend is not None:
        raise BadInput(f"--backend {backend}: not with --both or two runs, whose backends are known")
    raise typer.Exit(beside(run, other, wanted, precision, json) if both or other is not None else
                     alone(run, backend, wanted, precision, json))


def alone(run: str, backend: Backend | None, wanted: Any, precision: str | None, as_json: bool) -> int:
    """Writes a run's text, as it comes; returns the exit code."""
    from twinscale.common.backends import BACKENDS
    from twinscale.common.export.formats import made_by
    from twinscale.common.files.access import place
    from twinscale.common.files.output import answer
    from twinscale.common.generation import run as generation

    path = place(run)
    module = shared.ROOMS[backend or BACKENDS[made_by(path)].sampler]
    room, generator = shared.room(module).ROOM, shared.room(module.replace("room", "generate"))
    found = generation.write(room, generator, path, wanted, precision, None if as_json else generation.streamed)

    def told(said: Any) -> None:
        for line in generation.lines(said):
            shared.say(line)

    answer(found, told, as_json)
    return generation.exit_code(found)


def beside(run: str, other: str | None, wanted: Any, precision: str | None, as_json: bool) -> int:
    """Prints whether two samplers' tokens are the same; returns the exit code."""
    from twinscale.common.backends import BACKENDS, BOTH
    from twinscale.common.export.formats import made_by
    from twinscale.common.files.access import escaped_lines, place
    from twinscale.common.files.output import answer
    from twinscale.common.generation import both

    paths = [place(run), place(run if other is None else other)]
    backends = list(BOTH) if other is None else [BACKENDS[made_by(path)].sampler for path in paths]
    words = both.words_of(wanted, precision)
    found = both.beside(*(both.asked_of(path, backend, words) for path, backend in zip(paths, backends, strict=True)))
    answer(found, lambda said: print(escaped_lines("\n".join(both.lines(said)))), as_json)
    return both.exit_code(found)
