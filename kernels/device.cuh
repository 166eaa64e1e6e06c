// Included by every kernel: one vocabulary with one meaning for nvcc and for the emulated driver of the tests, which compiles the
// kernels as C++ (tests/emulator).
//
//   KERNEL(add_f32, 256, const float* x, const float* y, float* out, uint64_t n) { ... }
//
// declares an entry point of at most 256 threads per block (KERNEL_BOUNDS(name, (threads, blocks), ...) also says how many blocks
// should fit on a multiprocessor). Everything else in a kernel file lives in an anonymous namespace. Dynamic shared memory is
// DYNAMIC_SHARED(float, name). Instructions without a C++ spelling have a wrapper here, with both bodies; kernels hold no asm.
#pragma once
#include <stdint.h>
#include <type_traits>
#ifdef STRAIT_EMU
#include "shim.h"
#define INSTRUCTION EMU_CALL
#define __noinline__ __attribute__((noipa))
#else
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#define STRAIT_LAUNCH_BOUNDS(...) __launch_bounds__(__VA_ARGS__)
#define KERNEL_BOUNDS(name, bounds, ...) extern "C" __global__ void STRAIT_LAUNCH_BOUNDS bounds name(__VA_ARGS__)
#define DYNAMIC_SHARED(T, name)                                     \
  extern __shared__ __align__(128) unsigned char strait_shared_[];  \
  T* name = reinterpret_cast<T*>(strait_shared_)
#define INSTRUCTION __device__ __forceinline__
#endif
#define KERNEL(name, threads, ...) KERNEL_BOUNDS(name, (threads), __VA_ARGS__)

namespace strait {

// ---------------------------------------------------------------- tensor cores
// D += A B for one warp, with f32 sums. Registers of lane l, with g = l / 4 and t = l % 4, as in the PTX manual (mma.m16n8k8, .m16n8k16):
//   tf32 m16n8k8     : a = A(g, t) A(g+8, t) A(g, t+4) A(g+8, t+4);  b = B(t, g) B(t+4, g)
//   bf16, f16 m16n8k16: a = A(g, 2t..) A(g+8, 2t..) A(g, 2t+8..) A(g+8, 2t+8..);  b = B(2t.., g) B(2t+8.., g)   (two each, low half first)
//   d = D(g, 2t) D(g, 2t+1) D(g+8, 2t) D(g+8, 2t+1)
#ifdef STRAIT_EMU
#define STRAIT_MMA(name, emulated, ptx) \
  INSTRUCTION void name(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) { emu::mma(d, a, b, emulated, EMU_HERE); }
#else
#define STRAIT_MMA(name, emulated, ptx)                                                                   \
  INSTRUCTION void name(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {                  \
    asm volatile("mma.sync.aligned." ptx " {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};\n"       \
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])                                         \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));                     \
  }
#endif
STRAIT_MMA(mma_m16n8k8_tf32, emu::TF32, "m16n8k8.row.col.f32.tf32.tf32.f32")
STRAIT_MMA(mma_m16n8k16_bf16, emu::BF16, "m16n8k16.row.col.f32.bf16.bf16.f32")
STRAIT_MMA(mma_m16n8k16_f16, emu::F16, "m16n8k16.row.col.f32.f16.f16.f32")

// To the nearest TF32, ties away from zero. An operand that is not rounded is truncated.
__device__ __forceinline__ uint32_t to_tf32(float x) {
#ifdef STRAIT_EMU
  uint32_t u = __float_as_uint(x);
  return (u & 0x7f800000u) == 0x7f800000u ? u : (u + 0x1000u) & ~0x1fffu;
#else
  uint32_t u;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(u) : "f"(x));
  return u;
#endif
}

// N 8 x 8 matrices of 16-bit elements from shared memory: lane 8 i + j gives the address of row j of matrix i, 16-byte aligned, and
// lane l receives the elements 2 (l % 4) and the next of row l / 4 of each matrix (of column l / 4 when transposed).
template <int N>
INSTRUCTION void ldmatrix(uint32_t (&r)[N], const void* row) {
  static_assert(N == 1 || N == 2 || N == 4, "one, two or four matrices");
#ifdef STRAIT_EMU
  emu::ldmatrix(r, N, false, row, EMU_HERE);
#else
  const uint32_t s = static_cast<uint32_t>(__cvta_generic_to_shared(row));
  if constexpr (N == 1) asm volatile("ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%0}, [%1];" : "=r"(r[0]) : "r"(s) : "memory");
  if constexpr (N == 2) asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0,%1}, [%2];" : "=r"(r[0]), "=r"(r[1]) : "r"(s) : "memory");
  if constexpr (N == 4)
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];" : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(s) : "memory");
#endif
}
template <int N>
INSTRUCTION void ldmatrix_transposed(uint32_t (&r)[N], const void* row) {
  static_assert(N == 1 || N == 2 || N == 4, "one, two or four matrices");
#ifdef STRAIT_EMU
  emu::ldmatrix(r, N, true, row, EMU_HERE);
#else
  const uint32_t s = static_cast<uint32_t>(__cvta_generic_to_shared(row));
  if constexpr (N == 1) asm volatile("ldmatrix.sync.aligned.m8n8.x1.trans.shared.b16 {%0}, [%1];" : "=r"(r[0]) : "r"(s) : "memory");
  if constexpr (N == 2) asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0,%1}, [%2];" : "=r"(r[0]), "=r"(r[1]) : "r"(s) : "memory");
  if constexpr (N == 4)
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];" : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(s) : "memory");
#endif
}

