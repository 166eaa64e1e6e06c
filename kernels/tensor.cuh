// One tile of a product, by one block of threads, on the tensor cores, with f32 sums.
//
// Operands lie in shared memory as the instructions take them: converted once, when they are stored there, not at each use. Each keeps
// its own direction, so that every combination of transposes costs the same.
#pragma once
#include "product.cuh"

namespace {

// The conversion of an operand's elements (In) on their way to shared memory: PLANES numbers (of type Element) each, of which `d` gets
// the product.

// Rounded to TF32: 11 significant bits.
struct RoundTf32 {
  using In = float;
  using Element = uint32_t;
  static constexpr int PLANES = 1;
  __device__ __forceinline__ static void split(float x, Element (&to)[PLANES]) { to[0] = strait::to_tf32(x); }
  __device__ __forceinline__ static void multiply(float (&d)[4], const uint32_t (&a)[PLANES][4], const uint32_t (&b)[PLANES][2]) {
    strait::mma_m16n8k8_tf32(d, a[0], b[0]);
  }
};

__device__ __forceinline__ uint16_t to_bf16(float x) { return __bfloat16_as_ushort(__float2bfloat16_rn(x)); }

// Rounded to bf16: 8 significant bits.
struct RoundBf16 {
  using In = float;
  using Element = uint16_t;
  static constexpr int PLANES = 1;
  __device__ __forceinline__ static void split(float x, Element (&to)[PLANES]) { to[0] = to_bf16(x); }
  __device__ __forceinline__ static void multiply(float (&d)[4], const uint32_t (&a)[PLANES][4], const uint32_t (&b)[PLANES][2]) {
    strait::mma_m16n8k16_bf16(d, a[0], b[0]);
  }
};

// The sum of two bf16: 16 significant bits. The product of the two small parts is left out; it is below their rounding.
struct SplitBf16 {
  using In = float;
  using Element = uint16_t;
  static constexpr int PLANES = 2;
  __device__ __forceinline__ static void split(float x, Element (&to)[PLANES]) {
    const __nv_bfloat16 high = __float2bfloat16_rn(x);
    to[0] = __bfloat16_as_ushort(high);
    to[1] = to_bf16(x - __bfloat162float(high));
  }
  __device__ __forceinline__ static void multiply(float (&d)[4], const uint32_t (&a)[PLANES][4], const uint32_t (&b)[PLANES][2]) {
    // Small terms first.
    strait::mma_m16n8k16_bf16(d, a[1], b[0]);
    strait::mma_m16n8k16_bf16(d, a[0], b[1]);
    strait::mma_m16n8k16_bf16(d, a[0], b[0]);
  }
};

// As it is: the product of two 16-bit floats is an f32.
template <class T>
struct Half {
  using In = T;
  using Element = uint16_t;
  static constexpr int PLANES = 1;
  __device__ __forceinline__ static void multiply(float (&d)[4], const uint32_t (&a)[PLANES][4], const uint32_t (&b)[PLANES][2]) {
    if constexpr (std::is_same<T, __half>::value) strait::mma_m16n8k16_f16(d, a[0], b[0]);
    else strait::mma_m16n8k16_bf16(d, a[0], b[0]);
  }
};

// Warps along the rows and the columns; a warp has 16 DOWN x 8 ACROSS results.
template <class Mode_, int WARPS_M_, int WARPS_N_, int DOWN_, int ACROSS_>
struct TensorTile {
  using Mode = Mode_;
  using In = typename Mode::In;
  using E = typename Mode::Element;
  static constexpr int WARPS_M = WARPS_M_, WARPS_N = WARPS_N_, DOWN = DOWN_, ACROSS = ACROSS_;
  static constexpr int M = 16 * DOWN * WARPS_M, N = 8 * ACROSS * WARPS_N, THREADS = 32 * WARPS_M * WARPS_N;
  // Elements of the sum that a stage holds, and that an instruction takes.
  static constexpr int DEPTH = 64 / sizeof(E), STEP = 32 / sizeof(E);
  // Elements that need no conversion are copied asynchronously, some stages ahead; the others wait in registers for one stage.
  static constexpr bool COPIED = sizeof(In) == 2;
  static constexpr int STAGES = COPIED ? 4 : 2;
  // Bytes from line to line in shared memory, or from element to element of the sum for transposed operands: 16, or 32 (of the banks'
  // 128), more than a multiple of 64 or 128, so that eight rows of 16 bytes, or eight elements of each of four lines, meet no conflict.
  static constexpr int BY_LINE = 64 + 16;
  template <int LINES>
  static constexpr int TRANSPOSED = LINES * int(sizeof(E)) + (sizeof(E) == 2 ? 16 : 32);
  template <int LINES>
  static constexpr int PLANE = LINES * BY_LINE;
  static constexpr int A = Mode::PLANES * PLANE<M>, STAGE = A + Mode::PLANES * PLANE<N>, SHARED = STAGES * STAGE;
  static_assert(DEPTH * TRANSPOSED<M> <= PLANE<M> && DEPTH * TRANSPOSED<N> <= PLANE<N>, "both directions fit");
};

// Brings an operand of any strides to shared memory, a stage at a time.
template <class Tile, int LINES>
struct TensorLoader {
  using In = typename Tile::In;
  using E = typename Tile::E;
  using Mode = typename Tile::Mode;
  static constexpr int DEPTH = Tile::DEPTH, THREADS = Tile::THREADS, PLANE = Tile::template PLANE<LINES>;
  static constexpr int PER_THREAD = LINES * DEPTH / CHUNK<In> / THREADS;
  bool transposed, whole, waiting;
  int k, line, lines;                // the first chunk's place, and the lines that there are
  int at, apart;                     // the place in bytes of the first chunk in a plane, and from chunk to chunk
  uint64_t along, next, block_step;  // from element to element of a chunk, from chunk to chunk, from stage to stage
  const In* source;
  Pack<In> staged[PER_THREAD];

