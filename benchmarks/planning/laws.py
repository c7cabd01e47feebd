"""Laws of loss by size and data: L(N, D) = E + A / N^alpha + B / D^beta (Hoffmann et al. 2022, equation 2), of N
trained values and D tokens, where training costs 6 N D operations."""

from dataclasses import dataclass, fields
from typing import Any

from typing_extensions import TypedDict

from twinscale.common.errors import BadInput
from twinscale.common.files.access import exists, place, read_toml, shown
from twinscale.common.files.kinds import STRICT, Positive
from twinscale.common.recipe.file import did_you_mean

Numbers = Any  # a float, or float64 (B,)


class LawFile(TypedDict):
    """A TOML file of `--law`: E, A, B and both exponents of the module's equation, in nats a token."""

    __pydantic_config__ = STRICT

    e: Positive
    a: Positive
    b: Positive
    alpha: Positive
    beta: Positive


@dataclass(frozen=True)
class Law:
    """The five numbers of a law, or arrays of them, one of each resample; loss in nats a token."""

    e: Numbers
    a: Numbers
    b: Numbers
    alpha: Numbers
    beta: Numbers

    def loss(self, size: Numbers, tokens: Numbers) -> Numbers:
        """Nats a token of `size` values trained on `tokens`, figures or arrays."""
        return self.e + self.a / size**self.alpha + self.b / tokens**self.beta

    def tokens_for(self, size: Numbers) -> Numbers:
        """The tokens D at which no other size of the same 6 N D would have a lower loss: there the derivatives along
        N D = constant cancel, alpha A N^-alpha = beta B D^-beta."""
        return (self.beta * self.b / (self.alpha * self.a) * size**self.alpha) ** (1 / self.beta)

    def best(self, flops: float) -> tuple[Numbers, Numbers]:
        """(N, D) of the lowest loss for 6 N D = `flops` (Hoffmann et al. 2022, equation 4)."""
        both = self.alpha + self.beta
        share = (self.alpha * self.a / (self.beta * self.b)) ** (1 / both)
        size = share * (flops / 6) ** (self.beta / both)
        return size, flops / 6 / size


LAWS = {
    "hoffmann2022": Law(1.69, 406.4, 410.7, 0.34, 0.28),  # the paper's third approach
    "besiroglu2024": Law(1.8172, 482.01, 2085.43, 0.3478, 0.3658),  # its data fitted again: Chinchilla Scaling
}


def read_law(name: str, option: str = "--law") -> Law:
    """The Law of a name, of a TOML file with its five numbers, or of the law.toml in a directory that `twinscale fit`
    has left. Raises BadInput, which names the `option`, where there is none."""
    if name in LAWS:
        return LAWS[name]
    if not exists(name):
        raise BadInput(f"{option} {shown(name)}: neither a file nor one of {', '.join(LAWS)}{did_you_mean(name, LAWS)}")
    if place(name).is_dir():
        name = str(place(name) / "law.toml")
        if not exists(name):
            raise BadInput(f"{option} {shown(name)}: is not there: `twinscale fit --law chinchilla --out` leaves one")
    wanted = [field.name for field in fields(Law)]
    values = read_toml(name, LawFile, f"{option} wants five numbers above 0: {', '.join(wanted)}")
    return Law(*(values[key] for key in wanted))
