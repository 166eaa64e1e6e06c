// Convolutions as matrix products whose right operand, and for transposed ones also the left, is gathered while it is copied to shared
// memory. With `i = o * stride + k * dilation - padding`, the image's cell i belongs to element k ("tap") of window o.
#pragma once
#include "parts.cuh"
#include "window.cuh"

namespace {

// One direction of a convolution. Twin of `Axis` in src/device/cuda/conv.rs.
struct Axis {
  uint32_t image, windows, kernel, stride, padding, dilation;
  // The taps that a cell of the image can belong to are every `period`-th; their windows are `shift` apart.
  uint32_t period, shift;
};

// The three digits of a number that grows by a fixed step.
struct Counter {
  uint32_t major, row, col;
  uint32_t rows, cols, step_major, step_row, step_col;

  __device__ __forceinline__ Counter(uint64_t first, uint32_t step, uint32_t rows_, uint32_t cols_) : rows(max(rows_, 1u)), cols(max(cols_, 1u)) {
    const uint64_t line = divide(first, cols), high = divide(line, rows);
    col = uint32_t(first - line * cols);
    row = uint32_t(line - high * rows);
    major = uint32_t(high);
    const uint32_t step_line = step / cols;
    step_col = step - step_line * cols;
    step_major = step_line / rows;
    step_row = step_line - step_major * rows;
  }

  __device__ __forceinline__ void advance() {
    col += step_col;
    const bool next_row = col >= cols;
    if (next_row) col -= cols;
    row += step_row + next_row;
    const bool next = row >= rows;
    if (next) row -= rows;
    major += step_major + next;
  }
};

// Results to images, of which a column of the product is a pixel and a row a channel.
template <class T, class Out = T>
struct ImageStore {
  struct __align__(CHUNK<T> * sizeof(Out)) Chunk {
    Out v[CHUNK<T>];
  };
  Out* out;
  const Out* bias;
  int rows, cols;                    // of the tile that there are, or more
  uint32_t first, height, width;     // the tile's first column within its image; columns of an image
  uint64_t image, plane;             // elements from image to image and from channel to channel
  uint32_t down, right;              // elements from column to column
  bool whole;                        // whether chunks are written as a whole

  // `to` is the first image's first column.
  __device__ __forceinline__ ImageStore(Out* to, const Out* bias_, uint64_t row, uint64_t col, uint64_t rows_, uint64_t batch, uint64_t plane_,
                                        uint32_t height_, uint32_t width_, uint32_t down_, uint32_t right_)
      : height(height_), width(width_), image(rows_ * plane_), plane(plane_), down(down_), right(right_) {
    const uint64_t per_image = uint64_t(height) * width, n = divide(col, per_image);
    rows = limited(rows_, row);
    cols = limited(batch * per_image, col);
    first = uint32_t(col - n * per_image);
    out = to + n * image + row * plane;
    bias = bias_ ? bias_ + row : nullptr;
    whole = right == 1 && down == width && reinterpret_cast<uintptr_t>(out) % sizeof(Chunk) == 0 && plane % CHUNK<T> == 0 && per_image % CHUNK<T> == 0;
  }

  __device__ __forceinline__ void operator()(int row, int col, Pack<T> v) const {
    if (row >= rows || col >= cols) return;
    const T add = bias ? T(bias[row]) : T(0);
    uint32_t at = first + col;
    const uint32_t n = at / (height * width);
    at -= n * (height * width);
    Out* to = out + n * image + row * plane;
    Chunk chunk;
#pragma unroll
    for (int i = 0; i < CHUNK<T>; ++i) chunk.v[i] = Out(v.v[i] + add);
    if (whole) {
      *reinterpret_cast<Chunk*>(to + at) = chunk;
      return;
    }
    uint32_t y = at / width, x = at - y * width;
#pragma unroll
    for (int i = 0; i < CHUNK<T>; ++i) {
      if (col + i < cols) to[uint64_t(y) * down + uint64_t(x) * right] = chunk.v[i];
      if (++x == width) {
        x = 0;
        if (++y == height) {
          y = 0;
          to += image;
        }
      }
    }
  }

  // What was stored `apart` elements further on, without a bias; zeros where there is nothing.
  __device__ __forceinline__ Pack<T> load(int row, int col, uint64_t apart) const {
    Pack<T> v = {};
    if (row >= rows || col >= cols) return v;
    uint32_t at = first + col;
    const uint32_t n = at / (height * width);
    at -= n * (height * width);
    const T* from = out + n * image + row * plane + apart;
    if (whole && apart % CHUNK<T> == 0) return load_pack(from + at);
    uint32_t y = at / width, x = at - y * width;
#pragma unroll
    for (int i = 0; i < CHUNK<T>; ++i) {
      if (col + i < cols) v.v[i] = from[uint64_t(y) * down + uint64_t(x) * right];
      if (++x == width) {
        x = 0;
        if (++y == height) {
          y = 0;
          from += image;
        }
      }
    }
    return v;
  }

