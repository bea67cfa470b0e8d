"""How many segments the Triton kernels cut a sequence into: a model of the time it takes, by shape and GPU alone."""

from __future__ import annotations

MOST = 64  # segments of a sequence
SCHEDULERS = 4  # of a multiprocessor, each running one warp at a time
# In steps of one exponential a state: README.md says where they come from.
FORWARD, BACKWARD, STATES = 1, 3, 1  # a step of the forward, of the backward, and of a segment scanned from zero
CARRY = 4  # to carry a state over one segment
LAUNCH = 64  # of one more kernel


def segment_steps(l: int, programs: int, warps: int, multiprocessors: int, chunk: int, step: int) -> int:
    """Steps of a segment: a multiple of `chunk`, or all `l` where a GPU is full without cutting.

    Args:
        l: steps of a sequence.
        programs: that there are without cutting, each of so many `warps`.
        step: the cost of one step, FORWARD or BACKWARD.
    """
    side_by_side = multiprocessors * max(SCHEDULERS // warps, 1)
    rounds = lambda segments: -(-programs * segments // side_by_side)
    best, least = l, rounds(1) * l * step
    for segments in (2**i for i in range(1, MOST.bit_length())):
        steps = -(-l // (segments * chunk)) * chunk
        if steps >= l:
            break
        segments = -(-l // steps)
        cost = (rounds(segments) * step + rounds(segments - 1) * STATES) * steps + segments * CARRY + LAUNCH
        if cost < least:
            best, least = steps, cost
    return best
