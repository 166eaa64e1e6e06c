// Elementwise functions with a choice among tensors or activations.
#include "math.cuh"
#include "strided.cuh"

#define WHERE(T, suffix)                                                                                                      \
  KERNEL(where_cond_##suffix, 256, const T* condition, const T* a, const T* b, T* y, uint64_t n) {                           \
    const uint64_t i = global_index();                                                                                       \
    if (i < n) y[i] = condition[i] != 0 ? a[i] : b[i];                                                                       \
  }

WHERE(float, f32)
WHERE(double, f64)

#define ACTIVATION_GRAD(T, suffix)                                                                                            \
  KERNEL(activation_grad_##suffix, 256, const T* g, const T* y, T* out, const __grid_constant__ Strided<2> in, uint64_t n,   \
         uint32_t activation, T slope) {                                                                                     \
    map2(g, y, out, in, n, [=](T g, T y) -> T { return activate_grad(activation, slope, g, y); });                           \
  }

ACTIVATION_GRAD(float, f32)
ACTIVATION_GRAD(double, f64)
