"""What the table [model] of a recipe may be: a family of ours, or one that a recipe has added."""

from typing import Annotated

from pydantic import Field, SerializeAsAny

from twinscale.common.families import FAMILIES, OfFamily
from twinscale.common.families.convnet import ConvNet
from twinscale.common.families.decoder import Decoder
from twinscale.common.families.encoder import Encoder
from twinscale.common.families.mlp import MLP
from twinscale.common.families.pair import Pair
from twinscale.common.families.resnet import ResNet
from twinscale.common.families.vit import ViT

Own = Annotated[Decoder | ConvNet | MLP | Encoder | Pair | ResNet | ViT, Field(discriminator="family")]
AnyModel = Annotated[SerializeAsAny[Own], OfFamily(FAMILIES, "family")]
