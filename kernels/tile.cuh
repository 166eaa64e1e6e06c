// One tile of a product, by one block of threads, on the CUDA cores. Matrix products and convolutions share it: they differ in
// where the operands lie (loaders; those of matrices are in loader.cuh) and where results go (stores).
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
// Elements of the sum that a stage of shared memory holds, but for large tiles: 128 bytes, eight chunks.
template <class T>
constexpr int DEPTH = 128 / sizeof(T);
constexpr int CHUNKS = 8;

// The number of elements from `first` on, limited to a number that fits.
__device__ __forceinline__ int limited(uint64_t all, uint64_t first) {
  return first >= all ? 0 : all - first < 1 << 20 ? int(all - first) : 1 << 20;
}

// The number of the sum's `k` elements in a split.
__device__ __forceinline__ uint32_t share(uint64_t k, uint64_t split, uint64_t split_k) {
  const uint64_t first = split * split_k;
  return uint32_t(first >= k ? 0 : k - first < split_k ? k - first : split_k);
}

// Rows of results of a thread. Four by eight threads, a warp, compute 32 rows of eight times as many columns as a thread has.
constexpr int ROWS = 8;

// Warps along the rows and the columns of the tile and along the sum, columns of a thread, chunks of a line in a stage.
template <class T_, int WARPS_M, int WARPS_N, int SLICES_, int STAGES_, int COLS_ = 4, int CHUNKS_ = CHUNKS>
struct Tile {
  using T = T_;
  static constexpr int COLS = COLS_, M = 32 * WARPS_M, N = 8 * COLS * WARPS_N, SLICES = SLICES_, STAGES = STAGES_;
  static constexpr int WARPS_ALONG_M = WARPS_M, WARPS_IN_SLICE = WARPS_M * WARPS_N;
  static constexpr int THREADS = 32 * WARPS_IN_SLICE * SLICES;
  static constexpr int CHUNKS = CHUNKS_, DEPTH = CHUNKS * CHUNK<T>;
  static constexpr int STAGE = (M + N) * DEPTH;
  static constexpr int SHARED = STAGES * STAGE;
};

// The sizes: few results with long sums, the general one, and large matrices.
template <class T>
using SmallTile = Tile<T, 1, 1, 8, 4>;
template <class T>
using MediumTile = Tile<T, 2, 2, 2, 3>;
template <class T>
using LargeTile = Tile<T, 4, 1, 1, 4, 16, 2>;

// The rows and columns of its warp's that a thread has. Lanes that differ in bit 0 share rows, lanes that differ in bit 1 share
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

// The position of a chunk in a stage. An operand has lines along its axis of the output, each with some chunks of the sum. It is kept
// line by line, with the chunks of 128 bytes exchanged so that threads that read neighbouring lines meet no bank conflict, or transposed.
template <class T, int PER_LINE = CHUNKS>
__device__ __forceinline__ int by_line(int line, int chunk) {
  constexpr int LINES = 8 / PER_LINE;  // in 128 bytes
  const int place = line % LINES * PER_LINE + chunk;
  return (line / LINES * 8 + ((place ^ (line / CHUNK<T>)) & 7)) * CHUNK<T>;
}

// Reads operands as threads take them: `LANES` of the lanes have COUNT lines each, CHUNK neighbours together. Places are counted in
// bytes from the first stage on, so that what belongs to the thread is one number, and the rest is known when the kernel is compiled.
template <class Tile, int LANES, int COUNT, int LINES, bool TRANSPOSED>
struct Fragment {
  using T = typename Tile::T;
  static constexpr int PER_LINE = Tile::CHUNKS, IN_128 = 8 / PER_LINE;  // lines in 128 bytes
  const unsigned char* shared;
  uint32_t at;

