"""The account of a module's text, each rule on a module small enough to count by hand."""

import re

import pytest

from twinscale.benchmarks.preflight.hlo import account
from twinscale.benchmarks.preflight.hlo_text import Shape, parse

ADD = """
%add (x: f32[], y: f32[]) -> f32[] {
  %x = f32[] parameter(0)
  %y = f32[] parameter(1)
  ROOT %sum = f32[] add(%x, %y)
}
"""


def module(entry, others="", partitions=4):
    """A module of the lines of its entry, whose first argument is %a f32[8,128] and second %b f32[128,128]."""
    return f"""HloModule test, is_scheduled=true, input_output_alias={{ {{0}}: (0, {{}}, may-alias) }}, \
num_partitions={partitions}

FileNames
1 "train.py"
{ADD}{others}
ENTRY %main (a: f32[8,128], b: f32[128,128]) -> f32[8,128] {{
  %a = f32[8,128]{{1,0:T(8,128)}} parameter(0)
  %b = f32[128,128]{{1,0:T(8,128)}} parameter(1)
{entry}
}}
"""


PRODUCT = ('  %{name} = f32[8,128]{{1,0:T(8,128)}} dot(%a, %b), lhs_contracting_dims={{1}}, '
           'rhs_contracting_dims={{0}}, metadata={{op_name="{op}"}}')
FLOPS = 2 * 8 * 128 * 128


def product(name="ROOT p", op="jit(compute)/dot_general"):
    root = "ROOT " if name.startswith("ROOT ") else ""
    return PRODUCT.format(name=name.removeprefix("ROOT "), op=op).replace("  %", f"  {root}%", 1)


# ---- operations

def test_a_product_is_two_operations_a_multiply_add():
    found = account(module(product()))
    assert found["flops"] == found["matrix_flops"] == FLOPS
    assert found["bytes_moved"] == 4 * (8 * 128 + 128 * 128 + 8 * 128)


def test_factors_of_float32_take_several_passes_of_the_matrix_unit():
    text = module(product().replace(", metadata", ", operand_precision={highest,highest}, metadata"))
    assert account(text)["matrix_flops"] == 6 * account(text)["flops"]
    assert account(text.replace("f32[128,128]", "bf16[128,128]"))["matrix_flops"] == FLOPS


@pytest.mark.parametrize("op, place", [
    ("jit(compute)/jvp(block_0)/attention/dot_general", "attention forward"),
    ("jit(compute)/transpose(jvp(block_0))/feedforward/dot_general", "feedforward backward"),
    ("functional/block_1.feedforward.up_1/MatMul", "feedforward forward"),
    ("gradient_tape/functional/block_1.attention.mix_1/einsum/MatMul", "attention backward"),
    ("jit(compute)/transpose(jvp(block_0))/rematted_computation/attention/dot_general", "attention forward"),
    ("jit(compute)/jvp(stage_0.block_0)/conv_general_dilated", "stage_0 forward"), ("", "rest forward")])
def test_products_are_placed_by_their_metadata(op, place):
    assert account(module(product(op=op)))["flops_by_place"] == {place: FLOPS}


def convolution(window, labels, out, lhs, rhs, more=""):
    return account(module(f"""  %c = f32[{lhs}] bitcast(%a)
  %d = f32[{rhs}] bitcast(%b)
  ROOT %p = f32[{out}] convolution(%c, %d), window={{{window}}}, dim_labels={labels}{more}"""))["flops"]


def test_a_convolution_leaves_padding_out():
    """A 3 x 3 window over 8 x 8 pixels padded by 1: 22 of 24 positions a side."""
    assert convolution("size=3x3 pad=1_1x1_1", "b01f_01io->b01f", "4,8,8,16", "4,8,8,5", "3,3,5,16") == (
        2 * 4 * 16 * 5 * 22 * 22)


