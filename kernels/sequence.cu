// Several kernels in one, so that a captured step has one node of a graph for all of them: those of few blocks one after another in a
// single block, elementwise ones of equal length one after another in as many blocks as each of them has, and what needs none of these in
// further blocks beside them. Their bodies are those of their own files, and so are their results, bit for bit.
#include "device.cuh"

#include <utility>

#pragma push_macro("KERNEL_BOUNDS")
#undef KERNEL_BOUNDS
#define KERNEL_BOUNDS(name, bounds, ...) [[maybe_unused]] static __device__ __forceinline__ void name(__VA_ARGS__)
// A function's parameters are no constants of the grid.
#pragma push_macro("__grid_constant__")
#undef __grid_constant__
#define __grid_constant__

namespace {
// The block of the kernel in turn; there is one row of them.
__device__ __forceinline__ uint32_t& block_in_turn() {
  __shared__ uint32_t block;
  return block;
}
struct InTurn {
  uint32_t x, y, z;
};
}  // namespace
#pragma push_macro("blockIdx")
#pragma push_macro("gridDim")
#undef blockIdx
#undef gridDim
#define blockIdx (InTurn{block_in_turn(), 0, 0})
#define gridDim (InTurn{1, 1, 1})

#include "copy.cu"
#include "elementwise.cuh"
#include "join.cu"
#include "optim.cu"
#include "random.cu"
#include "reduce.cu"
#include "select.cu"
#include "softmax.cu"

#pragma pop_macro("KERNEL_BOUNDS")
#pragma pop_macro("__grid_constant__")

// The kernels that may take turns, and after them the elementwise ones of f32 and of f64. Their places are the numbers by which steps
// call them; build.rs reads the names from the compiled `names_in_turn`.
#define IN_TURN(K)                                                                                                                    \
  K(advance_u64) K(convert) K(copy_32) K(copy_64) K(fill_u32) K(fill_u64) K(pad_32) K(pad_64) K(pad_128) K(place_32) K(place_64)      \
  K(place_128) K(optim_prepare) K(random_normal_f32) K(sum_of_parts) K(sum_rows_f32) K(sum_rows_f64)            \
  K(sum_columns_f32) K(sum_partials_f32) K(cross_entropy_f32) K(cross_entropy_grad_f32) K(activation_grad_f32)

#define NAME(name) #name " "
#define UNARY_F32(name, ...) "unary_" #name "_f32 "
#define UNARY_F64(name, ...) "unary_" #name "_f64 "
#define BINARY_F32(name, ...) "binary_" #name "_f32 "
#define BINARY_F64(name, ...) "binary_" #name "_f64 "
extern "C" __device__ const char names_in_turn[] =
    IN_TURN(NAME) UNARY_FUNCTIONS(UNARY_F32) UNARY_FUNCTIONS(UNARY_F64) BINARY_FUNCTIONS(BINARY_F32) BINARY_FUNCTIONS(BINARY_F64);

