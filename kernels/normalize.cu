// Standardising groups of elements. A tensor is [outer, groups, inner]; a group is everything with one middle index. Rows (outer = 1) are
// read once by a team each; other groups are summed slab by slab, then mapped.
#include "rows.cuh"

namespace {

// The moments that follow from a group's sums.
template <class T>
struct Moments {
  T *mean, *variance, *saved, *scale;

  __device__ __forceinline__ void store(uint64_t group, double m, double v, double eps) const {
    mean[group] = saved[group] = T(m);
    variance[group] = T(v);
    scale[group] = T(1 / sqrt(v + eps));
  }
};

template <class T>
__device__ __forceinline__ void layer_norm(const T* x, T* y, const Moments<T>& moments, uint64_t rows, uint64_t length, uint32_t size, double eps) {
  const Team team(size);
  const bool some = team.row < rows;
  const uint64_t first = team.row * length;
  const Share<T> share(team, x + first, some ? length : 0);
  double sum = 0;
  share.each([&](uint64_t, T v) { sum += double(v); });
  const double mean = team.sum(sum) / double(length);
  const T centre = T(mean);
  double squares = 0;
  share.each([&](uint64_t, T v) {
    const double d = double(v - centre);
    squares = fma(d, d, squares);
  });
  const double variance = team.sum(squares) / double(length);
  if (!some) return;
  if (team.rank == 0) moments.store(team.row, mean, variance, eps);
  const T scale = T(1 / sqrt(variance + eps));
  share.each([=](uint64_t k, T v) { y[first + k] = (v - centre) * scale; });
}

template <class T>
__device__ __forceinline__ T standardize_grad(T x, T g, T mean, T scale, T plain, T weighted) {
  const T y = (x - mean) * scale;
  return scale * fma(-y, weighted, g - plain);
}

template <class T>
__device__ __forceinline__ void layer_norm_grad(const T* x, const T* g, const T* mean, const T* scale, T* out, uint64_t rows, uint64_t length,
                                                uint32_t size) {
  const Team team(size);
  const bool some = team.row < rows;
  const uint64_t first = team.row * length;
  const Share<T> share(team, x + first, some ? length : 0);
  const T m = some ? mean[team.row] : T(0), s = some ? scale[team.row] : T(0);
  double plain = 0, weighted = 0;
  share.each([&](uint64_t k, T x) {
    const T slope = g[first + k];
    plain += double(slope);
    weighted = fma(double(slope), double((x - m) * s), weighted);
  });
  const T p = T(team.sum(plain) / double(length)), w = T(team.sum(weighted) / double(length));
  // From the cache: registers for both would be too many.
  share.each([=](uint64_t k, T x) { out[first + k] = standardize_grad(x, g[first + k], m, s, p, w); });
}

// The layout of a tensor for the kernels that sum channels: a block takes `width` neighbouring groups where inner is 1, else one, with
// `across` threads along a run.
struct Groups {
  uint64_t outer, groups, inner, slab;
  uint32_t width, across;

