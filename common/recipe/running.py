"""How and where a recipe runs, which never changes what is computed: Keras, JAX and the devices."""

import json
import math
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, PositiveInt, field_validator, model_validator

from twinscale.common.errors import BadInput, did_you_mean, one_of
from twinscale.common.families import traits_of
from twinscale.common.families.places import places
from twinscale.common.section import Count, FreeTable, NonNegative, Section


class Keras(Section):
    """How `tfscale` runs; never changes what is computed."""

    jit_compile: bool = True


class Splash(Section):
    """Of the TPU's kernel of attention, splash: the sizes of its blocks, multiples of 128, by the names that JAX's
    `BlockSizes` has for them. 0: the largest of 512, 256 and 128 that divides the positions, or for `compute`, what
    its block has."""

    block_q: Count = Field(0, description="queries of a block, forward")
    block_kv: Count = Field(0, description="keys that are fetched for it")
    block_kv_compute: Count = Field(0, description="of them, those that are computed at once")
    block_q_dkv: Count = Field(0, description="queries of a block of the gradients by keys and values")
    block_kv_dkv: Count = Field(0, description="keys that are fetched for it")
    block_kv_dkv_compute: Count = Field(0, description="of them, those that are computed at once")
    block_q_dq: Count = Field(0, description="queries of a block of the gradients by queries")
    block_kv_dq: Count = Field(0, description="keys of it")
    use_fused_bwd_kernel: bool = Field(False, description="one kernel for all three gradients, which has no dq blocks")

    def sizes(self, length: int, sequence: int = 1) -> dict[str, Any]:
        """What JAX's `BlockSizes` takes, by name.

        Args:
          length: positions of a row; sequence: devices that share those of queries.
        Raises BadInput where a size does not divide what it cuts, or is of no kernel.
        """
        usual, found = next(size for size in (512, 256, 128) if length % (size * sequence) == 0), {}
        for key, size in self.model_dump(exclude={"use_fused_bwd_kernel"}).items():
            if self.use_fused_bwd_kernel and key.endswith("_dq"):
                if size:
                    raise BadInput(f"jax.splash.{key}={size}: jax.splash.use_fused_bwd_kernel=true has no kernel of "
                                   "such blocks; take one of both out")
                continue
            part = key.removesuffix("_compute")
            what, cut = ((f"jax.splash.{part}={found[part]}", found[part]) if part != key else
                         ("data.sequence / devices.sequence", length // sequence) if "_q" in key else
                         ("data.sequence", length))
            found[key] = size or (cut if part != key else usual)
            if found[key] % 128 or cut % found[key]:
                raise BadInput(f"jax.splash.{key}={size}: wants a multiple of 128 that divides {what}"
                               f"{'' if part != key else f', which is {cut}'}; 0 chooses one")
        return found | {"use_fused_bwd_kernel": self.use_fused_bwd_kernel}


class Jax(Section):
    """How `jaxscale` runs; never changes what is computed."""

    scan: bool = Field(True, description="stack the decoder's blocks and scan over them")
    remat: Literal["none", "dots", "full", "offload"] = Field("none", description="what the backward pass does not "
                                                              "keep on the device: nothing, all but products of "
                                                              "weights, everything; or products in the host's memory")
    remat_save: tuple[str, ...] = Field((), strict=False, description="places of a block, such as attention.query, "
                                        "whose outputs are kept although remat is full")
    remat_offload: tuple[str, ...] = Field((), strict=False, description="the same, kept in the host's memory")
    shard_optimizer: bool = Field(False, description="share gradients, optimizer slots and averages over devices.data "
                                  "too, while the weights stay whole there (ZeRO, Rajbhandari et al. 2020)")
    offload_optimizer: bool = Field(False, description="keep optimizer slots in the host's memory between steps")
    overlap: bool = Field(True, description="let collectives run beside computation on TPUs and GPUs")
    attention: Literal["auto", "einsum", "cudnn", "splash", "ring"] = Field(
        "auto", description="einsum, the reference; a fused kernel: cudnn (NVIDIA GPUs), splash (TPUs), both in "
                            "bfloat16; ring, which gathers no keys and values over devices.sequence; auto: the fused "
                            "one that can run, else einsum")
    splash: Splash = Splash()
    deterministic: bool = Field(False, description="GPUs: take only operations that give equal bits in every run")
    preallocate: bool = Field(True, description="GPUs: take the memory at the start")
    memory_fraction: Annotated[float, Field(ge=0, le=1)] = Field(
        0.0, description="GPUs: share of the memory to take; 0: XLA's default, three quarters")
    loss_chunks: PositiveInt = Field(1, description="decoders: parts of a row's positions whose logits are made, and "
                                                    "made again backward, one part after another; whole they are never "
                                                    "there")
    fused: bool = Field(False, description="decoders, encoders: one product makes the queries, keys and values of a "
                                           "block, and one what SwiGLU multiplies")
    xla_options: Annotated[dict[str, bool | int | float | str], AfterValidator(FreeTable)] = Field(
        default_factory=FreeTable, description="further options of XLA's for the train step, by name; they win over "
                                               "ours, and one that the compiler does not know is refused")

    @field_validator("xla_options", mode="before")
    @classmethod
    def are_options(cls, options: Any) -> Any:
        """A table as the options that it makes."""
        for name, value in options.items() if isinstance(options, dict) else ():
            if not re.fullmatch(r"[A-Za-z_]\w{0,127}", str(name), re.ASCII):
                raise ValueError(f"jax.xla_options: {json.dumps(str(name)[:80])}: names are letters, digits and '_', "
                                 "as in xla_tpu_scoped_vmem_limit_kib")
            if not isinstance(value, bool | int | float | str) or isinstance(value, float) and not math.isfinite(value):
                raise ValueError(f"jax.xla_options.{name}: a number, true, false or a text is wanted")
        return options

    @model_validator(mode="after")
    def keeps(self) -> Self:
        """Raises ValueError where places are to be kept of what is kept anyway, or in two memories."""
        if self.named and self.remat != "full":
            key = "remat_save" if self.remat_save else "remat_offload"
            raise ValueError(f'jax.{key}={list(getattr(self, key))}: jax.remat="{self.remat}" says what is kept; set '
                             'jax.remat="full", which keeps nothing else, or take the names out')
        if both := sorted(set(self.remat_save) & set(self.remat_offload)):
            raise ValueError(f'jax.remat_save, jax.remat_offload: "{both[0]}" is in both; take it out of one')
        return self

    @property
    def named(self) -> tuple[str, ...]:
        """The places of a block that the backward pass keeps by name."""
        return self.remat_save + self.remat_offload

    def check_places(self, model: Any) -> None:
        """Raises ValueError where a place that is kept by name is none of the blocks of a recipe's model."""
        first = "block_0."
        known = [name.removeprefix(first) for name in places(model) if name.startswith(first)] if self.named else []
        for key in ("remat_save", "remat_offload"):
            if odd := next((name for name in getattr(self, key) if name not in known), None):
                there = (f"there are {', '.join(known)}{did_you_mean(odd, known)}" if known else
                         f'model.family="{model.family}" has no blocks; leave it out')
                raise ValueError(f'jax.{key}: "{odd[:80]}": no such place of a block; {there}')

    def check_fused(self, model: Any, tensor: int) -> None:
        """Raises ValueError where products are to be one, and a recipe's model has none that read the same, or
        `tensor` devices do not share all of them."""
        if not self.fused:
            return
        if "block_0.attention.query" not in places(model):
            raise ValueError(f'jax.fused=true: model.family="{model.family}" has no blocks of attention; leave it out')
        attention = traits_of(model).attention
        if attention and (columns := attention.key_heads * attention.width) % tensor:
            raise ValueError(f"jax.fused=true: devices.tensor={tensor} does not divide the {columns} columns of keys "
                             "(model.kv_heads x model.width / model.heads); set it to false, or fewer devices")

    def kernel(self, precision: str, width: int, length: int, documents: bool, platform: str, capability: Any = None,
               sequence: int = 1) -> str:
        """What computes attention: "einsum", "cudnn", "splash" or "ring".

        `auto` never takes the ring: splash, where it can run, has no scores anywhere, and without it einsum sums as on
        one device. The ring is for rows whose keys and values, or scores, are too many for a device.

        Args:
          precision: that of queries, keys and values; width: of a head; length: positions of a row.
          documents: whether a row's documents are kept apart.
          platform, capability: of the devices, as JAX names them; NVIDIA's capabilities are numbers.
          sequence: devices that share a row's positions.
        Raises BadInput where `attention` names a kernel that cannot run there, or with the sizes of its blocks.
        """
        number = capability if platform == "gpu" and re.fullmatch(r"\d+\.\d+", str(capability)) else None
        bfloat16 = precision == "bfloat16", "train.precision=bfloat16", precision
        needs: dict[str, list[tuple]] = {
            "cudnn": [(number is not None, "an NVIDIA GPU", platform), (float(number or 8) >= 8, "one of compute "
                      "capability 8.0 (Ampere) or later", number), bfloat16,
                      (width % 8 == 0 and width <= 128, "heads (model.width / model.heads) of a multiple of 8 up to "
                       "128", width), (not documents or length % 2 == 0, "an even data.sequence where documents are "
                                       "kept apart", length), (sequence == 1, "devices.sequence=1", sequence)],
            "splash": [(platform == "tpu", "a TPU", platform), bfloat16,
                       (length % (128 * sequence) == 0, "data.sequence / devices.sequence a multiple of 128",
                        f"{length} / {sequence}")],
            "ring": [(sequence > 1, "devices.sequence of 2 or more", sequence),
                     (length % sequence == 0, "data.sequence a multiple of devices.sequence",
                      f"{length} / {sequence}")]}
        lacks = {name: next((lack for lack in wanted if not lack[0]), None) for name, wanted in needs.items()}
        taken = self.attention
        if taken == "auto":
            taken = next((name for name in ("cudnn", "splash") if lacks[name] is None), "einsum")
        if lack := one_of(lacks | {"einsum": None}, taken, "jax.attention"):
            raise BadInput(f"jax.attention={taken}: needs {lack[1]}, this is {lack[2]}; set auto")
        if taken == "splash":
            self.splash.sizes(length, sequence)
        return taken

    def check_chunks(self, decodes: bool, length: int, whole: str = "") -> None:
        """Raises BadInput where `loss_chunks` do not divide a row's positions, a model (`decodes`) has none, or an
        objective, named by `whole`, judges no part of a row by itself."""
        if self.loss_chunks > 1 and whole:
            raise BadInput(f'jax.loss_chunks={self.loss_chunks}: objective.name="{whole}" may go by where in its row a '
                           "position is; leave it out")
        if self.loss_chunks > 1 and not decodes:
            raise BadInput(f'jax.loss_chunks={self.loss_chunks}: of model.family="decoder" alone; leave it out')
        if decodes and length % self.loss_chunks:
            raise BadInput(f"jax.loss_chunks={self.loss_chunks} does not divide data.sequence={length}")

    def environment(self, given: Mapping[str, str]) -> dict[str, str]:
        """{variable: value} of what XLA reads when it opens a GPU, but for what the environment `given` says."""
        wanted = {} if self.preallocate else {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
        old = "XLA_PYTHON_CLIENT_MEM_FRACTION"  # of the same meaning; XLA refuses to have both
        if self.memory_fraction and old not in given:
            wanted["XLA_CLIENT_MEM_FRACTION"] = str(self.memory_fraction)
        return {name: value for name, value in wanted.items() if name not in given}


# Keys of [jax] that earlier recipes did not have, with what held then; see `Recipe.later`.
JAX_LATER = {("jax", key): Jax.model_fields[key].get_default(call_default_factory=True)
             for key in ("xla_options", "remat_save", "remat_offload", "splash", "shard_optimizer",
                         "offload_optimizer", "loss_chunks", "fused")}


class Devices(Section):
    """Where a training runs: never changes what is computed, and stays out of the recipe's hash, so that a run may go
    on elsewhere. Sizes count the devices of all hosts together."""

    strategy: Literal["auto", "one", "mirrored", "multiworker", "tpu"] = Field("auto", description="Keras alone")
    tpu: str = Field("local", description="Keras alone: the TPU's name, or local on its own machine")
    hosts: Count = Field(1, description="processes that train together; 0: as many as the cluster says")
    replica: PositiveInt = Field(1, description="slices that share each batch over the network between them")
    data: Count = Field(1, description="devices that share each batch; 0: all that the other axes leave")
    fsdp: PositiveInt = Field(1, description="devices that share each batch and the weights")
    tensor: PositiveInt = Field(1, description="devices that share each matrix product")
    sequence: PositiveInt = Field(1, description="devices that share each row's positions")
    virtual: Count = Field(0, description="devices to make of each host's CPU; 0: none, take what is there")
    steps_per_call: PositiveInt = Field(1, description="most steps that the devices take before the host is asked "
                                                       "again; a call ends where something is due, as an evaluation")
    watchdog: NonNegative = Field(600.0, description="seconds without a step until the process gives up; 0: never")
    compile_deadline: NonNegative = Field(3600.0, description="the same for the first step; 0: never")
