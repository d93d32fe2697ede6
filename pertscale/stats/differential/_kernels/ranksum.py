"""The rank-sum test of many perturbations against one set of controls.

Arrays only; nothing here knows of stores, names or Dask.

The value that is ranked is the *key* of a cell: count / total for counts, the value itself for
log-normalised input. For counts one division of two integers is rounded once, and two different
quotients differ by more than that rounding as long as count x total < ``EXACT_BELOW``, which the
caller has to see to. So two cells tie if and only if count1 * total2 == count2 * total1, and
the order is that of log1p(1e4 * count / total) in exact arithmetic.

The controls of a gene are sorted once, into a ``ControlTable`` (``cpu.py``): distinct non-zero
keys, how many controls lie below each, and buckets on the leading bits of the key with less than
one distinct value each. A perturbed cell then costs one look-up, however many controls there are.
Zeros are one group of ties, handled by formula.

Ties among the perturbed cells of a group are rare, so a bit per key filters them: only a key whose
bit is set already is a *suspect*, and only suspects are counted. Sums of ties are exact: a further
copy of a value that n cells already have adds 3 n (n + 1) to the sum of t**3 - t.

Inner loops index with unsigned integers (numba adds a test for negative ones) and do not branch
on values: half of the entries are zero, at random, and a mispredicted branch costs more than the
rest of a look-up.
"""

from __future__ import annotations

import math

import numpy as np

from pertscale._jit import inline, jit
from pertscale.stats.differential._kernels.kernel import MANN_WHITNEY, SCANPY_TIE

#: Up to this many cells the sum of t**3 - t fits an int64; beyond, float64 is used.
EXACT_TIES_UP_TO = 2_000_000
#: A gene's table is given a second bucket per key as long as it stays in a core's cache with it.
FINE_BUCKETS_UP_TO = 16_384
_U = np.uint64
_HASH = np.uint64(0x9E3779B97F4A7C15)
_SMALL = 16  # a stretch of values that is sorted, and searched, one by one
_FEW = 16  # suspects that are compared with all keys before them
_BLOCK = 64  # keys whose (1 + 1e4 key) are multiplied: at most (1 + 1e4)**64 < 1e257
_HUGE = 1e300


# --- keys ---------------------------------------------------------------------------------


@inline
def _compress(row, totals, lo, hi, is_counts, index, keys, n):
    """Append the keys of the non-zero cells lo..hi of a gene to keys[n:]; return the new n."""
    first = n
    for i in range(_U(lo), _U(hi)):
        index[_U(n)] = i
        n += np.int64(row[i] != 0)
    if is_counts:
        for j in range(_U(first), _U(n)):
            cell = _U(index[j])
            keys[j] = row[cell] / totals[cell]
    else:
        for j in range(_U(first), _U(n)):
            keys[j] = row[_U(index[j])]
    return n


@inline
def _sums_of_counts(keys, lo, hi):
    """Sum normalised and log1p values over keys[lo:hi].

    Four running sums, combined at the end, and one logarithm for a block of keys: the logarithm
    of their product. The order depends on the group alone.
    """
    s0 = s1 = s2 = s3 = logs = 0.0
    for start in range(lo, hi, _BLOCK):
        stop = min(start + _BLOCK, hi)
        p0 = p1 = p2 = p3 = 1.0
        j = start
        while j + 4 <= stop:
            k0, k1, k2, k3 = keys[_U(j)], keys[_U(j + 1)], keys[_U(j + 2)], keys[_U(j + 3)]
            s0 += k0
            s1 += k1
            s2 += k2
            s3 += k3
            p0 *= 1.0 + 1e4 * k0
            p1 *= 1.0 + 1e4 * k1
            p2 *= 1.0 + 1e4 * k2
            p3 *= 1.0 + 1e4 * k3
            j += 4
        while j < stop:
            s0 += keys[_U(j)]
            p0 *= 1.0 + 1e4 * keys[_U(j)]
            j += 1
        product = (p0 * p1) * (p2 * p3)
        if product < _HUGE:
            logs += math.log(product)
        else:  # totals from outside may be smaller than the counts
            for i in range(start, stop):
                logs += math.log1p(1e4 * keys[i])
    return 1e4 * ((s0 + s1) + (s2 + s3)), logs


