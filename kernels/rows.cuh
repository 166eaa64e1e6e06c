// Reductions in an order that depends on shapes alone, by lanes of a warp or by a block.
#pragma once
#include "strided.cuh"

namespace {

// index = quotient * length + rest, with 32-bit division where that does.
__device__ __forceinline__ uint64_t divide(uint64_t index, uint64_t length, uint64_t& rest) {
  if ((index | length) >> 32) {
    const uint64_t quotient = index / length;
    rest = index - quotient * length;
    return quotient;
  }
  const uint32_t quotient = uint32_t(index) / uint32_t(length);
  rest = uint32_t(index) - quotient * uint32_t(length);
  return quotient;
}

template <class T>
__device__ __forceinline__ T not_a_number() {
  return T(NAN);
}

// The larger one; NaN if either is.
template <class T>
__device__ __forceinline__ T larger(T a, T b) {
  return a > b || a != a ? a : b;
}

template <class T>
__device__ __forceinline__ T of_lane(T v, uint32_t step) {
  return __shfl_xor_sync(0xffffffffu, v, int(step));
}

// The threads that work on one row: a power of two of neighbouring lanes of a warp, or the whole block, whose size is a multiple of it.
// All threads of a block take part in reductions, also those without a row.
struct Team {
  uint32_t size, rank;
  uint64_t row;

  __device__ __forceinline__ explicit Team(uint32_t size)
      : size(size), rank(threadIdx.x & (size - 1)), row(uint64_t(blockIdx.x) * (blockDim.x / size) + threadIdx.x / size) {}

  // The combination of all members' values, the same in each of them. `combine` is commutative.
  template <class V, class F>
  __device__ __forceinline__ V reduce(V v, F combine) const {
    for (uint32_t step = 1; step < 32 && step < size; step *= 2) v = combine(v, of_lane(v, step));
    if (size > 32) {
      __shared__ V of_warp[32];
      if (threadIdx.x % 32 == 0) of_warp[threadIdx.x / 32] = v;
      __syncthreads();
      v = of_warp[0];
      for (uint32_t warp = 1; warp < size / 32; ++warp) v = combine(v, of_warp[warp]);
      __syncthreads();
    }
    return v;
  }

  __device__ __forceinline__ double sum(double v) const {
    return reduce(v, [](double a, double b) { return a + b; });
  }

  template <class T>
  __device__ __forceinline__ T largest(T v) const {
    return reduce(v, [](T a, T b) { return larger(a, b); });
  }
};

// A team member's share of a row. Rows of up to HELD elements per member are read once and kept in registers.
template <class T>
struct Share {
  static constexpr int HELD = 8;
  const T* x;
  uint64_t length;
  uint32_t rank, size;
  T held[HELD];

  __device__ __forceinline__ Share(const Team& team, const T* x, uint64_t length) : x(x), length(length), rank(team.rank), size(team.size) {
    if (!fits()) return;
#pragma unroll
    for (int i = 0; i < HELD; ++i) {
      const uint64_t k = rank + uint64_t(i) * size;
      if (k < length) held[i] = x[k];
    }
  }

  __device__ __forceinline__ bool fits() const { return length <= uint64_t(HELD) * size; }

  // f(index, element) for each of the share.
  template <class F>
  __device__ __forceinline__ void each(F f) const {
    if (fits()) {
#pragma unroll
      for (int i = 0; i < HELD; ++i) {
        const uint64_t k = rank + uint64_t(i) * size;
        if (k < length) f(k, held[i]);
      }
    } else {
      for (uint64_t k = rank; k < length; k += size) f(k, x[k]);
    }
  }

  // f(index, element, other's element) for each of the share; `other` is the same share of a row of the same length.
  template <class F>
  __device__ __forceinline__ void both(const Share& other, F f) const {
    if (fits()) {
#pragma unroll
      for (int i = 0; i < HELD; ++i) {
        const uint64_t k = rank + uint64_t(i) * size;
        if (k < length) f(k, held[i], other.held[i]);
      }
    } else {
      for (uint64_t k = rank; k < length; k += size) f(k, x[k], other.x[k]);
    }
  }

  // Over the team; -inf of none.
  __device__ __forceinline__ T largest(const Team& team) const {
    T v = -T(INFINITY);
    each([&](uint64_t, T element) { v = larger(v, element); });
    return team.largest(v);
  }
};

// The sum of term(rank), term(rank + step) .. below `count`: four at a time in T, those in f64.
template <class F>
__device__ __forceinline__ double sum_of(uint64_t count, uint64_t rank, uint64_t step, F term) {
  double total = 0;
  uint64_t i = rank;
  for (; i + 3 * step < count; i += 4 * step) {
    const auto a = term(i), b = term(i + step), c = term(i + 2 * step), d = term(i + 3 * step);
    total += double((a + b) + (c + d));
  }
  for (; i < count; i += step) total += double(term(i));
  return total;
}

// The assignment of a block's 256 threads to `width` columns of numbers: 256 / width work on each, next to each other if `along`.
struct Lanes {
  static constexpr uint32_t THREADS = 256;
  uint32_t width, height, column, rank;
  bool along;

  __device__ __forceinline__ Lanes(uint32_t width, bool along) : width(width), height(THREADS / width), along(along) {
    column = along ? threadIdx.x / height : threadIdx.x % width;
    rank = along ? threadIdx.x % height : threadIdx.x / width;
  }

  // Combines the values of each column's threads; the result is in the thread of rank 0.
  template <class V, class F>
  __device__ __forceinline__ V reduce(V v, F combine) const {
    __shared__ V of_thread[THREADS];
    const uint32_t stride = along ? 1 : width;
    of_thread[threadIdx.x] = v;
    for (uint32_t step = height / 2; step > 0; step /= 2) {
      __syncthreads();
      if (rank < step) of_thread[threadIdx.x] = v = combine(v, of_thread[threadIdx.x + step * stride]);
    }
    // Before the memory is used again.
    __syncthreads();
    return v;
  }

  __device__ __forceinline__ double sum(double v) const {
    return reduce(v, [](double a, double b) { return a + b; });
  }
};

}  // namespace
