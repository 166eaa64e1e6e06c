// Lets a CUDA kernel source compile as C++17 (g++ -x c++) and run on the CPU, one fiber per CUDA thread. kernels/device.cuh includes
// it in place of the CUDA headers. The runtime behind it is in the .cpp files of this folder.
#pragma once
#include <math.h>

#include <cassert>
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
// `fast` runs a block on every core: one copy of the shared variables for each. The other flavours run one block at a time, and
// gcc puts guard zones around plain statics.
#ifdef EMU_FAST
#define EMU_PER_WORKER thread_local
#else
#define EMU_PER_WORKER
#endif
#define __shared__ static EMU_PER_WORKER
// The shim's own accesses are not those of the kernel.
#define EMU_UNSEEN __attribute__((no_sanitize("address", "thread", "undefined")))
// Not inlined, so that its return address is the line of the kernel.
#define EMU_CALL EMU_UNSEEN __attribute__((noinline, unused)) static
#define EMU_HERE __builtin_return_address(0)

namespace emu {
// What a kernel can see of its own thread; the scheduler's part is in runtime.h.
struct ThreadView {
  uint3 tid, bid;
  dim3 bdim, gdim;
  unsigned lane, warp, index;
};
extern EMU_PER_WORKER ThreadView* self;
void* dynamic_shared();
[[noreturn]] void device_assert(const char* expression, const char* file, int line);
[[noreturn]] void device_trap(const void* site);

// A kernel: its name, the sizes of its parameters, and how to call it with pointers to the arguments.
struct KernelInfo {
  const char* name;
  void (*call)(void** arguments);
  size_t count;
  const unsigned* sizes;
  KernelInfo* next;
};
void register_kernel(KernelInfo*);
template <auto F, class Signature = decltype(F)>
struct Registration;
template <auto F, class... A>
struct Registration<F, void (*)(A...)> {
  static constexpr unsigned sizes[] = {sizeof(A)..., 0};
  template <size_t... I>
  EMU_UNSEEN static void spread(void** a, std::index_sequence<I...>) { F(*static_cast<A*>(a[I])...); }
  EMU_UNSEEN static void call(void** a) { spread(a, std::index_sequence_for<A...>{}); }
  KernelInfo info;
  explicit Registration(const char* name) : info{name, call, sizeof...(A), sizes, nullptr} { register_kernel(&info); }
};
// Sixteen bytes in one access, which instrumentation sees as one.
typedef unsigned Words16 __attribute__((vector_size(16), may_alias));
template <class V>
inline __attribute__((always_inline)) V load16(const void* p) {
  static_assert(sizeof(V) == 16, "one access");
  return __builtin_bit_cast(V, *static_cast<const Words16*>(p));
}
template <class V>
inline __attribute__((always_inline)) void store16(void* p, const V& v) {
  static_assert(sizeof(V) == 16, "one access");
  *static_cast<Words16*>(p) = __builtin_bit_cast(Words16, v);
}
}  // namespace emu

// Declares a kernel and registers it. Its launch bounds are checked from the PTX.
#define KERNEL_BOUNDS(name, bounds, ...)                             \
  extern "C" void name(__VA_ARGS__);                                 \
  static ::emu::Registration<&name> emu_registration_##name(#name);  \
  extern "C" void name(__VA_ARGS__)
#define DYNAMIC_SHARED(T, name) T* name = static_cast<T*>(::emu::dynamic_shared())

#define threadIdx (::emu::self->tid)
#define blockIdx (::emu::self->bid)
#define blockDim (::emu::self->bdim)
#define gridDim (::emu::self->gdim)
#define warpSize 32
#undef assert
#define assert(e) ((e) ? void(0) : ::emu::device_assert(#e, __FILE__, __LINE__))
[[noreturn]] EMU_CALL void __trap() { emu::device_trap(EMU_HERE); }

#include "shim_atomic.h"
#include "shim_math.h"
#include "shim_warp.h"
