"""The two ends of a pass: tokens to numbers, and logits to the next token and the rows of the next pass.

`counts` int32 [3]: rows to compute, tokens chosen so far, most tokens wanted. Rows that are finished are taken out;
those that go on stand first.
"""

from std.math import exp, log
from extensibility import InputTensor, OutputTensor, register
from .packed import element
from .vectors import F32, I32, LOWEST, Floats, Ints, Lanes, MutableTensor, load

comptime WANTED = 1  # in a row's last number: choose a token after it
comptime START = 2  # it is start-of-transcript


@register("captiond_embed")
struct Embed:
    """`y` [R, E] = embedding of each row's token (packed, the output layer's weights) + that of its position.

    Raises where a token or position is not in its table.
    """

    @staticmethod
    def execute[
        target: StaticString, WEIGHT: DType
    ](
        y: OutputTensor[dtype=F32, rank=2, ...],
        rows: InputTensor[dtype=I32, rank=2, ...],
        counts: InputTensor[dtype=I32, rank=1, ...],
        weights: InputTensor[dtype=WEIGHT, rank=4, ...],
        scales: InputTensor[dtype=F32, rank=1, ...],
        places: InputTensor[dtype=F32, rank=2, ...],
    ) raises:
        var count = min(Int(counts.unsafe_ptr()[unsafe_offset=0]), rows.dim_size(0))
        var width = y.dim_size(1)
        var row = rebind[Ints](rows.unsafe_ptr())
        var words = rebind[Ints](weights.unsafe_ptr().unsafe_bitcast[Int32]())
        var scale = rebind[Floats](scales.unsafe_ptr())
        var place = rebind[Floats](places.unsafe_ptr())
        var out = rebind[Floats](y.unsafe_ptr())
        for r in range(count):
            var token = Int(row[unsafe_offset = 4 * r])
            var position = Int(row[unsafe_offset = 4 * r + 2])
            if token < 0 or token >= scales.dim_size(0) or position < 0 or position >= places.dim_size(0):
                raise Error("a row's token or position is outside its table")
            for i in range(width):
                var number = element[WEIGHT](words, scale, token, i, width)
                out[unsafe_offset = r * width + i] = number + place[unsafe_offset = position * width + i]


@register("captiond_wanted")
struct Wanted:
    """The rows of a prompt pass that the output layer needs: `x` [R, E] to `y` [2 B, E].

    Row `slot` of `y` is the slot's wanted row, row `B + slot` its start-of-transcript. `next` [B, 4] are the wanted
    rows themselves; `all` [1] counts the rows of `y`, B where no row is a start. Raises where a slot is not below B.
    """

    @staticmethod
    def execute[
        target: StaticString, WIDTH: Int
    ](
        y: OutputTensor[dtype=F32, rank=2, ...],
        next: OutputTensor[dtype=I32, rank=2, ...],
        all: OutputTensor[dtype=I32, rank=1, ...],
        x: InputTensor[dtype=F32, rank=2, ...],
        rows: InputTensor[dtype=I32, rank=2, ...],
    ) raises:
        var slots = next.dim_size(0)
        var width = x.dim_size(1)
        var row = rebind[Ints](rows.unsafe_ptr())
        var source = rebind[Floats](x.unsafe_ptr())
        var out = rebind[Floats](y.unsafe_ptr())
        var kept = rebind[Ints](next.unsafe_ptr())
        for i in range(2 * slots * width):
            out[unsafe_offset=i] = 0
        for i in range(4 * slots):
            kept[unsafe_offset=i] = 0
        var wanted = slots
        for r in range(rows.dim_size(0)):
            var slot = Int(row[unsafe_offset = 4 * r + 1])
            var wants = row[unsafe_offset = 4 * r + 3]
            if wants & START:
                wanted = 2 * slots
            if slot < 0 or slot >= slots:
                raise Error("a row's slot is not below the number of slots")
            for i in range(width):
                var number = source[unsafe_offset = r * width + i]
                if wants & WANTED:
                    out[unsafe_offset = slot * width + i] = number
                if wants & START:
                    out[unsafe_offset = (slots + slot) * width + i] = number
            if wants & WANTED:
                for i in range(4):
                    kept[unsafe_offset = 4 * slot + i] = row[unsafe_offset = 4 * r + i]
        all.unsafe_ptr()[unsafe_offset=0] = Int32(wanted)


