// The softmax family on rows, a team of threads for each.
#include "rows.cuh"

namespace {

template <class T>
__device__ __forceinline__ bool is_infinite(T v) {
  return fabs(v) == T(INFINITY);
}

// exp(v - largest). An infinite maximum is its own limit: elements of infinity share everything, and a row of -inf alone has nothing to
// share, a sum of 0.
template <class T>
__device__ __forceinline__ T exponential(T v, T largest) {
  return is_infinite(largest) ? T(v == T(INFINITY)) : exp(v - largest);
}

// The sum of the exponentials of what a row's elements are above its maximum, 0 of a row of -inf alone; and the sum without one maximum,
// which is 1: where that has nearly everything, 1 would swallow the others.
template <class T>
struct Exponentials {
  T sum, rest;

  __device__ __forceinline__ Exponentials(const Team& team, const Share<T>& share, T largest) {
    double count = 0, lower = 0;
    share.each([&](uint64_t, T v) {
      if (v == largest) count += double(v > -T(INFINITY));
      else lower += double(exponential(v, largest));
    });
    count = team.sum(count);
    lower = team.sum(lower);
    sum = T(lower + count);
    rest = T(lower + (count > 0 ? count - 1 : 0));
  }
};

template <class T>
__device__ __forceinline__ void softmax(const T* x, T* out, uint64_t rows, uint64_t length, uint32_t size, bool in_logs) {
  const Team team(size);
  const uint64_t first = team.row * length;
  const Share<T> share(team, x + first, team.row < rows ? length : 0);
  const T largest = share.largest(team);
  const Exponentials<T> found(team, share, largest);
  const T sum = found.sum;
  if (in_logs) {
    const T log_sum = log1p(found.rest);
    share.each([=](uint64_t k, T v) {
      const T above = is_infinite(largest) ? (v == T(INFINITY) ? T(0) : -T(INFINITY)) : v - largest;
      out[first + k] = above == -T(INFINITY) ? above : above - log_sum;
    });
  } else {
    share.each([=](uint64_t k, T v) { out[first + k] = sum == T(0) ? T(0) : exponential(v, largest) / sum; });
  }
}

template <class T>
__device__ __forceinline__ void logsumexp(const T* x, T* out, uint64_t rows, uint64_t length, uint32_t size) {
  const Team team(size);
  const Share<T> share(team, x + team.row * length, team.row < rows ? length : 0);
  const T largest = share.largest(team);
  const Exponentials<T> found(team, share, largest);
  // Rows of infinities have no difference to their maximum, but a value.
  if (team.row < rows && team.rank == 0) out[team.row] = is_infinite(largest) ? largest : largest + log1p(found.rest);
}

__device__ __forceinline__ bool is_class(int64_t label, uint64_t classes) { return uint64_t(label) < classes; }

// A label that is no class gives NaN.
template <class T>
__device__ __forceinline__ void cross_entropy(const T* x, const int64_t* labels, T* out, uint64_t rows, uint64_t classes, uint32_t size, T hit,
                                              T share_of_all) {
  const Team team(size);
  const bool some = team.row < rows;
  const T* row = x + team.row * classes;
  const Share<T> share(team, row, some ? classes : 0);
  const T largest = share.largest(team);
  const Exponentials<T> found(team, share, largest);
  double total = 0;
  if (share_of_all > 0) {
    // Of a row with infinities, what has no share.
    share.each([&](uint64_t, T v) { total += is_infinite(largest) ? double(v == T(INFINITY) ? T(0) : -T(INFINITY)) : double(v - largest); });
    total = team.sum(total);
  }
  if (some && team.rank == 0) {
    const int64_t label = labels[team.row];
    // Relative to the maximum, so that nothing large cancels.
    T expected = share_of_all > 0 ? share_of_all * T(total) : T(0);
    if (is_class(label, classes) && hit > 0) {
      const T v = row[label];
      expected += is_infinite(largest) ? (v == T(INFINITY) ? T(0) : -T(INFINITY)) : hit * (v - largest);
    }
    const T entropy = expected == -T(INFINITY) ? T(INFINITY) : log1p(found.rest) - expected;
    out[team.row] = is_class(label, classes) ? entropy : not_a_number<T>();
  }
}

// (softmax(x) - target) g; 0 for rows of -inf alone.
template <class T>
__device__ __forceinline__ void cross_entropy_grad(const T* x, const int64_t* labels, const T* g, T* out, uint64_t rows, uint64_t classes,
                                                   uint32_t size, T hit, T share_of_all, T left) {
  const Team team(size);
  const bool some = team.row < rows;
  const uint64_t first = team.row * classes;
  const Share<T> share(team, x + first, some ? classes : 0);
  const T largest = share.largest(team);
  const Exponentials<T> found(team, share, largest);
  if (!some) return;
  const int64_t label = labels[team.row];
  const T weight = is_class(label, classes) ? g[team.row] : not_a_number<T>();
  const bool none = found.sum == T(0) && is_class(label, classes);
  const T scale = none ? T(0) : weight / found.sum, all = none ? T(0) : share_of_all * weight, one = none ? T(0) : hit * weight;
  // 1 less the largest share is what the others have.
  const T of_largest = none ? T(0) : fma(left, weight, -found.rest * scale);
  share.each([=](uint64_t k, T v) {
    const T slope = fma(exponential(v, largest), scale, -all);
    out[first + k] = k != uint64_t(label) ? slope : v == largest ? of_largest : slope - one;
  });
}

}  // namespace

#define SOFTMAX(T, suffix)                                                                                                            \
  KERNEL(softmax_##suffix, 1024, const T* x, T* out, uint64_t rows, uint64_t length, uint32_t team, uint32_t in_logs) {               \
    softmax(x, out, rows, length, team, in_logs != 0);                                                                                \
  }                                                                                                                                   \
  KERNEL(logsumexp_##suffix, 1024, const T* x, T* out, uint64_t rows, uint64_t length, uint32_t team) {                               \
    logsumexp(x, out, rows, length, team);                                                                                            \
  }                                                                                                                                   \
  KERNEL(cross_entropy_##suffix, 1024, const T* x, const int64_t* labels, T* out, uint64_t rows, uint64_t classes, uint32_t team,     \
         T hit, T share) {                                                                                                            \
    cross_entropy(x, labels, out, rows, classes, team, hit, share);                                                                   \
  }                                                                                                                                   \
  KERNEL_BOUNDS(cross_entropy_grad_##suffix, (1024, 1), const T* x, const int64_t* labels, const T* g, T* out, uint64_t rows,         \
                uint64_t classes, uint32_t team, T hit, T share, T left) {                                                            \
    cross_entropy_grad(x, labels, g, out, rows, classes, team, hit, share, left);                                                     \
  }

SOFTMAX(float, f32)
SOFTMAX(double, f64)
