// The elementwise functions. A new one is a line here and one in src/ops/unary.rs or src/ops/binary.rs.
#pragma once
#include "math.cuh"
#include "strided.cuh"

// Of x; `a` and `b` are the op's settings, in the order in which it declares them. Those that need local memory are in elementwise.cu.
#define UNARY_FUNCTIONS(F)                                                                                            \
  F(affine, fma(a, x, b))                                                                                             \
  F(divide, x / a)                                                                                                    \
  F(abs, fabs(x))                                                                                                     \
  F(sign, x > 0 ? 1 : x < 0 ? -1 : x * 0)                                                                             \
  F(between, x >= a && x <= b ? 1 : 0)                                                                                \
  F(gt, x > a ? 1 : 0)                                                                                                \
  F(lt, x < a ? 1 : 0)                                                                                                \
  F(exp, exp(x))                                                                                                      \
  F(expm1, expm1(x))                                                                                                  \
  F(exp_remainder, exp_remainder(x))                                                                                  \
  F(log, log(x))                                                                                                      \
  F(log1p, log1p(x))                                                                                                  \
  F(sqrt, sqrt(x))                                                                                                    \
  F(square, x* x)                                                                                                     \
  F(reciprocal, 1 / x)                                                                                                \
  F(tanh, tanh(x))                                                                                                    \
  F(sigmoid, sigmoid(x))                                                                                              \
  F(softplus, softplus(x))                                                                                            \
  F(log_softplus, log_softplus(x))                                                                                    \
  F(log_sigmoid, -softplus(-x))                                                                                       \
  F(relu, x <= 0 ? 0 : x)                                                                                             \
  F(leaky_relu, x > 0 ? x : x * a)                                                                                    \
  F(elu, x > 0 ? x : a * expm1(x))                                                                                    \
  F(erf, erf(x))                                                                                                      \
  F(normal_cdf, normal_cdf(x))                                                                                        \
  F(powf, pow(x, a))                                                                                                  \
  F(clamp, x < a ? a : x > b ? b : x)

// Of x and y. The maximum is not fmax: a NaN must stay one.
#define BINARY_FUNCTIONS(F)                                                                                           \
  F(add, x + y)                                                                                                       \
  F(sub, x - y)                                                                                                       \
  F(mul, x* y)                                                                                                        \
  F(div, x / y)                                                                                                       \
  F(maximum, x > y || x != x ? x : y)                                                                                 \
  F(ge, x >= y ? 1 : 0)                                                                                               \
  F(gt, x > y ? 1 : 0)                                                                                                \
  F(eq, x == y ? 1 : 0)                                                                                               \
  F(ne, x != y ? 1 : 0)                                                                                               \
  F(tanh_grad, x* tanh_slope(y))                                                                                      \
  F(sigmoid_grad, x* sigmoid_slope(y))                                                                                \
  F(bce_with_logits, bce_with_logits(x, y))                                                                           \
  F(bce_slope, bce_slope(x, y))
