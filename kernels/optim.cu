// Optimisers and averages over many tensors in one launch, and the norm of gradients.
#include "strided.cuh"

namespace {

// Tensors that are updated together. Twin of `Tensors` in src/optim/cuda.rs.
struct Tensors {
  static constexpr int MOST = 64;
  uint32_t count;
  uint32_t first[MOST];  // the first block of each
  uint64_t length[MOST];
  uint64_t pointer[5][MOST];
};

constexpr int THREADS = 256;
// Elements of a block. Twin of `ELEMENTS` in src/optim/cuda.rs.
constexpr int ELEMENTS = 16 * THREADS;

// The elements of a tensor that this block works on.
struct Piece {
  int tensor;
  uint64_t start, end;

  __device__ __forceinline__ explicit Piece(const Tensors& t) {
    int low = 0, high = int(t.count) - 1;
    while (low < high) {
      const int middle = (low + high + 1) / 2;
      if (t.first[middle] <= blockIdx.x) low = middle;
      else high = middle - 1;
    }
    tensor = low;
    start = uint64_t(blockIdx.x - t.first[low]) * ELEMENTS;
    end = min(start + ELEMENTS, t.length[low]);
  }
};

// Roles of the tensors. An average is null if there is none.
enum { WEIGHT, GRADIENT, FIRST, SECOND, AVERAGE };
// What `optim_prepare` keeps for the next step, and learning rates from RATES on: COUNT of them, of which POSITION were taken.
enum { STEPS, RATE, SCALE, LEFT, POSITION, COUNT, RATES };

// How much an average keeps, and takes of the new weights.
template <class T>
struct Averaging {
  T keep, take;
};

// Sixteen bytes of a tensor, as many of its elements as there are.
template <class T>
__device__ __forceinline__ Pack<T> read(const T* from, uint64_t at, uint64_t end, bool whole) {
  if (whole) return load_pack(from + at);
  Pack<T> v = {};
#pragma unroll
  for (int i = 0; i < Pack<T>::COUNT; ++i)
    if (at + i < end) v.v[i] = from[at + i];
  return v;
}
template <class T>
__device__ __forceinline__ void write(T* to, uint64_t at, uint64_t end, bool whole, const Pack<T>& v) {
  if (whole) return store_pack(to + at, v);
#pragma unroll
  for (int i = 0; i < Pack<T>::COUNT; ++i)
    if (at + i < end) to[at + i] = v.v[i];
}

// Sets weights to f(weight, gradient, state) and takes them into their averages; f changes the SLOTS numbers of state.
template <class T, int SLOTS, class F>
__device__ __forceinline__ void update(const Tensors& t, const Averaging<T>& averaging, F f) {
  constexpr int N = Pack<T>::COUNT;
  const Piece piece(t);
  T* pointer[5];
  bool aligned = true;
#pragma unroll
  for (int role = 0; role < 5; ++role) {
    pointer[role] = reinterpret_cast<T*>(t.pointer[role][piece.tensor]);
    aligned = aligned && aligned16(pointer[role]);
  }
#pragma unroll 1
  for (uint64_t at = piece.start + threadIdx.x * N; at < piece.end; at += THREADS * N) {
    const bool whole = aligned && at + N <= piece.end;
    Pack<T> weight = read(pointer[WEIGHT], at, piece.end, whole), state[SLOTS + 1], mean = {};
    const Pack<T> gradient = read(pointer[GRADIENT], at, piece.end, whole);
#pragma unroll
    for (int k = 0; k < SLOTS; ++k) state[k] = read(pointer[FIRST + k], at, piece.end, whole);
    if (pointer[AVERAGE]) mean = read(pointer[AVERAGE], at, piece.end, whole);
#pragma unroll
    for (int i = 0; i < N; ++i) {
      T numbers[SLOTS + 1];
#pragma unroll
      for (int k = 0; k < SLOTS; ++k) numbers[k] = state[k].v[i];
      weight.v[i] = f(weight.v[i], gradient.v[i], numbers);
#pragma unroll
      for (int k = 0; k < SLOTS; ++k) state[k].v[i] = numbers[k];
      mean.v[i] = fma(averaging.take, weight.v[i], averaging.keep * mean.v[i]);
    }
    write(pointer[WEIGHT], at, piece.end, whole, weight);
#pragma unroll
    for (int k = 0; k < SLOTS; ++k) write(pointer[FIRST + k], at, piece.end, whole, state[k]);
    if (pointer[AVERAGE]) write(pointer[AVERAGE], at, piece.end, whole, mean);
  }
}

template <class T>
__device__ __forceinline__ void adam(const Tensors& t, const double* s, const Averaging<T>& averaging, T keep1, T take1, T keep2, T take2,
                                     T epsilon) {
  const T rate = T(s[RATE]), scale = T(s[SCALE]), left = T(s[LEFT]);
  update<T, 2>(t, averaging, [=](T w, T g, T* moments) {
    moments[0] = fma(take1, g, keep1 * moments[0]);
    moments[1] = fma(take2 * g, g, keep2 * moments[1]);
    return fma(rate, moments[0] / fma(sqrt(moments[1]), scale, epsilon), left * w);
  });
}

template <class T>
__device__ __forceinline__ void sgd(const Tensors& t, const double* s, const Averaging<T>& averaging, T decay) {
  const T rate = T(s[RATE]);
  update<T, 0>(t, averaging, [=](T w, T g, T*) { return fma(rate, fma(decay, w, g), w); });
}

template <class T>
__device__ __forceinline__ void momentum(const Tensors& t, const double* s, const Averaging<T>& averaging, T momentum, T decay, T of_g, T of_b) {
  const T rate = T(s[RATE]);
  update<T, 1>(t, averaging, [=](T w, T g, T* buffer) {
    g = fma(decay, w, g);
    buffer[0] = fma(momentum, buffer[0], g);
    return fma(rate, fma(of_b, buffer[0], of_g * g), w);
  });
}

template <class T>
__device__ __forceinline__ void rmsprop(const Tensors& t, const double* s, const Averaging<T>& averaging, T keep, T take, T epsilon) {
  const T rate = T(s[RATE]);
  update<T, 1>(t, averaging, [=](T w, T g, T* square) {
    square[0] = fma(take * g, g, keep * square[0]);
    return fma(rate, g / (sqrt(square[0]) + epsilon), w);
  });
}

// Averages of what no optimiser changes.
template <class T>
__device__ __forceinline__ void ema(const Tensors& t, const Averaging<T>& averaging) {
  const Piece piece(t);
  const T* value = reinterpret_cast<const T*>(t.pointer[WEIGHT][piece.tensor]);
  T* mean = reinterpret_cast<T*>(t.pointer[AVERAGE][piece.tensor]);
  for (uint64_t i = piece.start + threadIdx.x; i < piece.end; i += THREADS) mean[i] = fma(averaging.take, value[i], averaging.keep * mean[i]);
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

// The sum of squares of a block's elements.
template <class T>
__device__ __forceinline__ void sum_of_squares(const Tensors& t, double* parts) {
  const Piece piece(t);
  const T* gradient = reinterpret_cast<const T*>(t.pointer[GRADIENT][piece.tensor]);
  double sum = 0;
#pragma unroll 4
  for (uint64_t i = piece.start + threadIdx.x; i < piece.end; i += THREADS) {
    const double v = double(gradient[i]);
    sum = fma(v, v, sum);
  }
  sum = block_sum(sum);
  if (threadIdx.x == 0) parts[blockIdx.x] = sum;
}

}  // namespace

// Counts the steps taken since the last one, and computes what is the same for all elements of the next: on the device, so that captured
// steps can be repeated.
KERNEL(optim_prepare, 1, double* s, double taken, double beta1, double beta2, double decay) {
  const double t = s[STEPS] + taken, position = fmin(s[POSITION] + taken, s[COUNT] - 1), rate = s[RATES + int(position)];
  s[STEPS] = t;
  s[POSITION] = position;
  s[RATE] = -rate / (1 - pow(beta1, t + 1));
  s[SCALE] = 1 / sqrt(1 - pow(beta2, t + 1));
  s[LEFT] = 1 - rate * decay;
}

#define OPTIMIZERS(T, suffix)                                                                                                 \
  KERNEL(optim_adam_##suffix, 256, const __grid_constant__ Tensors t, const double* s, T held, T taken,                       \
         T keep1, T take1, T keep2, T take2, T epsilon) {                                                                     \
    adam<T>(t, s, {held, taken}, keep1, take1, keep2, take2, epsilon);                                                        \
  }                                                                                                                           \
  KERNEL(optim_sgd_##suffix, 256, const __grid_constant__ Tensors t, const double* s, T held, T taken,                        \
         T decay) {                                                                                                           \
    sgd<T>(t, s, {held, taken}, decay);                                                                                       \
  }                                                                                                                           \
  KERNEL(optim_momentum_##suffix, 256, const __grid_constant__ Tensors t, const double* s,                                    \
         T held, T taken, T factor, T decay, T of_g, T of_b) {                                                                \
    momentum<T>(t, s, {held, taken}, factor, decay, of_g, of_b);                                                              \
  }                                                                                                                           \
  KERNEL(optim_rmsprop_##suffix, 256, const __grid_constant__ Tensors t, const double* s,                                     \
         T held, T taken, T keep, T take, T epsilon) {                                                                        \
    rmsprop<T>(t, s, {held, taken}, keep, take, epsilon);                                                                     \
  }                                                                                                                           \
  KERNEL(optim_ema_##suffix, 256, const __grid_constant__ Tensors t, T held, T taken) {                                       \
    ema<T>(t, {held, taken});                                                                                                 \
  }                                                                                                                           \
  KERNEL(sum_of_squares_##suffix, 256, const __grid_constant__ Tensors t, double* parts) { sum_of_squares<T>(t, parts); }

OPTIMIZERS(float, f32)
OPTIMIZERS(double, f64)

// One block: the sum of the parts in a fixed order.
KERNEL(sum_of_parts, 256, const double* parts, uint64_t n, double* out) {
  double sum = 0;
  for (uint64_t i = threadIdx.x; i < n; i += THREADS) sum += parts[i];
  sum = block_sum(sum);
  if (threadIdx.x == 0) *out = sum;
}
