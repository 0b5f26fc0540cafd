"""Attention of rows, one query at a time: to their slot's cached positions, or to what its seat heard.

Keys and values lie as [slots or seats, heads, positions, 64], as the encoder graph leaves them: one position of one head
is 64 numbers, so both products read memory in order and need no packing.
"""

from std.math import exp
from std.memory.alloc import unsafe_alloc
from std.sys import size_of
from max.algorithm.backend.cpu.parallelize import sync_parallelize
from extensibility import InputTensor, OutputTensor, register
from .vectors import F32, I32, LOWEST, SHARED_FROM, Floats, Ints, Lanes, MutableTensor, load, store

comptime HEAD = 64  # numbers of one head, in every Whisper
comptime ALL = -1
comptime SCALE = Float32(0.125)  # 1 / sqrt(HEAD)


def attend[
    KEPT: DType, WIDTH: Int
](
    query: Floats,
    keys: Pointer[Scalar[KEPT], MutUntrackedOrigin],
    values: Pointer[Scalar[KEPT], MutUntrackedOrigin],
    positions: Int,
    scores: Floats,
    y: Floats,
) -> Float32:
    """`y` [64] = softmax(query keys^T / 8) values over `positions`.

    `scores` has room for them rounded up to WIDTH; times the number that is returned they are the softmax.
    """
    comptime PARTS = HEAD // WIDTH
    var q = Array[Lanes[WIDTH], PARTS](fill=Lanes[WIDTH](0))
    comptime for part in range(PARTS):
        q[part] = load[WIDTH](query, part * WIDTH) * SCALE
    var highest = LOWEST
    for position in range(positions):
        var sum = Lanes[WIDTH](0)
        comptime for part in range(PARTS):
            var k = keys.unsafe_load[width=WIDTH](position * HEAD + part * WIDTH).cast[F32]()
            sum = k.fma(q[part], sum)
        var score = sum.reduce_add()
        highest = max(highest, score)
        scores[unsafe_offset=position] = score
    var end = (positions + WIDTH - 1) // WIDTH * WIDTH
    for position in range(positions, end):
        scores[unsafe_offset=position] = LOWEST
    var total = Lanes[WIDTH](0)
    for position in range(0, end, WIDTH):
        var weight = exp(load[WIDTH](scores, position) - highest)
        total += weight
        store(scores, position, weight)
    var mixed = Array[Lanes[WIDTH], PARTS](fill=Lanes[WIDTH](0))
    for position in range(positions):
        var weight = Lanes[WIDTH](scores[unsafe_offset=position])
        comptime for part in range(PARTS):
            var v = values.unsafe_load[width=WIDTH](position * HEAD + part * WIDTH).cast[F32]()
            mixed[part] = v.fma(weight, mixed[part])
    var share = 1 / total.reduce_add()
    comptime for part in range(PARTS):
        store(y, part * WIDTH, mixed[part] * share)
    return share


@register("captiond_self_attention")
struct SelfAttention:
    """Writes keys and values of all rows to their slots, then attends to positions up to each row's own.

    `qkv` [R, 3 E] to `y` [R, E]. Raises where a slot or position is not in the cache, before it writes.
    """

    @staticmethod
    def execute[
        target: StaticString, WIDTH: Int
    ](
        y: OutputTensor[dtype=F32, rank=2, ...],
        qkv: InputTensor[dtype=F32, rank=2, ...],
        rows: InputTensor[dtype=I32, rank=2, ...],
        counts: InputTensor[dtype=I32, rank=1, ...],
        keys: MutableTensor[dtype=F32, rank=4, ...],
        values: MutableTensor[dtype=F32, rank=4, ...],
    ) raises:
        var count = min(Int(counts.unsafe_ptr()[unsafe_offset=0]), qkv.dim_size(0))
        var slots = keys.dim_size(0)
        var heads = keys.dim_size(1)
        var context = keys.dim_size(2)
        var width = heads * HEAD
        var row = rebind[Ints](rows.unsafe_ptr())
        var q = rebind[Floats](qkv.unsafe_ptr())
        var k = rebind[Floats](keys.unsafe_ptr())
        var v = rebind[Floats](values.unsafe_ptr())
        var out = rebind[Floats](y.unsafe_ptr())
        for r in range(count):
            var slot = Int(row[unsafe_offset = 4 * r + 1])
            var position = Int(row[unsafe_offset = 4 * r + 2])
            if slot < 0 or slot >= slots or position < 0 or position >= context:
                raise Error("a row's slot or position is outside the cache")
        for r in range(count):
            var slot = Int(row[unsafe_offset = 4 * r + 1])
            var position = Int(row[unsafe_offset = 4 * r + 2])
            for head in range(heads):
                var at = ((slot * heads + head) * context + position) * HEAD
                var source = r * 3 * width + head * HEAD
                comptime for part in range(0, HEAD, WIDTH):
                    store(k, at + part, load[WIDTH](q, source + width + part))
                    store(v, at + part, load[WIDTH](q, source + 2 * width + part))
        var scores = unsafe_alloc[Float32](context + WIDTH)
        for head in range(heads):
            for r in range(count):
                var slot = Int(row[unsafe_offset = 4 * r + 1])
                var position = Int(row[unsafe_offset = 4 * r + 2])
                var at = (slot * heads + head) * context * HEAD
                _ = attend[F32, WIDTH](
                    q.unsafe_offset(r * 3 * width + head * HEAD),
                    k.unsafe_offset(at),
                    v.unsafe_offset(at),
                    position + 1,
                    rebind[Floats](scores),
                    out.unsafe_offset(r * width + head * HEAD),
                )
        scores.unsafe_free()