@inline
def _sums_of_logs(keys, lo, hi):
    """Return what :func:`_sums_of_counts` does, for values that are log1p already."""
    total = logs = 0.0
    for j in range(_U(lo), _U(hi)):
        total += math.expm1(keys[j])
        logs += keys[j]
    return total, logs


@inline
def _sums(keys, lo, hi, is_counts):
    if is_counts:
        return _sums_of_counts(keys, lo, hi)
    return _sums_of_logs(keys, lo, hi)


# --- the controls -------------------------------------------------------------------------


@inline
def _bucket_of(bits, base, shift, last):
    """Bucket of a key from its bits: positive floats are ordered as their bits are."""
    b = (bits >> shift) - base
    if b < 0:
        b = np.int64(0)
    return min(b, last)


@jit
def _bucket_shift(keys, bits, n):
    """Choose buckets for n keys: leading bits of the smallest, bits to ignore, their number."""
    low = bits[0]
    high = bits[0]
    for i in range(1, n):
        low = min(low, bits[i])
        high = max(high, bits[i])
    wanted = 2 * n if n <= FINE_BUCKETS_UP_TO else n
    shift = np.int64(52)
    while shift > 0 and ((high >> shift) - (low >> shift)) < wanted:
        shift -= 1
    return low >> shift, shift, (high >> shift) - (low >> shift) + 1


@inline
def _insertion_sort(values, start, stop):
    for i in range(start + 1, stop):
        value = values[_U(i)]
        j = i - 1
        while j >= start and values[_U(j)] > value:
            values[_U(j + 1)] = values[_U(j)]
            j -= 1
        values[_U(j + 1)] = value


@jit
def _merge_sort(values, start, stop, spare):
    """Sort values[start:stop]; `spare` is overwritten. Numba's own sort takes seconds to compile.

    Runs that are in order already, as equal values are, are not merged.
    """
    for low in range(start, stop, _SMALL):
        _insertion_sort(values, low, min(low + _SMALL, stop))
    width = _SMALL
    while width < stop - start:
        for low in range(start, stop - width, 2 * width):
            middle, high = low + width, min(low + 2 * width, stop)
            if values[_U(middle - 1)] <= values[_U(middle)]:
                continue
            for i in range(_U(low), _U(middle)):
                spare[i] = values[i]
            left, right, to = low, middle, low
            while left < middle and right < high:
                a, b = spare[_U(left)], values[_U(right)]
                first = a <= b
                values[_U(to)] = a if first else b
                left += first
                right += not first
                to += 1
            while left < middle:
                values[_U(to)] = spare[_U(left)]
                left += 1
                to += 1
        width *= 2


@jit
def _sort_into_buckets(keys, bits, n, base, shift, n_buckets, ordered, bucket):
    """Sort keys[:n] into ordered[:n]: by bucket, then inside of each; `keys` is overwritten."""
    last = n_buckets - 1
    bucket[: n_buckets + 1] = 0
    for i in range(_U(n)):
        bucket[_U(_bucket_of(bits[i], base, shift, last) + 1)] += 1
    for b in range(_U(n_buckets)):
        bucket[b + _U(1)] += bucket[b]
    for i in range(_U(n)):
        into = _U(_bucket_of(bits[i], base, shift, last))
        ordered[_U(bucket[into])] = keys[i]
        bucket[into] += 1
    start = np.int64(0)  # a literal would compile what is called once more
    for b in range(_U(n_buckets)):
        stop = bucket[b]  # the scatter has moved it to the end of the bucket
        if stop - start > _SMALL:
            _merge_sort(ordered, start, stop, keys)
        else:
            _insertion_sort(ordered, start, stop)
        start = stop