def test_a_convolution_leaves_the_holes_of_dilation_out():
    """As TPUs write a batched product: of 4 x 4 pairs of a batch's members only those of a member with itself."""
    assert convolution("size=4 stride=3 lhs_dilate=4", "0bf_0io->0bf", "4,8,128", "4,8,32", "4,32,128") == (
        4 * 2 * 8 * 32 * 128)


def test_a_convolution_of_groups_meets_its_own_features_alone():
    assert convolution("size=1", "b0f_0io->b0f", "4,8,16", "4,8,16", "1,1,16", ", feature_group_count=16") == (
        2 * 4 * 8 * 16)


# ---- loops and branches

LOOP = f"""
%body (c: (s32[], f32[8,128], f32[128,128], s32[])) -> (s32[], f32[8,128], f32[128,128], s32[]) {{
  %c = (s32[], f32[8,128]{{1,0}}, /*index=2*/f32[128,128]{{1,0}}, s32[]) parameter(0)
  %i = s32[] get-tuple-element(%c), index=0
  %a = f32[8,128]{{1,0}} get-tuple-element(%c), index=1
  %b = f32[128,128]{{1,0}} get-tuple-element(%c), index=2
  %n = s32[] get-tuple-element(%c), index=3
  %two = s32[] constant(2)
  %next = s32[] fusion(%i, %two), kind=kLoop, calls=%step
{product("p")}
  ROOT %t = (s32[], f32[8,128], f32[128,128], s32[]) tuple(%next, %p, %b, %n)
}}

%step (x: s32[], y: s32[]) -> s32[] {{
  %x = s32[] parameter(0)
  %y = s32[] parameter(1)
  ROOT %sum = s32[] add(%x, %y)
}}

%condition (c: (s32[], f32[8,128], f32[128,128], s32[])) -> pred[] {{
  %c = (s32[], f32[8,128]{{1,0}}, f32[128,128]{{1,0}}, s32[]) parameter(0)
  %i = s32[] get-tuple-element(%c), index=0
  %n = s32[] get-tuple-element(%c), index=3
  ROOT %less = pred[] compare(%i, %n), direction=LT
}}
"""
RUN = """  %zero = s32[] constant({start})
  %limit = s32[] {limit}
  %begin = (s32[], f32[8,128], f32[128,128], s32[]) tuple(%zero, %a, %b, %limit)
  %loop = (s32[], f32[8,128], f32[128,128], s32[]) while(%begin), condition=%condition, body=%body{more}
  ROOT %end = f32[8,128]{{1,0}} get-tuple-element(%loop), index=1"""


@pytest.mark.parametrize("start, limit, more, trips", [
    (0, "constant(12)", "", 6), (1, "constant(12)", "", 6), (12, "constant(12)", "", 0),
    (0, "custom-call()", ', backend_config={"known_trip_count":{"n":"5"}}', 5)])
def test_a_loops_body_counts_as_often_as_it_runs(start, limit, more, trips):
    found = account(module(RUN.format(start=start, limit=limit, more=more), LOOP))
    assert found["flops"] == trips * FLOPS and found["loops"] == [trips] and not found["unknown_loops"]


def test_a_loop_of_unknown_length_counts_once_and_is_named():
    found = account(module(RUN.format(start=0, limit="custom-call()", more=""), LOOP))
    assert found["flops"] == FLOPS and found["unknown_loops"] == 1 and found["loops"] == []


def test_of_branches_the_one_that_computes_most_counts():
    both = "".join(f"""
%{name} (t: (f32[8,128], f32[128,128])) -> f32[8,128] {{
  %t = (f32[8,128], f32[128,128]) parameter(0)
  %a = f32[8,128]{{1,0}} get-tuple-element(%t), index=0
  %b = f32[128,128]{{1,0}} get-tuple-element(%t), index=1
{body}
}}
""" for name, body in (("idle", "  ROOT %same = f32[8,128]{1,0} copy(%a)"), ("busy", product())))
    for attributes in ("branch_computations={%idle, %busy}", "true_computation=%busy, false_computation=%idle"):
        text = module(f"""  %which = s32[] constant(0)
  %t = (f32[8,128], f32[128,128]) tuple(%a, %b)
  ROOT %r = f32[8,128]{{1,0}} conditional(%which, %t, %t), {attributes}""", both)
        assert account(text)["flops"] == FLOPS


