// The stochastic bottleneck: statistics [rows, 2 k] = [mu | raw] to samples z = mu + sigma eps with sigma = softplus(raw - shift), and
// their rate. A team of up to 32 lanes works on a row, four neighbouring columns at a time: as many normals as one Philox block makes.
// Noise is drawn here, in the backward pass again, unless it is given.
#include "math.cuh"
#include "philox.cuh"
#include "rows.cuh"

namespace {

template <class T>
struct Four {
  T v[4];
};

__device__ __forceinline__ Four<float> load(const float* p) {
  const Pack<float> v = load_pack(p);
  return {{v.v[0], v.v[1], v.v[2], v.v[3]}};
}
__device__ __forceinline__ Four<double> load(const double* p) {
  const Pack<double> v = load_pack(p), w = load_pack(p + 2);
  return {{v.v[0], v.v[1], w.v[0], w.v[1]}};
}
__device__ __forceinline__ void store(float* p, const Four<float>& v) { store_pack(p, {{v.v[0], v.v[1], v.v[2], v.v[3]}}); }
__device__ __forceinline__ void store(double* p, const Four<double>& v) {
  store_pack(p, {{v.v[0], v.v[1]}});
  store_pack(p + 2, {{v.v[2], v.v[3]}});
}

// Columns [0, 4) of a pointer, of which `count` are there.
template <bool WHOLE, class T>
__device__ __forceinline__ Four<T> read(const T* p, uint64_t count) {
  if constexpr (WHOLE) {
    return load(p);
  } else {
    Four<T> v;
#pragma unroll
    for (uint32_t i = 0; i < 4; ++i) v.v[i] = i < count ? p[i] : T(0);
    return v;
  }
}
template <bool WHOLE, class T>
__device__ __forceinline__ void write(T* p, const Four<T>& v, uint64_t count) {
  if constexpr (WHOLE) {
    store(p, v);
  } else {
#pragma unroll
    for (uint32_t i = 0; i < 4; ++i)
      if (i < count) p[i] = v.v[i];
  }
}

// The source of eps: this tensor [samples, rows, k], or a draw.
template <class T>
struct Noise {
  const T* given;
  uint64_t key, number;

  __device__ __forceinline__ Noise(const T* given, uint64_t key, uint64_t number, const uint64_t* offset)
      : given(given), key(key), number(given ? 0 : draw_number(number, offset)) {}

  // Elements `at` to at + 3. If they are `WHOLE`, `at` is a multiple of 4.
  template <bool WHOLE>
  __device__ __forceinline__ Four<T> at(uint64_t at, uint64_t count) const {
    if (given) return read<WHOLE>(given + at, count);
    const float4 n = normals(key, number, at / 4);
    Four<T> v = {{n.x, n.y, n.z, n.w}};
    const int skip = int(at % 4);
    if (WHOLE || skip == 0) return v;
    const float4 m = skip + count > 4 ? normals(key, number, at / 4 + 1) : make_float4(0, 0, 0, 0);
    const T next[4] = {m.x, m.y, m.z, m.w};
    Four<T> out;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      // v and then next, `skip` further on, without indexing that would need memory
      const T one = i + 1 < 4 ? v.v[(i + 1) % 4] : next[(i + 1) % 4], two = i + 2 < 4 ? v.v[(i + 2) % 4] : next[(i + 2) % 4];
      const T three = i + 3 < 4 ? v.v[(i + 3) % 4] : next[(i + 3) % 4];
      out.v[i] = skip == 1 ? one : skip == 2 ? two : three;
    }
    return out;
  }
};

// Below this softplus(x) is exp(x) to rounding: sigmoid(x) / softplus(x) is 1 and log softplus(x) is x.
constexpr float FAR = -30;

// softplus(x), its logarithm, its derivative, and the ratio of that to it.
template <class T>
struct Scale {
  T sigma, log_sigma, slope, ratio;
};

__device__ __forceinline__ Scale<double> scale_of(double x) {
  const double sigma = softplus(x), slope = sigmoid(x);
  return {sigma, log_softplus(x), slope, x < FAR ? 1. : slope / sigma};
}

// k ln 2 + ln(1 + f)
__device__ __forceinline__ float reduced_ln_1p(float f, float k) {
  float p = __fmaf_rn(-7.858934e-2f, f, 1.2884155e-1f);
  p = __fmaf_rn(p, f, -1.3128248e-1f);
  p = __fmaf_rn(p, f, 1.4180626e-1f);
  p = __fmaf_rn(p, f, -1.6624646e-1f);
  p = __fmaf_rn(p, f, 2.0002312e-1f);
  p = __fmaf_rn(p, f, -2.5000808e-1f);
  p = __fmaf_rn(p, f, 3.3333316e-1f);
  const float ff = __fmul_rn(f, f);
  const float tail = __fmaf_rn(__fmul_rn(f, ff), p, __fmul_rn(k, -1.9046542e-9f));
  return __fmaf_rn(k, 0.6931472f, __fadd_rn(f, __fmaf_rn(ff, -0.5f, tail)));
}

// With the hardware's exponential, whose error is absolute in x, and the CPU's polynomial for both logarithms.
__device__ __forceinline__ Scale<float> scale_of(float x) {
  const float e = __expf(-fabsf(x));
  const bool upper = e > 0.41421356f;
  const float log = reduced_ln_1p(upper ? fmaf(e, 0.5f, -0.5f) : e, upper ? 1.f : 0.f);
  const float sigma = (x > 0.f ? x : 0.f) + log;
  const int k = int(__float_as_uint(sigma) - 0x3f3504f3u) >> 23;
  const float log_sigma = reduced_ln_1p(__uint_as_float(__float_as_uint(sigma) - (uint32_t(k) << 23)) - 1.f, float(k));
  const float slope = __fdividef(x >= 0.f ? 1.f : e, 1.f + e);
  return {sigma, x < FAR ? x : log_sigma, slope, x < FAR ? 1.f : __fdividef(slope, sigma)};
}

