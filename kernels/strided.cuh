// Layouts by value, and loops over elements.
#pragma once
#include "device.cuh"

namespace {

// The layouts of N tensors of one shape. Twin of `Strided` in src/device/cuda/args.rs.
template <int N>
struct Strided {
  uint32_t rank;        // axes after joining; 0 for a single element
  uint32_t contiguous;  // bit k: tensor k is contiguous
  uint64_t shape[6];
  uint64_t strides[N][6];

  // Offsets of element `index`, counted in row-major order.
  __device__ __forceinline__ void offsets(uint64_t index, uint64_t (&at)[N]) const {
#pragma unroll
    for (int k = 0; k < N; ++k) at[k] = 0;
#pragma unroll
    for (int i = 5; i >= 0; --i) {
      if (i >= int(rank)) continue;
      uint64_t coordinate = index;
      if (i > 0) {
        // 64-bit division is slow, and hardly ever needed.
        if ((index | shape[i]) >> 32) {
          const uint64_t quotient = index / shape[i];
          coordinate = index - quotient * shape[i];
          index = quotient;
        } else {
          const uint32_t quotient = uint32_t(index) / uint32_t(shape[i]);
          coordinate = uint32_t(index) - quotient * uint32_t(shape[i]);
          index = quotient;
        }
      }
#pragma unroll
      for (int k = 0; k < N; ++k) at[k] += coordinate * strides[k][i];
    }
  }
};

__device__ __forceinline__ uint64_t global_index() { return uint64_t(blockIdx.x) * blockDim.x + threadIdx.x; }

template <class T>
__device__ __forceinline__ bool aligned16(const T* p) {
  return (reinterpret_cast<uintptr_t>(p) & 15) == 0;
}

// Sixteen bytes at a time.
template <class T>
struct __align__(16) Pack {
  static constexpr int COUNT = 16 / sizeof(T);
  T v[COUNT];
};

// A pack in one access. A plain copy is one access for nvcc, but not always for the compiler of the emulated driver.
template <class T>
__device__ __forceinline__ Pack<T> load_pack(const T* p) {
#ifdef STRAIT_EMU
  return emu::load16<Pack<T>>(p);
#else
  return *reinterpret_cast<const Pack<T>*>(p);
#endif
}
template <class T>
__device__ __forceinline__ void store_pack(T* p, const Pack<T>& v) {
#ifdef STRAIT_EMU
  emu::store16(p, v);
#else
  *reinterpret_cast<Pack<T>*>(p) = v;
#endif
}

// y[i] = f(x[i]), `Pack<T>::COUNT` elements per thread: neighbours where a whole block has aligned ones, else a block apart, so that the
// lanes of a warp have neighbours.
template <class T, class F>
__device__ __forceinline__ void map1(const T* x, T* y, const Strided<1>& in, uint64_t n, F f) {
  constexpr int COUNT = Pack<T>::COUNT;
  const uint64_t begin = uint64_t(blockIdx.x) * blockDim.x * COUNT;
  if ((in.contiguous & 1) && begin + blockDim.x * COUNT <= n && aligned16(x) && aligned16(y)) {
    const uint64_t first = begin + threadIdx.x * COUNT;
    Pack<T> p = *reinterpret_cast<const Pack<T>*>(x + first);
#pragma unroll
    for (int i = 0; i < COUNT; ++i) p.v[i] = f(p.v[i]);
    *reinterpret_cast<Pack<T>*>(y + first) = p;
    return;
  }
#pragma unroll 1
  for (uint64_t i = begin + threadIdx.x; i < n && i < begin + blockDim.x * COUNT; i += blockDim.x) {
    uint64_t at[1];
    in.offsets(i, at);
    y[i] = f(x[at[0]]);
  }
}

// y[i] = f(a[i], b[i]), as map1.
template <class T, class F>
__device__ __forceinline__ void map2(const T* a, const T* b, T* y, const Strided<2>& in, uint64_t n, F f) {
  constexpr int COUNT = Pack<T>::COUNT;
  const uint64_t begin = uint64_t(blockIdx.x) * blockDim.x * COUNT;
  if (in.contiguous == 3 && begin + blockDim.x * COUNT <= n && aligned16(a) && aligned16(b) && aligned16(y)) {
    const uint64_t first = begin + threadIdx.x * COUNT;
    Pack<T> p = *reinterpret_cast<const Pack<T>*>(a + first);
    const Pack<T> q = *reinterpret_cast<const Pack<T>*>(b + first);
#pragma unroll
    for (int i = 0; i < COUNT; ++i) p.v[i] = f(p.v[i], q.v[i]);
    *reinterpret_cast<Pack<T>*>(y + first) = p;
    return;
  }
#pragma unroll 1
  for (uint64_t i = begin + threadIdx.x; i < n && i < begin + blockDim.x * COUNT; i += blockDim.x) {
    uint64_t at[2];
    in.offsets(i, at);
    y[i] = f(a[at[0]], b[at[1]]);
  }
}

}  // namespace