@register("captiond_cross_attention")
struct CrossAttention:
    """Each row attends to what its slot's seat heard; `q` [R, E] to `y` [R, E].

    `seats` [B, 2]: each slot's seat, and the number of positions heard there. Keys and values may be float32 or
    bfloat16. `watched` [H]: where the weights of each head are kept in `attended` [B, T, A, S], at the row's slot and
    position; below 0: nowhere. Raises where a slot or seat is not there, or holds fewer positions.
    """

    @staticmethod
    def execute[
        target: StaticString, KEPT: DType, WIDTH: Int, HANDS: Int
    ](
        y: OutputTensor[dtype=F32, rank=2, ...],
        q: InputTensor[dtype=F32, rank=2, ...],
        rows: InputTensor[dtype=I32, rank=2, ...],
        counts: InputTensor[dtype=I32, rank=1, ...],
        seats: InputTensor[dtype=I32, rank=2, ...],
        watched: InputTensor[dtype=I32, rank=1, ...],
        keys: MutableTensor[dtype=KEPT, rank=4, ...],
        values: MutableTensor[dtype=KEPT, rank=4, ...],
        attended: MutableTensor[dtype=F32, rank=4, ...],
    ) raises:
        var count = min(Int(counts.unsafe_ptr()[unsafe_offset=0]), q.dim_size(0))
        var heads = keys.dim_size(1)
        var room = keys.dim_size(2)
        var row = rebind[Ints](rows.unsafe_ptr())
        var seat = rebind[Ints](seats.unsafe_ptr())
        var heard = 0
        for r in range(count):
            var slot = Int(row[unsafe_offset = 4 * r + 1])
            var position = Int(row[unsafe_offset = 4 * r + 2])
            if slot < 0 or slot >= seats.dim_size(0):
                raise Error("a row's slot has no seat")
            if slot >= attended.dim_size(0) or position < 0 or position >= attended.dim_size(1):
                raise Error("a row's slot or position is outside what keeps its attention")
            var place = Int(seat[unsafe_offset = 2 * slot])
            var positions = Int(seat[unsafe_offset = 2 * slot + 1])
            if place < 0 or place >= keys.dim_size(0) or positions < 1 or positions > room:
                raise Error("a slot's seat is not there, or heard more than fits in it")
            heard += positions
        var kept = attended.dim_size(2)
        for head in range(heads):
            if Int(watched.unsafe_ptr()[unsafe_offset=head]) >= kept or attended.dim_size(3) < room:
                raise Error("a head's attention has no place to be kept")
        var query = rebind[Floats](q.unsafe_ptr())
        var k = rebind[Pointer[Scalar[KEPT], MutUntrackedOrigin]](keys.unsafe_ptr())
        var v = rebind[Pointer[Scalar[KEPT], MutUntrackedOrigin]](values.unsafe_ptr())
        var out = rebind[Floats](y.unsafe_ptr())
        var memory = unsafe_alloc[Float32](2 * (room + WIDTH))
        var scores = rebind[Floats](memory)
        var watch = rebind[Ints](watched.unsafe_ptr())
        var look = rebind[Floats](attended.unsafe_ptr())
        var spans = attended.dim_size(1)
        var span = attended.dim_size(3)

        def some_heads(which: Int) {imm}:
            var first = heads // 2 if which == 1 else 0
            var end = heads // 2 if which == 0 else heads
            for head in range(first, end):  # rows inside: a head's keys and values stay in the core's cache
                for r in range(count):
                    var slot = Int(row[unsafe_offset = 4 * r + 1])
                    var at = (Int(seat[unsafe_offset = 2 * slot]) * heads + head) * room * HEAD
                    var positions = Int(seat[unsafe_offset = 2 * slot + 1])
                    var mine = scores.unsafe_offset(max(which, 0) * (room + WIDTH))
                    var share = attend[KEPT, WIDTH](
                        query.unsafe_offset((r * heads + head) * HEAD),
                        k.unsafe_offset(at),
                        v.unsafe_offset(at),
                        positions,
                        mine,
                        out.unsafe_offset((r * heads + head) * HEAD),
                    )
                    var place = Int(watch[unsafe_offset=head])
                    if place >= 0:
                        var position = Int(row[unsafe_offset = 4 * r + 2])
                        var to = ((slot * spans + position) * kept + place) * span
                        for i in range(positions):
                            look[unsafe_offset = to + i] = mine[unsafe_offset=i] * share

        if HANDS == 2 and heard * heads * HEAD * 2 * size_of[KEPT]() >= SHARED_FROM:
            sync_parallelize(some_heads, 2)
        else:
            some_heads(ALL)
        memory.unsafe_free()
