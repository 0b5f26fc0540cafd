"""Self-attention of many positions to each other, as the encoder needs it, shared by the machine's threads.

One head's keys are packed as a weight matrix is (see `packed`): blocks of 64 positions, their 64 numbers one after the
other. Its values are packed as they are. So both products of attention are products of a few rows with packed blocks.
With HALVES queries, keys, values and the weights of softmax are rounded to bfloat16, and the processor multiplies pairs
of them (AVX512_BF16) with sums in float32.
"""

from std.math import exp
from std.memory import bitcast
from std.memory.alloc import unsafe_alloc
from std.sys import llvm_intrinsic
from max.algorithm.backend.cpu.parallelize import sync_parallelize
from extensibility import InputTensor, OutputTensor, register
from .attention import HEAD, SCALE
from .packed import BLOCK, VECTORS, most_rows, multiply
from .vectors import F32, LOWEST, Floats, IntLanes, Ints, Lanes, load, store

comptime BF16 = DType.bfloat16
comptime Halves = Pointer[BFloat16, MutUntrackedOrigin]


@always_inline
def multiply_halves[
    ROWS: Int
](words: Ints, x: Ints, pairs: Int, stride: Int, mut sums: Array[Lanes[16], VECTORS * ROWS]):
    """`packed.multiply` where both sides are pairs of bfloat16; rows of `x` are `stride` words apart."""
    for k in range(pairs):
        comptime for v in range(VECTORS):
            var w = bitcast[BF16, 32](words.unsafe_load[width=16](k * BLOCK + v * 16))
            comptime for r in range(ROWS):
                var pair = bitcast[BF16, 32](IntLanes[16](x[unsafe_offset = r * stride + k]))
                sums[v * ROWS + r] = llvm_intrinsic["llvm.x86.avx512bf16.dpbf16ps.512", Lanes[16]](
                    sums[v * ROWS + r], w, pair
                )


