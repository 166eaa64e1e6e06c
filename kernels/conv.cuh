// Convolutions as matrix products whose right operand, and for transposed ones also the left, is gathered while it is copied to shared
// memory. With `i = o * stride + k * dilation - padding`, the image's cell i belongs to element k ("tap") of window o.
#pragma once
#include "conv_store.cuh"
#include "loader.cuh"
#include "parts.cuh"

namespace {

// One direction of a convolution. Twin of `Axis` in src/device/cuda/conv.rs.
struct Axis {
  uint32_t image, windows, kernel, stride, padding, dilation;
  // The taps that a cell of the image can belong to are every `period`-th; their windows are `shift` apart.
  uint32_t period, shift;
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
  uint32_t channels, rows;  // of the source, with those that packing added, and of the result
  uint32_t tiles_m, tiles_n, phases[2];
  uint32_t transposed;  // from windows to the image; otherwise from the image to windows
  uint32_t long_taps;   // whether there may be more taps, or elements, than `TapBits` counts
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

// The place of the line that is `i` times STEP after the one at `at`, one of the first STEP, for an element of the same chunk: what the
// lines add to the exchange of chunks has no bits in common.
template <class T, int STEP>
__device__ __forceinline__ int later_line(int at, int i) {
  static_assert(STEP % CHUNK<T> == 0 && (STEP & (STEP - 1)) == 0, "the exchange is that of both lines");
  return (at ^ (i * STEP / CHUNK<T> & 7) * CHUNK<T>) + i * STEP * DEPTH<T>;
}

// A weight's lines: its channels of the result.
template <class T, int LINES, int THREADS>
struct WeightLoader {
  static constexpr bool TRANSPOSED = false;
  static constexpr int STEP = THREADS / DEPTH<T>, PER_THREAD = LINES / STEP;
  const T* weight;  // of the thread's first line, and the first tap
  Counter& tap;
  uint32_t row, channel, down, right;  // from line to line, from channel to channel and from tap to tap
  int lines;

  __device__ __forceinline__ WeightLoader(const Convolution& p, const Direction& y, const Direction& x, uint64_t first_row, Counter& tap_)
      : tap(tap_), row(uint32_t(p.weight_row)), channel(uint32_t(p.weight_channel)) {
    down = y.next_tap * p.axis[1].kernel;
    right = x.next_tap;
    lines = limited(p.rows, first_row);
    weight = static_cast<const T*>(p.weight) + (first_row + threadIdx.x / DEPTH<T>) * row +
             (uint64_t(y.first_tap) * p.axis[1].kernel + x.first_tap);
  }

  __device__ __forceinline__ void fetch(T* stage, uint32_t k_left) {
    const int k = threadIdx.x % DEPTH<T>, line = threadIdx.x / DEPTH<T>;
    const T* from = weight + (uint64_t(tap.major) * channel + (tap.row * down + tap.col * right));
    const int there = uint32_t(k) < k_left ? lines : 0, at = by_line<T>(line, k / CHUNK<T>) + k % CHUNK<T>;
#pragma unroll
    for (int i = 0; i < PER_THREAD; ++i, from += uint64_t(STEP) * row)
      strait::cp_async_or_zeros<sizeof(T)>(stage + later_line<T, STEP>(at, i), from, line + i * STEP < there);
    tap.advance();
  }

  __device__ __forceinline__ void stash(T*) const {}
};

// The weight of a convolution that is not transposed, which is a matrix.
template <class Tile, int LINES>
struct WeightMatrix : MatrixLoader<Tile, LINES, BY_LINE> {
  using Base = MatrixLoader<Tile, LINES, BY_LINE>;
  Counter& tap;

  __device__ __forceinline__ WeightMatrix(const Lines<typename Tile::T>& from, Counter& tap_) : Base(from), tap(tap_) {}

