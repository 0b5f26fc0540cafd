"""Weights packed for a few rows: blocks of 64 outputs, inputs one after the other, so that memory is read in order.

A weight matrix [N, K] lies as `[N / 64 rounded up][K / G][64]` words of 32 bits. Word `[b][k][n]` belongs to
output `64 b + n` and holds G inputs from `G k` on: 1 float32, 2 bfloat16 (the first in the low half), or 4 bytes
`round(w / scale) + 128`, with one scale an output. Each word meets the same inputs of every row, broadcast: no
sums across lanes. One core then reads weights as fast as memory gives them.
"""

from std.memory import bitcast
from std.sys import llvm_intrinsic
from std.sys.info import CompilationTarget
from linalg.arch.cpu.vnni_intrinsics import vpdpbusd
from .vectors import F32, I32, Floats, IntLanes, Ints, Lanes, load

comptime I16 = DType.int16
comptime BLOCK = 64  # outputs in a block
comptime VECTORS = 4  # of a tile: 4 * WIDTH outputs for up to `most_rows` rows fill the registers


def group[WEIGHT: DType]() -> Int:
    """Inputs in one word."""
    return 1 if WEIGHT == DType.float32 else (2 if WEIGHT == DType.uint16 else 4)


def most_rows[WIDTH: Int]() -> Int:
    """Rows of a tile: their sums, and one vector of weights for each column of sums, fit in the registers."""
    return 6 if WIDTH == 16 else 2


@always_inline
def multiply[
    WEIGHT: DType, WIDTH: Int, ROWS: Int
](
    words: Ints, x: Floats, x_bytes: Ints, inputs: Int, mut sums: Array[Lanes[WIDTH], VECTORS * ROWS]
):
    """Add to `sums` (vector after vector, rows inside) the product of ROWS rows and 4 * WIDTH outputs.

    `words`: the tile's first word; `x` [ROWS, inputs]; `x_bytes`: the same rounded, for weights of 8 bits.
    """
    comptime if WEIGHT == DType.float32:
        var weights = words.unsafe_bitcast[Float32]()
        for k in range(inputs):
            comptime for v in range(VECTORS):
                var w = weights.unsafe_load[width=WIDTH](k * BLOCK + v * WIDTH)
                comptime for r in range(ROWS):
                    sums[v * ROWS + r] = w.fma(
                        Lanes[WIDTH](x[unsafe_offset = r * inputs + k]), sums[v * ROWS + r]
                    )
    elif WEIGHT == DType.uint16:
        for k in range(inputs // 2):
            comptime for v in range(VECTORS):
                var pair = words.unsafe_load[width=WIDTH](k * BLOCK + v * WIDTH)
                var first = bitcast[F32, WIDTH](pair << 16)
                var second = bitcast[F32, WIDTH](pair & IntLanes[WIDTH](-65536))
                comptime for r in range(ROWS):
                    var at = r * inputs + 2 * k
                    var sum = first.fma(Lanes[WIDTH](x[unsafe_offset=at]), sums[v * ROWS + r])
                    sums[v * ROWS + r] = second.fma(Lanes[WIDTH](x[unsafe_offset = at + 1]), sum)
    else:
        var totals = Array[IntLanes[WIDTH], VECTORS * ROWS](fill=IntLanes[WIDTH](0))
        for k in range(inputs // 4):
            comptime for v in range(VECTORS):
                var w = words.unsafe_load[width=WIDTH](k * BLOCK + v * WIDTH)
                comptime for r in range(ROWS):
                    var four = IntLanes[WIDTH](x_bytes[unsafe_offset = r * (inputs // 4) + k])
                    totals[v * ROWS + r] = add_products(totals[v * ROWS + r], w, four)
        comptime for i in range(VECTORS * ROWS):
            sums[i] += totals[i].cast[F32]()


@always_inline
def add_products[WIDTH: Int](total: IntLanes[WIDTH], w: IntLanes[WIDTH], x: IntLanes[WIDTH]) -> IntLanes[WIDTH]:
    """In each lane, `total` plus the products of four unsigned bytes of `w` and four signed ones of `x`.

    Exact in all three ways of computing it.
    """
    comptime if WIDTH == 16:
        return vpdpbusd(total, w, x)
    elif WIDTH == 8 and CompilationTarget.is_x86():
        # pairs of 16 bits: bytes 0 and 2, then 1 and 3
        var w_halves = bitcast[DType.uint16, 2 * WIDTH](w)
        var x_halves = bitcast[I16, 2 * WIDTH](x)
        var even = _multiply_pairs(bitcast[I16, 16](w_halves & 255), bitcast[I16, 16]((x_halves << 8) >> 8))
        var odd = _multiply_pairs(bitcast[I16, 16](w_halves >> 8), bitcast[I16, 16](x_halves >> 8))
        return total + bitcast[I32, WIDTH](even + odd)
    else:
        var sum = total
        comptime for byte in range(4):
            sum += ((w >> Int32(8 * byte)) & 255) * ((x << Int32(24 - 8 * byte)) >> 24)
        return sum


@always_inline
def _multiply_pairs(a: SIMD[I16, 16], b: SIMD[I16, 16]) -> IntLanes[8]:
    """AVX2's vpmaddwd: in each lane the sum of two products of 16 bits."""
    return llvm_intrinsic["llvm.x86.avx2.pmadd.wd", IntLanes[8]](a, b)


@always_inline
def element[WEIGHT: DType](words: Ints, scales: Floats, output: Int, input: Int, inputs: Int) -> Float32:
    """One weight as a number."""
    comptime G = group[WEIGHT]()
    var at = (output // BLOCK) * (inputs // G) * BLOCK + (input // G) * BLOCK + output % BLOCK
    comptime if WEIGHT == DType.float32:
        return words.unsafe_bitcast[Float32]()[unsafe_offset=at]
    elif WEIGHT == DType.uint16:
        var half = words.unsafe_bitcast[UInt16]()[unsafe_offset = 2 * at + input % 2]
        return bitcast[F32, 1](half.cast[DType.uint32]() << 16)
    else:
        var byte = words.unsafe_bitcast[UInt8]()[unsafe_offset = 4 * at + input % 4]
        return (byte.cast[F32]() - 128) * scales[unsafe_offset=output]
