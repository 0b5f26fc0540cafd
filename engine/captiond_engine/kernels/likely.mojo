"""Logits of float32, reading half of what they are made of: all of them from bfloat16, and again what may matter.

A token's exact logit is computed where the rounded one is near enough to the largest for it to be the largest itself,
or likely enough to count in the sum of probabilities. What that leaves is the token that float32 says, for sure, and its
log-probability but for some 1e-5.
"""

from std.math import exp, log, sqrt
from std.memory.alloc import unsafe_alloc
from extensibility import InputTensor, OutputTensor, register
from .packed import BLOCK
from .project import PLAIN, Layer, project_rows
from .vectors import F32, I32, LOWEST, Floats, Ints, Lanes, layer_norm, load, store

comptime COUNTS = Float32(9.2)  # below the logarithm of the sum: one in 10 000
comptime SLACK = Float32(1e-3)  # for sums in another order


@always_inline
def exact[WIDTH: Int](weights: Floats, x: Floats, inputs: Int, output: Int) -> Lanes[WIDTH]:
    """WIDTH outputs from `output` on, each summed as `project` sums it, and so the same to the last bit."""
    var at = (output // BLOCK) * inputs * BLOCK + output % BLOCK
    var sums = Lanes[WIDTH](0)
    for k in range(inputs):
        sums = load[WIDTH](weights, at + k * BLOCK).fma(Lanes[WIDTH](x[unsafe_offset=k]), sums)
    return sums


def refine[
    WIDTH: Int
](y: Floats, always: Floats, weights: Floats, bias: Floats, x: Floats, inputs: Int, outputs: Int, reach: Float32):
    """Put exact logits in the place of those in `y` [outputs] that may matter; `x` [inputs] is normed.

    `reach`: how far a rounded logit may be off. `always` is added before they are compared.
    """
    var whole = outputs - outputs % WIDTH
    var most = LOWEST
    var largest = Lanes[WIDTH](LOWEST)
    for i in range(0, whole, WIDTH):
        largest = max(largest, load[WIDTH](y, i) + load[WIDTH](always, i))
    most = largest.reduce_max()
    for i in range(whole, outputs):
        most = max(most, y[unsafe_offset=i] + always[unsafe_offset=i])
    var sums = Lanes[WIDTH](0)
    for i in range(0, whole, WIDTH):
        sums += exp(load[WIDTH](y, i) + load[WIDTH](always, i) - most)
    var total = sums.reduce_add()
    for i in range(whole, outputs):
        total += exp(y[unsafe_offset=i] + always[unsafe_offset=i] - most)
    var least = min(most - 2 * reach, most + log(total) - COUNTS)
    for i in range(0, whole, WIDTH):
        if (load[WIDTH](y, i) + load[WIDTH](always, i)).reduce_max() >= least:
            store(y, i, exact[WIDTH](weights, x, inputs, i) + load[WIDTH](bias, i))
    for i in range(whole, outputs):
        if y[unsafe_offset=i] + always[unsafe_offset=i] >= least:
            y[unsafe_offset=i] = exact[1](weights, x, inputs, i)[0] + bias[unsafe_offset=i]


@register("captiond_likely_logits")
struct LikelyLogits:
    """`y = norm(x) W^T + b`, exact where it may matter for the likeliest token; `W` as float32 and as bfloat16.

    `always` [N]: added to logits before they are compared. `error` [1]: the greatest length of a row of W less its
    bfloat16.
    """

    @staticmethod
    def execute[
        target: StaticString, WIDTH: Int
    ](
        y: OutputTensor[dtype=F32, rank=2, ...],
        x: InputTensor[dtype=F32, rank=2, ...],
        norm: InputTensor[dtype=F32, rank=2, ...],
        weights: InputTensor[dtype=F32, rank=4, ...],
        scales: InputTensor[dtype=F32, rank=1, ...],
        bias: InputTensor[dtype=F32, rank=1, ...],
        rounded: InputTensor[dtype=DType.uint16, rank=4, ...],
        error: InputTensor[dtype=F32, rank=1, ...],
        always: InputTensor[dtype=F32, rank=1, ...],
        counts: InputTensor[dtype=I32, rank=1, ...],
    ) raises:
        var count = min(Int(counts.unsafe_ptr()[unsafe_offset=0]), x.dim_size(0))
        var inputs = x.dim_size(1)
        var outputs = y.dim_size(1)
        if always.dim_size(0) != outputs:
            raise Error("a mask is not as wide as the logits")
        var norms = rebind[Floats](norm.unsafe_ptr())
        var rows = rebind[Floats](x.unsafe_ptr())
        var logits = rebind[Floats](y.unsafe_ptr())
        var layer = Layer(
            rebind[Ints](rounded.unsafe_ptr().unsafe_bitcast[Int32]()),
            rebind[Floats](scales.unsafe_ptr()),
            rebind[Floats](bias.unsafe_ptr()),
            inputs,
            outputs,
        )
        project_rows[DType.uint16, True, PLAIN, WIDTH, 1](layer, norms, rows, logits, count)
        var memory = unsafe_alloc[Float32](inputs)
        var normed = rebind[Floats](memory)
        for row in range(count):
            layer_norm[WIDTH](rows.unsafe_offset(row * inputs), norms, norms.unsafe_offset(inputs), normed, inputs)
            var squares = Lanes[WIDTH](0)
            for i in range(0, inputs, WIDTH):
                var part = load[WIDTH](normed, i)
                squares = part.fma(part, squares)
            refine[WIDTH](
                logits.unsafe_offset(row * outputs),
                rebind[Floats](always.unsafe_ptr()),
                rebind[Floats](weights.unsafe_ptr()),
                rebind[Floats](bias.unsafe_ptr()),
                normed,
                inputs,
                outputs,
                sqrt(squares.reduce_add()) * error.unsafe_ptr()[unsafe_offset=0] + SLACK,
            )
        memory.unsafe_free()