  __device__ __forceinline__ void fetch(typename Tile::T* stage, uint32_t k_left) {
    Base::fetch(stage, k_left);
    tap.advance();
  }
};

// An entry of 16 bytes of a table in shared memory, in one access: a plain copy is one for each member.
template <class Entry>
__device__ __forceinline__ Entry load_entry(const Entry* p) {
  static_assert(sizeof(Entry) == 16, "one access");
  const Pack<uint32_t> words = load_pack(reinterpret_cast<const uint32_t*>(p));
  return reinterpret_cast<const Entry&>(words);
}

template <class Entry>
struct __align__(16) Pair {
  Entry v[2];
};

// A channel's tap: the offset of its cell from that of the first tap of the first channel, and which bits of a pixel say that it has none.
struct __align__(8) TapBits {
  int32_t offset;
  uint32_t bits;
};
// Bits for the rows of taps come after those for the columns, and the last stands for what is beyond all channels: as MOST_TAPS of
// src/device/cuda/conv/plan.rs has it.
constexpr int FIRST_ROW_BIT = 15;
constexpr uint32_t NO_TAP = 1u << 31;

// The bits of a tap.
__device__ __forceinline__ uint32_t tap_bits(uint32_t row, uint32_t col) { return 1u << (row + FIRST_ROW_BIT) | 1u << col; }

// A column of a convolution: its image, its cell under the first tap counted from the image's first, and bits for the taps that have no cell.
struct PixelTaps {
  uint64_t image;
  int64_t cell;
  uint32_t outside;

  __device__ __forceinline__ PixelTaps(const Convolution& p, const Direction& y, const Direction& x, uint64_t col) {
    const uint32_t per_image = y.count * x.count;
    image = divide(col, per_image);
    const uint32_t pixel = uint32_t(col - image * per_image), row = pixel / x.count;
    const uint32_t top = y.origin + row * y.step, left = x.origin + (pixel - row * x.count) * x.step;
    outside = NO_TAP | bits(top, y.tap_step, y.taps, image < p.batch ? y.source : 0) << FIRST_ROW_BIT | bits(left, x.tap_step, x.taps, x.source);
    cell = int64_t(int32_t(top)) * x.source + int32_t(left);
  }

  __device__ __forceinline__ static uint32_t bits(uint32_t first, uint32_t step, uint32_t taps, uint32_t cells) {
    uint32_t all = 0;
#pragma unroll 1
    for (uint32_t t = 0; t < taps; ++t, first += step) all |= uint32_t(first >= cells) << t;
    return all;
  }
};

// The source's cells under the taps of results, which are the lines. A thread has one line and neighbours along the sum. Where the taps of
// a stage lie is the same for all lines: each warp has a table of its own, which its lanes make one stage ahead.
template <class T, int LINES, int THREADS>
struct SourceLoader {
  static constexpr bool TRANSPOSED = true;
  static constexpr int PER_THREAD = DEPTH<T> * LINES / THREADS;
  static_assert(DEPTH<T> <= 32 && LINES % 32 == 0 && PER_THREAD % 2 == 0, "a lane has one tap of a stage, a warp has lines of the same");
  const T* cell;  // under the first tap
  uint32_t outside;
  TapBits* table;      // the warp's, of two stages
  const Counter& tap;  // the lane's next, which the weight's loader, called before this, advances
  int k;               // elements of the sum from there on
  uint32_t plane, down, right;
  uint32_t here = 0;   // the stage's place in the table

  // `tables` has room for 64 of each warp.
  __device__ __forceinline__ SourceLoader(const Convolution& p, const Direction& y, const Direction& x, uint64_t first_col, uint32_t k_,
                                          TapBits* tables, const Counter& tap_)
      : table(tables + threadIdx.x / 32 * 64), tap(tap_), k(int(k_) - int(threadIdx.x % DEPTH<T>)) {
    const PixelTaps pixel(p, y, x, first_col + threadIdx.x % LINES);
    plane = y.source * x.source, down = y.tap_step * x.source, right = x.tap_step;
    outside = pixel.outside;
    cell = static_cast<const T*>(p.source) + (int64_t(pixel.image * p.channels) * plane + pixel.cell);
    prepare();
  }

