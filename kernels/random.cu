// Tensors of random numbers: element i depends on the key, the draw's number and i alone.
#include "philox.cuh"
#include "strided.cuh"

namespace {

// Four numbers, 16 bytes at a time. `out` is a whole allocation, and so aligned.
template <class T>
__device__ __forceinline__ void store4(T* out, uint64_t block, uint64_t n, const T (&v)[4]) {
  constexpr int COUNT = sizeof(Pack<T>) / sizeof(T);
  const uint64_t first = 4 * block;
  if (first + 4 <= n) {
#pragma unroll
    for (int i = 0; i < 4; i += COUNT) {
      Pack<T> part;
#pragma unroll
      for (int j = 0; j < COUNT; ++j) part.v[j] = v[i + j];
      store_pack(out + first + i, part);
    }
    return;
  }
#pragma unroll
  for (int i = 0; i < 4; ++i)
    if (first + i < n) out[first + i] = v[i];
}

}  // namespace

// Normals in f64 are those of f32, widened.
#define DRAW(T, suffix, name)                                                                                                 \
  KERNEL(random_##name##_##suffix, 256, T* out, uint64_t n, uint64_t key, uint64_t number, const uint64_t* offset) {         \
    const uint64_t block = global_index();                                                                                   \
    if (4 * block >= n) return;                                                                                              \
    const float4 v = name##s(key, draw_number(number, offset), block);                                                       \
    store4(out, block, n, {T(v.x), T(v.y), T(v.z), T(v.w)});                                                                 \
  }

DRAW(float, f32, normal)
DRAW(double, f64, normal)
DRAW(float, f32, uniform)

KERNEL(random_uniform_f64, 256, double* out, uint64_t n, uint64_t key, uint64_t number, const uint64_t* offset) {
  const uint64_t block = global_index(), draw = draw_number(number, offset);
  if (4 * block >= n) return;
  const Words high = philox(key, draw, block), low = philox(key, draw | FINE, block);
  double v[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) v[i] = fine_uniform_from(high.w[i], low.w[i]);
  store4(out, block, n, v);
}