# ---- fusions and bytes

def fusion(body, arguments, out="f32[8,128]{1,0:T(8,128)}", call="%a, %b"):
    inner = f"\n%fused (p: f32[8,128]) -> f32[8,128] {{\n{arguments}\n{body}\n}}\n"
    return account(module(f"  %i = s32[] constant(0)\n  ROOT %f = {out} fusion({call}), kind=kOutput, calls=%fused",
                          inner))


TAKEN = "  %a = f32[8,128]{1,0:T(8,128)} parameter(0)\n  %b = f32[128,128]{1,0:T(8,128)} parameter(1)"


def test_a_fusion_moves_what_goes_in_and_out():
    found = fusion("  %n = f32[128,128]{1,0} negate(%b)\n" + product().replace("%b)", "%n)"), TAKEN)
    assert found["flops"] == FLOPS and found["bytes_moved"] == 4 * (8 * 128 + 128 * 128 + 8 * 128)
    assert found["fusions_by_kind"] == {"kOutput": 1}


def test_what_lies_in_the_cores_own_memory_moves_nothing():
    text = module(product()).replace("T(8,128)} parameter(0)", "T(8,128)S(1)} parameter(0)")
    assert account(text)["bytes_moved"] == 4 * (128 * 128 + 8 * 128)


def test_a_slice_is_read_alone():
    found = fusion("  ROOT %s = f32[8,128]{1,0:T(8,128)} dynamic-slice(%b, %i, %i), dynamic_slice_sizes={8,128}",
                   "  %b = f32[128,128]{1,0:T(8,128)} parameter(0)\n  %i = s32[]{:S(6)} parameter(1)", call="%b, %i")
    assert found["bytes_moved"] == 4 * (8 * 128 + 8 * 128) + 4  # and the index


def test_an_update_in_place_is_written_alone():
    found = fusion("  ROOT %u = f32[128,128]{1,0:T(8,128)} dynamic-update-slice(%b, %a, %i, %i)",
                   "  %b = f32[128,128]{1,0:T(8,128)} parameter(0)\n  %a = f32[8,128]{1,0:T(8,128)} parameter(1)\n"
                   "  %i = s32[]{:S(6)} parameter(2)", out="f32[128,128]{1,0:T(8,128)}", call="%b, %a, %i")
    assert found["bytes_moved"] == 4 * (8 * 128 + 8 * 128) + 4


def test_a_copy_between_memories_moves_its_one_side():
    text = module("""  %s = (f32[8,128]{1,0:T(8,128)S(1)}, f32[8,128]{1,0:T(8,128)}, u32[]{:S(2)}) copy-start(%a)
  ROOT %d = f32[8,128]{1,0:T(8,128)S(1)} copy-done(%s)""")
    assert account(text)["bytes_moved"] == 4 * 8 * 128


def test_padding_to_tiles_is_held_and_moved():
    assert Shape("f32", (3, 130), (1, 0), (8, 128)).held == 4 * 8 * 256
    assert Shape("f32", (3, 130), (0, 1), (8, 128)).held == 4 * 136 * 128
    assert Shape("bf16", (10,), (0,), (256,)).held == 512 and Shape("f32", (), (), (128,)).held == 4
    assert Shape("pred", (3, 5)).bytes == 15 and Shape("s4", (3,)).bytes == 2


