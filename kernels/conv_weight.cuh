// The gradient of a convolution's weight as a matrix product: the cotangent's channels with the image's cells under each tap.
#pragma once
#include "conv.cuh"

namespace {

// Twin of `GradArguments` in src/device/cuda/conv.rs.
struct WeightGradient {
  const void *images, *cotangent;
  void* out;
  void* parts;  // as above
  uint32_t* arrived;
  Axis axis[2];
  uint64_t batch, split_k, plane;  // of splits, as above
  uint32_t in_channels, out_channels;
  uint32_t padded_in, padded_out;  // channels of packed operands
  uint32_t tiles_m, tiles_n;
};

// The cotangent's channels, each with all windows of all images.
template <class T, int LINES, int THREADS>
struct CotangentLoader {
  static constexpr bool TRANSPOSED = false;
  static constexpr int STEP = THREADS / DEPTH<T>, PER_THREAD = LINES / STEP;
  const T* cotangent;    // of the thread's first line
  const Counter& window;  // which the images' loader, called after this, advances
  uint64_t plane, image;
  int lines;

  __device__ __forceinline__ CotangentLoader(const WeightGradient& p, uint64_t first_row, const Counter& window_) : window(window_) {
    plane = uint64_t(p.axis[0].windows) * p.axis[1].windows;
    image = plane * p.out_channels;
    lines = limited(p.out_channels, first_row);
    cotangent = static_cast<const T*>(p.cotangent) + (first_row + threadIdx.x / DEPTH<T>) * plane;
  }

  __device__ __forceinline__ void fetch(T* stage, uint32_t k_left) {
    const int k = threadIdx.x % DEPTH<T>, line = threadIdx.x / DEPTH<T>;
    const T* from = cotangent + window.major * image + (window.row * window.cols + window.col);
    const int there = uint32_t(k) < k_left ? lines : 0, at = by_line<T>(line, k / CHUNK<T>) + k % CHUNK<T>;
#pragma unroll
    for (int i = 0; i < PER_THREAD; ++i)
      strait::cp_async_or_zeros<sizeof(T)>(stage + later_line<T, STEP>(at, i), from + i * STEP * plane, line + i * STEP < there);
  }

  __device__ __forceinline__ void stash(T*) const {}
};

// The same in chunks of 16 bytes, for images of whole ones. Channels that are not there are others that are: their results are not stored.
template <class T, int LINES, int THREADS>
struct CotangentChunks {
  static constexpr bool TRANSPOSED = false;
  static constexpr int STEP = THREADS / CHUNKS, PER_THREAD = LINES / STEP > 0 ? LINES / STEP : 1;
  static_assert(STEP % (CHUNK<T> * 8) == 0 || PER_THREAD == 1, "the exchange of chunks repeats");
  const T* cotangent;
  uint32_t offset[PER_THREAD];  // of the thread's lines
  uint64_t image;
  Counter place;                // the thread's first window: its image, and its place there
  int at;                       // the first chunk's place in a stage

  __device__ __forceinline__ static uint32_t plane(const WeightGradient& p) { return p.axis[0].windows * p.axis[1].windows; }
  __device__ __forceinline__ static bool fits(const WeightGradient& p) {
    return LINES >= STEP && plane(p) % CHUNK<T> == 0 && plane(p) < 1 << 22 && aligned16(static_cast<const T*>(p.cotangent));
  }

  __device__ __forceinline__ CotangentChunks(const WeightGradient& p, uint64_t first_row, uint64_t first_k)
      : image(uint64_t(plane(p)) * p.out_channels), place(first_k + threadIdx.x % CHUNKS * CHUNK<T>, DEPTH<T>, 1, plane(p)) {
    cotangent = static_cast<const T*>(p.cotangent) + first_row * plane(p);
    at = by_line<T>(threadIdx.x / CHUNKS, threadIdx.x % CHUNKS);
    const int lines = limited(p.out_channels, first_row);
#pragma unroll
    for (int i = 0; i < PER_THREAD; ++i) offset[i] = max(0, min(int(threadIdx.x / CHUNKS) + i * STEP, lines - 1)) * plane(p);
  }

  __device__ __forceinline__ void fetch(T* stage, uint32_t k_left) {
    const T* from = cotangent + place.major * image + place.col;
    const bool there = threadIdx.x % CHUNKS * CHUNK<T> < k_left;
#pragma unroll
    for (int i = 0; i < PER_THREAD; ++i) strait::cp_async_or_zeros<16>(stage + at + i * THREADS * CHUNK<T>, from + offset[i], there);
    place.advance();
  }

