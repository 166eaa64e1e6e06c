// Convolutions on the tensor cores whose operands were packed before (pack.cu): converted, channels innermost, as many as a multiple of
// PACKED. The sum goes over taps and then channels, so that every 16 bytes of an operand are of one cell and one tap: whatever the
// strides, dilations, paddings and sizes are, they are copied as a whole or are zeros.
#pragma once
#include "conv_tensor.cuh"
#include "pack.cuh"

namespace {

// Sixteen bytes at a time of LINES lines, by all threads of a tile, as they lie in shared memory.
template <class Tile, int LINES, bool TRANSPOSED_>
struct PackedChunks {
  using E = typename Tile::E;
  static constexpr bool TRANSPOSED = TRANSPOSED_, GATHERED = false;
  // Along memory, and by how many threads each goes across.
  static constexpr int COUNT = 16 / sizeof(E), ALONG = (TRANSPOSED ? LINES : Tile::DEPTH) / COUNT, ACROSS = Tile::THREADS / ALONG;
  static constexpr int PER_THREAD = LINES * Tile::DEPTH / COUNT / Tile::THREADS;
  static constexpr int PITCH = TRANSPOSED ? Tile::template TRANSPOSED<LINES> : Tile::BY_LINE;
  static_assert(Tile::COPIED && PACKED % COUNT == 0 && (TRANSPOSED || ALONG == 4), "whole chunks are copied");
  uint64_t plane;  // elements from plane to plane

  __device__ __forceinline__ static int along() { return threadIdx.x % ALONG * COUNT; }
  // Eight lanes store two lines of four chunks, which lie in different banks if they are four lines apart.
  __device__ __forceinline__ static int across() {
    const int at = threadIdx.x / ALONG;
    if constexpr (TRANSPOSED) return at;
    else return at / 8 * 8 + at % 2 * 4 + at % 8 / 2;
  }

  // Chunk `i` of the thread, which is ACROSS further across than the one before.
  __device__ __forceinline__ void copy(unsigned char* stage, int i, const E* from, bool there) const {
    unsigned char* to = stage + across() * PITCH + along() * int(sizeof(E)) + i * ACROSS * PITCH;
#pragma unroll
    for (int p = 0; p < Tile::Mode::PLANES; ++p) strait::cp_async_or_zeros<16>(to + p * Tile::template PLANE<LINES>, from + p * plane, there);
  }

  __device__ __forceinline__ void stash(unsigned char*) const {}
};

// ---------------------------------------------------------------- conv2d and its transpose

// Where a thread is in the sum: row and column of the tap, and the channel.
template <class Tile>
struct PackedTap {
  Counter at;

  __device__ __forceinline__ PackedTap(const Convolution& p, const ConvolutionPart<Tile>& part)
      : at(part.first_k + PackedChunks<Tile, Tile::M, false>::along(), Tile::DEPTH, part.x.taps, p.channels) {}

  // The offset of its element, where taps are `down` and `right` apart.
  __device__ __forceinline__ int32_t offset(uint32_t down, uint32_t right) const { return int32_t(at.major * down + at.row * right + at.col); }
};

// The packed weight: a channel of the result has all taps, and each of these all channels of the source.
template <class Tile, int LINES>
struct PackedWeight : PackedChunks<Tile, LINES, false> {
  using Base = PackedChunks<Tile, LINES, false>;
  using E = typename Tile::E;
  static constexpr int PER_THREAD = Base::PER_THREAD;
  const E* weight;               // of the first tap and channel
  uint32_t offset[PER_THREAD];   // of the thread's lines; those that are not there are others that are: their results are not stored
  const PackedTap<Tile>& tap;    // which the source's loader, called after this, advances
  uint32_t down, right;

  __device__ __forceinline__ PackedWeight(const Convolution& p, const ConvolutionPart<Tile>& part, const PackedTap<Tile>& tap_) : tap(tap_) {
    this->plane = p.rows * p.weight_row;
    down = part.y.next_tap * p.axis[1].kernel * p.channels, right = part.x.next_tap * p.channels;
    weight = static_cast<const E*>(p.weight) + part.row * p.weight_row +
             (uint64_t(part.y.first_tap) * p.axis[1].kernel + part.x.first_tap) * p.channels;
    const int lines = limited(p.rows, part.row);
#pragma unroll
    for (int i = 0; i < PER_THREAD; ++i) offset[i] = min(Base::across() + i * Base::ACROSS, lines - 1) * uint32_t(p.weight_row);
  }

  __device__ __forceinline__ void fetch(unsigned char* stage, int k_left) {
    const E* from = weight + tap.offset(down, right);
    const bool there = Base::along() < k_left;
#pragma unroll
    for (int i = 0; i < PER_THREAD; ++i) this->copy(stage, i, from + offset[i], there);
  }
};

// The packed source's cells under the taps of results, which are the lines. Which of a pixel's taps have no cell is the same for all
// channels: a bit for each row and column of taps.
template <class Tile, int LINES>
struct PackedSource : PackedChunks<Tile, LINES, false> {
  using Base = PackedChunks<Tile, LINES, false>;
  using E = typename Tile::E;
  static constexpr int PER_THREAD = Base::PER_THREAD;
  const E* cell[PER_THREAD];  // under the first tap, of the first channel
  uint32_t outside[PER_THREAD];
  PackedTap<Tile>& tap;
  uint32_t down, right;

