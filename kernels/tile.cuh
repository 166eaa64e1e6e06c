// One tile of a product, by one block of threads, on the CUDA cores. Matrix products and convolutions share it: they differ in
// where the operands lie (loaders) and where results go (stores).
//
// The sum over k is cut into slices, one for each group of warps, whose results are added in a fixed order at the end. With slices,
// small tiles keep a multiprocessor busy; many small tiles keep all of them busy.
#pragma once
#include "math.cuh"
#include "strided.cuh"

namespace {

// Elements of a 16-byte access.
template <class T>
constexpr int CHUNK = 16 / sizeof(T);
// Elements of the sum that a stage of shared memory holds: 128 bytes, eight chunks.
template <class T>
constexpr int DEPTH = 128 / sizeof(T);
constexpr int CHUNKS = 8;

// Results of a thread. Four by eight threads, a warp, compute 32 x 32.
constexpr int ROWS = 8, COLS = 4;

// Warps along the rows and the columns of the tile and along the sum.
template <class T_, int WARPS_M, int WARPS_N, int SLICES_, int STAGES_>
struct Tile {
  using T = T_;
  static constexpr int M = 32 * WARPS_M, N = 32 * WARPS_N, SLICES = SLICES_, STAGES = STAGES_;
  static constexpr int WARPS_ALONG_M = WARPS_M, WARPS_IN_SLICE = WARPS_M * WARPS_N;
  static constexpr int THREADS = 32 * WARPS_IN_SLICE * SLICES;
  static constexpr int STAGE = (M + N) * DEPTH<T>;
  static constexpr int SHARED = STAGES * STAGE;
};

// The two sizes: few results with long sums, and the general one.
template <class T>
using SmallTile = Tile<T, 1, 1, 8, 4>;
template <class T>
using MediumTile = Tile<T, 2, 2, 2, 3>;

// The rows and columns of its warp's 32 x 32 that a thread has. Lanes that differ in bit 0 share rows, lanes that differ in bit 1 share
// columns: that is how 16-byte reads of shared memory that repeat addresses take no longer than others.
struct Lane {
  int m, n;
  __device__ __forceinline__ Lane() {
    const int lane = threadIdx.x & 31;
    m = (lane >> 1 & 1) | (lane >> 4) << 1;
    n = (lane & 1) | (lane >> 1 & 6);
  }
  // First of the `CHUNK` rows of group `g`.
  template <class T>
  __device__ __forceinline__ int row(int g) const {
    return (g * 4 + m) * CHUNK<T>;
  }
  template <class T>
  __device__ __forceinline__ int col(int g) const {
    return (g * 8 + n) * CHUNK<T>;
  }
};

// The position of an element in a stage. An operand has lines along its axis of the output, each with DEPTH elements of the sum. It is kept
// line by line, with chunks exchanged so that threads that read neighbouring lines meet no bank conflict, or transposed.
template <class T>
__device__ __forceinline__ int by_line(int line, int chunk) {
  return line * DEPTH<T> + ((chunk ^ (line / CHUNK<T>)) & (CHUNKS - 1)) * CHUNK<T>;
}

// Copies lines of an operand of any strides.
template <class T, int LINES, int THREADS>
struct StridedLoader {
  // Chunks of a thread. From one to the next, a stage has THREADS chunks, which leaves their order within lines as it is.
  static constexpr int PER_THREAD = LINES * CHUNKS / THREADS;
  static_assert(THREADS / CHUNKS % (CHUNK<T> * CHUNKS) == 0 || PER_THREAD == 1, "the exchange of chunks repeats");
  bool transposed, whole;  // how it lies in shared memory; whether 16 bytes are copied at a time
  int at, line, k;         // the first chunk's place in the stage, first line and first element of the sum
  int lines;               // lines that there are
  uint64_t next, block_step;  // from chunk to chunk, from stage to stage
  const T* source;