  // `first` is the operand's place in a stage.
  __device__ __forceinline__ Fragment(const T* shared, int first, int first_line, int lane) : shared(reinterpret_cast<const unsigned char*>(shared)) {
    const int line = first_line + lane * CHUNK<T>;
    at = (first + (TRANSPOSED ? line : by_line<T, PER_LINE>(line, 0))) * sizeof(T);
  }

  // Counts chunks from `chunk` on, which has no bits in common with those that are counted.
  __device__ __forceinline__ void skip(int chunk) {
    if (TRANSPOSED) at += chunk * CHUNK<T> * LINES * sizeof(T);
    else at ^= chunk * 16;
  }

  // Element `k` of the sum, for all lines of a stage. For a transposed operand.
  __device__ __forceinline__ void element(T (&out)[COUNT], uint32_t stage, int k) const {
#pragma unroll
    for (int g = 0; g < COUNT / CHUNK<T>; ++g) {
      const Pack<T> p = *reinterpret_cast<const Pack<T>*>(shared + (stage + at) + (k * LINES * sizeof(T) + g * LANES * 16));
#pragma unroll
      for (int i = 0; i < CHUNK<T>; ++i) out[g * CHUNK<T> + i] = p.v[i];
    }
  }

  // The chunk of line `i`. For an operand that lies line by line: as by_line, with the exchange of the thread's first line in `at`.
  __device__ __forceinline__ Pack<T> line(uint32_t stage, int i, int chunk) const {
    const int group = i / CHUNK<T> * LANES, line = group * CHUNK<T> + i % CHUNK<T>;
    const uint32_t exchange = (line % IN_128 * PER_LINE + chunk) ^ (group & 7);
    return *reinterpret_cast<const Pack<T>*>(shared + ((stage + at) ^ exchange * 16) + line / IN_128 * 128);
  }

  // The chunk of all lines.
  __device__ __forceinline__ void all(T (&out)[CHUNK<T>][COUNT], uint32_t stage, int chunk) const {
    if constexpr (TRANSPOSED) {
#pragma unroll
      for (int k = 0; k < CHUNK<T>; ++k) element(out[k], stage, chunk * CHUNK<T> + k);
    } else {
#pragma unroll
      for (int i = 0; i < COUNT; ++i) {
        const Pack<T> p = line(stage, i, chunk);
#pragma unroll
        for (int k = 0; k < CHUNK<T>; ++k) out[k][i] = p.v[k];
      }
    }
  }
};

// A thread's place in a tile.
template <class Tile>
struct ThreadPlace {
  Lane lane;
  int slice, first_row, first_col;
  __device__ __forceinline__ ThreadPlace() {
    const int warp = threadIdx.x / 32, in_slice = warp % Tile::WARPS_IN_SLICE;
    slice = warp / Tile::WARPS_IN_SLICE;
    first_row = in_slice % Tile::WARPS_ALONG_M * 32;
    first_col = in_slice / Tile::WARPS_ALONG_M * (8 * Tile::COLS);
  }
};

// What a thread of a tile has of the product, and of the sum of a line of a.
template <class Tile>
struct Results {
  using T = typename Tile::T;
  T v[ROWS][Tile::COLS] = {}, line_sum = 0;
};

