"""Operands that every language can make with the same bits: as benches/cases/operands.rs makes them."""
import math

import numpy as np

POOL = 8  # batches in memory, used in turn
TURNS = 11  # sets of operands at most, and runs that are timed together: as benches/cuda


def values(shape, salt, scale=1.0):
    h = (np.arange(math.prod(shape), dtype=np.uint64) + np.uint64(salt << 32)) * np.uint64(0x9E3779B97F4A7C15)
    h = (h ^ (h >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)
    return ((h >> np.uint64(40)).astype(np.float32) / np.float32(2**23) - np.float32(1)).reshape(shape) * np.float32(scale)


def labels(count, classes, salt):
    return ((values((count,), salt) + np.float32(1)) * np.float32(0.5) * np.float32(classes)).astype(np.int64)