  // `data` is the first line's first element; `lines_left` lines are there; elements are `step` apart, lines `stride`.
  __device__ __forceinline__ StridedLoader(const T* data, uint64_t stride, uint64_t step, int lines_left) {
    transposed = stride == 1 && step != 1;
    whole = (transposed || step == 1) && aligned16(data) && (transposed ? step : stride) % CHUNK<T> == 0;
    block_step = step * DEPTH<T>;
    constexpr int ACROSS = LINES / CHUNK<T>;
    if (transposed) {
      k = threadIdx.x / ACROSS;
      line = threadIdx.x % ACROSS * CHUNK<T>;
      at = k * LINES + line;
      next = THREADS / ACROSS * step;
    } else {
      k = threadIdx.x % CHUNKS * CHUNK<T>;
      line = threadIdx.x / CHUNKS;
      at = by_line<T>(line, threadIdx.x % CHUNKS);
      next = THREADS / CHUNKS * stride;
    }
    lines = min(lines_left, LINES);
    source = data + line * stride + k * step;
  }

  // From element to element of a chunk.
  __device__ __forceinline__ uint64_t along() const { return transposed ? 1 : block_step / DEPTH<T>; }

  // Elements of chunk `i` that there are when `k_left` elements of the sum are left.
  __device__ __forceinline__ int count(int i, int k_left) const {
    const int first_k = k + (transposed ? i * (THREADS * CHUNK<T> / LINES) : 0);
    const int first_line = line + (transposed ? 0 : i * (THREADS / CHUNKS));
    if (first_k >= k_left || first_line >= lines) return 0;
    return min(transposed ? lines - first_line : k_left - first_k, CHUNK<T>);
  }

  __device__ __forceinline__ void fetch(T* stage, uint32_t k_left) {
    if (whole && k_left >= DEPTH<T>) {
#pragma unroll
      for (int i = 0; i < PER_THREAD; ++i)
        strait::cp_async<16>(stage + at + i * (THREADS * CHUNK<T>), source + i * next, count(i, DEPTH<T>) * int(sizeof(T)));
    } else {
#pragma unroll 1
      for (int i = 0; i < PER_THREAD; ++i) {
        const int n = count(i, min(int(k_left), DEPTH<T>));
#pragma unroll 1
        for (int j = 0; j < CHUNK<T>; ++j)
          strait::cp_async<sizeof(T)>(stage + at + i * (THREADS * CHUNK<T>) + j, j < n ? source + i * next + j * along() : nullptr,
                                      j < n ? sizeof(T) : 0);
      }
    }
    source += block_step;
  }

  __device__ __forceinline__ void stash(T*) const {}
};

// The same for a cotangent after an activation: reads it and the activation's output, and stores the cotangent before the activation.
template <class T, int LINES, int THREADS>
struct MaskedLoader : StridedLoader<T, LINES, THREADS> {
  using Base = StridedLoader<T, LINES, THREADS>;
  int64_t to_output;  // from an element of the cotangent to that of the output, in bytes
  uint32_t activation;
  T slope;
  bool waiting;
  Pack<T> staged[Base::PER_THREAD];

  __device__ __forceinline__ MaskedLoader(const T* data, const T* output, uint64_t stride, uint64_t step, int lines_left,
                                          uint32_t activation, T slope)
      : Base(data, stride, step, lines_left), activation(activation), slope(slope) {
    waiting = false;
    to_output = reinterpret_cast<const char*>(output) - reinterpret_cast<const char*>(data);
    this->whole = this->whole && aligned16(output);
#pragma unroll
    for (int i = 0; i < Base::PER_THREAD; ++i) this->whole = this->whole && this->count(i, DEPTH<T>) % CHUNK<T> == 0;
  }

  __device__ __forceinline__ T* place(T* stage, int i) const { return stage + this->at + i * (THREADS * CHUNK<T>); }

