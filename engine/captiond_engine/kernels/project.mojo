"""Linear layers over rows: `y = f(norm(x)) W^T + b`, with layer norm before, GELU or a residual after.

`weights` is [N / 64 rounded up, K / G, 64, G] of float32, uint16 (bits of bfloat16) or uint8 (see `packed`); `scales`
and `bias` are [N rounded up to 64], scales count for bytes only. `norm` is [2, K]: scale, shift. `counts[0]` rows
are computed; what `y` holds after them is not defined.
"""

from std.math import erf
from std.memory.alloc import unsafe_alloc
from max.algorithm.backend.cpu.parallelize import sync_parallelize
from extensibility import InputTensor, OutputTensor, register
from .packed import BLOCK, VECTORS, group, most_rows, multiply
from .vectors import F32, I32, SHARED_FROM, Floats, Ints, Lanes, layer_norm, load, quantise, store

# What is done with a product before it is stored.
comptime PLAIN = 0
comptime GELU = 1
comptime ADD = 2  # to what is there already

comptime MANY_ROWS = 64  # so many are worth the time that it takes to wake other threads


@fieldwise_init
struct Layer(Copyable, Movable):
    """One linear layer: its memory and its width on both sides."""

    var words: Ints
    var scales: Floats
    var bias: Floats
    var inputs: Int
    var outputs: Int


@fieldwise_init
struct Rows(Copyable, Movable):
    """What a layer reads: rows as numbers, and for weights of 8 bits as bytes with (scale, 128 * sum) a row."""

    var x: Floats
    var bytes: Ints
    var scale_and_sum: Floats


@always_inline
def finish[AFTER: Int, WIDTH: Int](y: Floats, at: Int, product: Lanes[WIDTH]):
    var value = product
    comptime if AFTER == GELU:
        value = value * 0.5 * (1 + erf(value * 0.70710678118654752))
    elif AFTER == ADD:
        value += load[WIDTH](y, at)
    store(y, at, value)


