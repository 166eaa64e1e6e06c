// What the kernels of pairwise.cu and pairwise_tensor.cu share: the samples, and what a pair of rows adds to values and gradients.
#pragma once
#include "rows.cuh"

namespace {

// Two samples, [n, d] and [m, d], in blocks of rows: first those of the first. Twin of `Pairs` in src/device/cuda/args.rs.
struct Pairs {
  uint64_t n, m, d;
  uint32_t first, blocks;  // row blocks of the first sample, and of both
  uint32_t slab;           // tiles of a slab
  uint32_t wanted;         // bits 0 and 1: the gradient of the first and the second sample
  uint32_t own;            // whether pairs of a row with itself count
  uint32_t more;           // whether to add to what is there
  double weights[3];       // of the sums over unordered pairs within the first sample, between the two, within the second
  const float* largest;    // of each block, the largest squared length of a row; null if tensor cores have no part in this
  double limit;            // of the sum of two such lengths, for tensor cores
};

// Whether the distances between a block of rows and some of the blocks [begin, end) must be sums of squared differences, because products
// would lose too many digits, or because a row is not finite. The same for all threads, which all call it.
__device__ __forceinline__ bool far_apart(const Pairs& p, uint32_t upper, uint32_t begin, uint32_t end) {
  bool far = false;
  for (uint32_t lower = begin + threadIdx.x; lower < end; lower += blockDim.x) far |= !(double(p.largest[upper]) + p.largest[lower] <= p.limit);
  return __syncthreads_or(far);
}

// A sum of radial kernels of the squared distance u. Twin of `Radial` in src/device/cuda/args.rs.
struct Radial {
  uint32_t gaussian, count;
  double factor[16];  // Gaussian: -1 / (2 s^2). Inverse multiquadric: C.
  double slope[16];   // of k, or of k^2, in the pull; the largest is 1
};

// e^t - 1 and e^t for t <= 0: the CPU's polynomials (src/device/cpu/math/pair.rs).
__device__ __forceinline__ void exp_pair(float t, float& less, float& k) {
  t = t < -88.f ? -88.f : t;
  const float shifted = fmaf(t, 1.44269504f, 12582912.f), n = shifted - 12582912.f;
  const float r = fmaf(n, 2.1219444e-4f, fmaf(n, -0.6933594f, t));
  float p = fmaf(1.f / 5040.f, r, 1.f / 720.f);
  p = fmaf(p, r, 1.f / 120.f);
  p = fmaf(p, r, 1.f / 24.f);
  p = fmaf(p, r, 1.f / 6.f);
  p = fmaf(p, r, 0.5f);
  const float q = fmaf(p * r, r, r);
  const float power = __uint_as_float((__float_as_uint(shifted) << 23) + 0x3f800000u);
  less = fmaf(q, power, power - 1.f);
  k = fmaf(q, power, power);
}
__device__ __forceinline__ void exp_pair(double t, double& less, double& k) {
  t = t < -709. ? -709. : t;
  const double shifted = fma(t, 1.4426950408889634, 6755399441055744.), n = shifted - 6755399441055744.;
  const double r = fma(n, -1.9082149292705877e-10, fma(n, -0.6931471803691238, t));
  double p = fma(1. / 6227020800., r, 1. / 479001600.);
  p = fma(p, r, 1. / 39916800.);
  p = fma(p, r, 1. / 3628800.);
  p = fma(p, r, 1. / 362880.);
  p = fma(p, r, 1. / 40320.);
  p = fma(p, r, 1. / 5040.);
  p = fma(p, r, 1. / 720.);
  p = fma(p, r, 1. / 120.);
  p = fma(p, r, 1. / 24.);
  p = fma(p, r, 1. / 6.);
  p = fma(p, r, 0.5);
  const double q = fma(p * r, r, r);
  const double power = __longlong_as_double(int64_t((uint64_t(__double_as_longlong(shifted)) << 52) + 0x3ff0000000000000u));
  less = fma(q, power, power - 1.);
  k = fma(q, power, power);
}

// Without the slow path for subnormal numbers: scales and distances are none.
__device__ __forceinline__ float reciprocal(float x) { return __fdividef(1.f, x); }
__device__ __forceinline__ double reciprocal(double x) { return 1. / x; }

// The contribution of a pair: to the value `part` + `count`, to the pull on its row `moved` (b - a) + `own` a. The count of kernels above
// 1/2, whose parts are k - 1, is exact: sums keep the digits in which the samples differ, both where k is flat and where it is small.
template <class T>
struct Pull {
  T part, moved, own;
  int count;
};

template <class T>
struct RadialForm {
  static constexpr bool DISTANCE = true, PRODUCT = false, OWN = false;
  const Radial& radial;