  __device__ __forceinline__ void sum(uint32_t, T) const {}
  __device__ __forceinline__ T load_sum(uint32_t, uint64_t) const { return 0; }
};

// ---------------------------------------------------------------- conv2d and its transpose

// Twin of `Arguments` in src/device/cuda/conv.rs.
struct Convolution {
  const void *source, *weight;
  const void* bias;  // one per channel of the result, or null
  void* out;
  // Where splits leave their parts of `out`, or null, and counters of the blocks that have left those of a tile, or null: see `Product`.
  void* parts;
  uint32_t* arrived;
  Axis axis[2];                       // height, width
  uint64_t batch;
  uint64_t weight_row, weight_channel;  // elements of the weight from channel to channel of the result and of the source
  // Each split sums `split_k` elements; its parts are `plane` elements further on.
  uint64_t split_k, plane;
  uint32_t channels, rows;  // of the source and of the result
  uint32_t tiles_m, tiles_n, phases[2];
  uint32_t transposed;  // from windows to the image; otherwise from the image to windows
};

// In one direction: the results of one phase, and the cell of the source under each of their taps. A transposed convolution has as many
// phases as the stride; the cells of each meet the same taps, so that none is multiplied in vain.
struct Direction {
  uint32_t first, next, count;              // results: the first, from one to the next, how many
  uint32_t source;                          // cells of the source
  int32_t origin, step, tap_step;           // cell of result 0 and tap 0, from result to result, from tap to tap
  uint32_t taps, first_tap, next_tap;

  __device__ __forceinline__ Direction(const Axis& a, bool transposed, uint32_t phase) {
    if (!transposed) {
      first = 0, next = 1, count = a.windows;
      source = a.image;
      origin = -int(a.padding), step = int(a.stride), tap_step = int(a.dilation);
      taps = a.kernel, first_tap = 0, next_tap = 1;
      return;
    }
    first = phase, next = a.stride, count = (a.image - phase + a.stride - 1) / a.stride;
    source = a.windows;
    const uint32_t at = phase + a.padding, most = min(a.period, a.kernel);
    first_tap = 0;
    while (first_tap < most && first_tap * a.dilation % a.stride != at % a.stride) ++first_tap;
    taps = first_tap < most ? (a.kernel - first_tap + a.period - 1) / a.period : 0;
    next_tap = a.period;
    origin = (int(at) - int(first_tap * a.dilation)) / int(a.stride);
    step = 1, tap_step = -int(a.shift);
  }
};

// A weight's lines: its channels of the result.
template <class T, int LINES, int THREADS>
struct WeightLoader {
  static constexpr bool TRANSPOSED = false;
  static constexpr int STEP = THREADS / DEPTH<T>, PER_THREAD = LINES / STEP;
  const T* weight;  // of the thread's first line, and the first tap
  Counter tap;
  uint64_t row, channel;
  uint32_t down, right;  // from tap to tap
  int lines;

  __device__ __forceinline__ WeightLoader(const Convolution& p, const Direction& y, const Direction& x, uint64_t first_row, uint64_t first_k)
      : tap(first_k + threadIdx.x % DEPTH<T>, DEPTH<T>, y.taps, x.taps), row(p.weight_row), channel(p.weight_channel) {
    down = y.next_tap * p.axis[1].kernel;
    right = x.next_tap;
    lines = limited(p.rows, first_row);
    weight = static_cast<const T*>(p.weight) + (first_row + threadIdx.x / DEPTH<T>) * row + uint64_t(y.first_tap) * p.axis[1].kernel + x.first_tap;
  }

  __device__ __forceinline__ void fetch(T* stage, uint32_t k_left) {
    const int k = threadIdx.x % DEPTH<T>, line = threadIdx.x / DEPTH<T>;
    const T* from = weight + tap.major * channel + (uint64_t(tap.row) * down + uint64_t(tap.col) * right);
    const int there = uint32_t(k) < k_left ? lines : 0;
#pragma unroll
    for (int i = 0; i < PER_THREAD; ++i) {
      const int l = line + i * STEP;
      strait::cp_async<sizeof(T)>(stage + by_line<T>(l, k / CHUNK<T>) + k % CHUNK<T>, from + i * STEP * row, l < there ? sizeof(T) : 0);
    }
    tap.advance();
  }

  __device__ __forceinline__ void stash(T*) const {}
};

// The source's cells under the taps of results, which are the lines.
template <class T, int LINES, int THREADS>
struct SourceLoader {
  static constexpr bool TRANSPOSED = true;
  static constexpr int STEP = THREADS / LINES, PER_THREAD = DEPTH<T> / STEP;
  const T* image;
  Counter tap;
  uint64_t plane;
  uint32_t height, width, top, left, down, right;  // in cells, modulo 2^32: those before the first are beyond the last