@always_inline
def masked[FIRST: Bool, WIDTH: Int](logits: Floats, always: Floats, first: Floats, at: Int) -> Lanes[WIDTH]:
    var value = load[WIDTH](logits, at) + load[WIDTH](always, at)
    comptime if FIRST:
        value += load[WIDTH](first, at)
    return value


def likeliest[
    FIRST: Bool, WIDTH: Int
](logits: Floats, always: Floats, first: Floats, vocabulary: Int) -> Tuple[Int, Float32]:
    """The first of the largest of masked logits, and its log-probability."""
    var whole = vocabulary - vocabulary % WIDTH
    var largest = Lanes[WIDTH](LOWEST)
    for i in range(0, whole, WIDTH):
        largest = max(largest, masked[FIRST, WIDTH](logits, always, first, i))
    var most = largest.reduce_max()
    for i in range(whole, vocabulary):
        most = max(most, masked[FIRST, 1](logits, always, first, i)[0])
    var sums = Lanes[WIDTH](0)
    for i in range(0, whole, WIDTH):
        sums += exp(masked[FIRST, WIDTH](logits, always, first, i) - most)
    var sum = sums.reduce_add()
    var token = -1
    for i in range(whole, vocabulary):
        sum += exp(masked[FIRST, 1](logits, always, first, i)[0] - most)
    for i in range(0, whole, WIDTH):
        if masked[FIRST, WIDTH](logits, always, first, i).reduce_max() >= most:
            for lane in range(i, i + WIDTH):
                if token < 0 and masked[FIRST, 1](logits, always, first, lane)[0] >= most:
                    token = lane
            break
    for i in range(whole, vocabulary):
        if token < 0 and masked[FIRST, 1](logits, always, first, i)[0] >= most:
            token = i
    return (max(token, 0), -log(sum))


