// The order of numbers along an axis, by counting: an element's place is how many come before it.
#include "rows.cuh"

namespace {

// NaNs come last, and of equal elements the first one first, as a stable sort has it.
template <class T>
__device__ __forceinline__ bool is_before(T a, uint64_t i, T b, uint64_t j) {
  const bool less = a < b || (b != b && a == a), more = b < a || (a != a && b == b);
  return less || (!more && i < j);
}

// y[o, place, c] = i for the i whose x[o, i, c] has that place.
template <class T>
__device__ __forceinline__ void argsort(const T* x, int64_t* out, uint64_t n, uint64_t length, uint64_t inner) {
  const uint64_t at = global_index();
  if (at >= n) return;
  uint64_t i, c;
  const uint64_t first = divide(divide(at, inner, c), length, i) * length * inner + c;
  const T own = x[at];
  uint64_t place = 0;
  for (uint64_t j = 0; j < length; ++j) place += is_before(x[first + j * inner], j, own, i);
  out[first + place * inner] = int64_t(i);
}

}  // namespace

KERNEL(argsort_f32, 256, const float* x, int64_t* out, uint64_t n, uint64_t length, uint64_t inner) { argsort(x, out, n, length, inner); }
KERNEL(argsort_f64, 256, const double* x, int64_t* out, uint64_t n, uint64_t length, uint64_t inner) { argsort(x, out, n, length, inner); }

KERNEL(arange, 256, int64_t* out, uint64_t n) {
  const uint64_t at = global_index();
  if (at < n) out[at] = int64_t(at);
}
