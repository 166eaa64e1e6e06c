// What copies of boxes bring, byte by byte, what products make of it, and how fast the clock is.
#include "wgmma.cuh"

namespace {

using strait::TensorMap;

// Twin of `Box` in host/boxes.cpp.
struct Box {
  void* out;
  int at[5];
  uint32_t bytes;
};

}  // namespace

// The box's bytes, in the order in which they lie in shared memory.
KERNEL(box_copied, 128, const __grid_constant__ TensorMap map, const __grid_constant__ Box p) {
  DYNAMIC_SHARED_1024(shared);
  uint64_t* barrier = reinterpret_cast<uint64_t*>(shared + p.bytes);
  if (threadIdx.x == 0) {
    strait::mbarrier_init(barrier, 1);
    strait::fence_mbarrier_init();
    strait::mbarrier_expect(barrier, p.bytes);
    strait::copy_box5(shared, &map, p.at[0], p.at[1], p.at[2], p.at[3], p.at[4], barrier);
  }
  __syncthreads();
  strait::mbarrier_wait(barrier, 0);
  for (uint32_t i = threadIdx.x; i < p.bytes / 4; i += 128) static_cast<uint32_t*>(p.out)[i] = reinterpret_cast<const uint32_t*>(shared)[i];
}

// out [64, 64] = a b', for a and b [64, 8] of f32 as the maps say, whose rows are 32 bytes: in one instruction for TF32.
KERNEL(tf32_product, 128, const __grid_constant__ TensorMap a, const __grid_constant__ TensorMap b, float* out) {
  constexpr uint32_t BYTES = 64 * 32;
  DYNAMIC_SHARED_1024(shared);
  uint64_t* barrier = reinterpret_cast<uint64_t*>(shared + 2 * BYTES);
  if (threadIdx.x == 0) {
    strait::mbarrier_init(barrier, 1);
    strait::fence_mbarrier_init();
    strait::mbarrier_expect(barrier, 2 * BYTES);
    strait::copy_box5(shared, &a, 0, 0, 0, 0, 0, barrier);
    strait::copy_box5(shared + BYTES, &b, 0, 0, 0, 0, 0, barrier);
  }
  __syncthreads();
  strait::mbarrier_wait(barrier, 0);
  constexpr uint64_t BITS = strait::descriptor_bits(16, 8 * 32, strait::SWIZZLE_32);
  const uint32_t base = strait::shared_address(shared);
  float d[32];
  strait::wgmma_fence();
  strait::wgmma<64, strait::FORMAT_TF32, false, false>(d, strait::descriptor(base, BITS), strait::descriptor(base + BYTES, BITS), 0);
  strait::wgmma_commit();
  strait::wgmma_wait<0>(d);
  strait::store_64x64(out, d);
}

// Clocks and nanoseconds of a fifth of a millisecond.
KERNEL(clock_rate, 1, uint64_t* out) {
  const uint64_t clock = strait::clocks(), time = strait::nanoseconds();
  uint64_t passed;
  do passed = strait::nanoseconds() - time;
  while (passed < 200000);
  out[0] = strait::clocks() - clock, out[1] = passed;
}