  __device__ __forceinline__ PackedSource(const Convolution& p, const ConvolutionPart<Tile>& part, PackedTap<Tile>& tap_) : tap(tap_) {
    const uint32_t width = part.x.source;
    this->plane = p.batch * part.y.source * width * p.channels;
    down = part.y.tap_step * width * p.channels, right = part.x.tap_step * p.channels;
#pragma unroll
    for (int i = 0; i < PER_THREAD; ++i) {
      const PixelTaps pixel(p, part.y, part.x, part.col + Base::across() + i * Base::ACROSS);
      outside[i] = pixel.outside;
      cell[i] = static_cast<const E*>(p.source) + (int64_t(pixel.image * part.y.source * width) + pixel.cell) * p.channels;
    }
  }

  __device__ __forceinline__ void fetch(unsigned char* stage, int k_left) {
    const int32_t offset = tap.offset(down, right);
    const uint32_t bits = Base::along() < k_left ? tap_bits(tap.at.major, tap.at.row) : NO_TAP;
#pragma unroll
    for (int i = 0; i < PER_THREAD; ++i) this->copy(stage, i, cell[i] + offset, !(bits & outside[i]));
    tap.at.advance();
  }
};

template <class Tile>
__device__ __forceinline__ void packed_convolve(const Convolution& p) {
  DYNAMIC_SHARED(unsigned char, shared);
  const ConvolutionPart<Tile> part(p);
  if (!part.there(p)) return;
  PackedTap<Tile> tap(p, part);
  PackedWeight<Tile, Tile::M> weight(p, part, tap);
  PackedSource<Tile, Tile::N> source(p, part, tap);
  float results[Tile::DOWN][Tile::ACROSS][4] = {};
  tensor_multiply<Tile>(shared, weight, source, part.k, results);
  tensor_finish<Tile>(shared, results, p, part);
}

// ---------------------------------------------------------------- the gradient of the weight

// A column of the product: columns are taps, each with all channels of the packed images.
struct PackedColumn {
  uint32_t tap_row, tap_col, channel;

  __device__ __forceinline__ PackedColumn(const WeightGradient& p, uint64_t column) {
    const Counter at(column, 1, p.axis[1].kernel, p.padded_in);
    tap_row = at.major, tap_col = at.row, channel = at.col;
  }
};

// Results to the weight's gradient, in which taps are innermost.
template <class T, class Out = T>
struct PackedGradientStore {
  Out* out;
  int rows, cols;  // of the tile that there are, or more
  uint32_t first, channels, padded, taps;

  __device__ __forceinline__ PackedGradientStore(Out* to, uint64_t row, uint64_t col, const WeightGradient& p)
      : first(uint32_t(col)), channels(p.in_channels), padded(p.padded_in), taps(p.axis[0].kernel * p.axis[1].kernel) {
    rows = limited(p.out_channels, row);
    cols = limited(uint64_t(taps) * padded, col);
    out = to + row * channels * taps;
  }

  // The place of a chunk, which is of one tap, and how many of its channels there are.
  __device__ __forceinline__ Out* place(int row, int col, int& count) const {
    const uint32_t tap = (first + col) / padded, channel = first + col - tap * padded;
    count = row < rows && col < cols ? int(channels) - int(channel) : 0;
    return out + (uint64_t(row) * channels + channel) * taps + tap;
  }

  __device__ __forceinline__ void operator()(int row, int col, Pack<T> v) const {
    int count;
    Out* to = place(row, col, count);
#pragma unroll
    for (int i = 0; i < CHUNK<T>; ++i)
      if (i < count) to[uint64_t(i) * taps] = Out(v.v[i]);
  }
};

template <class Tile>
struct PackedGradientPart : GradientPart<Tile> {
  using GradientPart<Tile>::GradientPart;

  // To a split's part, and to the results.
  template <class T>
  __device__ __forceinline__ PackedGradientStore<T> part(const WeightGradient& p, uint64_t of) const {
    return PackedGradientStore<T>(static_cast<T*>(p.parts) + of * p.plane, this->row, this->col, p);
  }
  template <class T, class Out = T>
  __device__ __forceinline__ PackedGradientStore<T, Out> results(const WeightGradient& p) const {
    return PackedGradientStore<T, Out>(static_cast<Out*>(p.out), this->row, this->col, p);
  }
};

// The packed cotangent, a matrix of windows and channels; channels are the lines.
template <class Tile, int LINES>
struct PackedCotangent : PackedChunks<Tile, LINES, true> {
  using Base = PackedChunks<Tile, LINES, true>;
  using E = typename Tile::E;
  const E* from;  // the thread's first chunk
  uint32_t channels;

