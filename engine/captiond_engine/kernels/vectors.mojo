"""Memory as the kernels see it: bare pointers, WIDTH lanes of 32 bits at a time. Layer norm; rounding to 8 bits."""

from std.math import sqrt
from extensibility import IOSpec, ManagedTensorSlice

comptime F32 = DType.float32
comptime I32 = DType.int32
comptime Floats = Pointer[Float32, MutUntrackedOrigin]
comptime Ints = Pointer[Int32, MutUntrackedOrigin]
comptime Lanes[WIDTH: Int] = SIMD[F32, WIDTH]
comptime IntLanes[WIDTH: Int] = SIMD[I32, WIDTH]
# A buffer that the caller owns and an operation writes to.
comptime MutableTensor = ManagedTensorSlice[IOSpec[_, _].MutableInput, static_spec=_]

# Memory gives each core so many bytes a second, and two cores twice as many. With HANDS = 2, work that reads this many
# bytes or more is shared by two threads; for less, waking the other one costs more than it brings.
comptime SHARED_FROM = 1 << 22
comptime EPSILON = Float32(1e-5)
comptime LOWEST = Float32(-3.0e38)


@always_inline
def load[WIDTH: Int](memory: Floats, at: Int) -> Lanes[WIDTH]:
    return memory.unsafe_load[width=WIDTH](at)


@always_inline
def store[WIDTH: Int](memory: Floats, at: Int, lanes: Lanes[WIDTH]):
    memory.unsafe_store(at, lanes)


def layer_norm[WIDTH: Int](x: Floats, scale: Floats, shift: Floats, y: Floats, count: Int):
    """`y` is `x` with mean 0 and variance 1, scaled and shifted; `count` is a multiple of 64."""
    var sum = Lanes[WIDTH](0)
    for i in range(0, count, WIDTH):
        sum += load[WIDTH](x, i)
    var mean = sum.reduce_add() / Float32(count)
    var squares = Lanes[WIDTH](0)
    for i in range(0, count, WIDTH):
        var centred = load[WIDTH](x, i) - mean
        squares = centred.fma(centred, squares)
    var inverse = 1 / sqrt(squares.reduce_add() / Float32(count) + EPSILON)
    for i in range(0, count, WIDTH):
        var centred = (load[WIDTH](x, i) - mean) * inverse
        store(y, i, centred.fma(load[WIDTH](scale, i), load[WIDTH](shift, i)))


def quantise[WIDTH: Int](x: Floats, bytes: Pointer[Int8, MutUntrackedOrigin], count: Int) -> Tuple[Float32, Float32]:
    """Round `x` to signed bytes of one scale. Gives that scale, and 128 times the sum of the bytes."""
    var largest = Lanes[WIDTH](0)
    for i in range(0, count, WIDTH):
        largest = max(largest, abs(load[WIDTH](x, i)))
    var most = max(largest.reduce_max(), Float32(1e-20))
    var inverse = Float32(127) / most
    var sum = IntLanes[WIDTH](0)
    for i in range(0, count, WIDTH):
        var whole = round(load[WIDTH](x, i) * inverse).cast[I32]()
        sum += whole
        bytes.unsafe_store(i, whole.cast[DType.int8]())
    return (most / 127, Float32(128 * sum.reduce_add()))