  __device__ __forceinline__ TensorLoader(const In* data, uint64_t stride, uint64_t step, int lines_left) {
    waiting = false;
    transposed = stride == 1 && step != 1;
    along = transposed ? stride : step;
    whole = along == 1 && aligned16(data) && (transposed ? step : stride) % CHUNK<In> == 0;
    block_step = step * DEPTH;
    const int chunks = (transposed ? LINES : DEPTH) / CHUNK<In>;
    const int first = threadIdx.x % chunks * CHUNK<In>, across = threadIdx.x / chunks;
    k = transposed ? across : first;
    line = transposed ? first : across;
    const int pitch = transposed ? Tile::template TRANSPOSED<LINES> : Tile::BY_LINE;
    at = across * pitch + first * int(sizeof(E));
    apart = THREADS / chunks * pitch;
    next = THREADS / chunks * (transposed ? step : stride);
    lines = min(lines_left, LINES);
    source = data + line * stride + k * step;
  }

  // Elements of chunk `i` that there are when `k_left` elements of the sum are left.
  __device__ __forceinline__ int count(int i, int k_left) const {
    const int first_k = k + (transposed ? i * (THREADS * CHUNK<In> / LINES) : 0);
    const int first_line = line + (transposed ? 0 : i * (THREADS * CHUNK<In> / DEPTH));
    if (first_k >= k_left || first_line >= lines) return 0;
    return min(transposed ? lines - first_line : k_left - first_k, CHUNK<In>);
  }

  __device__ __forceinline__ void fetch(unsigned char* stage, uint32_t k_left) {
    const int left = k_left < DEPTH ? int(k_left) : DEPTH;
    waiting = !(Tile::COPIED && whole);
#pragma unroll
    for (int i = 0; i < PER_THREAD; ++i) {
      const int n = count(i, left);
      const In* from = source + i * next;
      if (!waiting) {
        strait::cp_async<16>(stage + at + i * apart, n > 0 ? from : nullptr, n * int(sizeof(In)));
      } else if (whole && n == CHUNK<In>) {
        staged[i] = *reinterpret_cast<const Pack<In>*>(from);
      } else {
#pragma unroll
        for (int j = 0; j < CHUNK<In>; ++j) staged[i].v[j] = j < n ? from[j * along] : In(0.f);
      }
    }
    source += block_step;
  }