  __device__ __forceinline__ void stash(T*) const {}
};

// A channel and a tap: the offset of its cell from a window's first cell.
struct __align__(16) Patch {
  int64_t offset;
  uint32_t row, col;

  // Of a column of the product. Those beyond the last have no cell inside.
  __device__ __forceinline__ Patch(const WeightGradient& p, uint64_t column) {
    const Counter tap(column, 1, p.axis[0].kernel, p.axis[1].kernel);
    row = tap.row * p.axis[0].dilation;
    col = tap.col * p.axis[1].dilation;
    offset = (int64_t(tap.major) * p.axis[0].image + row) * p.axis[1].image + col;
    if (tap.major >= p.in_channels) row = 1u << 31;
  }
};

// The images, and where windows begin in them.
template <class T>
struct Windows {
  const T* images;
  uint64_t image;
  uint32_t height, width, step[2], padding[2];

  __device__ __forceinline__ explicit Windows(const WeightGradient& p) {
    images = static_cast<const T*>(p.images);
    height = p.axis[0].image, width = p.axis[1].image;
    image = uint64_t(p.in_channels) * height * width;
#pragma unroll
    for (int d = 0; d < 2; ++d) step[d] = p.axis[d].stride, padding[d] = p.axis[d].padding;
  }

  // A window's first cell, which may be outside: where it would be, its row and its column modulo 2^32.
  __device__ __forceinline__ const T* first(const Counter& window, uint32_t& top, uint32_t& left) const {
    top = window.row * step[0] - padding[0], left = window.col * step[1] - padding[1];
    return images + int64_t(window.major * image) + (int64_t(int32_t(top)) * width + int32_t(left));
  }
};

// The image's cells under one tap of all windows of all images; taps of channels are the lines.
template <class T, int LINES, int THREADS>
struct PatchLoader {
  static constexpr bool TRANSPOSED = false;
  static constexpr int STEP = THREADS / DEPTH<T>, PER_THREAD = LINES / STEP;
  const Windows<T> windows;
  const Patch* patches;  // of the thread's first line, with offsets in bytes
  Counter& window;

  // Whole blocks call it; `table` has room for LINES.
  __device__ __forceinline__ PatchLoader(const WeightGradient& p, Patch* table, uint64_t first_col, Counter& window_)
      : windows(p), patches(table + threadIdx.x / DEPTH<T>), window(window_) {
    if (threadIdx.x < LINES) {
      Patch patch(p, first_col + threadIdx.x);
      patch.offset *= sizeof(T);
      table[threadIdx.x] = patch;
    }
    __syncthreads();
  }

  __device__ __forceinline__ void fetch(T* stage, uint32_t k_left) {
    const int k = threadIdx.x % DEPTH<T>, line = threadIdx.x / DEPTH<T>;
    uint32_t top, left;
    const T* from = windows.first(window, top, left);
    const uint32_t rows = uint32_t(k) < k_left ? windows.height : 0;
    // Reads of shared memory and copies to it are not mixed, as above.
    const char* cells[PER_THREAD];
    bool there[PER_THREAD];
#pragma unroll
    for (int i = 0; i < PER_THREAD; ++i) {
      const Patch patch = load_entry(patches + i * STEP);
      cells[i] = reinterpret_cast<const char*>(from) + patch.offset;
      there[i] = (top + patch.row < rows) & (left + patch.col < windows.width);
    }
    const int at = by_line<T>(line, k / CHUNK<T>) + k % CHUNK<T>;
#pragma unroll
    for (int i = 0; i < PER_THREAD; ++i)
      strait::cp_async_or_zeros<sizeof(T)>(stage + later_line<T, STEP>(at, i), reinterpret_cast<const T*>(cells[i]), there[i]);
    window.advance();
  }

  __device__ __forceinline__ void stash(T*) const {}
};

// Results to the weight's gradient, of which a row of the product is an output channel.
template <class T, class Out = T>
struct GradientStore {
  struct __align__(CHUNK<T> * sizeof(Out)) Chunk {
    Out v[CHUNK<T>];
  };
  Out* out;
  int rows, cols;  // of the tile that there are, or more
  uint32_t stride;
  bool whole;      // whether chunks are written as a whole