// Adds the product of the loaders' lines over `k` elements to the threads' results, and the sums of a's lines if `sums`. `shared` has
// Tile::SHARED elements. A loader has TRANSPOSED (how its operand lies in a stage), fetch(stage, k_left), which begins to bring the next
// elements of its lines, and stash(stage), which stores what waits in registers.
template <class Tile, class A, class B>
__device__ __forceinline__ void multiply(typename Tile::T* shared, A& a, B& b, uint32_t k, Results<Tile>& results, bool sums) {
  using T = typename Tile::T;
  constexpr int COLS = Tile::COLS, DEPTH = Tile::DEPTH, PER_SLICE = Tile::CHUNKS / Tile::SLICES, GROUPS = Tile::THREADS / Tile::M;
  const ThreadPlace<Tile> place;
  constexpr int AHEAD = Tile::STAGES - 1;
  int to_fetch = int(k);  // elements that no stage has yet; the stages ahead count as full
  // The slice's chunks follow those of the others: whole elements further on, or another exchange.
  Fragment<Tile, 4, ROWS, Tile::M, A::TRANSPOSED> left(shared, 0, place.first_row, place.lane.m);
  Fragment<Tile, 8, COLS, Tile::N, B::TRANSPOSED> right(shared, Tile::M * DEPTH, place.first_col, place.lane.n);
  left.skip(place.slice * PER_SLICE);
  right.skip(place.slice * PER_SLICE);

  auto fetch = [&](T* stage) {
    a.fetch(stage, uint32_t(to_fetch));
    b.fetch(stage + Tile::M * DEPTH, uint32_t(to_fetch));
  };
  auto stash = [&](T* stage) {
    a.stash(stage);
    b.stash(stage + Tile::M * DEPTH);
  };

#pragma unroll 1
  for (int block = 0; block < AHEAD; ++block, to_fetch -= DEPTH) {
    if (to_fetch > 0) {
      fetch(shared + block * Tile::STAGE);
      stash(shared + block * Tile::STAGE);
    }
    strait::cp_async_commit();
  }
#pragma unroll 1
  for (uint32_t stage = 0; to_fetch > -AHEAD * DEPTH; to_fetch -= DEPTH) {
    strait::cp_async_wait<AHEAD - 1>();
    __syncthreads();
    // The stage before this one has been read.
    T* const read = shared + (stage == 0 ? Tile::SHARED : stage) - Tile::STAGE;
    if (to_fetch > 0) fetch(read);
    strait::cp_async_commit();
    const uint32_t here = stage * sizeof(T);
#pragma unroll
    for (int c = 0; c < PER_SLICE; ++c) {
      T x[CHUNK<T>][ROWS], y[CHUNK<T>][COLS];
      left.all(x, here, c);
      right.all(y, here, c);
#pragma unroll
      for (int i = 0; i < CHUNK<T>; ++i)
#pragma unroll
        for (int r = 0; r < ROWS; ++r)
#pragma unroll
          for (int q = 0; q < COLS; ++q) results.v[r][q] += x[i][r] * y[i][q];
    }
    if (sums) {
      const int line = threadIdx.x % Tile::M, group = threadIdx.x / Tile::M;
#pragma unroll
      for (int i = 0; i < DEPTH / GROUPS; ++i) {
        const int k = group * (DEPTH / GROUPS) + i;
        results.line_sum += shared[stage + (A::TRANSPOSED ? k * Tile::M + line : by_line<T, Tile::CHUNKS>(line, k / CHUNK<T>) + k % CHUNK<T>)];
      }
    }
    if (to_fetch > 0) stash(read);
    stage = stage + Tile::STAGE == Tile::SHARED ? 0 : stage + Tile::STAGE;
  }
  strait::cp_async_wait<0>();
}

// Calls store(row, column, CHUNK results) for all of the tile, and store.sum(row, value) for a's lines if `sums`. The store is made here,
// so that it takes no registers before.
template <class Tile, class MakeStore>
__device__ __forceinline__ void finish(typename Tile::T* shared, const Results<Tile>& results, const MakeStore& make_store, bool sums) {
  using T = typename Tile::T;
  constexpr int COLS = Tile::COLS, GROUPS = Tile::THREADS / Tile::M;
  const ThreadPlace<Tile> place;
  const int slice = place.slice;
  __syncthreads();
  const auto store = make_store();

  if (sums) {
    shared[threadIdx.x] = results.line_sum;
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
      shared[(i * Tile::SLICES + slice) * ACROSS + thread] = results.v[index / COLS][index % COLS];
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
      store(place.first_row + place.lane.template row<T>(r / CHUNK<T>) + r % CHUNK<T>, place.first_col + place.lane.template col<T>(q / CHUNK<T>), total);
    }
  }
}

}  // namespace
