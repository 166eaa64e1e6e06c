// Products on the tensor cores, one tile by one block of threads, with f32 sums: what is the same whatever the operands are. Loaders
// bring operands to shared memory (those of matrices are in tensor_loader.cuh), and the results' store is the caller's.
//
// Operands lie in shared memory as the instructions take them: converted once, when they are stored there, not at each use. Each keeps
// its own direction, which is known when the kernel is compiled, so that every combination of transposes costs the same.
#pragma once
#include "strided.cuh"

namespace {

// The conversion of an operand's elements (In) on their way to shared memory: PLANES numbers (of type Element) each, of which `d` gets
// the product. `convert` makes of the elements of a 32-bit word one word for each plane.

// Rounded to TF32: 11 significant bits.
struct RoundTf32 {
  using In = float;
  using Element = uint32_t;
  static constexpr int PLANES = 1;
  __device__ __forceinline__ static void convert(const float* x, uint32_t (&to)[PLANES]) { to[0] = strait::to_tf32(x[0]); }
  __device__ __forceinline__ static void multiply(float (&d)[4], const uint32_t (&a)[PLANES][4], const uint32_t (&b)[PLANES][2]) {
    strait::mma_m16n8k8_tf32(d, a[0], b[0]);
  }
};

// Two numbers rounded to bf16, the first in the low half.
__device__ __forceinline__ uint32_t to_bf16(float x, float y) {
  const __nv_bfloat162 both = __floats2bfloat162_rn(x, y);
  return reinterpret_cast<const uint32_t&>(both);
}

// Rounded to bf16: 8 significant bits.
struct RoundBf16 {
  using In = float;
  using Element = uint16_t;
  static constexpr int PLANES = 1;
  __device__ __forceinline__ static void convert(const float* x, uint32_t (&to)[PLANES]) { to[0] = to_bf16(x[0], x[1]); }
  __device__ __forceinline__ static void multiply(float (&d)[4], const uint32_t (&a)[PLANES][4], const uint32_t (&b)[PLANES][2]) {
    strait::mma_m16n8k16_bf16(d, a[0], b[0]);
  }
};

// The sum of two bf16: 16 significant bits. The product of the two small parts is left out; it is below their rounding.
struct SplitBf16 {
  using In = float;
  using Element = uint16_t;
  static constexpr int PLANES = 2;
  __device__ __forceinline__ static void convert(const float* x, uint32_t (&to)[PLANES]) {
    to[0] = to_bf16(x[0], x[1]);
    to[1] = to_bf16(x[0] - __uint_as_float(to[0] << 16), x[1] - __uint_as_float(to[0] & 0xffff0000u));
  }
  __device__ __forceinline__ static void multiply(float (&d)[4], const uint32_t (&a)[PLANES][4], const uint32_t (&b)[PLANES][2]) {
    // Small terms first.
    strait::mma_m16n8k16_bf16(d, a[1], b[0]);
    strait::mma_m16n8k16_bf16(d, a[0], b[1]);
    strait::mma_m16n8k16_bf16(d, a[0], b[0]);
  }
};

// As it is: the product of two 16-bit floats is an f32. `convert` packs two that were not copied.
template <class T>
struct Half {
  using In = T;
  using Element = uint16_t;
  static constexpr int PLANES = 1;
  __device__ __forceinline__ static void convert(const T* x, uint32_t (&to)[PLANES]) { to[0] = bits(x[0]) | uint32_t(bits(x[1])) << 16; }
  __device__ __forceinline__ static uint16_t bits(const T& x) { return reinterpret_cast<const uint16_t&>(x); }
  __device__ __forceinline__ static void multiply(float (&d)[4], const uint32_t (&a)[PLANES][4], const uint32_t (&b)[PLANES][2]) {
    if constexpr (std::is_same<T, __half>::value) strait::mma_m16n8k16_f16(d, a[0], b[0]);
    else strait::mma_m16n8k16_bf16(d, a[0], b[0]);
  }
};

// Converts COUNT neighbours and stores them in shared memory, those of each plane PLANE bytes after those of the one before.
template <class Mode, int COUNT, int PLANE>
__device__ __forceinline__ void store_converted(unsigned char* to, const typename Mode::In* from) {
  constexpr int PER_WORD = 4 / sizeof(typename Mode::Element), WORDS = COUNT / PER_WORD;
  struct __align__(4 * WORDS) Words {
    uint32_t v[WORDS];
  } planes[Mode::PLANES];
#pragma unroll
  for (int j = 0; j < WORDS; ++j) {
    uint32_t word[Mode::PLANES];
    Mode::convert(from + j * PER_WORD, word);
#pragma unroll
    for (int p = 0; p < Mode::PLANES; ++p) planes[p].v[j] = word[p];
  }
#pragma unroll
  for (int p = 0; p < Mode::PLANES; ++p) *reinterpret_cast<Words*>(to + p * PLANE) = planes[p];
}

// Warps along the rows and the columns; a warp has 16 DOWN x 8 ACROSS results. Elements that need no conversion are COPIED
// asynchronously, some stages ahead; the others wait in registers for one stage. LINE bytes of a line in a stage are of each plane.
// src/device/cuda/cores.rs knows its size in shared memory.
template <class Mode_, int WARPS_M_, int WARPS_N_, int DOWN_, int ACROSS_, bool COPIED_ = sizeof(typename Mode_::In) == 2, int STAGES_ = COPIED_ ? 4 : 2,
          int LINE = 64 / Mode_::PLANES>
struct TensorTile {
  using Mode = Mode_;
  using In = typename Mode::In;
  using E = typename Mode::Element;
  static constexpr int WARPS_M = WARPS_M_, WARPS_N = WARPS_N_, DOWN = DOWN_, ACROSS = ACROSS_;
  static constexpr int M = 16 * DOWN * WARPS_M, N = 8 * ACROSS * WARPS_N, THREADS = 32 * WARPS_M * WARPS_N;
  static constexpr bool COPIED = COPIED_;
  static constexpr int STAGES = STAGES_;
  // Elements of the sum that a stage holds, and that an instruction takes.
  static constexpr int DEPTH = LINE / int(sizeof(E)), STEP = 32 / sizeof(E);
  // Bytes from line to line in shared memory, or from element to element of the sum for transposed operands: 16, or 32 (of the banks'
  // 128), more than a multiple of 32 or 128, so that eight rows of 16 bytes, or eight elements of each of four lines, meet no conflict.
  static constexpr int BY_LINE = DEPTH * int(sizeof(E)) + 16;
  template <int LINES>
  static constexpr int TRANSPOSED = LINES * int(sizeof(E)) + (sizeof(E) == 2 ? 16 : 32);
  template <int LINES>
  static constexpr int PLANE = LINES * BY_LINE;
  static constexpr int A = Mode::PLANES * PLANE<M>, STAGE = A + Mode::PLANES * PLANE<N>, SHARED = STAGES * STAGE;
  static_assert(DEPTH * TRANSPOSED<M> <= PLANE<M> && DEPTH * TRANSPOSED<N> <= PLANE<N>, "both directions fit");
};

// Reads, from one plane of an operand, sixteen lines and STEP elements of the sum as the instructions take them: the left operand's
// registers of one instruction, or the right operand's of two, whose halves are the other way round.
template <class Tile, int LINES, bool RIGHT, bool TRANSPOSED>
struct TensorFragment {
  using E = typename Tile::E;
  static constexpr int PITCH = TRANSPOSED ? Tile::template TRANSPOSED<LINES> : Tile::BY_LINE;
  // TF32 has no transposing instruction.
  static constexpr bool WORDS = TRANSPOSED && sizeof(E) == 4;
  int at;  // where the lane begins, in bytes

