// Kullback-Leibler divergences of Gaussians from the standard normal.
#include "math.cuh"
#include "rows.cuh"

namespace {

// Per row 1/2 sum(mu^2 + sigma^2 - 1) - sum(log sigma), in terms that are not below 0.
template <class T>
__device__ __forceinline__ void gaussian_kl(const T* mu, const T* sigma, T* out, uint64_t rows, uint64_t length, uint32_t size) {
  const Team team(size);
  const bool some = team.row < rows;
  const uint64_t first = team.row * length, count = some ? length : 0;
  const Share<T> of_mu(team, mu + first, count), of_sigma(team, sigma + first, count);
  double sum = 0;
  of_mu.both(of_sigma, [&](uint64_t, T m, T s) { sum += double(fma(T(0.5) * m, m, scale_excess(s, log(s)))); });
  sum = team.sum(sum);
  if (some && team.rank == 0) out[team.row] = T(sum);
}

template <class T>
__device__ __forceinline__ void gaussian_kl_grad(const T* mu, const T* sigma, const T* g, T* d_mu, T* d_sigma, uint64_t n, uint64_t length) {
  constexpr int COUNT = Pack<T>::COUNT;
  const uint64_t first = global_index() * COUNT;
  if (first >= n) return;
  uint64_t column;
  uint64_t row = divide(first, length, column);
  const bool whole = first + COUNT <= n && aligned16(mu) && aligned16(sigma);
  Pack<T> m, s;
  if (whole) {
    m = *reinterpret_cast<const Pack<T>*>(mu + first);
    s = *reinterpret_cast<const Pack<T>*>(sigma + first);
  } else {
#pragma unroll
    for (int i = 0; i < COUNT; ++i)
      if (first + i < n) m.v[i] = mu[first + i], s.v[i] = sigma[first + i];
  }
#pragma unroll
  for (int i = 0; i < COUNT; ++i) {
    if (first + i >= n) break;
    const T weight = g[row];
    m.v[i] = weight * m.v[i];
    // s - 1/s
    s.v[i] = weight * ((s.v[i] - T(1)) * ((s.v[i] + T(1)) / s.v[i]));
    if (++column == length) column = 0, ++row;
  }
  if (whole) {
    *reinterpret_cast<Pack<T>*>(d_mu + first) = m;
    *reinterpret_cast<Pack<T>*>(d_sigma + first) = s;
  } else {
#pragma unroll
    for (int i = 0; i < COUNT; ++i)
      if (first + i < n) d_mu[first + i] = m.v[i], d_sigma[first + i] = s.v[i];
  }
}

// Per row 1/2 (|L|^2 + |mu|^2 - k) - sum(log diag L), the terms of the diagonal each for itself.
template <class T>
__device__ __forceinline__ void gaussian_kl_full(const T* mu, const T* tril, T* out, uint64_t rows, uint64_t k, uint32_t size) {
  const Team team(size);
  const bool some = team.row < rows;
  const T *m = mu + team.row * k, *l = tril + team.row * k * k;
  const uint64_t count = some ? k : 0;
  double sum = sum_of(count * k, team.rank, size, [=](uint64_t i) { return i % (k + 1) == 0 ? T(0) : l[i] * l[i]; });
  sum += sum_of(count, team.rank, size, [=](uint64_t i) { return m[i] * m[i]; });
  const double excess = sum_of(count, team.rank, size, [=](uint64_t i) { return scale_excess(l[i * (k + 1)], log(l[i * (k + 1)])); });
  sum = team.sum(0.5 * sum + excess);
  if (some && team.rank == 0) out[team.row] = T(sum);
}

}  // namespace

#define GAUSSIAN(T, suffix)                                                                                                           \
  KERNEL(gaussian_kl_##suffix, 1024, const T* mu, const T* sigma, T* out, uint64_t rows, uint64_t length, uint32_t team) {           \
    gaussian_kl(mu, sigma, out, rows, length, team);                                                                                  \
  }                                                                                                                                   \
  KERNEL(gaussian_kl_grad_##suffix, 256, const T* mu, const T* sigma, const T* g, T* d_mu, T* d_sigma, uint64_t n, uint64_t length) {\
    gaussian_kl_grad(mu, sigma, g, d_mu, d_sigma, n, length);                                                                         \
  }                                                                                                                                   \
  KERNEL(gaussian_kl_full_##suffix, 1024, const T* mu, const T* tril, T* out, uint64_t rows, uint64_t k, uint32_t team) {            \
    gaussian_kl_full(mu, tril, out, rows, k, team);                                                                                   \
  }

GAUSSIAN(float, f32)
GAUSSIAN(double, f64)