@always_inline
def times_block[
    HALVES: Bool, WIDTH: Int, ROWS: Int
](block: Floats, x: Floats, inputs: Int, x_stride: Int, y: Floats, y_stride: Int):
    """`y` [ROWS, 64] = `x` [ROWS, inputs] times `block` [inputs, 64]; strides are of rows, in words."""
    comptime if HALVES:
        var sums = Array[Lanes[16], VECTORS * ROWS](fill=Lanes[16](0))
        var words = rebind[Ints](block.unsafe_bitcast[Int32]())
        multiply_halves[ROWS](words, rebind[Ints](x.unsafe_bitcast[Int32]()), inputs // 2, x_stride, sums)
        comptime for v in range(VECTORS):
            comptime for r in range(ROWS):
                store[16](y, r * y_stride + v * 16, sums[v * ROWS + r])
    else:
        for first in range(0, BLOCK, VECTORS * WIDTH):
            var words = rebind[Ints](block.unsafe_offset(first).unsafe_bitcast[Int32]())
            var sums = Array[Lanes[WIDTH], VECTORS * ROWS](fill=Lanes[WIDTH](0))
            multiply[F32, WIDTH, ROWS](words, x, words, inputs, sums)  # rows of `x` are `inputs` apart
            comptime for v in range(VECTORS):
                comptime for r in range(ROWS):
                    store(y, r * y_stride + first + v * WIDTH, sums[v * ROWS + r])


@always_inline
def soften[HALVES: Bool, WIDTH: Int](scores: Floats, positions: Int) -> Float32:
    """Weights of softmax in the place of `scores`, not yet divided by their sum; gives one over that sum."""
    var padded = rounded_up(positions)
    for position in range(positions, padded):
        scores[unsafe_offset=position] = LOWEST
    var highest = Lanes[WIDTH](LOWEST)
    for at in range(0, padded, WIDTH):
        highest = max(highest, load[WIDTH](scores, at))
    var most = highest.reduce_max()
    var total = Lanes[WIDTH](0)
    var halves = rebind[Halves](scores.unsafe_bitcast[BFloat16]())
    for at in range(0, padded, WIDTH):
        var weight = exp(load[WIDTH](scores, at) - most)
        total += weight
        comptime if HALVES:
            halves.unsafe_store(at, weight.cast[BF16]())  # behind what is still to be read
        else:
            store(scores, at, weight)
    return 1 / total.reduce_add()


@always_inline
def attend_rows[
    HALVES: Bool, WIDTH: Int, ROWS: Int
](qkv: Floats, keys: Floats, values: Floats, positions: Int, width: Int, scratch: Floats, y: Floats):
    """ROWS queries, one position after another from `qkv` on (rows 3 * width apart), answered at `y` (width apart)."""
    comptime QUERY = HEAD // 2 if HALVES else HEAD  # words
    var padded = rounded_up(positions)
    var scores = scratch.unsafe_offset(ROWS * HEAD)
    var mixed = scores.unsafe_offset(ROWS * padded)
    var halves = rebind[Halves](scratch.unsafe_bitcast[BFloat16]())
    comptime for r in range(ROWS):
        comptime for part in range(0, HEAD, WIDTH):
            var query = load[WIDTH](qkv, r * 3 * width + part) * SCALE
            comptime if HALVES:
                halves.unsafe_store(r * HEAD + part, query.cast[BF16]())
            else:
                store(scratch, r * HEAD + part, query)
    for block in range(0, padded, BLOCK):
        var packed = keys.unsafe_offset(block * QUERY)
        times_block[HALVES, WIDTH, ROWS](packed, scratch, HEAD, QUERY, scores.unsafe_offset(block), padded)
    var shares = Array[Float32, ROWS](fill=Float32(0))
    comptime for r in range(ROWS):
        shares[r] = soften[HALVES, WIDTH](scores.unsafe_offset(r * padded), positions)
    times_block[HALVES, WIDTH, ROWS](values, scores, padded, padded, mixed, HEAD)
    comptime for r in range(ROWS):
        comptime for part in range(0, HEAD, WIDTH):
            store(y, r * width + part, load[WIDTH](mixed, r * HEAD + part) * shares[r])


@always_inline
def rounded_up(positions: Int) -> Int:
    return (positions + BLOCK - 1) // BLOCK * BLOCK


def pack_head[HALVES: Bool](qkv: Floats, positions: Int, width: Int, keys: Floats, values: Floats):
    """One head's keys and values, `qkv` its first query; positions up to a whole block are zeros."""
    var key_halves = rebind[Halves](keys.unsafe_bitcast[BFloat16]())
    var value_halves = rebind[Halves](values.unsafe_bitcast[BFloat16]())
    for position in range(rounded_up(positions)):
        var source = qkv.unsafe_offset(position * 3 * width + width)
        var block = position // BLOCK * BLOCK * HEAD
        for d in range(HEAD):
            var key = source[unsafe_offset=d] if position < positions else Float32(0)
            var value = source[unsafe_offset = width + d] if position < positions else Float32(0)
            comptime if HALVES:
                key_halves[unsafe_offset = block + (d // 2 * BLOCK + position % BLOCK) * 2 + d % 2] = key.cast[BF16]()
                value_halves[unsafe_offset = (position // 2 * HEAD + d) * 2 + position % 2] = value.cast[BF16]()
            else:
                keys[unsafe_offset = block + d * BLOCK + position % BLOCK] = key
                values[unsafe_offset = position * HEAD + d] = value


@register("captiond_encoder_attention")
struct EncoderAttention:
    """Each position attends to all of its window: `qkv` [B, S, 3 E] to `y` [B, S, E].

    A head's queries are cut in PARTS, so that there is work for every thread; each part packs the head for itself.
    HALVES, 1 or 0, needs WIDTH 16.
    """

    @staticmethod
    def execute[
        target: StaticString, WIDTH: Int, PARTS: Int, HALVES: Int
    ](y: OutputTensor[dtype=F32, rank=3, ...], qkv: InputTensor[dtype=F32, rank=3, ...]) raises:
        comptime MOST = most_rows[WIDTH]()
        comptime ROUNDED = HALVES == 1 and WIDTH == 16
        var positions = qkv.dim_size(1)
        var width = y.dim_size(2)
        var heads = width // HEAD
        var padded = rounded_up(positions)
        var source = rebind[Floats](qkv.unsafe_ptr())
        var out = rebind[Floats](y.unsafe_ptr())

        def part(task: Int) {imm}:
            var window = task // PARTS // heads * positions
            var head = task // PARTS % heads * HEAD
            var q = source.unsafe_offset(window * 3 * width + head)
            var answer = out.unsafe_offset(window * width + head)
            var memory = unsafe_alloc[Float32](2 * padded * HEAD + MOST * (2 * HEAD + padded))
            var keys = rebind[Floats](memory)
            var values = keys.unsafe_offset(padded * HEAD)
            var scratch = values.unsafe_offset(padded * HEAD)
            pack_head[ROUNDED](q, positions, width, keys, values)
            var row = positions * (task % PARTS) // PARTS
            var end = positions * (task % PARTS + 1) // PARTS
            while row < end:
                var query = q.unsafe_offset(row * 3 * width)
                var place = answer.unsafe_offset(row * width)
                if row + MOST <= end:
                    attend_rows[ROUNDED, WIDTH, MOST](query, keys, values, positions, width, scratch, place)
                    row += MOST
                else:
                    attend_rows[ROUNDED, WIDTH, 1](query, keys, values, positions, width, scratch, place)
                    row += 1
            memory.unsafe_free()

        sync_parallelize(part, qkv.dim_size(0) * heads * PARTS)