  // Whole chunks wait in registers while the block computes; others are not worth that.
  __device__ __forceinline__ void fetch(T* stage, uint32_t k_left) {
    waiting = this->whole && k_left >= DEPTH<T>;
    const T* g = this->source;
    const T* y = reinterpret_cast<const T*>(reinterpret_cast<const char*>(g) + to_output);
    if (waiting) {
#pragma unroll
      for (int i = 0; i < Base::PER_THREAD; ++i) {
        staged[i] = {};
        if (this->count(i, DEPTH<T>) > 0) {
          staged[i] = *reinterpret_cast<const Pack<T>*>(g + i * this->next);
          const Pack<T> output = *reinterpret_cast<const Pack<T>*>(y + i * this->next);
#pragma unroll
          for (int j = 0; j < CHUNK<T>; ++j) staged[i].v[j] = activate_grad(activation, slope, staged[i].v[j], output.v[j]);
        }
      }
    } else {
#pragma unroll 1
      for (int i = 0; i < Base::PER_THREAD; ++i) {
        const int n = this->count(i, min(int(k_left), DEPTH<T>));
#pragma unroll 1
        for (int j = 0; j < CHUNK<T>; ++j) {
          const uint64_t from = i * this->next + j * this->along();
          place(stage, i)[j] = j < n ? activate_grad(activation, slope, g[from], y[from]) : T(0);
        }
      }
    }
    this->source += this->block_step;
  }

