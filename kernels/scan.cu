// Running sums along an axis, in f64.
#include "rows.cuh"

namespace {

// The sum of the values of this lane and those before it.
__device__ __forceinline__ double sum_up_to_lane(double v) {
  const uint32_t lane = threadIdx.x % 32;
#pragma unroll
  for (uint32_t step = 1; step < 32; step *= 2) {
    const double before = __shfl_up_sync(0xffffffffu, v, step);
    if (lane >= step) v += before;
  }
  return v;
}

// y[o, k, c] = the sum of x[o, j, c] over j <= k, or j >= k in reverse. A warp takes a row, whose elements lie side by side, 32 at a time;
// otherwise a thread takes a column.
template <class T>
__device__ __forceinline__ void cumsum(const T* x, T* out, uint64_t columns, uint64_t length, uint64_t inner, uint32_t reverse) {
  const uint64_t thread = global_index();
  if (inner == 1) {
    const uint64_t row = thread / 32, lane = threadIdx.x % 32;
    if (row >= columns) return;
    double carried = 0;
    for (uint64_t start = 0; start < length; start += 32) {
      const uint64_t k = start + lane, at = row * length + (reverse ? length - 1 - k : k);
      const double sum = carried + sum_up_to_lane(k < length ? double(x[at]) : 0);
      if (k < length) out[at] = T(sum);
      carried = __shfl_sync(0xffffffffu, sum, 31);
    }
    return;
  }
  if (thread >= columns) return;
  uint64_t c;
  const uint64_t first = divide(thread, inner, c) * length * inner + c;
  double sum = 0;
  for (uint64_t k = 0; k < length; ++k) {
    const uint64_t at = first + (reverse ? length - 1 - k : k) * inner;
    sum += double(x[at]);
    out[at] = T(sum);
  }
}

}  // namespace

#define SCAN(T, suffix)                                                                                                               \
  KERNEL(cumsum_##suffix, 256, const T* x, T* out, uint64_t columns, uint64_t length, uint64_t inner, uint32_t reverse) {            \
    cumsum(x, out, columns, length, inner, reverse);                                                                                  \
  }

SCAN(float, f32)
SCAN(double, f64)