@jit
def _distinct(ordered, n, base, shift, n_buckets, value, below, bucket):
    """Fill one gene's stretch of the table from its n sorted keys.

    Returns their number, the sum of t**3 - t, exact and as float, and whether a bucket has many.
    """
    bits = ordered.view(np.int64)
    last = n_buckets - 1
    d = 0
    clustered = False
    next_bucket = 0
    tie_exact = np.int64(0)
    tie_float = 0.0
    i = 0
    while i < n:
        key = ordered[_U(i)]
        j = i + 1
        while j < n and ordered[_U(j)] == key:
            j += 1
        b = _bucket_of(bits[_U(i)], base, shift, last)
        while next_bucket <= b:
            bucket[_U(next_bucket)] = d
            next_bucket += 1
        clustered |= d - bucket[_U(b)] > _SMALL
        value[_U(d)] = key
        below[_U(d)] = i
        t = np.int64(j - i)
        if t <= EXACT_TIES_UP_TO:
            tie_exact += t * t * t - t
        tie_float += float(t) * float(t) * float(t) - float(t)
        d += 1
        i = j
    while next_bucket <= n_buckets:
        bucket[next_bucket] = d
        next_bucket += 1
    value[d] = np.inf
    below[d] = n
    below[d + 1] = n
    return d, tie_exact, tie_float, clustered


@jit
def sort_controls(block, totals, is_counts, table):
    """Fill a ControlTable, whose arrays are there, from the controls (genes, cells) of a block."""
    n_genes, n_cells = block.shape
    bucket = table.bucket
    index = np.empty(n_cells + 1, np.int32)
    keys = np.empty(n_cells + 1, np.float64)
    ordered = np.empty(n_cells + 1, np.float64)
    bits = keys.view(np.int64)
    table.value_start[0] = table.bucket_start[0] = 0
    for g in range(n_genes):
        # np.int64, not a literal, for which numba would compile all that is called here once more
        n = _compress(block[g], totals, 0, n_cells, is_counts, index, keys, np.int64(0))
        total, logs = _sums(keys, 0, n, is_counts)
        cell = table.statistics[g]
        cell.u_statistic, cell.z, cell.p_value = 0.0, 0.0, 1.0
        cell.sum_normalized, cell.sum_log1p, cell.n_expressed = total, logs, n
        base = shift = np.int64(0)
        n_buckets = np.int64(1)
        v, b = table.value_start[g], table.bucket_start[g]
        if n > 0:
            base, shift, n_buckets = _bucket_shift(keys, bits, n)
            _sort_into_buckets(keys, bits, n, base, shift, n_buckets, ordered, bucket[b:])
        n_distinct, exact, approximate, clustered = _distinct(
            ordered, n, base, shift, n_buckets, table.value[v:], table.below[v:], bucket[b:]
        )
        table.base[g], table.shift[g], table.clustered[g] = base, shift, clustered
        table.tie_exact[g], table.tie_float[g] = exact, approximate
        table.value_start[g + 1] = v + n_distinct + 2
        table.bucket_start[g + 1] = b + n_buckets + 1


# --- the test -----------------------------------------------------------------------------


@inline
def _signed(twice_u, ties, n_group, n_control, variant):
    """Return U and its signed statistic (method B1), as scipy and scanpy calculate it.

    And whether there is one: not if all cells are equal.
    """
    n1 = float(n_group)
    n2 = float(n_control)
    n = n1 + n2
    u = twice_u * 0.5
    if n < 2.0:  # a half of few cells
        return u, 0.0, 0.0, False
    difference = u - n1 * n2 * 0.5
    if variant == MANN_WHITNEY:
        variance = n1 * n2 / 12.0 * ((n + 1.0) - ties / (n * (n - 1.0)))
        gap = abs(difference) - 0.5
    else:
        factor = 1.0 - ties / (n * n * n - n) if variant == SCANPY_TIE else 1.0
        variance = factor * n1 * n2 * (n + 1.0) / 12.0
        gap = abs(difference)
    if not variance > 0.0:
        return u, 0.0, 0.0, False
    distance = gap / math.sqrt(variance)
    z = 0.0
    if difference > 0.0:
        z = distance
    elif difference < 0.0:
        z = -distance
    return u, z, distance, True


@inline
def _finish(twice_u, ties, n_group, n_control, variant):
    """Return U, z and p (method B1)."""
    u, z, distance, differ = _signed(twice_u, ties, n_group, n_control, variant)
    if not differ:
        return u, z, 1.0
    return u, z, min(math.erfc(distance / math.sqrt(2.0)), 1.0)


@inline
def _power_of_two(n):
    """Return the smallest power of two that is at least n."""
    power = np.int64(1)
    while power < n:
        power <<= 1
    return power