  __device__ __forceinline__ void stash(unsigned char* stage) const {
    if (!waiting) return;
#pragma unroll
    for (int i = 0; i < PER_THREAD; ++i) {
      unsigned char* to = stage + at + i * apart;
      if constexpr (Tile::COPIED) {
        *reinterpret_cast<Pack<In>*>(to) = staged[i];
      } else {
        struct __align__(sizeof(E) * CHUNK<In>) Converted {
          E v[CHUNK<In>];
        } planes[Mode::PLANES];
#pragma unroll
        for (int j = 0; j < CHUNK<In>; ++j) {
          E split[Mode::PLANES];
          Mode::split(staged[i].v[j], split);
#pragma unroll
          for (int p = 0; p < Mode::PLANES; ++p) planes[p].v[j] = split[p];
        }
#pragma unroll
        for (int p = 0; p < Mode::PLANES; ++p) *reinterpret_cast<Converted*>(to + p * PLANE) = planes[p];
      }
    }
  }
};

// Sixteen lines and STEP elements of the sum, as the instructions take them: the left operand's registers of one instruction, or the
// right operand's of two, whose halves are the other way round.
template <class Tile, int LINES, bool RIGHT>
__device__ __forceinline__ void tensor_fragment(uint32_t (&out)[4], const unsigned char* plane, bool transposed, int first_line, int first_k) {
  using E = typename Tile::E;
  constexpr int TRANSPOSED = Tile::template TRANSPOSED<LINES>;
  const int lane = threadIdx.x & 31, low = lane >> 3 & 1, high = lane >> 4;
  const int half_line = RIGHT ? high : low, half_k = RIGHT ? low : high;
  if (!transposed) {
    strait::ldmatrix<4>(out, plane + (first_line + half_line * 8 + (lane & 7)) * Tile::BY_LINE + first_k * int(sizeof(E)) + half_k * 16);
  } else if constexpr (sizeof(E) == 2) {
    strait::ldmatrix_transposed<4>(out, plane + (first_k + half_k * 8 + (lane & 7)) * TRANSPOSED + (first_line + half_line * 8) * int(sizeof(E)));
  } else {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int line = first_line + (RIGHT ? i >> 1 : i & 1) * 8 + (lane >> 2), k = first_k + (RIGHT ? i & 1 : i >> 1) * 4 + (lane & 3);
      out[i] = *reinterpret_cast<const uint32_t*>(plane + k * TRANSPOSED + line * int(sizeof(E)));
    }
  }
}