  __device__ __forceinline__ explicit TensorFragment(int first_line) {
    const int lane = threadIdx.x & 31, low = lane >> 3 & 1, high = lane >> 4;
    const int half_line = (RIGHT ? high : low) * 8, half_k = RIGHT ? low : high, row = lane & 7;
    if (WORDS) at = (lane & 3) * PITCH + (first_line + (lane >> 2)) * int(sizeof(E));
    else if (TRANSPOSED) at = (half_k * 8 + row) * PITCH + (first_line + half_line) * int(sizeof(E));
    else at = (first_line + half_line + row) * PITCH + half_k * 16;
  }

  // Lines from `line` and elements from `k` on, counted from the first.
  __device__ __forceinline__ void read(uint32_t (&out)[4], const unsigned char* plane, int line, int k) const {
    const unsigned char* from = plane + at + (TRANSPOSED ? k * PITCH + line * int(sizeof(E)) : line * PITCH + k * int(sizeof(E)));
    if constexpr (WORDS) {
#pragma unroll
      for (int i = 0; i < 4; ++i)
        out[i] = *reinterpret_cast<const uint32_t*>(from + (RIGHT ? i & 1 : i >> 1) * 4 * PITCH + (RIGHT ? i >> 1 : i & 1) * 8 * int(sizeof(E)));
    } else if constexpr (TRANSPOSED) {
      strait::ldmatrix_transposed<4>(out, from);
    } else {
      strait::ldmatrix<4>(out, from);
    }
  }
};

// Adds the product of two operands over `k` elements to a warp's results. A loader has
//   TRANSPOSED               how its operand lies in a stage: line by line, or element by element of the sum
//   fetch(stage, k_left)     begins to bring the next DEPTH elements of its lines, of which `k_left` are there (all, or none if that is
//                            not positive) and the others are zeros
//   stash(stage)             stores what waits in registers
// and the right one GATHERED: whether that takes many instructions.
template <class Tile, class A, class B>
__device__ __forceinline__ void tensor_multiply(unsigned char* shared, A& a, B& b, uint32_t k, float (&results)[Tile::DOWN][Tile::ACROSS][4]) {
  using Mode = typename Tile::Mode;
  constexpr int PLANES = Mode::PLANES, DOWN = Tile::DOWN, ACROSS = Tile::ACROSS, AHEAD = Tile::STAGES - 1;
  constexpr int PLANE_A = Tile::template PLANE<Tile::M>, PLANE_B = Tile::template PLANE<Tile::N>;
  const int warp = threadIdx.x / 32, warp_m = warp % Tile::WARPS_M, warp_n = warp / Tile::WARPS_M;
  const TensorFragment<Tile, Tile::M, false, A::TRANSPOSED> left_lines(warp_m * DOWN * 16);
  const TensorFragment<Tile, Tile::N, true, B::TRANSPOSED> right_lines(warp_n * ACROSS * 8);
  const uint32_t blocks = (k + Tile::DEPTH - 1) / Tile::DEPTH;
  int k_left = int(k);

  auto stage = [&](uint32_t block) { return shared + block % Tile::STAGES * Tile::STAGE; };
  auto fetch = [&](uint32_t block) {
    a.fetch(stage(block), k_left);
    b.fetch(stage(block) + Tile::A, k_left);
    strait::cp_async_commit();
    k_left -= Tile::DEPTH;
  };
  auto stash = [&](uint32_t block) {
    a.stash(stage(block));
    b.stash(stage(block) + Tile::A);
  };
#pragma unroll 1
  for (uint32_t block = 0; block < AHEAD; ++block) {
    fetch(block);
    stash(block);
  }
  // Stages beyond the last are zeros that nothing reads: that takes no branch.
#pragma unroll 1
  for (uint32_t block = 0; block < blocks; ++block) {
    strait::cp_async_wait<AHEAD - 1>();
    __syncthreads();
    const unsigned char* here = stage(block);
#pragma unroll
    for (int step = 0; step < Tile::DEPTH; step += Tile::STEP) {
      uint32_t left[DOWN][PLANES][4], right[ACROSS][PLANES][2];
      // Before the fragments, for whose registers what is gathered would have to wait.
      if (B::GATHERED && step == 0) fetch(block + AHEAD);
#pragma unroll
      for (int plane = 0; plane < PLANES; ++plane) {
#pragma unroll
        for (int n = 0; n < ACROSS; n += 2) {
          uint32_t two[4];
          right_lines.read(two, here + Tile::A + plane * PLANE_B, n * 8, step);
#pragma unroll
          for (int i = 0; i < 4; ++i) right[n + i / 2][plane][i % 2] = two[i];
        }
#pragma unroll
        for (int m = 0; m < DOWN; ++m) left_lines.read(left[m][plane], here + plane * PLANE_A, m * 16, step);
      }
      // Here, so that it is issued among the multiplications.
      if (!B::GATHERED && step == 0) fetch(block + AHEAD);
#pragma unroll
      for (int m = 0; m < DOWN; ++m)
#pragma unroll
        for (int n = 0; n < ACROSS; ++n) Mode::multiply(results[m][n], left[m], right[n]);
    }
    stash(block + AHEAD);
  }
  strait::cp_async_wait<0>();
}

// Calls store(row, column, four results) for all of a tile. By way of shared memory, so that whole lines are written and the
// activation's code is there once; one row of warps at a time.
template <class Tile, class Store>
__device__ __forceinline__ void tensor_store(unsigned char* shared, const float (&results)[Tile::DOWN][Tile::ACROSS][4], const Store& store) {
  constexpr int ROWS = 16 * Tile::DOWN, PITCH = Tile::N + 4;
  static_assert(ROWS * PITCH * sizeof(float) <= Tile::SHARED, "a row of warps' results fit");
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, warp_m = warp % Tile::WARPS_M, warp_n = warp / Tile::WARPS_M;
  float* lines = reinterpret_cast<float*>(shared);
#pragma unroll 1
  for (int group = 0; group < Tile::WARPS_M; ++group) {
    __syncthreads();
    if (warp_m == group) {
#pragma unroll
      for (int m = 0; m < Tile::DOWN; ++m)
#pragma unroll
        for (int n = 0; n < Tile::ACROSS; ++n)
#pragma unroll
          for (int half = 0; half < 2; ++half)
            *reinterpret_cast<float2*>(lines + (m * 16 + half * 8 + lane / 4) * PITCH + (warp_n * Tile::ACROSS + n) * 8 + lane % 4 * 2) =
                make_float2(results[m][n][half * 2], results[m][n][half * 2 + 1]);
    }
    __syncthreads();
#pragma unroll 1
    for (int i = threadIdx.x * 4; i < ROWS * Tile::N; i += Tile::THREADS * 4)
      store(group * ROWS + i / Tile::N, i % Tile::N, *reinterpret_cast<const Pack<float>*>(lines + i / Tile::N * PITCH + i % Tile::N));
  }
}

}  // namespace
