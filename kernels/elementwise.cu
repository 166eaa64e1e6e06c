// Elementwise functions of one and two tensors.
#include "elementwise.cuh"

#define UNARY_OF(T, suffix, name, ...)                                                                                        \
  KERNEL(unary_##name##_##suffix, 256, const T* x, T* y, const __grid_constant__ Strided<1> in, uint64_t n, T a, T b) {      \
    map1(x, y, in, n, [=](T x) -> T { return __VA_ARGS__; });                                                                \
  }
#define UNARY(name, ...)                     \
  UNARY_OF(float, f32, name, __VA_ARGS__)    \
  UNARY_OF(double, f64, name, __VA_ARGS__)

UNARY_FUNCTIONS(UNARY)
UNARY(sin, sin(x))
UNARY(cos, cos(x))

#define BINARY_OF(T, suffix, name, ...)                                                                                       \
  KERNEL(binary_##name##_##suffix, 256, const T* a, const T* b, T* y, const __grid_constant__ Strided<2> in, uint64_t n) {   \
    map2(a, b, y, in, n, [](T x, T y) -> T { return __VA_ARGS__; });                                                         \
  }
#define BINARY(name, ...)                     \
  BINARY_OF(float, f32, name, __VA_ARGS__)    \
  BINARY_OF(double, f64, name, __VA_ARGS__)

BINARY_FUNCTIONS(BINARY)

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