def test_kernels_are_listed_by_name_and_their_lines_may_break():
    text = module("""  %splash_mha_fwd.3 = f32[8,128]{1,0} custom-call(%a, %b), custom_call_target="tpu_custom_call", \
frontend_attributes={kernel_metadata={
"xprof_metadata":"{\\"block_q\\": 512}"
}}, metadata={op_name="attention"}
  ROOT %p = f32[8,128]{1,0} copy(%splash_mha_fwd.3)""")
    assert account(text)["kernels"] == {"splash_mha_fwd": 1}


# ---- collectives

def reduced(groups, kind="all-reduce", out="f32[8,128]{1,0}", more=", to_apply=%add"):
    return account(module(f"  ROOT %r = {out} {kind}(%a), channel_id=1, {groups}{more}"))["collectives"]


@pytest.mark.parametrize("groups, size", [
    ("replica_groups={{0,1},{2,3}}", 2), ("replica_groups={{0,1,2,3}}", 4), ("replica_groups=[2,2]<=[4]", 2),
    ("replica_groups=[1,4]<=[2,2]T(1,0)", 4), ("replica_groups=mesh['axis_0'=2,'axis_1'=2] {'axis_1'}", 2),
    ("replica_groups=mesh['axis_0'=4,'axis_1'=1] {'axis_0','axis_1'}", 4), ("replica_groups={}", 4),
    ("replica_groups=mesh['axis_0'=4] {'axis_0':(1)2}", 2)])
def test_the_groups_of_a_collective_are_read_in_every_form(groups, size):
    found, = reduced(groups)
    assert (found["kind"], found["network"], found["group"], found["count"]) == ("all-reduce", "ici", size, 1)
    assert found["bytes"] == 4096 and found["bytes_sent"] == 2 * 4096 * (size - 1) / size


@pytest.mark.parametrize("kind, sent", [
    ("all-gather", 3 * 4096), ("reduce-scatter", 3072), ("all-to-all", 3072), ("collective-permute", 4096)])
def test_what_each_device_must_send(kind, sent):
    groups = "source_target_pairs={{0,1},{1,0}}" if kind == "collective-permute" else "replica_groups={{0,1,2,3}}"
    found, = reduced(groups, kind, more="")
    assert found["kind"] == kind and found["bytes"] == 4096 and found["bytes_sent"] == sent


def test_a_group_of_one_communicates_nothing():
    assert reduced("replica_groups={{0},{1},{2},{3}}") == []


def test_a_start_counts_and_its_end_does_not():
    text = module("""  %s = f32[8,128]{1,0} all-reduce-start(%a), replica_groups={{0,1,2,3}}, to_apply=%add
  ROOT %d = f32[8,128]{1,0} all-reduce-done(%s)""")
    assert [each["count"] for each in account(text)["collectives"]] == [1]


@pytest.mark.parametrize("between, after", [(True, False), (False, True), (False, False)])
def test_asynchronous_is_what_something_is_computed_beside(between, after):
    """The name of the operation is not enough: a start that its end follows at once is waited for."""
    meanwhile = product("p")
    text = module("\n".join([
        "  %s = f32[8,128]{1,0} all-reduce-start(%a), replica_groups={{0,1,2,3}}, to_apply=%add",
        *[meanwhile] * between,
        "  %d = f32[8,128]{1,0} all-reduce-done(%s)", *[meanwhile] * after, "  ROOT %c = f32[8,128]{1,0} copy(%d)"]))
    found, = account(text)["collectives"]
    prepared = '  %e = s32[]{:S(2)} custom-call(), custom_call_target="PrepareAsyncCallStart"\n  %d ='
    assert account(text.replace("  %d =", prepared))["collectives"] == [found]
    assert found["asynchronous"] == between and found["asynchronous_bytes_sent"] == between * found["bytes_sent"]
    alone, = reduced("replica_groups={{0,1,2,3}}")
    assert alone["count"] == 1 and alone["asynchronous"] == alone["asynchronous_bytes_sent"] == 0


