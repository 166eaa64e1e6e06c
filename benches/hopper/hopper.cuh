// Hopper's own instructions (sm_90a): barriers in shared memory that count bytes, clusters, copies of boxes by tensor maps. wgmma.cuh has
// the products. Kernels hold no asm.
#pragma once
#include "device.cuh"

// Aligned to the longest pattern of a swizzle.
#define DYNAMIC_SHARED_1024(name)                                         \
  extern __shared__ __align__(1024) unsigned char strait_shared_1024_[];  \
  unsigned char* name = strait_shared_1024_

namespace strait {

// What cuTensorMapEncodeTiled fills. A kernel takes it by value: `const __grid_constant__ TensorMap`.
struct alignas(128) TensorMap {
  uint64_t opaque[16];
};

// ---------------------------------------------------------------- addresses in shared memory
INSTRUCTION uint32_t shared_address(const void* p) { return static_cast<uint32_t>(__cvta_generic_to_shared(p)); }

// ---------------------------------------------------------------- barriers that count arrivals and bytes
// A phase ends when `count` threads have arrived and as many bytes have come as were announced. wait(parity) returns when the phase with
// that parity is over: a fresh barrier's phase 0 is the first; waiting for parity 1 on a fresh barrier returns at once.
INSTRUCTION void mbarrier_init(uint64_t* barrier, uint32_t count) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(barrier)), "r"(count) : "memory");
}
// By the thread that initialised them, before the block's (or cluster's) barrier.
INSTRUCTION void fence_mbarrier_init() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}
INSTRUCTION void mbarrier_arrive(uint64_t* barrier) {
  asm volatile("mbarrier.arrive.release.cta.shared::cta.b64 _, [%0];" ::"r"(shared_address(barrier)) : "memory");
}
// Of the block `rank` of the cluster, at the same place. It hands over what wgmma_wait waited for, not this thread's stores: with
// .release.cluster ptxas puts a MEMBAR.ALL.GPU before it.
INSTRUCTION void mbarrier_arrive_remote(uint64_t* barrier, uint32_t rank) {
  asm volatile(
      "{ .reg .b32 remote;\n"
      "mapa.shared::cluster.u32 remote, %0, %1;\n"
      "mbarrier.arrive.shared::cluster.b64 _, [remote]; }" ::"r"(shared_address(barrier)), "r"(rank) : "memory");
}
// Arrives and announces bytes.
INSTRUCTION void mbarrier_expect(uint64_t* barrier, uint32_t bytes) {
  asm volatile("mbarrier.arrive.expect_tx.release.cta.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(barrier)), "r"(bytes) : "memory");
}
#define STRAIT_MBARRIER_WAIT(name, scope)                                                                     \
  INSTRUCTION void name(uint64_t* barrier, uint32_t parity) {                                                 \
    asm volatile("{ .reg .pred done;\n"                                                                       \
                 "again: mbarrier.try_wait.parity.acquire." scope ".shared::cta.b64 done, [%0], %1;\n"         \
                 "@!done bra again; }" ::"r"(shared_address(barrier)), "r"(parity) : "memory");                \
  }
STRAIT_MBARRIER_WAIT(mbarrier_wait, "cta")
// For barriers that other blocks of the cluster arrive at.
STRAIT_MBARRIER_WAIT(mbarrier_wait_cluster, "cluster")
// The place in a ring of stages, and the parity of the barriers' phase there.
template <int STAGES>
struct Ring {
  uint32_t stage = 0, parity = 0;
  __device__ __forceinline__ void advance() {
    if (++stage == STAGES) stage = 0, parity ^= 1;
  }
};
// What this thread stored to shared memory before, bulk copies and wgmma may read after the next barrier.
INSTRUCTION void fence_proxy_async() {
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

// ---------------------------------------------------------------- clusters
INSTRUCTION uint32_t cluster_rank() {
  uint32_t r;
  asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(r));
  return r;
}
// Every thread of the cluster.
INSTRUCTION void cluster_sync() {
  asm volatile("barrier.cluster.arrive.release.aligned;\nbarrier.cluster.wait.acquire.aligned;" ::: "memory");
}
// A number in the shared memory of block `rank`, at the same place as `p` here.
INSTRUCTION float4 load_remote(const float4* p, uint32_t rank) {
  float4 v;
  asm volatile(
      "{ .reg .b32 remote;\n"
      "mapa.shared::cluster.u32 remote, %4, %5;\n"
      "ld.shared::cluster.v4.f32 {%0,%1,%2,%3}, [remote]; }"
      : "=f"(v.x), "=f"(v.y), "=f"(v.z), "=f"(v.w) : "r"(shared_address(p)), "r"(rank) : "memory");
  return v;
}

// ---------------------------------------------------------------- bulk copies of boxes
INSTRUCTION void prefetch_map(const TensorMap* map) {
  asm volatile("prefetch.tensormap [%0];" ::"l"(map) : "memory");
}
// The box at (x, y, z), zeros where the tensor ends; one thread issues it. Its bytes are counted at `barrier`.
INSTRUCTION void copy_box(void* to_shared, const TensorMap* map, int x, int y, int z, uint64_t* barrier) {
  asm volatile("cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4, %5}], [%2];" ::"r"(
                   shared_address(to_shared)),
               "l"(map), "r"(shared_address(barrier)), "r"(x), "r"(y), "r"(z)
               : "memory");
}
// Of a map of five axes.
INSTRUCTION void copy_box5(void* to_shared, const TensorMap* map, int x, int y, int z, int u, int v, uint64_t* barrier) {
  asm volatile("cp.async.bulk.tensor.5d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4, %5, %6, %7}], [%2];" ::"r"(
                   shared_address(to_shared)),
               "l"(map), "r"(shared_address(barrier)), "r"(x), "r"(y), "r"(z), "r"(u), "r"(v)
               : "memory");
}
// The same to this place in each block of `mask`, whose barriers count it.
INSTRUCTION void copy_box_to(void* to_shared, const TensorMap* map, int x, int y, int z, uint64_t* barrier, uint16_t mask) {
  asm volatile(
      "cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster [%0], [%1, {%3, %4, %5}], [%2], %6;" ::"r"(
          shared_address(to_shared)),
      "l"(map), "r"(shared_address(barrier)), "r"(x), "r"(y), "r"(z), "h"(mask)
      : "memory");
}

// ---------------------------------------------------------------- registers
// Of a warpgroup; whole warpgroups call it, each in one branch of one if.
template <int COUNT>
INSTRUCTION void registers_down() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(COUNT));
}
template <int COUNT>
INSTRUCTION void registers_up() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(COUNT));
}

// ---------------------------------------------------------------- numbers
INSTRUCTION float power_of_two(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

// ---------------------------------------------------------------- time
// Of the multiprocessor's clock, and nanoseconds.
INSTRUCTION uint64_t clocks() { return clock64(); }
INSTRUCTION uint64_t nanoseconds() {
  uint64_t t;
  asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(t));
  return t;
}
}  // namespace strait
