// What every kernel includes, and the only thing it includes: one vocabulary with one meaning for nvcc and for the emulated driver
// of the tests, which compiles the kernels as C++ (tests/emulator).
//
//   KERNEL(add_f32, 256, const float* x, const float* y, float* out, uint64_t n) { ... }
//
// declares an entry point of at most 256 threads per block (KERNEL_BOUNDS(name, (threads, blocks), ...) also says how many blocks
// should fit on a multiprocessor). Everything else in a kernel file lives in an anonymous namespace. Dynamic shared memory is
// DYNAMIC_SHARED(float, name). Instructions without a C++ spelling have a wrapper here, with both bodies; kernels hold no asm.
#pragma once
#include <stdint.h>
#ifdef STRAIT_EMU
#include "shim.h"
#else
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#define STRAIT_LAUNCH_BOUNDS(...) __launch_bounds__(__VA_ARGS__)
#define KERNEL_BOUNDS(name, bounds, ...) extern "C" __global__ void STRAIT_LAUNCH_BOUNDS bounds name(__VA_ARGS__)
#define DYNAMIC_SHARED(T, name)                                        \
  extern __shared__ __align__(128) unsigned char strait_shared_[];     \
  T* name = reinterpret_cast<T*>(strait_shared_)
#endif
#define KERNEL(name, threads, ...) KERNEL_BOUNDS(name, (threads), __VA_ARGS__)

namespace strait {

// ---------------------------------------------------------------- tensor cores
// Fragment layouts are PTX's (ISA 9.7.14, "Matrix fragments for mma.m16n8k8/k16"):
//   g = lane/4, t = lane%4
//   tf32 m16n8k8 : a0(g,t) a1(g+8,t) a2(g,t+4) a3(g+8,t+4);  b0(t,g) b1(t+4,g)
//   bf16 m16n8k16: a0(g,2t..) a1(g+8,2t..) a2(g,2t+8..) a3(g+8,2t+8..)
//                  b0(2t..,g) b1(2t+8..,g)       (two bf16 per register, low first)
//   c/d          : c0(g,2t) c1(g,2t+1) c2(g+8,2t) c3(g+8,2t+1)
__device__ __forceinline__ void mma_m16n8k8_tf32(float (&d)[4], const uint32_t (&a)[4],
                                                 const uint32_t (&b)[2]) {
#ifdef STRAIT_EMU
  emu::mma_tf32_16x8x8(d, a, b);
#else
  asm volatile(
      "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 "
      "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};\n"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#endif
}

__device__ __forceinline__ void mma_m16n8k16_bf16(float (&d)[4], const uint32_t (&a)[4],
                                                  const uint32_t (&b)[2]) {
#ifdef STRAIT_EMU
  emu::mma_bf16_16x8x16(d, a, b);
#else
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
      "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};\n"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#endif
}

__device__ __forceinline__ uint32_t f32_to_tf32(float x) {  // round to nearest, ties away
#ifdef STRAIT_EMU
  uint32_t u = __float_as_uint(x);
  return ((u & 0x7f800000u) == 0x7f800000u) ? u : ((u + 0x1000u) & ~0x1fffu);
#else
  uint32_t u;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(u) : "f"(x));
  return u;
#endif
}

// ---------------------------------------------------------------- async copies
// 16-byte global -> shared copy; bytes past `src_bytes` are zero-filled.
__device__ __forceinline__ void cp_async16(void* dst_shared, const void* src_global,
                                           int src_bytes = 16) {
#ifdef STRAIT_EMU
  emu::cp_async(dst_shared, src_global, 16, src_bytes);
#else
  uint32_t s = static_cast<uint32_t>(__cvta_generic_to_shared(dst_shared));
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;\n" ::"r"(s), "l"(src_global),
               "r"(src_bytes)
               : "memory");
#endif
}
__device__ __forceinline__ void cp_async_commit() {
#ifdef STRAIT_EMU
  emu::cp_async_commit();
#else
  asm volatile("cp.async.commit_group;\n" ::: "memory");
#endif
}
template <int N>
__device__ __forceinline__ void cp_async_wait() {
#ifdef STRAIT_EMU
  emu::cp_async_wait(N);
#else
  asm volatile("cp.async.wait_group %0;\n" ::"n"(N) : "memory");
#endif
}

// ---------------------------------------------------------------- warp / block sums
__device__ __forceinline__ float warp_sum(float v) {
  for (int o = 16; o > 0; o >>= 1) v += __shfl_xor_sync(0xffffffffu, v, o);
  return v;
}
// Sum over the block; result valid in every thread.  `red` holds >= 33 floats.
__device__ __forceinline__ float block_sum(float v, float* red) {
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, nw = (blockDim.x + 31) >> 5;
  v = warp_sum(v);
  if (lane == 0) red[warp] = v;
  __syncthreads();
  if (warp == 0) {
    float s = lane < nw ? red[lane] : 0.f;
    s = warp_sum(s);
    if (lane == 0) red[32] = s;
  }
  __syncthreads();
  float r = red[32];
  __syncthreads();  // `red` may be reused by the caller
  return r;
}
}  // namespace strait
