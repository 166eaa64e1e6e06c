// Products of operands that the threads lay out themselves, for every layout that a descriptor can name: whether the hardware finds them
// where the PTX manual's examples put them, and sees plain stores after the fence.
#include "wgmma.cuh"

namespace {

// Where element k of line l lies, in bytes, as the examples of the PTX manual spell it for 16-bit elements; gaps between the repeating
// patterns (of `pattern` bytes) show which offset is which.
template <strait::Swizzle SWIZZLE, bool MN>
struct Layout {
  static constexpr uint32_t WIDTH =
      SWIZZLE == strait::SWIZZLE_128 ? 128 : SWIZZLE == strait::SWIZZLE_64 ? 64 : SWIZZLE == strait::SWIZZLE_32 ? 32 : 16;
  static constexpr uint32_t PATTERN = 8 * WIDTH;
  // K-major, swizzled: the leading offset is not used. The others: two different multiples of the pattern.
  static constexpr uint32_t NEAR = 2 * PATTERN, FAR = 17 * PATTERN;
  static constexpr uint32_t LEADING = MN ? (SWIZZLE == strait::SWIZZLE_NONE ? FAR : NEAR) : SWIZZLE == strait::SWIZZLE_NONE ? FAR : 16;
  static constexpr uint32_t STRIDE = MN ? (SWIZZLE == strait::SWIZZLE_NONE ? NEAR : FAR) : NEAR;
  static constexpr uint32_t BYTES = 48 * PATTERN;

  __device__ __forceinline__ static uint32_t at(uint32_t l, uint32_t k) {
    uint32_t bytes;
    if (!MN && SWIZZLE == strait::SWIZZLE_NONE) bytes = l % 8 * 16 + l / 8 * NEAR + k % 8 * 2 + k / 8 * FAR;
    else if (!MN) bytes = l % 8 * WIDTH + l / 8 * NEAR + k * 2;
    else if (SWIZZLE == strait::SWIZZLE_NONE) bytes = l % 8 * 2 + l / 8 * NEAR + k % 8 * 16 + k / 8 * FAR;
    else bytes = l % (WIDTH / 2) * 2 + l / (WIDTH / 2) * NEAR + k % 8 * WIDTH + k / 8 * FAR;
    // Chunks of 16 bytes change places by the number of their 128 bytes.
    const uint32_t chunks = WIDTH / 16;
    return bytes ^ (bytes / 128 % chunks * 16);
  }
};

template <strait::Swizzle SWIZZLE, bool MN>
__device__ __forceinline__ void probe(const __nv_bfloat16* a, const __nv_bfloat16* b, float* out) {
  using L = Layout<SWIZZLE, MN>;
  DYNAMIC_SHARED_1024(shared);
  unsigned char* right = shared + L::BYTES;
  for (uint32_t i = threadIdx.x; i < 64 * 16; i += 128) {
    *reinterpret_cast<__nv_bfloat16*>(shared + L::at(i / 16, i % 16)) = a[i];
    *reinterpret_cast<__nv_bfloat16*>(right + L::at(i / 16, i % 16)) = b[i];
  }
  strait::fence_proxy_async();
  __syncthreads();
  const uint64_t bits = strait::descriptor_bits(L::LEADING, L::STRIDE, SWIZZLE);
  float d[32];
  strait::wgmma_fence();
  const uint64_t of_a = strait::descriptor(strait::shared_address(shared), bits), of_b = strait::descriptor(strait::shared_address(right), bits);
  strait::wgmma<64, strait::FORMAT_BF16, MN, MN>(d, of_a, of_b, 0);
  strait::wgmma_commit();
  strait::wgmma_wait<0>(d);
  strait::store_64x64(out, d);
}

}  // namespace

#define LAYOUT(name, swizzle, mn)                                                                                       \
  KERNEL_BOUNDS(layout_##name, (128, 1), const __nv_bfloat16* a, const __nv_bfloat16* b, float* out) {           \
    probe<swizzle, mn>(a, b, out);                                                                                     \
  }
LAYOUT(k_none, strait::SWIZZLE_NONE, false)
LAYOUT(k_32, strait::SWIZZLE_32, false)
LAYOUT(k_64, strait::SWIZZLE_64, false)
LAYOUT(k_128, strait::SWIZZLE_128, false)
LAYOUT(mn_none, strait::SWIZZLE_NONE, true)
LAYOUT(mn_32, strait::SWIZZLE_32, true)
LAYOUT(mn_64, strait::SWIZZLE_64, true)
LAYOUT(mn_128, strait::SWIZZLE_128, true)