template <bool WHOLE, class T>
__device__ __forceinline__ double sample_row(const Team& team, const T* stats, const Noise<T>& noise, T* z, uint64_t rows, uint64_t k,
                                             uint64_t samples, T shift) {
  double total = 0;
  const T* mu = stats + team.row * 2 * k;
  for (uint64_t column = 4 * team.rank; column < k; column += 4 * team.size) {
    const uint64_t count = k - column;
    const Four<T> m = read<WHOLE>(mu + column, count), raw = read<WHOLE>(mu + k + column, count);
    Four<T> sigma;
    T rate = 0;
#pragma unroll
    for (uint32_t i = 0; i < 4; ++i) {
      const Scale<T> scale = scale_of(raw.v[i] - shift);
      sigma.v[i] = scale.sigma;
      if (WHOLE || i < count) rate += fma(T(0.5) * m.v[i], m.v[i], scale_excess(scale.sigma, scale.log_sigma));
    }
    total += double(rate);
    for (uint64_t s = 0; s < samples; ++s) {
      const uint64_t at = (s * rows + team.row) * k + column;
      Four<T> v = noise.template at<WHOLE>(at, count);
#pragma unroll
      for (int i = 0; i < 4; ++i) v.v[i] = fma(sigma.v[i], v.v[i], m.v[i]);
      write<WHOLE>(z + at, v, count);
    }
  }
  return total;
}

template <class T>
__device__ __forceinline__ void bottleneck(const T* stats, const T* given, T* z, T* kl, uint64_t rows, uint64_t k, uint64_t samples, uint32_t size,
                                           T shift, uint64_t key, uint64_t number, const uint64_t* offset) {
  const Team team(size);
  const Noise<T> noise(given, key, number, offset);
  const bool some = team.row < rows;
  double total = 0;
  if (some) {
    if (k % 4 == 0 && aligned16(stats) && aligned16(given)) total = sample_row<true>(team, stats, noise, z, rows, k, samples, shift);
    else total = sample_row<false>(team, stats, noise, z, rows, k, samples, shift);
  }
  total = team.sum(total);
  if (some && team.rank == 0) kl[team.row] = T(total);
}

template <bool WHOLE, class T>
__device__ __forceinline__ void grad_row(const Team& team, const T* stats, const Noise<T>& noise, const T* g_z, const T* g_kl, T* out,
                                         uint64_t rows, uint64_t k, uint64_t samples, T shift) {
  const T* mu = stats + team.row * 2 * k;
  T* d_mu = out + team.row * 2 * k;
  const T of_rate = g_kl ? g_kl[team.row] : T(0);
  for (uint64_t column = 4 * team.rank; column < k; column += 4 * team.size) {
    const uint64_t count = k - column;
    const Four<T> m = read<WHOLE>(mu + column, count), raw = read<WHOLE>(mu + k + column, count);
    Four<T> d = {}, e = {};
    for (uint64_t s = 0; g_z && s < samples; ++s) {
      const uint64_t at = (s * rows + team.row) * k + column;
      const Four<T> g = read<WHOLE>(g_z + at, count), eps = noise.template at<WHOLE>(at, count);
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        d.v[i] += g.v[i];
        e.v[i] = fma(g.v[i], eps.v[i], e.v[i]);
      }
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const Scale<T> scale = scale_of(raw.v[i] - shift);
      d.v[i] = fma(of_rate, m.v[i], d.v[i]);
      // sigma slope - slope / sigma
      e.v[i] = e.v[i] * scale.slope + of_rate * (scale.ratio * (scale.sigma - T(1)) * (scale.sigma + T(1)));
    }
    write<WHOLE>(d_mu + column, d, count);
    write<WHOLE>(d_mu + k + column, e, count);
  }
}

// The gradient with respect to the statistics, from that of z, of the rate, or both.
template <class T>
__device__ __forceinline__ void bottleneck_grad(const T* stats, const T* given, const T* g_z, const T* g_kl, T* out, uint64_t rows, uint64_t k,
                                                uint64_t samples, uint32_t size, T shift, uint64_t key, uint64_t number, const uint64_t* offset) {
  const Team team(size);
  if (team.row >= rows) return;
  const Noise<T> noise(given, key, number, offset);
  if (k % 4 == 0 && aligned16(stats) && aligned16(given) && aligned16(g_z)) grad_row<true>(team, stats, noise, g_z, g_kl, out, rows, k, samples, shift);
  else grad_row<false>(team, stats, noise, g_z, g_kl, out, rows, k, samples, shift);
}

}  // namespace

#define BOTTLENECK(T, suffix)                                                                                                         \
  KERNEL(bottleneck_##suffix, 256, const T* stats, const T* given, T* z, T* kl, uint64_t rows, uint64_t k, uint64_t samples,         \
         uint32_t team, T shift, uint64_t key, uint64_t number, const uint64_t* offset) {                                             \
    bottleneck(stats, given, z, kl, rows, k, samples, team, shift, key, number, offset);                                              \
  }                                                                                                                                   \
  KERNEL(bottleneck_grad_##suffix, 256, const T* stats, const T* given, const T* g_z, const T* g_kl, T* out, uint64_t rows,          \
         uint64_t k, uint64_t samples, uint32_t team, T shift, uint64_t key, uint64_t number, const uint64_t* offset) {               \
    bottleneck_grad(stats, given, g_z, g_kl, out, rows, k, samples, team, shift, key, number, offset);                                \
  }

BOTTLENECK(float, f32)
BOTTLENECK(double, f64)