  __device__ __forceinline__ void stash(T* stage) const {
    if (!waiting) return;
#pragma unroll
    for (int i = 0; i < Base::PER_THREAD; ++i) *reinterpret_cast<Pack<T>*>(place(stage, i)) = staged[i];
  }
};

// Sixteen bytes of the sum for all of a thread's rows, or columns.
template <class T, int LANES, int COUNT, int LINES>
__device__ __forceinline__ void fragment(T (&out)[CHUNK<T>][COUNT], const T* stage, bool transposed, int first_line, int lane, int chunk) {
#pragma unroll
  for (int g = 0; g < COUNT / CHUNK<T>; ++g) {
    const int line = first_line + (g * LANES + lane) * CHUNK<T>;
    if (transposed) {
#pragma unroll
      for (int k = 0; k < CHUNK<T>; ++k) {
        const Pack<T> p = *reinterpret_cast<const Pack<T>*>(stage + (chunk * CHUNK<T> + k) * LINES + line);
#pragma unroll
        for (int i = 0; i < CHUNK<T>; ++i) out[k][g * CHUNK<T> + i] = p.v[i];
      }
    } else {
#pragma unroll
      for (int i = 0; i < CHUNK<T>; ++i) {
        const Pack<T> p = *reinterpret_cast<const Pack<T>*>(stage + by_line<T>(line, chunk) + i * DEPTH<T>);
#pragma unroll
        for (int k = 0; k < CHUNK<T>; ++k) out[k][g * CHUNK<T> + i] = p.v[k];
      }
    }
  }
}

// Calls store(row, column, CHUNK results) for all of the tile: the product of the loaders' lines over `k` elements. `shared` has
// Tile::SHARED elements. If `sums`, `store.sum(row, value)` is called with the sum of each of a's lines. The store is made at the end,
// so that it takes no registers before.
template <class Tile, class A, class B, class MakeStore>
__device__ __forceinline__ void multiply(typename Tile::T* shared, A& a, B& b, uint32_t k, const MakeStore& make_store, bool sums) {
  using T = typename Tile::T;
  constexpr int PER_SLICE = CHUNKS / Tile::SLICES;
  const int warp = threadIdx.x / 32, slice = warp / Tile::WARPS_IN_SLICE, in_slice = warp % Tile::WARPS_IN_SLICE;
  const int first_row = in_slice % Tile::WARPS_ALONG_M * 32, first_col = in_slice / Tile::WARPS_ALONG_M * 32;
  const Lane lane;
  const uint32_t blocks = (k + DEPTH<T> - 1) / DEPTH<T>;
  uint32_t k_left = k;
  T results[ROWS][COLS] = {};
  constexpr int GROUPS = Tile::THREADS / Tile::M;
  T line_sum = 0;

  auto stage = [&](uint32_t block) { return shared + block % Tile::STAGES * Tile::STAGE; };
  auto fetch = [&](uint32_t block) {
    T* to = stage(block);
    a.fetch(to, k_left);
    b.fetch(to + Tile::M * DEPTH<T>, k_left);
    k_left -= DEPTH<T>;
  };
  auto stash = [&](uint32_t block) {
    T* to = stage(block);
    a.stash(to);
    b.stash(to + Tile::M * DEPTH<T>);
  };

#pragma unroll 1
  for (uint32_t block = 0; block < Tile::STAGES - 1; ++block) {
    if (block < blocks) {
      fetch(block);
      stash(block);
    }
    strait::cp_async_commit();
  }
  for (uint32_t block = 0; block < blocks; ++block) {
    strait::cp_async_wait<Tile::STAGES - 2>();
    __syncthreads();
    const uint32_t next = block + Tile::STAGES - 1;
    if (next < blocks) fetch(next);
    strait::cp_async_commit();
    const T* here = stage(block);
#pragma unroll
    for (int c = 0; c < PER_SLICE; ++c) {
      const int chunk = slice * PER_SLICE + c;
      T x[CHUNK<T>][ROWS], y[CHUNK<T>][COLS];
      fragment<T, 4, ROWS, Tile::M>(x, here, a.transposed, first_row, lane.m, chunk);
      fragment<T, 8, COLS, Tile::N>(y, here + Tile::M * DEPTH<T>, b.transposed, first_col, lane.n, chunk);
#pragma unroll
      for (int i = 0; i < CHUNK<T>; ++i)
#pragma unroll
        for (int r = 0; r < ROWS; ++r)
#pragma unroll
          for (int q = 0; q < COLS; ++q) results[r][q] += x[i][r] * y[i][q];
    }
    if (sums) {
      const int line = threadIdx.x % Tile::M, group = threadIdx.x / Tile::M;
#pragma unroll
      for (int i = 0; i < DEPTH<T> / GROUPS; ++i) {
        const int k = group * (DEPTH<T> / GROUPS) + i;
        line_sum += here[a.transposed ? k * Tile::M + line : by_line<T>(line, k / CHUNK<T>) + k % CHUNK<T>];
      }
    }
    if (next < blocks) stash(next);
  }
  strait::cp_async_wait<0>();
  __syncthreads();
  const auto store = make_store();

  if (sums) {
    shared[threadIdx.x] = line_sum;
    __syncthreads();
    if (threadIdx.x < Tile::M) {
      T total = 0;
#pragma unroll
      for (int g = 0; g < GROUPS; ++g) total += shared[g * Tile::M + threadIdx.x];
      store.sum(threadIdx.x, total);
    }
    __syncthreads();
  }

  // The slices' results are exchanged through shared memory, in parts if they do not fit; each slice adds up and stores some of them.
  constexpr int COUNT = ROWS * COLS;
  constexpr int PARTS = (Tile::THREADS * COUNT + Tile::SHARED - 1) / Tile::SHARED;
  constexpr int PER_PART = COUNT / PARTS, OWN = PER_PART / Tile::SLICES, ACROSS = 32 * Tile::WARPS_IN_SLICE;
  const int thread = threadIdx.x % ACROSS;
  static_assert(COUNT % PARTS == 0 && PER_PART % Tile::SLICES == 0 && OWN % CHUNK<T> == 0, "a slice stores whole chunks");
#pragma unroll
  for (int part = 0; part < PARTS; ++part) {
    if (part > 0) __syncthreads();
#pragma unroll
    for (int i = 0; i < PER_PART; ++i) {
      const int index = part * PER_PART + i;
      shared[(i * Tile::SLICES + slice) * ACROSS + thread] = results[index / COLS][index % COLS];
    }
    __syncthreads();
    // Not unrolled: the activations that a store may apply are long.
#pragma unroll 1
    for (int first = 0; first < OWN; first += CHUNK<T>) {
      Pack<T> total;
#pragma unroll
      for (int i = 0; i < CHUNK<T>; ++i) {
        total.v[i] = 0;
#pragma unroll
        for (int s = 0; s < Tile::SLICES; ++s) total.v[i] += shared[((slice * OWN + first + i) * Tile::SLICES + s) * ACROSS + thread];
      }
      const int index = part * PER_PART + slice * OWN + first, r = index / COLS, q = index % COLS;
      store(first_row + lane.row<T>(r / CHUNK<T>) + r % CHUNK<T>, first_col + lane.col<T>(q / CHUNK<T>), total);
    }
  }
}

}  // namespace