  // f(index of the element) for what this thread has of its group's slab.
  template <class F>
  __device__ __forceinline__ void each(const Lanes& lanes, uint64_t group, F f) const {
    const uint64_t chunks = (inner + across - 1) / across, high = lanes.height / across;
    const uint64_t p = lanes.rank % across, o = lanes.rank / across;
    const uint64_t trips = (outer + high - 1) / high * chunks, first = blockIdx.y * slab, last = min(first + slab, trips);
#pragma unroll 4
    for (uint64_t trip = first; trip < last; ++trip) {
      uint64_t chunk = 0, step = trip;
      if (chunks > 1) step = divide(trip, chunks, chunk);
      const uint64_t run = step * high + o, within = chunk * across + p;
      if (run < outer && within < inner) f((run * groups + group) * inner + within);
    }
  }
};

struct Two {
  double a, b;
};

__device__ __forceinline__ Two sum_two(const Lanes& lanes, Two v) {
  return lanes.reduce(v, [](const Two& v, const Two& w) { return Two{v.a + w.a, v.b + w.b}; });
}

// The partial sums [slabs, groups] of a group, in order.
__device__ __forceinline__ Two sum_slabs(const Two* partials, uint64_t slabs, uint64_t groups, uint64_t group) {
  Two sum = {0, 0};
  for (uint64_t slab = 0; slab < slabs; ++slab) {
    const Two part = partials[slab * groups + group];
    sum = {sum.a + part.a, sum.b + part.b};
  }
  return sum;
}

// From sums of x - shift and its square, the shift being one of the group's elements: then no more digits of f64 cancel than the group's
// size has, whatever the mean.
template <class T>
__device__ __forceinline__ void store_moments(const Moments<T>& moments, uint64_t group, T shift, Two sums, double size, double eps) {
  const double offset = sums.a / size, variance = sums.b / size - offset * offset;
  moments.store(group, double(shift) + offset, variance < 0 ? 0 : variance, eps);
}

// The moments, or with several slabs their sums.
template <class T>
__device__ __forceinline__ void channel_moments(const T* x, Two* partials, const Moments<T>& moments, const Groups& shape, double eps) {
  const Lanes lanes(shape.width, shape.width == 1);
  const uint64_t group = uint64_t(blockIdx.x) * shape.width + lanes.column;
  const bool some = group < shape.groups;
  const T shift = some ? x[group * shape.inner] : T(0);
  Two sums = {0, 0};
  if (some) {
    shape.each(lanes, group, [&](uint64_t at) {
      const double d = double(x[at]) - double(shift);
      sums.a += d;
      sums.b = fma(d, d, sums.b);
    });
  }
  sums = sum_two(lanes, sums);
  if (!some || lanes.rank != 0) return;
  if (gridDim.y > 1) partials[blockIdx.y * shape.groups + group] = sums;
  else store_moments(moments, group, shift, sums, double(shape.outer) * double(shape.inner), eps);
}

template <class T>
__device__ __forceinline__ void channel_moments_of_slabs(const T* x, const Two* partials, const Moments<T>& moments, uint64_t slabs, uint64_t groups,
                                                         uint64_t inner, double size, double eps) {
  const uint64_t group = global_index();
  if (group < groups) store_moments(moments, group, x[group * inner], sum_slabs(partials, slabs, groups, group), size, eps);
}

// The means of g and g y over each group, or with several slabs their sums.
template <class T>
__device__ __forceinline__ void channel_slopes(const T* x, const T* g, const T* mean, const T* scale, Two* partials, T* slopes, const Groups& shape) {
  const Lanes lanes(shape.width, shape.width == 1);
  const uint64_t group = uint64_t(blockIdx.x) * shape.width + lanes.column;
  const bool some = group < shape.groups;
  Two sums = {0, 0};
  if (some) {
    const T m = mean[group], s = scale[group];
    shape.each(lanes, group, [&](uint64_t at) {
      sums.a += double(g[at]);
      sums.b = fma(double(g[at]), double((x[at] - m) * s), sums.b);
    });
  }
  sums = sum_two(lanes, sums);
  if (!some || lanes.rank != 0) return;
  if (gridDim.y > 1) {
    partials[blockIdx.y * shape.groups + group] = sums;
  } else {
    const double size = double(shape.outer) * double(shape.inner);
    slopes[2 * group] = T(sums.a / size);
    slopes[2 * group + 1] = T(sums.b / size);
  }
}

template <class T>
__device__ __forceinline__ void channel_slopes_of_slabs(const Two* partials, T* slopes, uint64_t slabs, uint64_t groups, double size) {
  const uint64_t group = global_index();
  if (group >= groups) return;
  const Two sums = sum_slabs(partials, slabs, groups, group);
  slopes[2 * group] = T(sums.a / size);
  slopes[2 * group + 1] = T(sums.b / size);
}

// The groups of consecutive elements.
struct Walk {
  uint64_t group, within, groups, inner;

  __device__ __forceinline__ Walk(uint64_t at, uint64_t groups, uint64_t inner) : groups(groups), inner(inner) {
    divide(divide(at, inner, within), groups, group);
  }

