// Elementwise functions of one and two tensors. A new one is a line here and one in src/ops/unary.rs or src/ops/binary.rs.
#include "math.cuh"
#include "strided.cuh"

// `a` and `b` are the op's settings, in the order in which it declares them.
#define UNARY_OF(T, suffix, name, ...)                                                                                        \
  KERNEL(unary_##name##_##suffix, 256, const T* x, T* y, const __grid_constant__ Strided<1> in, uint64_t n, T a, T b) {      \
    map1(x, y, in, n, [=](T x) -> T { return __VA_ARGS__; });                                                                \
  }
#define UNARY(name, ...)                     \
  UNARY_OF(float, f32, name, __VA_ARGS__)    \
  UNARY_OF(double, f64, name, __VA_ARGS__)

UNARY(affine, fma(a, x, b))
UNARY(divide, x / a)
UNARY(abs, fabs(x))
UNARY(sign, x > 0 ? 1 : x < 0 ? -1 : x * 0)
UNARY(between, x >= a && x <= b ? 1 : 0)
UNARY(gt, x > a ? 1 : 0)
UNARY(lt, x < a ? 1 : 0)
UNARY(exp, exp(x))
UNARY(expm1, expm1(x))
UNARY(exp_remainder, exp_remainder(x))
UNARY(log, log(x))
UNARY(log1p, log1p(x))
UNARY(sqrt, sqrt(x))
UNARY(square, x* x)
UNARY(reciprocal, 1 / x)
UNARY(sin, sin(x))
UNARY(cos, cos(x))
UNARY(tanh, tanh(x))
UNARY(sigmoid, sigmoid(x))
UNARY(softplus, softplus(x))
UNARY(log_softplus, log_softplus(x))
UNARY(log_sigmoid, -softplus(-x))
UNARY(relu, x <= 0 ? 0 : x)
UNARY(leaky_relu, x > 0 ? x : x * a)
UNARY(elu, x > 0 ? x : a * expm1(x))
UNARY(erf, erf(x))
UNARY(normal_cdf, normal_cdf(x))
UNARY(powf, pow(x, a))
UNARY(clamp, x < a ? a : x > b ? b : x)

#define BINARY_OF(T, suffix, name, ...)                                                                                       \
  KERNEL(binary_##name##_##suffix, 256, const T* a, const T* b, T* y, const __grid_constant__ Strided<2> in, uint64_t n) {   \
    map2(a, b, y, in, n, [](T x, T y) -> T { return __VA_ARGS__; });                                                         \
  }
#define BINARY(name, ...)                     \
  BINARY_OF(float, f32, name, __VA_ARGS__)    \
  BINARY_OF(double, f64, name, __VA_ARGS__)

BINARY(add, x + y)
BINARY(sub, x - y)
BINARY(mul, x* y)
BINARY(div, x / y)
// Not fmax: a NaN must stay one.
BINARY(maximum, x > y || x != x ? x : y)
BINARY(ge, x >= y ? 1 : 0)
BINARY(gt, x > y ? 1 : 0)
BINARY(eq, x == y ? 1 : 0)
BINARY(ne, x != y ? 1 : 0)
BINARY(tanh_grad, x* tanh_slope(y))
BINARY(sigmoid_grad, x* sigmoid_slope(y))
BINARY(bce_with_logits, bce_with_logits(x, y))
BINARY(bce_slope, bce_slope(x, y))

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
