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