def test_an_all_reduce_of_which_each_takes_a_part_is_a_reduce_scatter():
    inner = """
%scatter (p: f32[8,128]) -> f32[2,128] {
  %p = f32[8,128]{1,0} parameter(0)
  %r = f32[8,128]{1,0} all-reduce(%p), channel_id=7, replica_groups={{0,1,2,3}}, to_apply=%add
  %i = u32[] partition-id()
  ROOT %d = f32[2,128]{1,0} dynamic-slice(%r, %i, %i), dynamic_slice_sizes={2,128}
}
"""
    lines = "\n".join(f"  {'ROOT ' * last}%f{last} = f32[2,128]{{1,0}} fusion(%a), kind=kCustom, calls=%scatter"
                      for last in (False, True))
    several = inner.replace("%r = f32[8,128]{1,0} all", "%t = (f32[8,128]{1,0}, f32[8,128]{1,0}) all").replace(
        "all-reduce(%p)", "all-reduce(%p, %p)").replace(
        "  %i =", "  %r = f32[8,128]{1,0} get-tuple-element(%t), index=0\n  %i =")
    for text, size in ((inner, 4096), (several, 8192)):
        found, = account(module(lines, text))["collectives"]
        assert (found["kind"], found["count"], found["bytes"]) == ("reduce-scatter", 2, 2 * size)


def test_an_overlapped_collective_counts_once_for_all_its_parts():
    """Of the start, the fusion that computes meanwhile and the end each holds a copy; another channel is another."""
    part = """
%{name} (p: f32[8,128]) -> f32[32,128] {{
  %p = f32[8,128]{{1,0}} parameter(0)
  ROOT %g = f32[32,128]{{1,0}} all-gather(%p), channel_id={channel}, replica_groups={{{{0,1,2,3}}}}, dimensions={{0}}, \
frontend_attributes={{chain_id="0"}}
}}
"""
    inner = "".join(part.format(name=name, channel=channel) for name, channel in (
        ("start", 5), ("middle", 5), ("done", 5), ("other", 6)))
    lines = "\n".join(f"  {'ROOT ' * (name == 'other')}%{name}_f = f32[32,128]{{1,0}} fusion(%a), kind=kCustom, "
                      f"calls=%{name}" for name in ("start", "middle", "done", "other"))
    found, = account(module(lines, inner))["collectives"]
    assert (found["kind"], found["count"], found["bytes"]) == ("all-gather", 2, 2 * 4096)


CHAIN = """
%start (p: f32[8,128]) -> (f32[8,128], f32[32,128], u32[]) {
  %p = f32[8,128]{1,0} parameter(0)
  %g = f32[32,128]{1,0} all-gather(%p), channel_id=5, replica_groups={{0,1,2,3}}, dimensions={0}, \
frontend_attributes={chain_id="0"}
  ROOT %c = (f32[8,128]{1,0}, f32[32,128]{1,0}, u32[]{:S(2)}) custom-call(%g), custom_call_target="AsyncCollectiveStart"
}
""" + "".join(f"""
%{name} (p: f32[8,128]) -> f32[32,128] {{
  %p = f32[8,128]{{1,0}} parameter(0)
  ROOT %g = f32[32,128]{{1,0}} all-gather(%p), channel_id=5, replica_groups={{{{0,1,2,3}}}}, dimensions={{0}}, \
frontend_attributes={{chain_id="0"}}
}}
""" for name in ("middle", "done"))
MIDDLE = "  %m = f32[32,128]{1,0} fusion(%a), kind=kCustom, calls=%middle\n"
START = """  %s = (f32[8,128]{1,0}, f32[32,128]{1,0}, u32[]{:S(2)}) fusion(%a), kind=kCustom, calls=%start
"""