template <class Tile>
__device__ __forceinline__ void tensor_product(const Product& p, const Strided<2>& batches) {
  using Mode = typename Tile::Mode;
  using In = typename Tile::In;
  constexpr int PLANES = Mode::PLANES, DOWN = Tile::DOWN, ACROSS = Tile::ACROSS;
  constexpr int PLANE_A = Tile::template PLANE<Tile::M>, PLANE_B = Tile::template PLANE<Tile::N>;
  DYNAMIC_SHARED(unsigned char, shared);
  const Part part(p, Tile::M, Tile::N);
  uint64_t base[2];
  batches.offsets(part.batch, base);
  const uint64_t first_k = part.split * p.split_k;
  const uint32_t k = share(p.k, part.split, p.split_k), blocks = (k + Tile::DEPTH - 1) / Tile::DEPTH;
  // 16-bit floats in, 16-bit floats out, but for parts of sums.
  const MatrixStore<float, std::conditional_t<Tile::COPIED, In, float>> store(p, part, part.split, p.splits == 1);
  TensorLoader<Tile, Tile::M> a(static_cast<const In*>(p.a) + base[0] + part.row * p.a_row + first_k * p.a_col, p.a_row, p.a_col, store.rows);
  TensorLoader<Tile, Tile::N> b(static_cast<const In*>(p.b) + base[1] + first_k * p.b_row + part.col * p.b_col, p.b_col, p.b_row, store.cols);
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, warp_m = warp % Tile::WARPS_M, warp_n = warp / Tile::WARPS_M;
  float results[DOWN][ACROSS][4] = {};

  uint32_t k_left = k;
  auto stage = [&](uint32_t block) { return shared + block % Tile::STAGES * Tile::STAGE; };
  auto fetch = [&](uint32_t block) {
    a.fetch(stage(block), k_left);
    b.fetch(stage(block) + Tile::A, k_left);
    k_left -= Tile::DEPTH;
  };
  auto stash = [&](uint32_t block) {
    a.stash(stage(block));
    b.stash(stage(block) + Tile::A);
  };
#pragma unroll 1
  for (uint32_t block = 0; block < Tile::STAGES - 1; ++block) {
    if (block < blocks) {
      fetch(block);
      stash(block);
    }
    strait::cp_async_commit();
  }
#pragma unroll 1
  for (uint32_t block = 0; block < blocks; ++block) {
    strait::cp_async_wait<Tile::STAGES - 2>();
    __syncthreads();
    const uint32_t next = block + Tile::STAGES - 1;
    if (next < blocks) fetch(next);
    strait::cp_async_commit();
    const unsigned char* here = stage(block);
#pragma unroll
    for (int step = 0; step < Tile::DEPTH; step += Tile::STEP) {
      uint32_t right[ACROSS][PLANES][2];
#pragma unroll
      for (int plane = 0; plane < PLANES; ++plane)
#pragma unroll
        for (int n = 0; n < ACROSS; n += 2) {
          uint32_t two[4];
          const unsigned char* from = here + Tile::A + plane * PLANE_B;
          tensor_fragment<Tile, Tile::N, true>(two, from, b.transposed, (warp_n * ACROSS + n) * 8, step);
#pragma unroll
          for (int i = 0; i < 4; ++i) right[n + i / 2][plane][i % 2] = two[i];
        }
#pragma unroll
      for (int m = 0; m < DOWN; ++m) {
        uint32_t left[PLANES][4];
#pragma unroll
        for (int plane = 0; plane < PLANES; ++plane)
          tensor_fragment<Tile, Tile::M, false>(left[plane], here + plane * PLANE_A, a.transposed, (warp_m * DOWN + m) * 16, step);
#pragma unroll
        for (int n = 0; n < ACROSS; ++n) Mode::multiply(results[m][n], left, right[n]);
      }
    }
    if (next < blocks) stash(next);
  }
  strait::cp_async_wait<0>();

  // By way of shared memory, so that whole lines are written and the activation's code is there once; one row of warps at a time.
  constexpr int ROWS = 16 * DOWN, PITCH = Tile::N + 4;
  static_assert(ROWS * PITCH * sizeof(float) <= Tile::SHARED, "a row of warps' results fit");
  float* lines = reinterpret_cast<float*>(shared);
#pragma unroll 1
  for (int group = 0; group < Tile::WARPS_M; ++group) {
    __syncthreads();
    if (warp_m == group) {
#pragma unroll
      for (int m = 0; m < DOWN; ++m)
#pragma unroll
        for (int n = 0; n < ACROSS; ++n)
#pragma unroll
          for (int half = 0; half < 2; ++half)
            *reinterpret_cast<float2*>(lines + (m * 16 + half * 8 + lane / 4) * PITCH + (warp_n * ACROSS + n) * 8 + lane % 4 * 2) =
                make_float2(results[m][n][half * 2], results[m][n][half * 2 + 1]);
    }
    __syncthreads();
#pragma unroll 1
    for (int i = threadIdx.x * 4; i < ROWS * Tile::N; i += Tile::THREADS * 4)
      store(group * ROWS + i / Tile::N, i % Tile::N, *reinterpret_cast<const Pack<float>*>(lines + i / Tile::N * PITCH + i % Tile::N));
  }
}

}  // namespace