  // Evaluates the pairs of a thread.
  template <int COUNT>
  __device__ __forceinline__ void evaluate(const T (&u)[COUNT], const T (&)[COUNT], Pull<T> (&out)[COUNT]) const {
#pragma unroll
    for (int i = 0; i < COUNT; ++i) out[i] = {T(0), T(0), T(0), 0};
    uint32_t scale = 0;
    // There is at least one.
    do {
      const T factor = T(radial.factor[scale]), slope = T(radial.slope[scale]);
#pragma unroll
      for (int i = 0; i < COUNT; ++i) {
        T less, k;
        if (radial.gaussian) {
          exp_pair(u[i] * factor, less, k);
          out[i].moved = fma(slope, k, out[i].moved);
        } else {
          const T ratio = reciprocal(factor + u[i]);
          less = -(u[i] * ratio), k = factor * ratio;
          out[i].moved = fma(slope, k * k, out[i].moved);
        }
        const bool near = k > T(0.5);
        out[i].part += near ? less : k;
        out[i].count += near;
      }
    } while (++scale < radial.count);
  }
};

// h = k (a.b + d / s^2 - u (1 / s^2 + 1 / s^4)) with k = exp(-u / (2 s^2)), the Stein kernel of the standard normal. With B the bracket,
// dh/da = k b - w (a - b) = (w + k) (b - a) + k a, w = k (2 (1 / s^2 + 1 / s^4) + B / s^2).
template <class T>
struct SteinForm {
  static constexpr bool DISTANCE = true, PRODUCT = true, OWN = true;
  T inverse, constant;  // 1 / s^2, d / s^2

  template <int COUNT>
  __device__ __forceinline__ void evaluate(const T (&u)[COUNT], const T (&product)[COUNT], Pull<T> (&out)[COUNT]) const {
    const T alpha = fma(inverse, inverse, inverse);
#pragma unroll
    for (int i = 0; i < COUNT; ++i) {
      T less, k;
      exp_pair(u[i] * (T(-0.5) * inverse), less, k);
      const T bracket = fma(-alpha, u[i], product[i] + constant);
      out[i] = {k * bracket, fma(k, fma(bracket, inverse, T(2) * alpha), k), k, 0};
    }
  }
};

// h = (a.b)^2, whose pull is taken without its factor 2 and before the rows' lengths are.
template <class T>
struct SquareForm {
  static constexpr bool DISTANCE = false, PRODUCT = true, OWN = false;

  template <int COUNT>
  __device__ __forceinline__ void evaluate(const T (&)[COUNT], const T (&product)[COUNT], Pull<T> (&out)[COUNT]) const {
#pragma unroll
    for (int i = 0; i < COUNT; ++i) out[i] = {product[i] * product[i], product[i], T(0), 0};
  }
};

// Consecutive rows of one sample, at most `side`.
struct Block {
  uint64_t count, at;  // rows here; number of the first in its sample
  bool second;

  __device__ __forceinline__ Block(const Pairs& p, uint32_t block, uint32_t side) {
    second = block >= p.first;
    at = uint64_t(second ? block - p.first : block) * side;
    count = min(uint64_t(side), (second ? p.m : p.n) - at);
  }

  // Whether the gradient of its sample is wanted.
  __device__ __forceinline__ bool wanted(const Pairs& p) const { return (p.wanted >> (second ? 1 : 0)) & 1; }

  // Where its first row is among those of the wanted samples, in a slab of theirs.
  __device__ __forceinline__ uint64_t pulled(const Pairs& p, uint32_t slab) const {
    const uint64_t all = ((p.wanted & 1) ? p.n : 0) + ((p.wanted & 2) ? p.m : 0);
    return slab * all + (second && (p.wanted & 1) ? p.n : 0) + at;
  }

  // The weight of its pairs with the rows of another.
  __device__ __forceinline__ double weight(const Pairs& p, const Block& other) const { return p.weights[second == other.second ? (second ? 2 : 0) : 1]; }
};

template <class T>
struct Rows : Block {
  const T* x;

  __device__ __forceinline__ Rows(const T* x, const T* y, const Pairs& p, uint32_t block, uint32_t side)
      : Block(p, block, side), x((second ? y : x) + at * p.d) {}
};

}  // namespace