// ---------------------------------------------------------------- asynchronous copies
// BYTES (4, 8 or 16) from global to shared memory, both aligned to them; those from `valid` on become zeros. They are there after
// cp_async_wait<N>(), which leaves the N latest groups in flight, and for other threads after a barrier.
template <int BYTES>
INSTRUCTION void cp_async(void* to_shared, const void* from_global, int valid = BYTES) {
  static_assert(BYTES == 4 || BYTES == 8 || BYTES == 16, "what the instruction copies");
#ifdef STRAIT_EMU
  emu::cp_async(to_shared, from_global, BYTES, valid, EMU_HERE);
#else
  const uint32_t s = static_cast<uint32_t>(__cvta_generic_to_shared(to_shared));
  // Past the first-level cache where the instruction can: the data is used once, from shared memory.
  if constexpr (BYTES == 16) asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(s), "l"(from_global), "r"(valid) : "memory");
  else asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(s), "l"(from_global), "n"(BYTES), "r"(valid) : "memory");
#endif
}
// As above, or BYTES of zeros without reading anything: one predicate, no arithmetic.
template <int BYTES>
INSTRUCTION void cp_async_or_zeros(void* to_shared, const void* from_global, bool there) {
  static_assert(BYTES == 4 || BYTES == 8 || BYTES == 16, "what the instruction copies");
#ifdef STRAIT_EMU
  emu::cp_async(to_shared, from_global, BYTES, there ? BYTES : 0, EMU_HERE);
#else
  const uint32_t s = static_cast<uint32_t>(__cvta_generic_to_shared(to_shared));
  if constexpr (BYTES == 16)
    asm volatile("{ .reg .pred p; setp.eq.u32 p, %2, 0; cp.async.cg.shared.global [%0], [%1], 16, p; }" ::"r"(s), "l"(from_global), "r"(uint32_t(there)) : "memory");
  else
    asm volatile("{ .reg .pred p; setp.eq.u32 p, %3, 0; cp.async.ca.shared.global [%0], [%1], %2, p; }" ::"r"(s), "l"(from_global), "n"(BYTES), "r"(uint32_t(there)) : "memory");
#endif
}
INSTRUCTION void cp_async_commit() {
#ifdef STRAIT_EMU
  emu::cp_async_commit();
#else
  asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}
template <int N>
INSTRUCTION void cp_async_wait() {
#ifdef STRAIT_EMU
  emu::cp_async_wait(N);
#else
  asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
#endif
}

// The element that is `index` times `scale` bytes after an address in global memory, or zero without reading anything: an address, a
// predicate and a load, where they are written.
template <class T>
INSTRUCTION T load_or_zero(const T* from, int32_t index, int32_t scale, bool there) {
  static_assert(sizeof(T) == 4 || sizeof(T) == 2, "what the instruction loads");
#ifdef STRAIT_EMU
  return there ? *reinterpret_cast<const T*>(reinterpret_cast<const char*>(from) + int64_t(index) * scale) : T(0.f);
#else
  std::conditional_t<sizeof(T) == 4, uint32_t, uint16_t> bits;
  if constexpr (sizeof(T) == 4)
    asm volatile("{ .reg .pred p; .reg .b64 a; setp.ne.u32 p, %4, 0; mad.wide.s32 a, %2, %3, %1; mov.b32 %0, 0; @p ld.global.b32 %0, [a]; }"
                 : "=r"(bits) : "l"(from), "r"(index), "r"(scale), "r"(uint32_t(there)));
  else
    asm volatile("{ .reg .pred p; .reg .b64 a; setp.ne.u32 p, %4, 0; mad.wide.s32 a, %2, %3, %1; mov.b16 %0, 0; @p ld.global.b16 %0, [a]; }"
                 : "=h"(bits) : "l"(from), "r"(index), "r"(scale), "r"(uint32_t(there)));
  return reinterpret_cast<const T&>(bits);
#endif
}

// ---------------------------------------------------------------- sums in a fixed order
template <class T>
__device__ __forceinline__ T warp_sum(T v) {
  for (int o = 16; o > 0; o >>= 1) v += __shfl_xor_sync(0xffffffffu, v, o);
  return v;
}
// Over the block, for every thread; whole warps call it. `scratch` is shared memory for 33 values, free again afterwards.
template <class T>
__device__ __forceinline__ T block_sum(T v, T* scratch) {
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, warps = blockDim.x >> 5;
  v = warp_sum(v);
  if (lane == 0) scratch[warp] = v;
  __syncthreads();
  if (warp == 0) {
    const T s = warp_sum(lane < warps ? scratch[lane] : T(0));
    if (lane == 0) scratch[32] = s;
  }
  __syncthreads();
  const T sum = scratch[32];
  __syncthreads();
  return sum;
}
}  // namespace strait
