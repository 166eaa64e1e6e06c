// Sums and positions of maxima. Long sums are made of slabs, whose number depends on the shape alone and whose partial sums (f64) a
// second kernel adds.
#include "rows.cuh"

namespace {

template <class T>
__device__ __forceinline__ void store(T* out, double* partials, uint64_t at, double v) {
  if (partials) partials[at] = v;
  else out[at] = T(v);
}

template <class T>
__device__ __forceinline__ T sum_of_pack(const Pack<T>& p) {
  T s = p.v[0] + p.v[1];
#pragma unroll
  for (int i = 2; i < Pack<T>::COUNT; i += 2) s += p.v[i] + p.v[i + 1];
  return s;
}

// A team sums slab `row % slabs` of row `row / slabs`.
template <class T>
__device__ __forceinline__ void sum_rows(const T* x, T* out, double* partials, uint64_t rows, uint64_t length, uint64_t slabs, uint64_t slab,
                                         uint32_t size) {
  const Team team(size);
  const bool some = team.row < rows * slabs;
  uint64_t part = 0;
  const uint64_t row = divide(some ? team.row : 0, slabs, part);
  const uint64_t first = part * slab, count = some ? min(slab, length - first) : 0;
  const T* at = x + row * length + first;
  constexpr int COUNT = Pack<T>::COUNT;
  double total;
  if (aligned16(x) && (length | slab) % COUNT == 0) {
    total = sum_of(count / COUNT, team.rank, size, [=](uint64_t i) { return sum_of_pack(load_pack(at + i * COUNT)); });
  } else {
    total = sum_of(count, team.rank, size, [=](uint64_t i) { return at[i]; });
  }
  total = team.sum(total);
  if (some && team.rank == 0) store(out, partials, team.row, total);
}

// The middle of [outer, middle, inner], slab by slab: a block sums `width` of the outer * inner columns.
template <class T, class Out>
__device__ __forceinline__ void sum_columns(const T* x, Out* out, double* partials, uint64_t columns, uint64_t middle, uint64_t inner, uint64_t slab,
                                            uint32_t width) {
  const Lanes lanes(width, inner == 1);
  const uint64_t column = uint64_t(blockIdx.x) * width + lanes.column;
  const bool some = column < columns;
  uint64_t within;
  const uint64_t outer = divide(some ? column : 0, inner, within);
  const uint64_t first = blockIdx.y * slab, count = some && first < middle ? min(slab, middle - first) : 0;
  const T* at = x + (outer * middle + first) * inner + within;
  const double total = lanes.sum(sum_of(count, lanes.rank, lanes.height, [=](uint64_t i) { return at[i * inner]; }));
  if (some && lanes.rank == 0) store(out, partials, (outer * gridDim.y + blockIdx.y) * inner + within, total);
}

template <class T>
struct Best {
  T value;
  int64_t at;
};

template <class T>
__device__ __forceinline__ Best<T> better(const Best<T>& a, const Best<T>& b) {
  const bool a_nan = a.value != a.value, b_nan = b.value != b.value;
  const bool equal = a_nan ? b_nan : a.value == b.value;
  const bool first = equal ? a.at < b.at : a_nan || (!b_nan && a.value > b.value);
  return first ? a : b;
}

// The first largest entry along the middle of [outer, middle, inner], NaN before all. Its position is `places` there, if given; the
// second stage, which gets those of slabs, is told so.
template <class T>
__device__ __forceinline__ void argmax(const T* x, const int64_t* places, T* values, int64_t* out, uint64_t columns, uint64_t middle,
                                       uint64_t inner, uint64_t slab, uint32_t width) {
  const Lanes lanes(width, inner == 1);
  const uint64_t column = uint64_t(blockIdx.x) * width + lanes.column;
  const bool some = column < columns;
  uint64_t within;
  const uint64_t outer = divide(some ? column : 0, inner, within);
  const uint64_t first = blockIdx.y * slab, last = some ? min(first + slab, middle) : 0;
  Best<T> best = {-T(INFINITY), INT64_MAX};
  for (uint64_t i = first + lanes.rank; i < last; i += lanes.height) {
    const uint64_t at = (outer * middle + i) * inner + within;
    best = better(best, Best<T>{x[at], places ? places[at] : int64_t(i)});
  }
  best = lanes.reduce(best, [](const Best<T>& a, const Best<T>& b) { return better(a, b); });
  if (some && lanes.rank == 0) {
    const uint64_t at = (outer * gridDim.y + blockIdx.y) * inner + within;
    out[at] = best.at;
    if (values) values[at] = best.value;
  }
}

}  // namespace

#define REDUCE(T, suffix)                                                                                                             \
  KERNEL(sum_rows_##suffix, 256, const T* x, T* out, double* partials, uint64_t rows, uint64_t length, uint64_t slabs, uint64_t slab, \
         uint32_t team) {                                                                                                             \
    sum_rows(x, out, partials, rows, length, slabs, slab, team);                                                                      \
  }                                                                                                                                   \
  KERNEL(sum_columns_##suffix, 256, const T* x, T* out, double* partials, uint64_t columns, uint64_t middle, uint64_t inner,          \
         uint64_t slab, uint32_t width) {                                                                                             \
    sum_columns(x, out, partials, columns, middle, inner, slab, width);                                                               \
  }                                                                                                                                   \
  KERNEL(sum_partials_##suffix, 256, const double* x, T* out, uint64_t columns, uint64_t middle, uint64_t inner, uint32_t width) {    \
    sum_columns(x, out, static_cast<double*>(nullptr), columns, middle, inner, middle, width);                                        \
  }                                                                                                                                   \
  KERNEL(argmax_##suffix, 256, const T* x, const int64_t* places, T* values, int64_t* out, uint64_t columns, uint64_t middle,         \
         uint64_t inner, uint64_t slab, uint32_t width) {                                                                             \
    argmax(x, places, values, out, columns, middle, inner, slab, width);                                                              \
  }

REDUCE(float, f32)
REDUCE(double, f64)