@always_inline
def tile[
    WEIGHT: DType, AFTER: Int, WIDTH: Int, ROWS: Int
](layer: Layer, rows: Rows, y: Floats, first_row: Int, first_output: Int):
    """ROWS rows of 4 * WIDTH outputs."""
    var inputs = layer.inputs
    var block = first_output // BLOCK * (inputs // group[WEIGHT]()) * BLOCK
    var sums = Array[Lanes[WIDTH], VECTORS * ROWS](fill=Lanes[WIDTH](0))
    multiply[WEIGHT, WIDTH, ROWS](
        layer.words.unsafe_offset(block + first_output % BLOCK),
        rows.x.unsafe_offset(first_row * inputs),
        rows.bytes.unsafe_offset(first_row * (inputs // 4)),
        inputs,
        sums,
    )
    comptime for v in range(VECTORS):
        var output = first_output + v * WIDTH
        comptime for r in range(ROWS):
            var product = sums[v * ROWS + r]
            comptime if WEIGHT == DType.uint8:
                var scale = rows.scale_and_sum[unsafe_offset = 2 * (first_row + r)]
                var sum = rows.scale_and_sum[unsafe_offset = 2 * (first_row + r) + 1]
                product = (product - sum) * scale * load[WIDTH](layer.scales, output)
            product += load[WIDTH](layer.bias, output)
            var at = (first_row + r) * layer.outputs + output
            if output + WIDTH <= layer.outputs:
                finish[AFTER](y, at, product)
            else:
                for lane in range(layer.outputs - output):
                    finish[AFTER, 1](y, at + lane, product[lane])


def project_few[
    WEIGHT: DType, AFTER: Int, WIDTH: Int, HANDS: Int
](layer: Layer, rows: Rows, y: Floats, count: Int):
    """All outputs of a few rows; a layer of many bytes in two halves, each on a core of its own."""
    var blocks = (layer.outputs + BLOCK - 1) // BLOCK
    var middle = blocks // 2 * BLOCK

    def half(which: Int) {imm}:
        var first = 0 if which == 0 else middle
        var end = middle if which == 0 else layer.outputs
        project_outputs[WEIGHT, AFTER, WIDTH](layer, rows, y, count, first, end)

    if HANDS > 1 and blocks * layer.inputs * (256 // group[WEIGHT]()) >= SHARED_FROM:
        sync_parallelize(half, 2)
    else:
        project_outputs[WEIGHT, AFTER, WIDTH](layer, rows, y, count, 0, layer.outputs)


def project_outputs[
    WEIGHT: DType, AFTER: Int, WIDTH: Int
](layer: Layer, rows: Rows, y: Floats, count: Int, first: Int, end: Int):
    """Outputs from `first` to `end` of `count` rows. A block of weights is read once for all of them."""
    comptime MOST = most_rows[WIDTH]()
    for output in range(first, end, VECTORS * WIDTH):
        for row in range(0, count - count % MOST, MOST):
            tile[WEIGHT, AFTER, WIDTH, MOST](layer, rows, y, row, output)
        comptime for rest in range(1, MOST):
            if count % MOST == rest:
                tile[WEIGHT, AFTER, WIDTH, rest](layer, rows, y, count - rest, output)


def project_rows[
    WEIGHT: DType, NORM: Bool, AFTER: Int, WIDTH: Int, HANDS: Int
](layer: Layer, norm: Floats, x: Floats, y: Floats, count: Int):
    """All outputs of `count` rows, with layer norm first if NORM, and rounded to bytes where the weights are bytes.

    Many rows are shared by HANDS threads, each of which then reads all weights; of few rows see `project_few`.
    """
    var width = layer.inputs
    var normed = unsafe_alloc[Float32](count * width if NORM else 1)
    var bytes = unsafe_alloc[Int8](count * width if WEIGHT == DType.uint8 else 4)
    var scale_and_sum = unsafe_alloc[Float32](2 * count)
    var shares = 2 * HANDS if HANDS > 1 and count >= MANY_ROWS else 1

    def share(which: Int) {imm}:
        var first = count * which // shares
        var end = count * (which + 1) // shares
        var mine = x.unsafe_offset(first * width)
        comptime if NORM:
            mine = rebind[Floats](normed.unsafe_offset(first * width))
            for row in range(first, end):
                var target = rebind[Floats](normed.unsafe_offset(row * width))
                layer_norm[WIDTH](x.unsafe_offset(row * width), norm, norm.unsafe_offset(width), target, width)
        var scales = rebind[Floats](scale_and_sum.unsafe_offset(2 * first))
        comptime if WEIGHT == DType.uint8:
            for row in range(end - first):
                var target = rebind[Pointer[Int8, MutUntrackedOrigin]](bytes.unsafe_offset((first + row) * width))
                var found = quantise[WIDTH](mine.unsafe_offset(row * width), target, width)
                scales[unsafe_offset = 2 * row] = found[0]
                scales[unsafe_offset = 2 * row + 1] = found[1]
        var words = rebind[Ints](bytes.unsafe_offset(first * width if WEIGHT == DType.uint8 else 0).unsafe_bitcast[Int32]())
        var rows = Rows(mine, words, scales)
        var out = y.unsafe_offset(first * layer.outputs)
        if shares == 1:
            project_few[WEIGHT, AFTER, WIDTH, HANDS](layer, rows, out, count)
        else:
            project_outputs[WEIGHT, AFTER, WIDTH](layer, rows, out, end - first, 0, layer.outputs)

    if shares == 1:
        share(0)
    else:
        sync_parallelize(share, shares)
    normed.unsafe_free()
    bytes.unsafe_free()
    scale_and_sum.unsafe_free()


@register("captiond_norm_project")
struct NormProject:
    """`y = norm(x) W^T + b`."""

    @staticmethod
    def execute[
        target: StaticString, WEIGHT: DType, WIDTH: Int, HANDS: Int
    ](
        y: OutputTensor[dtype=F32, rank=2, ...],
        x: InputTensor[dtype=F32, rank=2, ...],
        norm: InputTensor[dtype=F32, rank=2, ...],
        weights: InputTensor[dtype=WEIGHT, rank=4, ...],
        scales: InputTensor[dtype=F32, rank=1, ...],
        bias: InputTensor[dtype=F32, rank=1, ...],
        counts: InputTensor[dtype=I32, rank=1, ...],
    ) raises:
        var layer = Layer(
            rebind[Ints](weights.unsafe_ptr().unsafe_bitcast[Int32]()),
            rebind[Floats](scales.unsafe_ptr()),
            rebind[Floats](bias.unsafe_ptr()),
            x.dim_size(1),
            y.dim_size(1),
        )
        project_rows[WEIGHT, True, PLAIN, WIDTH, HANDS](
            layer,
            rebind[Floats](norm.unsafe_ptr()),
            rebind[Floats](x.unsafe_ptr()),
            rebind[Floats](y.unsafe_ptr()),
            min(Int(counts.unsafe_ptr()[unsafe_offset=0]), x.dim_size(0)),
        )


@register("captiond_norm_project_gelu")
struct NormProjectGelu:
    """`y = gelu(norm(x) W^T + b)`."""

    @staticmethod
    def execute[
        target: StaticString, WEIGHT: DType, WIDTH: Int, HANDS: Int
    ](
        y: OutputTensor[dtype=F32, rank=2, ...],
        x: InputTensor[dtype=F32, rank=2, ...],
        norm: InputTensor[dtype=F32, rank=2, ...],
        weights: InputTensor[dtype=WEIGHT, rank=4, ...],
        scales: InputTensor[dtype=F32, rank=1, ...],
        bias: InputTensor[dtype=F32, rank=1, ...],
        counts: InputTensor[dtype=I32, rank=1, ...],
    ) raises:
        var layer = Layer(
            rebind[Ints](weights.unsafe_ptr().unsafe_bitcast[Int32]()),
            rebind[Floats](scales.unsafe_ptr()),
            rebind[Floats](bias.unsafe_ptr()),
            x.dim_size(1),
            y.dim_size(1),
        )
        project_rows[WEIGHT, True, GELU, WIDTH, HANDS](
            layer,
            rebind[Floats](norm.unsafe_ptr()),
            rebind[Floats](x.unsafe_ptr()),
            rebind[Floats](y.unsafe_ptr()),
            min(Int(counts.unsafe_ptr()[unsafe_offset=0]), x.dim_size(0)),
        )


@register("captiond_project_add")
struct ProjectAdd:
    """`y = residual + x W^T + b`."""

    @staticmethod
    def execute[
        target: StaticString, WEIGHT: DType, WIDTH: Int, HANDS: Int
    ](
        y: OutputTensor[dtype=F32, rank=2, ...],
        x: InputTensor[dtype=F32, rank=2, ...],
        residual: InputTensor[dtype=F32, rank=2, ...],
        weights: InputTensor[dtype=WEIGHT, rank=4, ...],
        scales: InputTensor[dtype=F32, rank=1, ...],
        bias: InputTensor[dtype=F32, rank=1, ...],
        counts: InputTensor[dtype=I32, rank=1, ...],
    ) raises:
        var layer = Layer(
            rebind[Ints](weights.unsafe_ptr().unsafe_bitcast[Int32]()),
            rebind[Floats](scales.unsafe_ptr()),
            rebind[Floats](bias.unsafe_ptr()),
            x.dim_size(1),
            y.dim_size(1),
        )
        var count = min(Int(counts.unsafe_ptr()[unsafe_offset=0]), x.dim_size(0))
        var before = rebind[Floats](residual.unsafe_ptr())
        var after = rebind[Floats](y.unsafe_ptr())
        for i in range(count * layer.outputs):
            after[unsafe_offset=i] = before[unsafe_offset=i]
        var input = rebind[Floats](x.unsafe_ptr())
        project_rows[WEIGHT, False, ADD, WIDTH, HANDS](layer, input, input, after, count)
