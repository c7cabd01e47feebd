"""What the table [model] of a recipe may be: a family of ours, or one that a recipe has added."""

from typing import Annotated

from pydantic import Field, SerializeAsAny

from twinscale.common.families import FAMILIES, OfFamily
from twinscale.common.families.convnet import ConvNet
from twinscale.common.families.decoder import Decoder
from twinscale.common.families.mlp import MLP

AnyModel = Annotated[SerializeAsAny[Annotated[Decoder | ConvNet | MLP, Field(discriminator="family")]],
                     OfFamily(FAMILIES, "family")]
