// Tensors of random numbers: element i depends on the key, the draw's number and i alone.
#include "philox.cuh"
#include "strided.cuh"

namespace {

template <class T>
__device__ __forceinline__ void store4(T* out, uint64_t block, uint64_t n, float4 v) {
  const uint64_t first = 4 * block;
  const Pack<float> all = {{v.x, v.y, v.z, v.w}};
  if (sizeof(T) == 4 && first + 4 <= n) {
    store_pack(reinterpret_cast<float*>(out + first), all);
    return;
  }
#pragma unroll
  for (int i = 0; i < 4; ++i)
    if (first + i < n) out[first + i] = all.v[i];
}

}  // namespace

// `out` is a whole allocation, and so aligned. Normals in f64 are those of f32, widened.
#define DRAW(T, suffix, name)                                                                                                 \
  KERNEL(random_##name##_##suffix, 256, T* out, uint64_t n, uint64_t key, uint64_t number, const uint64_t* offset) {         \
    const uint64_t block = global_index();                                                                                   \
    if (4 * block < n) store4(out, block, n, name##s(key, draw_number(number, offset), block));                              \
  }

DRAW(float, f32, normal)
DRAW(double, f64, normal)
DRAW(float, f32, uniform)

KERNEL(random_uniform_f64, 256, double* out, uint64_t n, uint64_t key, uint64_t number, const uint64_t* offset) {
  const uint64_t block = global_index(), draw = draw_number(number, offset);
  if (4 * block >= n) return;
  const Words high = philox(key, draw, block), low = philox(key, draw | FINE, block);
#pragma unroll
  for (int i = 0; i < 4; ++i)
    if (4 * block + i < n) out[4 * block + i] = fine_uniform_from(high.w[i], low.w[i]);
}
