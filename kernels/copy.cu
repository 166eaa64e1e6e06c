// Copies to contiguous memory, conversions, and constants.
#include "strided.cuh"

namespace {

// Twin of `code` in src/device/cuda/convert.rs.
enum Element : uint32_t { F32, F64, BF16, F16, I64, U8 };

template <class T>
__device__ __forceinline__ void copy(const T* x, T* y, const Strided<1>& in, uint64_t n) {
  const uint64_t i = global_index();
  if (i >= n) return;
  uint64_t at[1];
  if (in.contiguous & 1) at[0] = i;
  else in.offsets(i, at);
  y[i] = x[at[0]];
}

// An i64 in f64, its last bit set where something was cut off if it will be rounded again: then that rounds as if it were the only one.
__device__ __forceinline__ double widened(int64_t v, bool last) {
  const int64_t cut = v & 2047;
  const bool small = v < (int64_t(1) << 53) && v > -(int64_t(1) << 53);
  return double(last || small ? v : (v - cut) | int64_t(cut != 0) << 11);
}

// `last`: whether the result is an f64.
__device__ __forceinline__ double load(const void* x, uint32_t type, uint64_t at, bool last) {
  switch (type) {
    case F32: return static_cast<const float*>(x)[at];
    case F64: return static_cast<const double*>(x)[at];
    case BF16: return __bfloat162float(static_cast<const __nv_bfloat16*>(x)[at]);
    case F16: return __half2float(static_cast<const __half*>(x)[at]);
    case I64: return widened(static_cast<const int64_t*>(x)[at], last);
    default: return static_cast<const uint8_t*>(x)[at];
  }
}

// Truncates and saturates; NaN becomes 0.
__device__ __forceinline__ double limited(double v, double low, double high) {
  return v != v ? 0. : v < low ? low : v > high ? high : trunc(v);
}

__device__ __forceinline__ void store(void* y, uint32_t type, uint64_t at, double v) {
  switch (type) {
    case F32: static_cast<float*>(y)[at] = float(v); break;
    case F64: static_cast<double*>(y)[at] = v; break;
    case BF16: static_cast<__nv_bfloat16*>(y)[at] = __double2bfloat16(v); break;
    case F16: static_cast<__half*>(y)[at] = __double2half(v); break;
    case I64:
      // 2^63 is not an i64
      static_cast<int64_t*>(y)[at] = v >= 9223372036854775808. ? INT64_MAX : int64_t(limited(v, -9223372036854775808., 9223372036854775808.));
      break;
    default: static_cast<uint8_t*>(y)[at] = uint8_t(limited(v, 0., 255.));
  }
}

}  // namespace

#define COPY(bits) \
  KERNEL(copy_##bits, 256, const uint##bits##_t* x, uint##bits##_t* y, const __grid_constant__ Strided<1> in, uint64_t n) { copy(x, y, in, n); }

COPY(8)
COPY(16)
COPY(32)
COPY(64)

KERNEL(convert, 256, const void* x, uint32_t from, void* y, uint32_t to, const __grid_constant__ Strided<1> in, uint64_t n) {
  const uint64_t i = global_index();
  if (i >= n) return;
  uint64_t at[1];
  in.offsets(i, at);
  store(y, to, i, load(x, from, at[0], to == F64));
}

KERNEL(advance_u64, 1, uint64_t* y, uint64_t by) { *y += by; }

#define FILL(bits)                                                                           \
  KERNEL(fill_u##bits, 256, uint##bits##_t* y, uint##bits##_t value, uint64_t n) {            \
    const uint64_t i = global_index();                                                       \
    if (i < n) y[i] = value;                                                                 \
  }

FILL(32)
FILL(64)
