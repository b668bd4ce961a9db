"""How long a partition made no progress while nobody kept its owner from it. Pure: times in, times out (seconds).

Moved at 1 and 20 of 30 s; `a` owned it first, and was in a fault from 5 to 8; then `b`, in a fault from 9 to 12:

>>> stretches([1, 20], [(0, "a"), (10, "b")], {"a": [(5, 8)], "b": [(9, 12)]}, (0, 30))
[(0, 1), (1, 5), (8, 10), (12, 20), (20, 30)]
>>> stretches([], [(0, "a"), (10, None)], {"a": [], "b": [(9, 12)]}, (0, 30))
[(0, 10), (12, 30)]
"""


def minus(span, holes):
    """What is left of a span without the holes."""
    begin, end = span
    left = []
    for hole_begin, hole_end in sorted(holes):
        if hole_begin > begin:
            left.append((begin, min(hole_begin, end)))
        begin = max(begin, hole_end)
        if begin >= end:
            break
    else:
        left.append((begin, end))
    return [(begin, end) for begin, end in left if begin < end]


def owners_in(span, owners):
    """The span in pieces of one owner each. `owners` is [(from when, whom)], in order; before the first it is nobody."""
    begin, end = span
    changes = [(at, owner) for at, owner in owners if at < end]
    earlier = [owner for at, owner in changes if at <= begin]
    pieces = [(begin, earlier[-1] if earlier else None)] + [(at, owner) for at, owner in changes if at > begin]
    ends = [at for at, _ in pieces[1:]] + [end]
    return [(at, until, owner) for (at, owner), until in zip(pieces, ends)]


def stretches(commits, owners, faults, window):
    """Spans of the window in which a partition made no progress and no fault of its owner excused it.

    `commits`: when the partition moved. `faults`: by process, when it was in a fault. A partition that nobody owns waits
    for the group, and the group for whoever is in a fault: any of them excuses it.
    """
    begin, end = window
    moved = [begin] + sorted(at for at in commits if begin < at < end) + [end]
    of_all = [fault for of_one in faults.values() for fault in of_one]
    found = []
    for gap in zip(moved, moved[1:]):
        open_end = None
        for piece_begin, piece_end, owner in owners_in(gap, owners):
            for left_begin, left_end in minus((piece_begin, piece_end), of_all if owner is None else faults[owner]):
                if open_end == left_begin:
                    found[-1] = (found[-1][0], left_end)
                else:
                    found.append((left_begin, left_end))
                open_end = left_end
    return found
