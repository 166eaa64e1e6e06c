// shim.h -- lets a CUDA kernel source compile as ordinary C++17 (g++ -x c++) and run on
// the CPU, one fiber per CUDA thread.  Included by device.cuh when STRAIT_EMU is defined.
//
// Flavours (one shared object each, same sources, chosen by compiler flags):
//   fast  : -O2                         shared memory is thread_local; blocks on all cores
//   check : -fsanitize=kernel-address   every access calls us: bounds, per-array red zones
//   race  : -fsanitize=thread           every access calls us: bounds, races, uninitialised
//   asan  : -fsanitize=address,undefined  the ordinary sanitizers (libasan + libubsan)
// check and race link NO sanitizer runtime: runtime.cpp implements the callbacks itself.
#pragma once
#include <cassert>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <type_traits>
#include <utility>
// The toolkit's own headers: vector types, half and bfloat16 with their host code paths.
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <vector_functions.h>
#include <vector_types.h>

#undef __global__
#undef __device__
#undef __host__
#undef __constant__
#undef __shared__
#undef __forceinline__
#undef __launch_bounds__
#undef __align__
#undef __grid_constant__
#define __global__
#define __device__
#define __host__
#define __constant__ const
#define __grid_constant__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))
#ifdef EMU_FAST
#define __shared__ static thread_local  // one copy per OS thread = per running block
#else
#define __shared__ static  // single worker; real globals get red zones from gcc
#endif
// Accesses made by the shim itself must not be instrumented.
#define EMU_NOSAN __attribute__((no_sanitize("address", "thread", "undefined")))
#define EMU_HERE __builtin_return_address(0)

namespace emu {
struct Block;
struct Warp;
// What kernel code can see of its own thread; the scheduler's part follows in runtime.cpp.
struct ThreadView {
  uint3 tid;
  uint3 bid;
  dim3 bdim, gdim;
  unsigned lane, warp, lin;
  Block* block;
};
extern thread_local ThreadView* self;  // TLS model: see build.sh

using Slot = unsigned char[64];
// Deposit `n` bytes, wait until every live lane of `mask` has, see everybody's bytes.
const Slot* warp_exchange(unsigned mask, int op, const void* payload, size_t n, const void* site,
                          unsigned* present);
void block_barrier(const void* site, int id = 0, unsigned count = 0);
int block_barrier_count(const void* site, int pred, int op);
void sync_warp(unsigned mask, const void* site);
void* dyn_shared();
void cp_async(void* dst, const void* src, int bytes, int src_bytes);
void cp_async_commit();
void cp_async_wait(int n);
void mma_tf32_16x8x8(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]);
void mma_bf16_16x8x16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]);
void on_atomic(void* p, unsigned size, const void* pc);  // bounds + "this access is atomic"
[[noreturn]] void device_assert(const char* expr, const char* file, int line);

// ---- kernel registry: name, argument kinds and sizes, and a thunk that unpacks void** args
struct KernelInfo {
  const char* name;
  void (*thunk)(void** args);
  int nargs;
  const unsigned* sizes;  // bytes per argument
  KernelInfo* next;
};
void register_kernel(KernelInfo*);
template <auto F, class Sig = decltype(F)>
struct Thunk;
template <auto F, class... A>
struct Thunk<F, void (*)(A...)> {
  static constexpr unsigned sizes[] = {sizeof(A)..., 0};
  template <size_t... I>
  EMU_NOSAN static void call(void** a, std::index_sequence<I...>) { F(*static_cast<A*>(a[I])...); }
  EMU_NOSAN static void run(void** a) { call(a, std::index_sequence_for<A...>{}); }
  KernelInfo info;
  explicit Thunk(const char* n) : info{n, run, sizeof...(A), sizes, nullptr} { register_kernel(&info); }
};
}  // namespace emu

// Declares a kernel, with its bounds, and registers it.
#define KERNEL_BOUNDS(name, bounds, ...)               \
  extern "C" void name(__VA_ARGS__);                   \
  static ::emu::Thunk<&name> emu_reg_##name(#name);    \
  extern "C" void name(__VA_ARGS__)
#define DYNAMIC_SHARED(T, name) T* name = static_cast<T*>(::emu::dyn_shared())

// ---------------------------------------------------------------- builtin variables
#define threadIdx (::emu::self->tid)
#define blockIdx (::emu::self->bid)
#define blockDim (::emu::self->bdim)
#define gridDim (::emu::self->gdim)
#define warpSize 32
#undef assert
#define assert(e) ((e) ? void(0) : ::emu::device_assert(#e, __FILE__, __LINE__))

