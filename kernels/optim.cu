// Optimisers and averages over many tensors in one launch, and the norm of gradients.
#include "device.cuh"

namespace {

// Tensors that are updated together. Twin of `Tensors` in src/device/cuda/args.rs.
struct Tensors {
  static constexpr int MOST = 64;
  uint32_t count;
  uint32_t first[MOST];  // the first block of each
  uint64_t length[MOST];
  uint64_t pointer[4][MOST];
};

constexpr int THREADS = 256;
// Elements of a block. Twin of `ELEMENTS` in src/optim/cuda.rs.
constexpr int ELEMENTS = 16 * THREADS;

// Calls f(tensor, element) for the elements of this block.
template <class F>
__device__ __forceinline__ void each(const Tensors& t, F f) {
  int low = 0, high = int(t.count) - 1;
  while (low < high) {
    const int middle = (low + high + 1) / 2;
    if (t.first[middle] <= blockIdx.x) low = middle;
    else high = middle - 1;
  }
  const uint64_t start = uint64_t(blockIdx.x - t.first[low]) * ELEMENTS, length = t.length[low];
#pragma unroll 4
  for (int i = 0; i < ELEMENTS; i += THREADS) {
    const uint64_t at = start + i + threadIdx.x;
    if (at < length) f(low, at);
  }
}

template <class T>
__device__ __forceinline__ T* tensor(const Tensors& t, int role, int index) {
  return reinterpret_cast<T*>(t.pointer[role][index]);
}

// Roles of the tensors.
enum { WEIGHT, GRADIENT, FIRST, SECOND };
// The scalars that `optim_prepare` computes for the step.
enum { STEPS, LEARNING_RATE, RATE, SCALE, LEFT };

template <class T>
__device__ __forceinline__ void adam(const Tensors& t, const double* s, T keep1, T take1, T keep2, T take2, T epsilon) {
  const T rate = T(s[RATE]), scale = T(s[SCALE]), left = T(s[LEFT]);
  each(t, [&](int k, uint64_t i) {
    T *w = tensor<T>(t, WEIGHT, k) + i, *m = tensor<T>(t, FIRST, k) + i, *v = tensor<T>(t, SECOND, k) + i;
    const T g = tensor<T>(t, GRADIENT, k)[i];
    const T mean = fma(take1, g, keep1 * *m), square = fma(take2 * g, g, keep2 * *v);
    *m = mean;
    *v = square;
    *w = fma(rate, mean / fma(sqrt(square), scale, epsilon), left * *w);
  });
}

template <class T>
__device__ __forceinline__ void sgd(const Tensors& t, const double* s, T decay) {
  const T rate = T(s[RATE]);
  each(t, [&](int k, uint64_t i) {
    T* w = tensor<T>(t, WEIGHT, k) + i;
    *w = fma(rate, fma(decay, *w, tensor<T>(t, GRADIENT, k)[i]), *w);
  });
}

template <class T>
__device__ __forceinline__ void momentum(const Tensors& t, const double* s, T momentum, T decay, T of_g, T of_b) {
  const T rate = T(s[RATE]);
  each(t, [&](int k, uint64_t i) {
    T *w = tensor<T>(t, WEIGHT, k) + i, *b = tensor<T>(t, FIRST, k) + i;
    const T g = fma(decay, *w, tensor<T>(t, GRADIENT, k)[i]);
    const T buffer = fma(momentum, *b, g);
    *b = buffer;
    *w = fma(rate, fma(of_b, buffer, of_g * g), *w);
  });
}

template <class T>
__device__ __forceinline__ void rmsprop(const Tensors& t, const double* s, T keep, T take, T epsilon) {
  const T rate = T(s[RATE]);
  each(t, [&](int k, uint64_t i) {
    T *w = tensor<T>(t, WEIGHT, k) + i, *a = tensor<T>(t, FIRST, k) + i;
    const T g = tensor<T>(t, GRADIENT, k)[i];
    const T square = fma(take * g, g, keep * *a);
    *a = square;
    *w = fma(rate, g / (sqrt(square) + epsilon), *w);
  });
}

template <class T>
__device__ __forceinline__ void ema(const Tensors& t, T keep, T take) {
  each(t, [&](int k, uint64_t i) {
    T* average = tensor<T>(t, WEIGHT, k) + i;
    *average = fma(take, tensor<T>(t, GRADIENT, k)[i], keep * *average);
  });
}

// The sum over a block in a fixed order; thread 0 has it.
__device__ __forceinline__ double block_sum(double sum) {
  __shared__ double sums[THREADS];
  sums[threadIdx.x] = sum;
  __syncthreads();
  for (int width = THREADS / 2; width > 0; width /= 2) {
    if (int(threadIdx.x) < width) sums[threadIdx.x] += sums[threadIdx.x + width];
    __syncthreads();
  }
  return sums[0];
}

template <class T>
__device__ __forceinline__ void sum_of_squares(const T* x, uint64_t n, double* parts) {
  const uint64_t start = uint64_t(blockIdx.x) * ELEMENTS;
  double sum = 0;
  for (int i = 0; i < ELEMENTS; i += THREADS) {
    const uint64_t at = start + i + threadIdx.x;
    const double v = at < n ? double(x[at]) : 0;
    sum = fma(v, v, sum);
  }
  sum = block_sum(sum);
  if (threadIdx.x == 0) parts[blockIdx.x] = sum;
}

}  // namespace

// Counts a step, and computes what is the same for all elements: on the device, so that captured steps can be repeated.
KERNEL(optim_prepare, 1, double* s, double beta1, double beta2, double decay) {
  const double t = s[STEPS] + 1, rate = s[LEARNING_RATE];
  s[STEPS] = t;
  s[RATE] = -rate / (1 - pow(beta1, t));
  s[SCALE] = 1 / sqrt(1 - pow(beta2, t));
  s[LEFT] = 1 - rate * decay;
}

#define OPTIMIZERS(T, suffix)                                                                                                 \
  KERNEL(optim_adam_##suffix, 256, const __grid_constant__ Tensors t, const double* s, T keep1, T take1, T keep2, T take2, T epsilon) { \
    adam<T>(t, s, keep1, take1, keep2, take2, epsilon);                                                                       \
  }                                                                                                                           \
  KERNEL(optim_sgd_##suffix, 256, const __grid_constant__ Tensors t, const double* s, T decay) { sgd<T>(t, s, decay); }       \
  KERNEL(optim_momentum_##suffix, 256, const __grid_constant__ Tensors t, const double* s, T factor, T decay, T of_g, T of_b) { \
    momentum<T>(t, s, factor, decay, of_g, of_b);                                                                             \
  }                                                                                                                           \
  KERNEL(optim_rmsprop_##suffix, 256, const __grid_constant__ Tensors t, const double* s, T keep, T take, T epsilon) {        \
    rmsprop<T>(t, s, keep, take, epsilon);                                                                                    \
  }                                                                                                                           \
  KERNEL(optim_ema_##suffix, 256, const __grid_constant__ Tensors t, T keep, T take) { ema<T>(t, keep, take); }               \
  KERNEL(sum_of_squares_##suffix, 256, const T* x, uint64_t n, double* parts) { sum_of_squares(x, n, parts); }

OPTIMIZERS(float, f32)
OPTIMIZERS(double, f64)

// One block: the sum of the parts in a fixed order.
KERNEL(sum_of_parts, 256, const double* parts, uint64_t n, double* out) {
  double sum = 0;
  for (uint64_t i = threadIdx.x; i < n; i += THREADS) sum += parts[i];
  sum = block_sum(sum);
  if (threadIdx.x == 0) *out = sum;
}