  // Writes the lane's tap of the next stage; those beyond the last have no cell.
  __device__ __forceinline__ void prepare() {
    const uint32_t bits = k > 0 ? tap_bits(tap.row, tap.col) : NO_TAP;
    table[here + threadIdx.x % 32] = {int32_t(tap.major * plane + tap.row * down + tap.col * right), bits};
    k -= DEPTH<T>;
  }

  __device__ __forceinline__ void fetch(T* stage, uint32_t) {
    __syncwarp();
    const int first = threadIdx.x / LINES * PER_THREAD;
    T* to = stage + first * LINES + threadIdx.x % LINES;
    const TapBits* taps = table + (here + first);
    // Reads of shared memory and copies to it are not mixed: from one to the other the hardware takes a while.
    const T* from[PER_THREAD];
    bool there[PER_THREAD];
#pragma unroll
    for (int i = 0; i < PER_THREAD; i += 2) {
      const Pair<TapBits> two = load_entry(reinterpret_cast<const Pair<TapBits>*>(taps + i));
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        from[i + j] = cell + two.v[j].offset;
        there[i + j] = !(two.v[j].bits & outside);
      }
    }
#pragma unroll
    for (int i = 0; i < PER_THREAD; ++i) strait::cp_async_or_zeros<sizeof(T)>(to + i * LINES, from[i], there[i]);
    here ^= 32;
    prepare();
  }

  __device__ __forceinline__ void stash(T*) const {}
};

// The same for windows of more taps than there are bits for, and images of more elements than 32 bits count.
template <class T, int LINES, int THREADS>
struct LongSourceLoader {
  static constexpr bool TRANSPOSED = true;
  static constexpr int STEP = THREADS / LINES, PER_THREAD = DEPTH<T> / STEP;
  const T* image;
  Counter tap;
  uint64_t plane;
  uint32_t height, width, top, left, down, right;  // in cells, modulo 2^32: those before the first are beyond the last

  __device__ __forceinline__ LongSourceLoader(const Convolution& p, const Direction& y, const Direction& x, uint64_t first_col, uint64_t first_k)
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
  DYNAMIC_SHARED(T, shared);
  const ConvolutionPart<Tile> part(p);
  if (!part.there(p)) return;
  Results<Tile> results;
  Counter tap(part.first_k + threadIdx.x % DEPTH<T>, DEPTH<T>, part.y.taps, part.x.taps);
  if (p.long_taps) {
    WeightLoader<T, Tile::M, Tile::THREADS> weight(p, part.y, part.x, part.row, tap);
    LongSourceLoader<T, Tile::N, Tile::THREADS> source(p, part.y, part.x, part.col, part.first_k);
    multiply(shared, weight, source, part.k, results, false);
  } else {
    TapBits* tables = reinterpret_cast<TapBits*>(shared + Tile::SHARED);
    SourceLoader<T, Tile::N, Tile::THREADS> source(p, part.y, part.x, part.col, part.k, tables, tap);
    const T* first = static_cast<const T*>(p.weight) + (part.row * p.weight_row + part.first_k);
    const Lines<T> lines = {first, p.weight_row, 1, limited(p.rows, part.row), p.rows, p.weight_row};
    if (!p.transposed && lines.whole()) {
      WeightMatrix<Tile, Tile::M> weight(lines, tap);
      multiply(shared, weight, source, part.k, results, false);
    } else {
      WeightLoader<T, Tile::M, Tile::THREADS> weight(p, part.y, part.x, part.row, tap);
      multiply(shared, weight, source, part.k, results, false);
    }
  }
  finish(shared, results, [&] { return p.parts ? part.template part<T>(p, part.split) : part.template results<T>(p); }, false);
  add_up<Tile, T>(shared, p, part);
}

}  // namespace