@pytest.mark.parametrize("outside, inside, count", [(START + MIDDLE, MIDDLE, 1), (MIDDLE, START + MIDDLE, 6)])
def test_a_chain_that_passes_through_an_inner_loop_counts_as_often_as_it_starts(outside, inside, count):
    """The loop has six trips; the other way round the chain starts in each of them."""
    loop = LOOP.replace("  ROOT %t =", f"{inside}  ROOT %t =")
    entry = outside + RUN.format(start=0, limit="constant(12)", more="").replace(
        "  ROOT %end", "  %d = f32[32,128]{1,0} fusion(%a), kind=kCustom, calls=%done\n  ROOT %end")
    found, = account(module(entry, CHAIN + loop))["collectives"]
    assert (found["kind"], found["count"], found["bytes"]) == ("all-gather", count, count * 4096)


@pytest.mark.parametrize("starts", [
    """  %s = ((f32[8,128]{1,0}), f32[32,128]{1,0}, s32[1]{0:T(128)S(2)}) call-start(%a), \
async_execution_thread="sparsecore", to_apply=%called
  %u = ((f32[8,128]{1,0}), f32[32,128]{1,0}, s32[1]{0:T(128)S(2)}) call-update(%s)
  %d = f32[32,128]{1,0} call-done(%u)
""",
    # As libtpu 0.0.52 has it: what is given comes with the update.
    """  %s = ((), (), (s32[28672]{0:T(1024)}, s32[83]{0:T(1)S(11)})) custom-call-start(), \
async_execution_thread="sparsecore", custom_call_target="TODO", called_computations={%called}
  %u = ((f32[8,128]{1,0}), f32[32,128]{1,0}, (s32[28672]{0:T(1024)})) custom-call-update(%s, %a), \
output_to_operand_aliasing={{2,0}: (0, {2,0})}
  %d = f32[32,128]{1,0} custom-call-done(%u)
"""], ids=["call", "custom call"])
def test_what_a_thread_beside_the_core_does_counts_where_it_is_started(starts):
    """Its computations end in the thread's name; between its start and its end nothing more is counted."""
    inner = """
%called (p: f32[8,128]) -> f32[32,128] {
  %p = f32[8,128]{1,0} parameter(0)
  ROOT %g = f32[32,128]{1,0} all-gather(%p), channel_id=2, replica_groups={{0,1,2,3}}, dimensions={0}
}, execution_thread="sparsecore"
"""
    text = module(starts + product(), inner)
    assert set(parse(text).computations) == {"add", "called", "main"}
    found = account(text)
    assert found["unread_collectives"] == []
    assert account(re.sub("(call-start.*)called", r"\1add", text))["unread_collectives"] == ["g"]
    each, = found["collectives"]
    assert (each["kind"], each["count"], each["bytes"]) == ("all-gather", 1, 4096)
    assert each["sparsecore"] == 1 and each["asynchronous"] == 0
    meanwhile = text.replace("  %u =", product("q") + "\n  %u =")
    each, = account(meanwhile)["collectives"]
    assert each["sparsecore"] == each["asynchronous"] == 1
    assert found["flops"] == FLOPS and found["bytes_moved"] == 4 * (
        8 * 128 + 32 * 128 + 8 * 128 + 128 * 128 + 8 * 128)  # the gather's two sides, and the product's three


def test_what_crosses_slices_goes_over_the_other_network():
    text = module("""  %t = token[] after-all()
  %s = (f32[8,128]{1,0}, u32[], token[]) send(%a, %t), channel_id=2, is_host_transfer=true, frontend_attributes={\
_xla_host_transfer_handler_name="xla_megascale_runtime",_xla_megascale_transfer_type="ALL_REDUCE"}
  %d = token[] send-done(%s), channel_id=2, is_host_transfer=true
  ROOT %r = f32[8,128]{1,0} copy(%a)""")
    found, = account(text, slices=2)["collectives"]
    assert (found["kind"], found["network"], found["group"], found["bytes_sent"]) == ("all-reduce", "dcn", 2, 4096)
