// The softmax family on rows, a team of threads for each.
#include "rows.cuh"

namespace {

// The maximum of a row, and the sum of the exponentials of what its elements are above it.
template <class T>
__device__ __forceinline__ T sum_of_exponentials(const Team& team, const Share<T>& share, T largest) {
  double sum = 0;
  share.each([&](uint64_t, T v) { sum += double(exp(v - largest)); });
  return T(team.sum(sum));
}

template <class T>
__device__ __forceinline__ void softmax(const T* x, T* out, uint64_t rows, uint64_t length, uint32_t size, bool in_logs) {
  const Team team(size);
  const uint64_t first = team.row * length;
  const Share<T> share(team, x + first, team.row < rows ? length : 0);
  const T largest = share.largest(team), sum = sum_of_exponentials(team, share, largest);
  if (in_logs) {
    const T log_sum = log(sum);
    share.each([=](uint64_t k, T v) { out[first + k] = (v - largest) - log_sum; });
  } else {
    share.each([=](uint64_t k, T v) { out[first + k] = exp(v - largest) / sum; });
  }
}

template <class T>
__device__ __forceinline__ void logsumexp(const T* x, T* out, uint64_t rows, uint64_t length, uint32_t size) {
  const Team team(size);
  const Share<T> share(team, x + team.row * length, team.row < rows ? length : 0);
  const T largest = share.largest(team), sum = sum_of_exponentials(team, share, largest);
  // Rows of infinities have no difference to their maximum, but a value.
  if (team.row < rows && team.rank == 0) out[team.row] = fabs(largest) < T(INFINITY) ? largest + log(sum) : largest;
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
  const T largest = share.largest(team), sum = sum_of_exponentials(team, share, largest);
  double total = 0;
  if (share_of_all > 0) {
    share.each([&](uint64_t, T v) { total += double(v - largest); });
    total = team.sum(total);
  }
  if (some && team.rank == 0) {
    const int64_t label = labels[team.row];
    // Relative to the maximum, so that nothing large cancels.
    out[team.row] = is_class(label, classes) ? log(sum) - (hit * (row[label] - largest) + share_of_all * T(total)) : not_a_number<T>();
  }
}

// (softmax(x) - target) g
template <class T>
__device__ __forceinline__ void cross_entropy_grad(const T* x, const int64_t* labels, const T* g, T* out, uint64_t rows, uint64_t classes,
                                                   uint32_t size, T hit, T share_of_all) {
  const Team team(size);
  const bool some = team.row < rows;
  const uint64_t first = team.row * classes;
  const Share<T> share(team, x + first, some ? classes : 0);
  const T largest = share.largest(team), sum = sum_of_exponentials(team, share, largest);
  if (!some) return;
  const int64_t label = labels[team.row];
  const T weight = is_class(label, classes) ? g[team.row] : not_a_number<T>();
  const T scale = weight / sum, all = share_of_all * weight, one = hit * weight;
  share.each([=](uint64_t k, T v) { out[first + k] = fma(exp(v - largest), scale, -all) - (k == uint64_t(label) ? one : T(0)); });
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
                uint64_t classes, uint32_t team, T hit, T share) {                                                                    \
    cross_entropy_grad(x, labels, g, out, rows, classes, team, hit, share);                                                           \
  }

SOFTMAX(float, f32)
SOFTMAX(double, f64)
