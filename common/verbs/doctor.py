"""`twinscale doctor`: what this machine offers."""

from typing import Annotated

import typer

from twinscale.common.backends import options_of
from twinscale.common.errors import BadInput, MissingEnvironment
from twinscale.common.verbs import shared


def doctor(
    *,
    json: Annotated[bool, typer.Option("--json", help="Print it as JSON in place of the tables.")] = False,
    out: Annotated[str | None, typer.Option(metavar="PATH", help="Write the same JSON there.")] = None,
) -> None:
    """Say what this machine offers: versions, devices, and what is missing for what.

    \b
    Exit code: 0 a backend can run, 4 none can.
    \b
    Examples:
      twinscale doctor
      twinscale doctor --json
      twinscale doctor --out doctor.json
    """
    from twinscale.common.files.access import place, write_json
    from twinscale.common.files.output import check_files
    from twinscale.common.machine.doctor import doctor as ask
    from twinscale.common.machine.doctor import show

    if out:
        check_files(place(out).parent, [place(out).name], ("schema_version", "versions", "backends"), True)
    report = ask()
    if json:
        shared.print_json(report)
    else:
        show(report)
    if out:
        try:
            write_json(out, report)
        except OSError as error:
            raise BadInput(f"--out {out}: cannot be written: {error.strerror}") from None
    if not any(report["backends"].values()):
        raise MissingEnvironment("no backend can run; pip install 'twinscale[cpu]' or 'twinscale[jax]'")
    if all(report["backends"].values()):
        shared.suggest("compare", shared.shipped(), "--out", "build/demo")
    else:
        backend = next(backend for backend, runs in report["backends"].items() if runs)
        shared.suggest("train", shared.shipped(), *options_of(backend), "--run", f"runs/{backend}")