  __device__ __forceinline__ void step() {
    if (++within < inner) return;
    within = 0;
    if (++group == groups) group = 0;
  }
};

// y[i] = f(i, group of i, x[i], g[i]); x may be g.
template <class T, class F>
__device__ __forceinline__ void map_groups(const T* x, const T* g, T* y, uint64_t n, uint64_t groups, uint64_t inner, F f) {
  constexpr int COUNT = Pack<T>::COUNT;
  const uint64_t first = global_index() * COUNT;
  if (first >= n) return;
  Walk walk(first, groups, inner);
  if (first + COUNT <= n && aligned16(x) && aligned16(g) && aligned16(y)) {
    Pack<T> p = *reinterpret_cast<const Pack<T>*>(x + first);
    const Pack<T> q = *reinterpret_cast<const Pack<T>*>(g + first);
#pragma unroll
    for (int i = 0; i < COUNT; ++i, walk.step()) p.v[i] = f(walk.group, p.v[i], q.v[i]);
    *reinterpret_cast<Pack<T>*>(y + first) = p;
    return;
  }
  for (uint64_t i = first; i < n && i < first + COUNT; ++i, walk.step()) y[i] = f(walk.group, x[i], g[i]);
}

}  // namespace

#define NORMALIZE(T, suffix)                                                                                                          \
  KERNEL(layer_norm_##suffix, 1024, const T* x, T* y, T* mean, T* variance, T* saved, T* scale, uint64_t rows, uint64_t length,      \
         uint32_t team, double eps) {                                                                                                 \
    layer_norm(x, y, Moments<T>{mean, variance, saved, scale}, rows, length, team, eps);                                              \
  }                                                                                                                                   \
  KERNEL(layer_norm_grad_##suffix, 1024, const T* x, const T* g, const T* mean, const T* scale, T* out, uint64_t rows,               \
         uint64_t length, uint32_t team) {                                                                                            \
    layer_norm_grad(x, g, mean, scale, out, rows, length, team);                                                                      \
  }                                                                                                                                   \
  KERNEL(channel_moments_##suffix, 256, const T* x, Two* partials, T* mean, T* variance, T* saved, T* scale,                         \
         const __grid_constant__ Groups shape, double eps) {                                                                          \
    channel_moments(x, partials, Moments<T>{mean, variance, saved, scale}, shape, eps);                                               \
  }                                                                                                                                   \
  KERNEL(channel_moments_of_slabs_##suffix, 256, const T* x, const Two* partials, T* mean, T* variance, T* saved, T* scale,          \
         uint64_t slabs, uint64_t groups, uint64_t inner, double size, double eps) {                                                  \
    channel_moments_of_slabs(x, partials, Moments<T>{mean, variance, saved, scale}, slabs, groups, inner, size, eps);                 \
  }                                                                                                                                   \
  KERNEL(channel_slopes_##suffix, 256, const T* x, const T* g, const T* mean, const T* scale, Two* partials, T* slopes,              \
         const __grid_constant__ Groups shape) {                                                                                      \
    channel_slopes(x, g, mean, scale, partials, slopes, shape);                                                                       \
  }                                                                                                                                   \
  KERNEL(channel_slopes_of_slabs_##suffix, 256, const Two* partials, T* slopes, uint64_t slabs, uint64_t groups, double size) {      \
    channel_slopes_of_slabs(partials, slopes, slabs, groups, size);                                                                   \
  }                                                                                                                                   \
  KERNEL(standardize_##suffix, 256, const T* x, const T* mean, const T* scale, T* y, uint64_t n, uint64_t groups, uint64_t inner) {  \
    map_groups(x, x, y, n, groups, inner, [=](uint64_t group, T x, T) { return (x - mean[group]) * scale[group]; });                  \
  }                                                                                                                                   \
  KERNEL(standardize_grad_##suffix, 256, const T* x, const T* g, const T* mean, const T* scale, const T* slopes, T* out, uint64_t n, \
         uint64_t groups, uint64_t inner) {                                                                                           \
    map_groups(x, g, out, n, groups, inner, [=](uint64_t group, T x, T g) {                                                           \
      return standardize_grad(x, g, mean[group], scale[group], slopes[2 * group], slopes[2 * group + 1]);                             \
    });                                                                                                                               \
  }

NORMALIZE(float, f32)
NORMALIZE(double, f64)
