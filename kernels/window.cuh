// Windows that move over images.
#pragma once
#include "strided.cuh"

namespace {

// Division of 64-bit numbers, which is slow and hardly ever needed, by way of 32 bits where they suffice.
__device__ __forceinline__ uint64_t divide(uint64_t a, uint64_t b) { return (a | b) >> 32 ? a / b : uint32_t(a) / uint32_t(b); }

// Element `index` of planes of `size` (height, width) that follow each other.
struct Place {
  uint64_t plane, at[2];  // row, column
  __device__ __forceinline__ Place(uint64_t index, const uint64_t (&size)[2]) {
    const uint64_t row = divide(index, size[1]);
    at[1] = index - row * size[1];
    plane = divide(row, size[0]);
    at[0] = row - plane * size[0];
  }
};

}  // namespace