@register("captiond_choose")
struct Choose:
    """Takes each row's likeliest token, keeps it and its log-probability, and gives the rows of the next pass.

    Row i of `logits` [B, V] belongs to row i of `rows`; `end` [1] is end-of-text. `tokens` and `log_probabilities`
    [B, T] are written at (slot, tokens chosen so far); `sums` [B] add log-probabilities by slot.
    """

    @staticmethod
    def execute[
        target: StaticString, FIRST: Int, WIDTH: Int
    ](
        next: OutputTensor[dtype=I32, rank=2, ...],
        next_counts: OutputTensor[dtype=I32, rank=1, ...],
        next_sums: OutputTensor[dtype=F32, rank=1, ...],
        logits: InputTensor[dtype=F32, rank=2, ...],
        always: InputTensor[dtype=F32, rank=1, ...],
        first: InputTensor[dtype=F32, rank=1, ...],
        end: InputTensor[dtype=I32, rank=1, ...],
        rows: InputTensor[dtype=I32, rank=2, ...],
        counts: InputTensor[dtype=I32, rank=1, ...],
        sums: InputTensor[dtype=F32, rank=1, ...],
        tokens: MutableTensor[dtype=DType.int64, rank=2, ...],
        log_probabilities: MutableTensor[dtype=F32, rank=2, ...],
    ) raises:
        var count = min(Int(counts.unsafe_ptr()[unsafe_offset=0]), rows.dim_size(0))
        var step = Int(counts.unsafe_ptr()[unsafe_offset=1])
        var most = counts.unsafe_ptr()[unsafe_offset=2]
        var slots = tokens.dim_size(0)
        var context = tokens.dim_size(1)
        var vocabulary = logits.dim_size(1)
        if step < 0 or step >= context:
            raise Error("more tokens than the text context holds")
        for slot in range(slots):
            next_sums.unsafe_ptr()[unsafe_offset=slot] = sums.unsafe_ptr()[unsafe_offset=slot]
        var going_on = 0
        var row = rebind[Ints](rows.unsafe_ptr())
        var kept = rebind[Ints](next.unsafe_ptr())
        for r in range(count):
            var found = likeliest[FIRST == 1, WIDTH](
                rebind[Floats](logits.unsafe_ptr()).unsafe_offset(r * vocabulary),
                rebind[Floats](always.unsafe_ptr()),
                rebind[Floats](first.unsafe_ptr()),
                vocabulary,
            )
            var slot = Int(row[unsafe_offset = 4 * r + 1])
            if slot < 0 or slot >= slots:
                raise Error("a row's slot is not below the number of slots")
            tokens.unsafe_ptr()[unsafe_offset = slot * context + step] = Int64(found[0])
            log_probabilities.unsafe_ptr()[unsafe_offset = slot * context + step] = found[1]
            next_sums.unsafe_ptr()[unsafe_offset=slot] += found[1]
            if Int32(found[0]) != end.unsafe_ptr()[unsafe_offset=0]:
                kept[unsafe_offset = 4 * going_on] = Int32(found[0])
                kept[unsafe_offset = 4 * going_on + 1] = Int32(slot)
                kept[unsafe_offset = 4 * going_on + 2] = row[unsafe_offset = 4 * r + 2] + 1
                kept[unsafe_offset = 4 * going_on + 3] = WANTED
                going_on += 1
        for i in range(4 * going_on, 4 * rows.dim_size(0)):
            kept[unsafe_offset=i] = 0
        next_counts.unsafe_ptr()[unsafe_offset=0] = Int32(going_on) if Int32(step + 1) < most else 0
        next_counts.unsafe_ptr()[unsafe_offset=1] = Int32(step + 1)
        next_counts.unsafe_ptr()[unsafe_offset=2] = most


@register("captiond_probability")
struct Probability:
    """`y` [B, 1] = softmax(logits)[token], for the second B rows of `logits` [2 B, V]; `token` [1].

    0 where only B rows were computed (`counts` [1]): there was no start-of-transcript.
    """

    @staticmethod
    def execute[
        target: StaticString, WIDTH: Int
    ](
        y: OutputTensor[dtype=F32, rank=2, ...],
        logits: InputTensor[dtype=F32, rank=2, ...],
        counts: InputTensor[dtype=I32, rank=1, ...],
        token: InputTensor[dtype=I32, rank=1, ...],
    ) raises:
        var vocabulary = logits.dim_size(1)
        var chosen = Int(token.unsafe_ptr()[unsafe_offset=0])
        if chosen < 0 or chosen >= vocabulary or logits.dim_size(0) != 2 * y.dim_size(0):
            raise Error("a token is outside the vocabulary, or logits are not two a slot")
        var slots = y.dim_size(0)
        var started = Int(counts.unsafe_ptr()[unsafe_offset=0]) == 2 * slots
        for r in range(slots):
            if not started:
                y.unsafe_ptr()[unsafe_offset=r] = 0
                continue
            var row = rebind[Floats](logits.unsafe_ptr()).unsafe_offset((slots + r) * vocabulary)
            var whole = vocabulary - vocabulary % WIDTH
            var largest = Lanes[WIDTH](LOWEST)
            for i in range(0, whole, WIDTH):
                largest = max(largest, load[WIDTH](row, i))
            var most = largest.reduce_max()
            for i in range(whole, vocabulary):
                most = max(most, row[unsafe_offset=i])
            var sums = Lanes[WIDTH](0)
            for i in range(0, whole, WIDTH):
                sums += exp(load[WIDTH](row, i) - most)
            var sum = sums.reduce_add()
            for i in range(whole, vocabulary):
                sum += exp(row[unsafe_offset=i] - most)
            y.unsafe_ptr()[unsafe_offset=r] = exp(row[unsafe_offset=chosen] - most) / sum