// ---------------------------------------------------------------- synchronisation
// noinline, so that EMU_HERE is the call site in the kernel.
#define EMU_API EMU_NOSAN __attribute__((noinline, unused)) static
EMU_API void __syncthreads() { emu::block_barrier(EMU_HERE); }
EMU_API int __syncthreads_count(int p) { return emu::block_barrier_count(EMU_HERE, p, 0); }
EMU_API int __syncthreads_and(int p) { return emu::block_barrier_count(EMU_HERE, p, 1); }
EMU_API int __syncthreads_or(int p) { return emu::block_barrier_count(EMU_HERE, p, 2); }
EMU_API void __syncwarp(unsigned mask = 0xffffffffu) { emu::sync_warp(mask, EMU_HERE); }
inline void __threadfence() { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
inline void __threadfence_block() { __atomic_signal_fence(__ATOMIC_SEQ_CST); }
inline void __threadfence_system() { __atomic_thread_fence(__ATOMIC_SEQ_CST); }

// ---------------------------------------------------------------- warp shuffles and votes
namespace emu {
// Source lane of each shuffle, or the caller's own lane when out of the segment (CUDA rules).
enum { SHFL_IDX, SHFL_UP, SHFL_DOWN, SHFL_XOR, BALLOT, MATCH, MMA_TF32, MMA_BF16, SYNCWARP };
template <class T>
EMU_NOSAN T shfl(int op, unsigned mask, T v, int arg, int width, const void* site) {
  static_assert(sizeof(T) <= 16 && std::is_trivially_copyable_v<T>, "shuffle payload");
  unsigned present;
  const Slot* s = warp_exchange(mask, op, &v, sizeof(T), site, &present);
  int lane = int(self->lane), seg = lane & ~(width - 1), src;
  switch (op) {
    case SHFL_IDX: src = seg + (arg & (width - 1)); break;
    case SHFL_UP: src = lane - arg < seg ? lane : lane - arg; break;
    case SHFL_DOWN: src = (lane & (width - 1)) + arg >= width ? lane : lane + arg; break;
    default: src = (lane ^ arg) >= seg + width ? lane : lane ^ arg; break;
  }
  T r;
  if (src >= 0 && src < 32 && (present >> src & 1)) memcpy(&r, s[src], sizeof(T));
  else memset(&r, 0xff, sizeof(T));  // reading an absent lane is undefined: make it visible
  return r;
}
}  // namespace emu
template <class T> EMU_API T __shfl_sync(unsigned m, T v, int l, int w = 32) { return emu::shfl(emu::SHFL_IDX, m, v, l, w, EMU_HERE); }
template <class T> EMU_API T __shfl_up_sync(unsigned m, T v, unsigned d, int w = 32) { return emu::shfl(emu::SHFL_UP, m, v, int(d), w, EMU_HERE); }
template <class T> EMU_API T __shfl_down_sync(unsigned m, T v, unsigned d, int w = 32) { return emu::shfl(emu::SHFL_DOWN, m, v, int(d), w, EMU_HERE); }
template <class T> EMU_API T __shfl_xor_sync(unsigned m, T v, int x, int w = 32) { return emu::shfl(emu::SHFL_XOR, m, v, x, w, EMU_HERE); }
EMU_API unsigned __ballot_sync(unsigned mask, int pred) {
  unsigned present, r = 0;
  unsigned char b = pred != 0;
  const emu::Slot* s = emu::warp_exchange(mask, emu::BALLOT, &b, 1, EMU_HERE, &present);
  for (int i = 0; i < 32; ++i) r |= unsigned((present >> i & 1) && s[i][0]) << i;
  return r;
}
EMU_NOSAN static inline int __any_sync(unsigned m, int p) { return __ballot_sync(m, p) != 0; }
EMU_NOSAN static inline int __all_sync(unsigned m, int p) { return __ballot_sync(m, !p) == 0; }
template <class T>
EMU_API T __reduce_add_sync_(unsigned mask, T v) {  // sm_80 redux.sync
  unsigned present; T r = 0, x;
  const emu::Slot* s = emu::warp_exchange(mask, emu::MATCH, &v, sizeof v, EMU_HERE, &present);
  for (int i = 0; i < 32; ++i) if (present >> i & 1) { memcpy(&x, s[i], sizeof x); r += x; }
  return r;
}
static inline unsigned __reduce_add_sync(unsigned m, unsigned v) { return __reduce_add_sync_(m, v); }
static inline int __reduce_add_sync(unsigned m, int v) { return __reduce_add_sync_(m, v); }

// ---------------------------------------------------------------- atomics
namespace emu {
template <class T, class F>
EMU_NOSAN inline T rmw(T* p, F f, const void* pc) {
  on_atomic(p, sizeof(T), pc);
  T old;
  __atomic_load(p, &old, __ATOMIC_RELAXED);
  for (;;) {
    T nw = f(old);
    if (__atomic_compare_exchange(p, &old, &nw, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) return old;
  }
}
}  // namespace emu
#define EMU_ATOMIC(name, T, expr)                                              \
  EMU_API T name(T* p, T v) {                                                  \
    return emu::rmw(p, [v](T old) EMU_NOSAN -> T { return (expr); }, EMU_HERE); \
  }
#define EMU_ATOMIC_INT(T)                      \
  EMU_ATOMIC(atomicAdd, T, old + v)            \
  EMU_ATOMIC(atomicMax, T, old > v ? old : v)  \
  EMU_ATOMIC(atomicMin, T, old < v ? old : v)  \
  EMU_ATOMIC(atomicExch, T, (void(old), v))    \
  EMU_ATOMIC(atomicAnd, T, old & v)            \
  EMU_ATOMIC(atomicOr, T, old | v)             \
  EMU_ATOMIC(atomicXor, T, old ^ v)            \
  EMU_API T atomicCAS(T* p, T c, T v) {        \
    return emu::rmw(p, [c, v](T old) EMU_NOSAN -> T { return old == c ? v : old; }, EMU_HERE); \
  }
EMU_ATOMIC_INT(int)
EMU_ATOMIC_INT(unsigned)
EMU_ATOMIC_INT(unsigned long long)
EMU_ATOMIC(atomicAdd, float, old + v)
EMU_ATOMIC(atomicAdd, double, old + v)
EMU_ATOMIC(atomicExch, float, (void(old), v))
template <class T> __forceinline__ T __ldg(const T* p) { return *p; }  // instrumented in the caller

// ---------------------------------------------------------------- arithmetic
#define EMU_INL static inline
EMU_INL float emu_expf(float x) { return expf(x); }
EMU_INL float emu_exp10f(float x) { return powf(10.f, x); }
EMU_INL float emu_logf(float x) { return logf(x); }
EMU_INL float emu_log2f(float x) { return log2f(x); }
EMU_INL float emu_powf(float x, float y) { return powf(x, y); }
EMU_INL float emu_sinf(float x) { return sinf(x); }
EMU_INL float emu_cosf(float x) { return cosf(x); }
// glibc declares __expf and friends for its own use, so these are macros.
#define __expf emu_expf
#define __exp10f emu_exp10f
#define __logf emu_logf
#define __log2f emu_log2f
#define __powf emu_powf
#define __sinf emu_sinf
#define __cosf emu_cosf
EMU_INL float __fdividef(float a, float b) { return a / b; }
EMU_INL float __frcp_rn(float a) { return 1.f / a; }
EMU_INL float __fsqrt_rn(float a) { return sqrtf(a); }
EMU_INL float __fadd_rn(float a, float b) { return a + b; }
EMU_INL float __fmul_rn(float a, float b) { return a * b; }
EMU_INL float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
EMU_INL float __saturatef(float x) { return x < 0.f ? 0.f : x > 1.f ? 1.f : x == x ? x : 0.f; }
EMU_INL float rsqrtf(float x) { return 1.f / sqrtf(x); }
EMU_INL unsigned __float_as_uint(float x) { unsigned u; memcpy(&u, &x, 4); return u; }
EMU_INL int __float_as_int(float x) { int u; memcpy(&u, &x, 4); return u; }
EMU_INL float __uint_as_float(unsigned x) { float u; memcpy(&u, &x, 4); return u; }
EMU_INL float __int_as_float(int x) { float u; memcpy(&u, &x, 4); return u; }
EMU_INL int __float2int_rn(float x) { return int(nearbyintf(x)); }
EMU_INL int __popc(unsigned x) { return __builtin_popcount(x); }
EMU_INL int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
EMU_INL int __clz(int x) { return x ? __builtin_clz(unsigned(x)) : 32; }
EMU_INL int __ffs(int x) { return __builtin_ffs(x); }
EMU_INL unsigned __brev(unsigned x) { unsigned r = 0; for (int i = 0; i < 32; ++i) r |= (x >> i & 1u) << (31 - i); return r; }
EMU_INL unsigned __umulhi(unsigned a, unsigned b) { return unsigned((uint64_t(a) * b) >> 32); }
// The toolkit headers have no host path for the fused half operations; exact in double, one rounding.
EMU_INL __half __hfma(__half a, __half b, __half c) { return __double2half(fma(double(__half2float(a)), double(__half2float(b)), double(__half2float(c)))); }
EMU_INL __nv_bfloat16 __hfma(__nv_bfloat16 a, __nv_bfloat16 b, __nv_bfloat16 c) { return __double2bfloat16(fma(double(__bfloat162float(a)), double(__bfloat162float(b)), double(__bfloat162float(c)))); }
template <class A, class B> constexpr std::common_type_t<A, B> min(A a, B b) { using C = std::common_type_t<A, B>; return C(b) < C(a) ? C(b) : C(a); }
template <class A, class B> constexpr std::common_type_t<A, B> max(A a, B b) { using C = std::common_type_t<A, B>; return C(a) < C(b) ? C(b) : C(a); }