@inline
def _find(key, value, v, stop, clustered):
    """First index >= v whose value is not below the key; clustered ones are halved first."""
    if clustered:
        while stop - v > _SMALL:
            middle = (v + stop) >> 1
            if value[middle] < key:
                v = middle
            else:
                stop = middle
    at = _U(v)
    at += _U(value[at] < key)
    at += _U(value[at] < key)
    while value[at] < key:
        at += _U(1)
    return at


@inline
def _look_up(keys, bits, lo, hi, controls, one, seen, suspect, places, equals):
    """Look every key of a group up among the controls: value to clustered of a gene's table.

    Returns twice the non-zero part of U, what the group would add to the sum of t**3 - t if its
    own keys were all different, and how many suspects there are, whose positions `suspect` holds.
    `places` and `equals` get, key by key, the place in the table and the number of controls that
    are equal to it.
    """
    value, below, bucket, base, shift, clustered = controls
    words = _power_of_two((hi - lo + 3) // 4)  # 16 bits a key
    seen[:words] = 0
    mask = _U(64 * words - 1)
    down = _U(shift)
    last = np.int64(len(bucket) - 2)
    twice_u = np.int64(0)
    ties = 0 * one
    n = np.int64(0)
    for j in range(_U(lo), _U(hi)):
        key = keys[j]
        b = max(min(np.int64(bits[j] >> down) - base, last), np.int64(0))
        at = _find(key, value, bucket[_U(b)], bucket[_U(b + 1)], clustered)
        under = np.int64(below[at])
        equal = (np.int64(below[at + _U(1)]) - under) * np.int64(value[at] == key)
        twice_u += 2 * under + equal
        tied = one * equal
        ties += tied * (tied + one)
        h = ((bits[j] * _HASH) >> _U(40)) & mask
        word = seen[h >> _U(6)]
        places[j - _U(lo)] = at
        equals[j - _U(lo)] = equal
        suspect[_U(n)] = j
        n += np.int64((word >> (h & _U(63))) & _U(1))
        seen[h >> _U(6)] = word | (_U(1) << (h & _U(63)))
    return twice_u, 3 * ties, n


@inline
def _ties_of_few(keys, lo, suspect, equals, n, one):
    """Correct the sum of t**3 - t for the keys that a group has more than once, one by one."""
    more = 0 * one
    for s in range(n):
        key = keys[_U(suspect[s])]
        copies = np.int64(0)
        for j in range(_U(lo), _U(suspect[s])):
            copies += np.int64(keys[j] == key)
        tied = one * equals[_U(suspect[s] - lo)]
        both = tied + one * copies
        more += both * (both + one) - tied * (tied + one)
    return 3 * more


@jit
def _ties_of_many(keys, bits, lo, hi, suspect, equals, n, one, slots):
    """Return what :func:`_ties_of_few` does, with a hash table of the suspects."""
    slot_key, slot_equal, slot_count = slots
    size = _power_of_two(4 * n)
    mask = _U(size - 1)
    slot_count[:size] = -1
    for s in range(n):
        key = keys[suspect[s]]
        h = (bits[suspect[s]] * _HASH >> _U(32)) & mask
        while slot_count[h] >= 0 and slot_key[h] != key:
            h = (h + _U(1)) & mask
        slot_key[h] = key
        slot_equal[h] = equals[suspect[s] - lo]
        slot_count[h] = 0
    for j in range(lo, hi):
        h = (bits[_U(j)] * _HASH >> _U(32)) & mask
        while slot_count[h] >= 0:
            if slot_key[h] == keys[_U(j)]:
                slot_count[h] += 1
                break
            h = (h + _U(1)) & mask
    more = 0 * one
    for h in range(size):
        if slot_count[h] > 1:
            tied = one * slot_equal[h]
            t = one * slot_count[h]
            # t copies joined `tied` controls; each was counted as if it were the first
            both = tied + t
            more += (both * both * both - both) - (tied * tied * tied - tied)
            more -= 3 * t * tied * (tied + one)
    return more


@inline
def _touch(value, below, bucket):
    """Read a gene's table from end to end, one number a cache line.

    Memory delivers it in order many times as fast as the look-ups would ask for it.
    """
    total = np.int64(0)
    for i in range(0, len(value), 8):
        total += np.int64(value[_U(i)] > 1.0)
    for i in range(0, len(below), 16):
        total += below[_U(i)]
    for i in range(0, len(bucket), 16):
        total += bucket[_U(i)]
    return total


@inline
def _scratch(bounds):
    """Return memory for look-ups, filters and hash tables of the largest of some groups."""
    largest = np.int64(0)
    for q in range(len(bounds) - 1):
        largest = max(largest, bounds[q + 1] - bounds[q])
    seen = np.empty(_power_of_two((largest + 3) // 4), np.uint64)
    suspect = np.empty(largest + 1, np.int32)
    places = np.empty(largest + 1, np.int32)
    equals = np.empty(largest + 1, np.int32)
    n = _power_of_two(4 * largest)
    slots = np.empty(n), np.empty(n, np.int32), np.empty(n, np.int32)
    return seen, suspect, places, equals, slots


@inline
def _with_zeros(twice_u, ties, nonzero, n_group, control_zeros, control_ties, one):
    """Add what zeros, and ties among the controls, are to twice U and to the sum of t**3 - t."""
    zeros = n_group - nonzero
    twice_u += (zeros + 2 * nonzero) * control_zeros
    tied = one * (zeros + control_zeros)
    return twice_u, ties + (control_ties + (tied * tied * tied - tied))


@inline
def _rank_sum(keys, bits, lo, hi, n_group, controls, control_zeros, control_ties, one, scratch):
    """Return twice the U of a group of cells, the sum of t**3 - t, and the number of suspects.

    ``keys[lo:hi]`` are those that are not zero. `controls` are as for :func:`_look_up`, and
    `control_ties` is their own sum of t**3 - t.
    """
    seen, suspect, places, equals, slots = scratch
    twice_u, ties, n = _look_up(keys, bits, lo, hi, controls, one, seen, suspect, places, equals)
    if n <= _FEW:
        ties += _ties_of_few(keys, lo, suspect, equals, n, one)
    else:
        ties += _ties_of_many(keys, bits, lo, hi, suspect, equals, n, one, slots)
    twice_u, ties = _with_zeros(twice_u, ties, hi - lo, n_group, control_zeros, control_ties, one)
    return twice_u, ties, n


@inline
def _of_gene(table, g):
    """Return a gene's stretch of the controls' table, as it is looked up, and its zeros."""
    first, last = table.value_start[g], table.value_start[g + 1]
    bucket = table.bucket[table.bucket_start[g] : table.bucket_start[g + 1]]
    value, below = table.value[first:last], table.below[first:last]
    controls = value, below, bucket, table.base[g], table.shift[g], table.clustered[g]
    return controls, table.n_control - np.int64(table.statistics[g].n_expressed)


@jit
def rank_groups(block, totals, is_counts, bounds, table, control_ties, one, variant, out):
    """Fill the statistics (groups, genes) of the cells of a block; see ``RankSumKernel.test``.

    `control_ties` are those of the table as integers or as floats, and `one` is 1 of that type.
    """
    n_genes, n_cells = block.shape
    n_groups = len(bounds) - 1
    index = np.empty(n_cells + 1, np.int32)
    keys = np.empty(n_cells + 1, np.float64)
    bits = keys.view(np.uint64)
    ends = np.zeros(n_groups + 1, np.int64)
    scratch = _scratch(bounds)
    touched = np.int64(0)
    for g in range(n_genes):
        for q in range(n_groups):
            ends[q + 1] = _compress(
                block[g], totals, bounds[q], bounds[q + 1], is_counts, index, keys, ends[q]
            )
        controls, control_zeros = _of_gene(table, g)
        touched += _touch(controls[0], controls[1], controls[2])
        for q in range(n_groups):
            lo, hi = ends[q], ends[q + 1]
            n_group = bounds[q + 1] - bounds[q]
            twice_u, ties, _ = _rank_sum(
                keys, bits, lo, hi, n_group, controls, control_zeros, control_ties[g], one, scratch
            )
            total, logs = _sums(keys, lo, hi, is_counts)
            cell = out[q, g]
            cell.u_statistic, cell.z, cell.p_value = _finish(
                float(twice_u), float(ties), n_group, table.n_control, variant
            )
            cell.sum_log1p = logs
            cell.sum_normalized = total
            cell.n_expressed = hi - lo
    return touched  # so that it is not optimised away
