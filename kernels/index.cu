// Reading by index, and its adjoint: sums over equal indices, each element's in the order of the index. An index out of range touches no
// memory: what is read there is NaN, and so is every sum that looked at it.
#include "rows.cuh"

namespace {

__device__ __forceinline__ bool is_below(int64_t index, uint64_t length) { return uint64_t(index) < length; }

// y[o, k, i] = x[o, index[k], i]; `Unit` is an element, or several of a row.
template <class T, class Unit>
__device__ __forceinline__ void index_select(const Unit* x, const int64_t* index, Unit* out, uint64_t n, uint64_t length, uint64_t count,
                                             uint64_t inner, Unit none) {
  const uint64_t at = global_index();
  if (at >= n) return;
  uint64_t i, k;
  const uint64_t outer = divide(divide(at, inner, i), count, k);
  const int64_t place = index[k];
  out[at] = is_below(place, length) ? x[(outer * length + uint64_t(place)) * inner + i] : none;
}

// y[a, i, b] = x[a, index[a, i, b], b]
template <class T>
__device__ __forceinline__ void gather(const T* x, const int64_t* index, T* out, uint64_t n, uint64_t length, uint64_t count, uint64_t inner) {
  const uint64_t at = global_index();
  if (at >= n) return;
  uint64_t within, inside;
  const uint64_t outer = divide(at, count * inner, within);
  divide(within, inner, inside);
  const int64_t place = index[at];
  out[at] = is_below(place, length) ? x[(outer * length + uint64_t(place)) * inner + inside] : not_a_number<T>();
}

// Columns that a lane of index_add sums.
constexpr int COLUMNS = 4;

// y[o, j, i] = the sum of x[o, k, i] over the k with index[k] = j: a warp looks through the index for 32 COLUMNS elements of a row of y.
template <class T>
__device__ __forceinline__ void index_add(const T* x, const int64_t* index, T* out, uint64_t rows, uint64_t length, uint64_t count, uint64_t inner) {
  const uint64_t chunks = (inner + 32 * COLUMNS - 1) / (32 * COLUMNS);
  const uint64_t warp = global_index() / 32, lane = threadIdx.x % 32;
  if (warp >= rows * chunks) return;
  uint64_t chunk, target;
  const uint64_t row = divide(warp, chunks, chunk), outer = divide(row, length, target);
  const uint64_t first = chunk * 32 * COLUMNS + lane;
  T sums[COLUMNS] = {};
  bool bad = false;
  for (uint64_t start = 0; start < count; start += 32) {
    const uint64_t k = start + lane;
    const int64_t place = k < count ? index[k] : int64_t(length - 1);
    bad = bad || !is_below(place, length);
    uint32_t hits = __ballot_sync(0xffffffffu, k < count && uint64_t(place) == target);
    while (hits != 0) {
      const uint64_t hit = start + uint64_t(__ffs(int(hits)) - 1);
      hits &= hits - 1;
      const T* source = x + (outer * count + hit) * inner;
#pragma unroll
      for (int c = 0; c < COLUMNS; ++c)
        if (first + 32 * c < inner) sums[c] += source[first + 32 * c];
    }
  }
  bad = __any_sync(0xffffffffu, bad);
#pragma unroll
  for (int c = 0; c < COLUMNS; ++c)
    if (first + 32 * c < inner) out[row * inner + first + 32 * c] = bad ? not_a_number<T>() : sums[c];
}

// y[a, j, b] = the sum of x[a, i, b] over the i with index[a, i, b] = j.
template <class T>
__device__ __forceinline__ void scatter_add(const T* x, const int64_t* index, T* out, uint64_t n, uint64_t length, uint64_t count, uint64_t inner) {
  const uint64_t at = global_index();
  if (at >= n) return;
  uint64_t within, inside;
  const uint64_t outer = divide(at, length * inner, within), target = divide(within, inner, inside);
  const uint64_t first = outer * count * inner + inside;
  T sum = 0;
  bool bad = false;
  for (uint64_t i = 0; i < count; ++i) {
    const int64_t place = index[first + i * inner];
    bad = bad || !is_below(place, length);
    if (uint64_t(place) == target) sum += x[first + i * inner];
  }
  out[at] = bad ? not_a_number<T>() : sum;
}

template <class T>
__device__ __forceinline__ Pack<T> pack_of(T v) {
  Pack<T> p;
#pragma unroll
  for (int i = 0; i < Pack<T>::COUNT; ++i) p.v[i] = v;
  return p;
}

}  // namespace

// `index_select_wide` moves sixteen bytes at a time: `inner` and `n` count those.
#define INDEX(T, suffix)                                                                                                              \
  KERNEL(index_select_##suffix, 256, const T* x, const int64_t* index, T* out, uint64_t n, uint64_t length, uint64_t count,          \
         uint64_t inner) {                                                                                                            \
    index_select<T, T>(x, index, out, n, length, count, inner, not_a_number<T>());                                                    \
  }                                                                                                                                   \
  KERNEL(index_select_wide_##suffix, 256, const Pack<T>* x, const int64_t* index, Pack<T>* out, uint64_t n, uint64_t length,         \
         uint64_t count, uint64_t inner) {                                                                                            \
    index_select<T, Pack<T>>(x, index, out, n, length, count, inner, pack_of(not_a_number<T>()));                                     \
  }                                                                                                                                   \
  KERNEL(gather_##suffix, 256, const T* x, const int64_t* index, T* out, uint64_t n, uint64_t length, uint64_t count,                \
         uint64_t inner) {                                                                                                            \
    gather(x, index, out, n, length, count, inner);                                                                                   \
  }                                                                                                                                   \
  KERNEL(index_add_##suffix, 256, const T* x, const int64_t* index, T* out, uint64_t rows, uint64_t length, uint64_t count,          \
         uint64_t inner) {                                                                                                            \
    index_add(x, index, out, rows, length, count, inner);                                                                             \
  }                                                                                                                                   \
  KERNEL(scatter_add_##suffix, 256, const T* x, const int64_t* index, T* out, uint64_t n, uint64_t length, uint64_t count,           \
         uint64_t inner) {                                                                                                            \
    scatter_add(x, index, out, n, length, count, inner);                                                                              \
  }

INDEX(float, f32)
INDEX(double, f64)