  __device__ __forceinline__ GradientStore(Out* to, uint64_t row, uint64_t col, uint32_t rows_, uint32_t cols_) : stride(cols_) {
    rows = limited(rows_, row);
    cols = limited(cols_, col);
    out = to + row * stride + col;
    whole = reinterpret_cast<uintptr_t>(out) % sizeof(Chunk) == 0 && stride % CHUNK<T> == 0;
  }

  __device__ __forceinline__ void operator()(int row, int col, Pack<T> v) const {
    if (row >= rows || col >= cols) return;
    Out* to = out + uint64_t(row) * stride + col;
    Chunk chunk;
#pragma unroll
    for (int i = 0; i < CHUNK<T>; ++i) chunk.v[i] = Out(v.v[i]);
    if (whole) {
      *reinterpret_cast<Chunk*>(to) = chunk;
    } else {
#pragma unroll
      for (int i = 0; i < CHUNK<T>; ++i)
        if (col + i < cols) to[i] = chunk.v[i];
    }
  }

  // What was stored `apart` elements further on; zeros where there is nothing.
  __device__ __forceinline__ Pack<T> load(int row, int col, uint64_t apart) const {
    Pack<T> v = {};
    if (row >= rows || col >= cols) return v;
    const T* from = out + uint64_t(row) * stride + col + apart;
    if (whole && apart % CHUNK<T> == 0) return load_pack(from);
#pragma unroll
    for (int i = 0; i < CHUNK<T>; ++i)
      if (col + i < cols) v.v[i] = from[i];
    return v;
  }

  __device__ __forceinline__ void sum(uint32_t, T) const {}
  __device__ __forceinline__ T load_sum(uint32_t, uint64_t) const { return 0; }
};

// The part of a gradient that a block computes.
template <class Tile>
struct GradientPart {
  uint64_t row, col, split, first_k;
  uint32_t tiles, k;

  __device__ __forceinline__ explicit GradientPart(const WeightGradient& p) : tiles(p.tiles_m * p.tiles_n) {
    const uint32_t rest = blockIdx.x / p.tiles_m;
    row = uint64_t(blockIdx.x % p.tiles_m) * Tile::M;
    col = uint64_t(rest % p.tiles_n) * Tile::N, split = rest / p.tiles_n;
    first_k = split * p.split_k;
    k = share(p.batch * p.axis[0].windows * p.axis[1].windows, split, p.split_k);
  }

  __device__ __forceinline__ static uint32_t columns(const WeightGradient& p) {
    return uint32_t(p.in_channels * (uint64_t(p.axis[0].kernel) * p.axis[1].kernel));
  }

  // To a split's part, and to the results.
  template <class T>
  __device__ __forceinline__ GradientStore<T> part(const WeightGradient& p, uint64_t of) const {
    return GradientStore<T>(static_cast<T*>(p.parts) + of * p.plane, row, col, p.out_channels, columns(p));
  }
  template <class T, class Out = T>
  __device__ __forceinline__ GradientStore<T, Out> results(const WeightGradient& p) const {
    return GradientStore<T, Out>(static_cast<Out*>(p.out), row, col, p.out_channels, columns(p));
  }

  __device__ __forceinline__ uint32_t counter() const { return blockIdx.x % tiles; }
  __device__ __forceinline__ uint32_t splits() const { return gridDim.x / tiles; }
};

template <class Tile>
__device__ __forceinline__ void weight_gradient(const WeightGradient& p) {
  using T = typename Tile::T;
  DYNAMIC_SHARED(T, shared);
  const GradientPart<Tile> part(p);
  Counter window(part.first_k + threadIdx.x % DEPTH<T>, DEPTH<T>, p.axis[0].windows, p.axis[1].windows);
  PatchLoader<T, Tile::N, Tile::THREADS> images(p, reinterpret_cast<Patch*>(shared + Tile::SHARED), part.col, window);
  Results<Tile> results;
  using Chunks = CotangentChunks<T, Tile::M, Tile::THREADS>;
  if (Chunks::fits(p)) {
    Chunks cotangent(p, part.row, part.first_k);
    multiply(shared, cotangent, images, part.k, results, false);
  } else {
    CotangentLoader<T, Tile::M, Tile::THREADS> cotangent(p, part.row, window);
    multiply(shared, cotangent, images, part.k, results, false);
  }
  finish(shared, results, [&] { return p.parts ? part.template part<T>(p, part.split) : part.template results<T>(p); }, false);
  add_up<Tile, T>(shared, p, part);
}

}  // namespace