  __device__ __forceinline__ SourceLoader(const Convolution& p, const Direction& y, const Direction& x, uint64_t first_col, uint64_t first_k)
      : tap(first_k + threadIdx.x / LINES, STEP, y.taps, x.taps), plane(uint64_t(y.source) * x.source) {
    const uint64_t col = first_col + threadIdx.x % LINES;
    const uint32_t per_image = y.count * x.count;
    const uint64_t n = divide(col, per_image);
    const uint32_t pixel = uint32_t(col - n * per_image), row = pixel / x.count;
    image = static_cast<const T*>(p.source) + n * p.channels * plane;
    height = n < p.batch ? y.source : 0, width = x.source;
    top = y.origin + row * y.step, left = x.origin + (pixel - row * x.count) * x.step;
    down = y.tap_step, right = x.tap_step;
  }

  __device__ __forceinline__ void fetch(T* stage, uint32_t k_left) {
    const int line = threadIdx.x % LINES, k = threadIdx.x / LINES;
    T* to = stage + k * LINES + line;
#pragma unroll 4
    for (int i = 0; i < PER_THREAD; ++i) {
      const uint32_t y = top + tap.row * down, x = left + tap.col * right;
      const bool there = uint32_t(k + i * STEP) < k_left && y < height && x < width;
      strait::cp_async<sizeof(T)>(to + i * STEP * LINES, image + tap.major * plane + (y * width + x), there ? sizeof(T) : 0);
      tap.advance();
    }
  }

  __device__ __forceinline__ void stash(T*) const {}
};

// The part of a convolution that a block computes. Blocks with the same columns follow each other: what they gather is in the cache.
template <class Tile>
struct ConvolutionPart {
  uint32_t tiles;  // of all phases
  Direction x, y;
  uint64_t row, col, split, first_k;
  uint32_t k;

  __device__ __forceinline__ explicit ConvolutionPart(const Convolution& p)
      : tiles(p.tiles_m * p.phases[0] * p.phases[1] * p.tiles_n),
        x(p.axis[1], p.transposed, blockIdx.x / p.tiles_m % p.phases[1]),
        y(p.axis[0], p.transposed, blockIdx.x / (p.tiles_m * p.phases[1]) % p.phases[0]) {
    const uint32_t rest = blockIdx.x / (p.tiles_m * p.phases[1] * p.phases[0]);
    row = uint64_t(blockIdx.x % p.tiles_m) * Tile::M;
    col = uint64_t(rest % p.tiles_n) * Tile::N, split = rest / p.tiles_n;
    first_k = split * p.split_k;
    k = share(uint64_t(p.channels) * y.taps * x.taps, split, p.split_k);
  }

  // Phases have as many tiles as the one with the most results.
  __device__ __forceinline__ bool there(const Convolution& p) const { return col < p.batch * (uint64_t(y.count) * x.count); }

  template <class T, class Out = T>
  __device__ __forceinline__ ImageStore<T, Out> store(const Convolution& p, void* to, const void* bias) const {
    const uint32_t width = p.transposed ? p.axis[1].image : p.axis[1].windows, height = p.transposed ? p.axis[0].image : p.axis[0].windows;
    Out* out = static_cast<Out*>(to) + uint64_t(y.first) * width + x.first;
    return ImageStore<T, Out>(out, static_cast<const Out*>(bias), row, col, p.rows, p.batch, uint64_t(height) * width, y.count, x.count,
                              y.next * width, x.next);
  }

  // To a split's part, and to the results.
  template <class T>
  __device__ __forceinline__ ImageStore<T> part(const Convolution& p, uint64_t of) const {
    return store<T>(p, static_cast<T*>(p.parts) + of * p.plane, nullptr);
  }
  template <class T, class Out = T>
  __device__ __forceinline__ ImageStore<T, Out> results(const Convolution& p) const {
    return store<T, Out>(p, p.out, p.bias);
  }

  __device__ __forceinline__ uint32_t counter() const { return blockIdx.x % tiles; }
  __device__ __forceinline__ uint32_t splits() const { return gridDim.x / tiles; }
};

// After a block has left its part: the last one at a tile of type `Tile` adds them up.
template <class Tile, class Out, class Arguments, class Part>
__device__ __forceinline__ void add_up(typename Tile::T* shared, const Arguments& p, const Part& part) {
  using T = typename Tile::T;
  if (!p.arrived || !last_to_arrive(p.arrived + part.counter(), part.splits(), shared)) return;
  add_parts<Tile>(shared, part.template part<T>(p, 0), part.template results<T, Out>(p), part.splits(), p.plane, false);
}

template <class Tile>
__device__ __forceinline__ void convolve(const Convolution& p) {
  using T = typename Tile::T;
  __shared__ __align__(16) T shared[Tile::SHARED];
  const ConvolutionPart<Tile> part(p);
  if (!part.there(p)) return;
  WeightLoader<T, Tile::M, Tile::THREADS> weight(p, part.y, part.x, part.row, part.first_k);
  SourceLoader<T, Tile::N, Tile::THREADS> source(p, part.y, part.x, part.col, part.first_k);
  Results<Tile> results;
  multiply(shared, weight, source, part.k, results, false);
  finish(shared, results, [&] { return p.parts ? part.template part<T>(p, part.split) : part.template results<T>(p); }, false);
  add_up<Tile, T>(shared, p, part);
}

}  // namespace
