// Functions of numbers, the same for f32 and f64, that are finite where their result is.
#pragma once
#include "device.cuh"

namespace {

template <class T>
__device__ __forceinline__ T sigmoid(T x) {
  const T e = exp(-fabs(x));
  return (x >= T(0) ? T(1) : e) / (T(1) + e);
}

// Its derivative, and that of the hyperbolic tangent: relatively accurate far out, where the functions are constant to rounding.
template <class T>
__device__ __forceinline__ T sigmoid_slope(T x) {
  const T e = exp(-fabs(x)), sum = T(1) + e;
  return e / (sum * sum);
}

template <class T>
__device__ __forceinline__ T tanh_slope(T x) {
  return sigmoid_slope(T(2) * x) * T(4);
}

template <class T>
__device__ __forceinline__ T softplus(T x) {
  // Not fmax, which would drop a NaN; the sum keeps it.
  return (x > T(0) ? x : T(0)) + log1p(exp(-fabs(x)));
}

// Below this the logarithm of softplus is taken from its asymptote x - e^x / 2, whose error is of the order e^2x.
__device__ __forceinline__ float asymptote(float) { return -15.f; }
__device__ __forceinline__ double asymptote(double) { return -30.; }

template <class T>
__device__ __forceinline__ T log_softplus(T x) {
  return x < asymptote(x) ? x - T(0.5) * exp(x) : log(softplus(x));
}

// e^x - 1 - x without cancellation: Taylor's series up to 1.
template <class T>
__device__ __forceinline__ T exp_remainder(T x) {
  if (!(fabs(x) <= T(1))) {
    const T m = expm1(x);
    return isinf(m) ? m : m - x;
  }
  constexpr int TERMS = sizeof(T) == 4 ? 10 : 18;
  double factorial = 1;
  for (int n = 2; n <= TERMS + 1; ++n) factorial *= n;
  T sum = 0;
#pragma unroll
  for (int n = TERMS + 1; n >= 2; --n) {
    sum = fma(sum, x, T(1 / factorial));
    factorial /= n;
  }
  return x * x * sum;
}

// (sigma^2 - 1) / 2 - log(sigma) without cancellation near 1: see `scale_excess` in src/device/cpu/math.rs.
template <class T>
__device__ __forceinline__ T scale_excess(T sigma, T log_sigma) {
  if (!(sigma >= T(0.5) && sigma <= T(2))) return fma(T(0.5), sigma * sigma - T(1), -log_sigma);
  constexpr int TERMS = sizeof(T) == 4 ? 7 : 16;
  const T t = sigma - T(1), q = t / (t + T(2)), square = q * q;
  T sum = 0;
#pragma unroll
  for (int i = TERMS - 1; i >= 0; --i) sum = fma(sum, square, T(1. / (2 * i + 3)));
  return fma(T(0.5) * t, t, t * q) - T(2) * q * square * sum;
}

// t softplus(-x) + (1 - t) softplus(x), which have log(1 + e^-|x|) in common; a weight of 0 has no part in an infinity.
template <class T>
__device__ __forceinline__ T bce_with_logits(T x, T t) {
  const T weight = x > T(0) ? T(1) - t : t;
  return log1p(exp(-fabs(x))) + (weight == T(0) ? T(0) : weight * (x > T(0) ? x : -x));
}

// (1 - t) sigmoid(x) - t sigmoid(-x)
template <class T>
__device__ __forceinline__ T bce_slope(T x, T t) {
  const T e = exp(-fabs(x)), other = T(1) - t;
  return (x >= T(0) ? other - t * e : other * e - t) / (T(1) + e);
}

// The distribution function of the standard normal. In f32 the left tail gets back what rounding -x / sqrt(2) takes from it, which
// would be x^2 / 2 units of its last place.
template <class T>
__device__ __forceinline__ T normal_cdf(T x) {
  const T scale = T(-0.70710678118654752440);
  const T y = x * scale;
  const T near = erfc(y);
  if (sizeof(T) == 8 || !(x < T(-1) && x > T(-100))) return T(0.5) * near;
  const T lost = fma(x, scale, -y) + x * T(-0.70710678118654752440 - double(scale));
  return T(0.5) * (near - T(1.12837916709551257390) * exp(-y * y) * lost);
}

// The activations that layers fuse. Twin of `Fused::code` in src/ops/activation.rs.
enum Activation : uint32_t { IDENTITY, RELU, LEAKY_RELU, SOFTPLUS };

template <class T>
__device__ __forceinline__ T activate(uint32_t activation, T slope, T x) {
  switch (activation) {
    case RELU: return x <= T(0) ? T(0) : x;
    case LEAKY_RELU: return x > T(0) ? x : x * slope;
    case SOFTPLUS: return softplus(x);
    default: return x;
  }
}

// g f'(x) from y = f(x)
template <class T>
__device__ __forceinline__ T activate_grad(uint32_t activation, T slope, T g, T y) {
  switch (activation) {
    case RELU: return y > T(0) ? g : T(0);
    case LEAKY_RELU: return y > T(0) ? g : g * slope;
    case SOFTPLUS: return g * -expm1(-y);
    default: return g;
  }
}

}  // namespace