  __device__ __forceinline__ PackedCotangent(const WeightGradient& p, uint64_t first_row, uint64_t first_k) : channels(p.padded_out) {
    this->plane = p.batch * (p.axis[0].windows * p.axis[1].windows) * channels;
    // Channels that are not there are others that are.
    const uint32_t line = min(uint32_t(first_row) + Base::along(), channels - Base::COUNT);
    from = static_cast<const E*>(p.cotangent) + (first_k + Base::across()) * channels + line;
  }

  __device__ __forceinline__ void fetch(unsigned char* stage, int k_left) {
#pragma unroll
    for (int i = 0; i < Base::PER_THREAD; ++i)
      this->copy(stage, i, from + i * Base::ACROSS * channels, Base::across() + i * Base::ACROSS < k_left);
    from += Tile::DEPTH * channels;
  }
};

// The packed images' cells under the taps of windows. Lines are taps, each with all channels. A thread has one or two windows, and some
// chunks of channels, each of one tap. Lanes side by side have chunks side by side, so that they read whole sectors of memory, and eight
// lanes have windows whose lines in shared memory lie in different banks.
template <class Tile, int LINES>
struct PackedPatches {
  using E = typename Tile::E;
  using Chunks = PackedChunks<Tile, LINES, true>;
  static constexpr bool TRANSPOSED = true, GATHERED = false;
  static constexpr int COUNT = Chunks::COUNT, WINDOWS = Tile::DEPTH / 16, PAIRS = Tile::THREADS / 32, EACH = LINES / COUNT / 2 / PAIRS;
  static constexpr int APART = Chunks::PITCH % 128 == 16 ? 2 : 1;
  // Of each chunk of the thread: its place in the images, relative to a window's, and the row and the column of its tap.
  const E* images[EACH];
  uint32_t row[EACH], col[EACH];
  uint32_t height, width, channels, step[2], padding[2];
  uint64_t image, plane;
  Counter window;

  __device__ __forceinline__ static int first_window() {
    return threadIdx.x / 2 % 4 * APART + threadIdx.x / 8 % 2 * (APART == 2 ? 1 : 4) + threadIdx.x / 16 % 2 * 8;
  }
  __device__ __forceinline__ static int line(int i) { return ((threadIdx.x / 32 + i * PAIRS) * 2 + threadIdx.x % 2) * COUNT; }

  __device__ __forceinline__ PackedPatches(const WeightGradient& p, uint64_t first_col, uint64_t first_k)
      : height(p.axis[0].image), width(p.axis[1].image), channels(p.padded_in),
        window(first_k + first_window(), 16, p.axis[0].windows, p.axis[1].windows) {
#pragma unroll
    for (int d = 0; d < 2; ++d) step[d] = p.axis[d].stride, padding[d] = p.axis[d].padding;
    image = uint64_t(height) * width * channels;
    plane = p.batch * image;
#pragma unroll
    for (int i = 0; i < EACH; ++i) {
      const PackedColumn of(p, first_col + line(i));
      row[i] = of.tap_row * p.axis[0].dilation, col[i] = of.tap_col * p.axis[1].dilation;
      images[i] = static_cast<const E*>(p.images) + int64_t(row[i] * width + col[i]) * channels + of.channel;
      // Beyond the last tap there is no cell, of whichever window: padded images have fewer rows.
      if (of.tap_row >= p.axis[0].kernel) row[i] = 1u << 30;
    }
  }

  __device__ __forceinline__ void fetch(unsigned char* stage, int k_left) {
#pragma unroll
    for (int w = 0; w < WINDOWS; ++w) {
      const int k = first_window() + w * 16;
      const uint32_t top = window.row * step[0] - padding[0], left = window.col * step[1] - padding[1];
      const int64_t first = int64_t(window.major * image) + int64_t(int32_t(top * width + left)) * channels;
      const uint32_t rows = k < k_left ? height : 0;
#pragma unroll
      for (int i = 0; i < EACH; ++i) {
        const bool there = (top + row[i] < rows) & (left + col[i] < width);
        unsigned char* to = stage + k * Chunks::PITCH + line(i) * int(sizeof(E));
#pragma unroll
        for (int p = 0; p < Tile::Mode::PLANES; ++p)
          strait::cp_async_or_zeros<16>(to + p * Tile::template PLANE<LINES>, images[i] + (first + p * plane), there);
      }
      window.advance();
    }
  }

  __device__ __forceinline__ void stash(unsigned char*) const {}
};

template <class Tile>
__device__ __forceinline__ void packed_weight_gradient(const WeightGradient& p) {
  DYNAMIC_SHARED(unsigned char, shared);
  const PackedGradientPart<Tile> part(p);
  PackedCotangent<Tile, Tile::M> cotangent(p, part.row, part.first_k);
  PackedPatches<Tile, Tile::N> images(p, part.col, part.first_k);
  float results[Tile::DOWN][Tile::ACROSS][4] = {};
  tensor_multiply<Tile>(shared, cotangent, images, part.k, results);
  tensor_finish<Tile>(shared, results, p, part);
}

}  // namespace