namespace {

#define NUMBER(name, ...) name,
struct Kernels {
  enum : uint32_t { IN_TURN(NUMBER) COUNT };
};
struct Unary {
  enum : uint32_t { UNARY_FUNCTIONS(NUMBER) COUNT };
};
struct Binary {
  enum : uint32_t { BINARY_FUNCTIONS(NUMBER) COUNT };
};

// Arguments lie one after another, each on a multiple of 8 bytes.
template <auto F>
struct Call;
template <class... P, void (*F)(P...)>
struct Call<F> {
  static __device__ constexpr uint32_t place(size_t index) {
    const uint32_t sizes[] = {uint32_t((sizeof(P) + 7) / 8 * 8)...};
    uint32_t at = 0;
    for (size_t i = 0; i < index; ++i) at += sizes[i];
    return at;
  }
  template <size_t... I>
  static __device__ __forceinline__ void spread(const unsigned char* at, std::index_sequence<I...>) {
    F(*reinterpret_cast<const P*>(at + std::integral_constant<uint32_t, place(I)>::value)...);
  }
  static __device__ __forceinline__ void run(const unsigned char* at) { spread(at, std::index_sequence_for<P...>()); }
};

// One function for all elements, so that its code is there once.
template <class T>
__device__ __noinline__ T unary(uint32_t function, T x, T a, T b) {
#define CASE(name, ...) \
  case Unary::name: return __VA_ARGS__;
  switch (function) { UNARY_FUNCTIONS(CASE) }
#undef CASE
  return x;
}
template <class T>
__device__ __noinline__ T binary(uint32_t function, T x, T y) {
#define CASE(name, ...) \
  case Binary::name: return __VA_ARGS__;
  switch (function) { BINARY_FUNCTIONS(CASE) }
#undef CASE
  return x;
}

// The arguments of elementwise kernels.
template <class T>
struct OfOne {
  const T* x;
  T* y;
  Strided<1> in;
  uint64_t n;
  double a, b;  // T in the lowest bytes
};
template <class T>
struct OfTwo {
  const T* a;
  const T* b;
  T* y;
  Strided<2> in;
  uint64_t n;
};

template <class T>
__device__ __forceinline__ void each_of_one(uint32_t function, const OfOne<T>& p) {
  map1(p.x, p.y, p.in, p.n, [&](T x) { return unary(function, x, *reinterpret_cast<const T*>(&p.a), *reinterpret_cast<const T*>(&p.b)); });
}
template <class T>
__device__ __forceinline__ void each_of_two(uint32_t function, const OfTwo<T>& p) {
  map2(p.a, p.b, p.y, p.in, p.n, [&](T x, T y) { return binary(function, x, y); });
}

__device__ __forceinline__ void run(uint32_t kernel, const unsigned char* arguments) {
  switch (kernel) {
#define CASE(name) \
  case Kernels::name: return Call<::name>::run(arguments);
    IN_TURN(CASE)
#undef CASE
  }
  kernel -= Kernels::COUNT;
  if (kernel < Unary::COUNT) return each_of_one(kernel, *reinterpret_cast<const OfOne<float>*>(arguments));
  kernel -= Unary::COUNT;
  if (kernel < Unary::COUNT) return each_of_one(kernel, *reinterpret_cast<const OfOne<double>*>(arguments));
  kernel -= Unary::COUNT;
  if (kernel < Binary::COUNT) return each_of_two(kernel, *reinterpret_cast<const OfTwo<float>*>(arguments));
  each_of_two(kernel - Binary::COUNT, *reinterpret_cast<const OfTwo<double>*>(arguments));
}

// Twins of `Waiting::words` in src/device/cuda/driver/waiting.rs and of `Sequence` in sequence.rs there.
struct Step {
  uint32_t kernel, turns, threads;
  uint32_t next;  // where the next step begins; 0 after the last
  uint32_t first, blocks;  // the blocks that run it
};
struct Sequence {
  uint64_t words[500];
};

}  // namespace

#pragma pop_macro("blockIdx")
#pragma pop_macro("gridDim")

KERNEL_BOUNDS(run_in_turn, (256, 3), const __grid_constant__ Sequence sequence) {
  const unsigned char* bytes = reinterpret_cast<const unsigned char*>(sequence.words);
  for (uint32_t at = 0;;) {
    const Step step = *reinterpret_cast<const Step*>(bytes + at);
    const uint32_t block = blockIdx.x - step.first;
    for (uint32_t turn = 0; block < step.blocks && turn < step.turns; ++turn) {
      if (threadIdx.x == 0) block_in_turn() = block + turn;
      __syncthreads();
      if (threadIdx.x < step.threads) run(step.kernel, bytes + at + sizeof(Step));
      // What a kernel writes is there for the next, and its shared memory is free.
      __syncthreads();
    }
    if (step.next == 0) return;
    at = step.next;
  }
}
