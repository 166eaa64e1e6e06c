// Pooling of images and nearest-neighbour upsampling, and their adjoints. A thread gathers what one result is made of, in the order
// in which the CPU adds it up.
#include "window.cuh"

namespace {

// Twin of `PoolDims` in src/device/cpu/pool.rs; pairs are height, width.
struct Pool {
  uint64_t planes, input[2], kernel[2], output[2], stride[2], padding[2];
};

struct Range {
  uint64_t begin, end;
};

// The input cells of window `o` in direction `d`.
__device__ __forceinline__ Range cells(const Pool& p, int d, uint64_t o) {
  const uint64_t begin = o * p.stride[d], end = begin + p.kernel[d], padding = p.padding[d];
  return {begin > padding ? begin - padding : 0, min(end > padding ? end - padding : 0, p.input[d])};
}

// The windows that hold input cell `i` in direction `d`.
__device__ __forceinline__ Range windows(const Pool& p, int d, uint64_t i) {
  const uint64_t at = i + p.padding[d];
  const uint64_t begin = at < p.kernel[d] ? 0 : divide(at - p.kernel[d], p.stride[d]) + 1;
  return {begin, min(divide(at, p.stride[d]) + 1, p.output[d])};
}

// The cells of window `o` in direction `d` with the padding's, but not those behind it.
__device__ __forceinline__ uint64_t counted(const Pool& p, int d, uint64_t o) {
  const uint64_t begin = o * p.stride[d], end = min(begin + p.kernel[d], p.input[d] + 2 * p.padding[d]);
  return end > begin ? end - begin : 0;
}

template <class T>
__device__ __forceinline__ T divisor(const Pool& p, uint64_t row, uint64_t col) {
  const uint64_t count = counted(p, 0, row) * counted(p, 1, col);
  return T(count > 0 ? count : 1);
}

// y[window] = the sum over its cells, or their mean.
template <class T, bool MEAN>
__device__ __forceinline__ void sum_cells(const T* x, T* y, const Pool& p) {
  const uint64_t i = global_index();
  if (i >= p.planes * p.output[0] * p.output[1]) return;
  const Place o(i, p.output);
  const Range rows = cells(p, 0, o.at[0]), cols = cells(p, 1, o.at[1]);
  const T* plane = x + o.plane * p.input[0] * p.input[1];
  T sum = 0;
  for (uint64_t row = rows.begin; row < rows.end; ++row)
    for (uint64_t col = cols.begin; col < cols.end; ++col) sum += plane[row * p.input[1] + col];
  y[i] = MEAN ? sum / divisor<T>(p, o.at[0], o.at[1]) : sum;
}

// dx[cell] = the sum over the windows that hold it, each divided by its cells if they are means.
template <class T, bool MEAN>
__device__ __forceinline__ void sum_windows(const T* g, T* dx, const Pool& p) {
  const uint64_t i = global_index();
  if (i >= p.planes * p.input[0] * p.input[1]) return;
  const Place cell(i, p.input);
  const Range rows = windows(p, 0, cell.at[0]), cols = windows(p, 1, cell.at[1]);
  const T* plane = g + cell.plane * p.output[0] * p.output[1];
  T sum = 0;
  for (uint64_t row = rows.begin; row < rows.end; ++row)
    for (uint64_t col = cols.begin; col < cols.end; ++col) {
      const T v = plane[row * p.output[1] + col];
      sum += MEAN ? v / divisor<T>(p, row, col) : v;
    }
  dx[i] = sum;
}

// The index of each window's maximum within its plane: the first of equal ones, or the first NaN.
template <class T>
__device__ __forceinline__ void find_maximum(const T* x, int64_t* y, const Pool& p) {
  const uint64_t i = global_index();
  if (i >= p.planes * p.output[0] * p.output[1]) return;
  const Place o(i, p.output);
  const Range rows = cells(p, 0, o.at[0]), cols = cells(p, 1, o.at[1]);
  const T* plane = x + o.plane * p.input[0] * p.input[1];
  uint64_t best = rows.begin * p.input[1] + cols.begin;
  T most = plane[best];
  for (uint64_t row = rows.begin; row < rows.end; ++row)
    for (uint64_t col = cols.begin; col < cols.end; ++col) {
      const uint64_t at = row * p.input[1] + col;
      const T value = plane[at];
      if (value > most || (value != value && most == most)) {
        best = at;
        most = value;
      }
    }
  y[i] = int64_t(best);
}

}  // namespace

#define POOL(T, suffix)                                                                                                                 \
  KERNEL(avg_pool2d_##suffix, 256, const T* x, T* y, const __grid_constant__ Pool p) { sum_cells<T, true>(x, y, p); }                      \
  KERNEL(avg_pool2d_grad_##suffix, 256, const T* g, T* dx, const __grid_constant__ Pool p) { sum_windows<T, true>(g, dx, p); }              \
  KERNEL(max_pool2d_##suffix, 256, const T* x, int64_t* y, const __grid_constant__ Pool p) { find_maximum(x, y, p); }                   \
  KERNEL(upsample_nearest2d_##suffix, 256, const T* x, T* y, const __grid_constant__ Pool p) { sum_windows<T, false>(x, y, p); }            \
  KERNEL(upsample_nearest2d_grad_##suffix, 256, const T* g, T* dx, const __grid_constant__ Pool p) { sum_cells<T, false>(g, dx, p); }

POOL(float, f32)
POOL(double, f64)
