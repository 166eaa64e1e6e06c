// Convolutions on the tensor cores: tensor.cuh with loaders that gather what those of conv.cuh and conv_weight.cuh do.
#pragma once
#include "conv_weight.cuh"
#include "tensor_loader.cuh"

namespace {

// Elements are gathered one by one, so that they wait in registers, and are stored 16 bytes at a time: as many neighbours along the lines
// of shared memory. Threads side by side, SIDE of them, have neighbours in the other direction, where memory is read in turn; each has
// OWN of these, SIDE apart, and EACH along.
template <class Tile, int LINES, bool TRANSPOSED_, int SIDE_>
struct TensorGathered {
  using In = typename Tile::In;
  using E = typename Tile::E;
  static constexpr bool TRANSPOSED = TRANSPOSED_, GATHERED = true;
  static constexpr int SIDE = SIDE_, OWN = (TRANSPOSED ? Tile::DEPTH : LINES) / SIDE, GROUPS = Tile::THREADS / SIDE;
  static constexpr int COUNT = 16 / sizeof(E), EACH = (TRANSPOSED ? LINES : Tile::DEPTH) / GROUPS;
  static constexpr int PITCH = TRANSPOSED ? Tile::template TRANSPOSED<LINES> : Tile::BY_LINE, PLANE = Tile::template PLANE<LINES>;
  static_assert(Tile::STAGES == 2 && EACH % COUNT == 0, "whole accesses, one stage ahead");
  In staged[OWN][EACH];

  __device__ __forceinline__ static int side() { return threadIdx.x % SIDE; }
  // The first element along.
  __device__ __forceinline__ static int along() { return threadIdx.x / SIDE * EACH; }

  // The thread's elements along, of the `there` first, so many elements apart.
  __device__ __forceinline__ void gather(int q, const In* from, uint32_t apart, int there) {
#pragma unroll
    for (int i = 0; i < EACH; ++i) staged[q][i] = strait::load_or_zero(from, int32_t(apart), i * int(sizeof(In)), i < there);
  }

  __device__ __forceinline__ void stash(unsigned char* stage) const {
    unsigned char* to = stage + side() * PITCH + along() * int(sizeof(E));
#pragma unroll
    for (int q = 0; q < OWN; ++q)
#pragma unroll
      for (int i = 0; i < EACH; i += COUNT)
        store_converted<typename Tile::Mode, COUNT, PLANE>(to + q * SIDE * PITCH + i * int(sizeof(E)), staged[q] + i);
  }
};

// As Patch, with fewer elements than 2^31 in an image: src/device/cuda/conv.rs sees to it.
struct __align__(16) Tap {
  int32_t offset;
  uint32_t row, col;
};

// The weight of a convolution that is not transposed, which is a matrix.
template <class Tile, int LINES>
struct TensorMatrix : TensorLoader<Tile, LINES, BY_LINE> {
  using Base = TensorLoader<Tile, LINES, BY_LINE>;
  Counter& tap;

  __device__ __forceinline__ TensorMatrix(const Lines<typename Tile::In>& from, Counter& tap_) : Base(from), tap(tap_) {}

  __device__ __forceinline__ void fetch(unsigned char* stage, int k_left) {
    Base::fetch(stage, k_left);
    tap.advance();
  }
};

// ---------------------------------------------------------------- conv2d and its transpose

// As WeightLoader: a thread has one tap, and some of the channels of the result.
template <class Tile, int LINES>
struct TensorWeight : TensorGathered<Tile, LINES, true, Tile::DEPTH> {
  using Base = TensorGathered<Tile, LINES, true, Tile::DEPTH>;
  using In = typename Tile::In;
  const In* weight;  // of the thread's first line, and the first tap
  Counter& tap;
  uint64_t channel;
  uint32_t row, down, right;  // from line to line, and from tap to tap
  int lines;

  __device__ __forceinline__ TensorWeight(const Convolution& p, const ConvolutionPart<Tile>& part, Counter& tap_)
      : tap(tap_), channel(p.weight_channel), row(uint32_t(p.weight_row)) {
    const uint64_t first_row = part.row + Base::along();
    down = part.y.next_tap * p.axis[1].kernel;
    right = part.x.next_tap;
    lines = limited(p.rows, first_row);
    weight = static_cast<const In*>(p.weight) + first_row * p.weight_row + uint64_t(part.y.first_tap) * p.axis[1].kernel + part.x.first_tap;
  }

  __device__ __forceinline__ void fetch(unsigned char*, int k_left) {
    this->gather(0, weight + tap.major * channel + (uint64_t(tap.row) * down + uint64_t(tap.col) * right), row, Base::side() < k_left ? lines : 0);
    tap.advance();
  }
};

// As SourceLoader: a thread has some pixels, and reads from a table where their cells under the taps of a stage lie. The block makes the
// table one stage ahead. Which of a pixel's taps have no cell is the same for all channels: a bit for each row and
// column of taps.
template <class Tile, int LINES>
struct TensorSource : TensorGathered<Tile, LINES, false, Tile::THREADS / 2> {
  using Base = TensorGathered<Tile, LINES, false, Tile::THREADS / 2>;
  using In = typename Tile::In;
  static constexpr int OWN = Base::OWN;
  const In* cell[OWN];  // under the first tap
  uint32_t outside[OWN];
  TapBits* table;
  uint32_t here = 0;   // the stage's place in the table
  const Counter& tap;  // the thread's next, which the weight's loader, called before this, advances
  int k;               // elements of the sum from there on
  uint32_t plane, down, right;

  // Whole blocks call it; `table` has room for two stages.
  __device__ __forceinline__ TensorSource(const Convolution& p, const ConvolutionPart<Tile>& part, TapBits* table_, const Counter& tap_)
      : table(table_), tap(tap_), k(int(part.k) - int(threadIdx.x % Tile::DEPTH)) {
    const uint32_t width = part.x.source;
    plane = part.y.source * width, down = part.y.tap_step * width, right = part.x.tap_step;
#pragma unroll
    for (int q = 0; q < OWN; ++q) {
      const PixelTaps pixel(p, part.y, part.x, part.col + Base::side() + q * Base::SIDE);
      outside[q] = pixel.outside;
      cell[q] = static_cast<const In*>(p.source) + (int64_t(pixel.image * p.channels) * plane + pixel.cell);
    }
    prepare(here);
    __syncthreads();
  }

  // Writes the taps of the next stage to a place; those beyond the last have no cell.
  __device__ __forceinline__ void prepare(uint32_t place) {
    TapBits next = {int32_t(tap.major * plane + tap.row * down + tap.col * right), tap_bits(tap.row, tap.col)};
    if (k <= 0) next.bits = NO_TAP;
    if (threadIdx.x < Tile::DEPTH) table[place + threadIdx.x] = next;
    k -= Tile::DEPTH;
  }

  __device__ __forceinline__ void fetch(unsigned char*, int) {
    const TapBits* taps = table + (here + Base::along());
#pragma unroll
    for (int i = 0; i < Base::EACH; ++i) {
      const TapBits of = taps[i];
#pragma unroll
      for (int q = 0; q < OWN; ++q) this->staged[q][i] = strait::load_or_zero(cell[q], of.offset, sizeof(In), !(of.bits & outside[q]));
    }
    here ^= Tile::DEPTH;
    prepare(here);
  }
};

// The parts of a tile that its last block adds up, as tile.cuh has tiles.
template <class Tile>
struct TensorParts {
  using T = float;
  static constexpr int M = Tile::M, N = Tile::N, THREADS = Tile::THREADS, SHARED = Tile::SHARED / sizeof(T);
};

// Stores a tile's results, or leaves them as a part and adds up the parts if it is the last.
template <class Tile, class Arguments, class Part>
__device__ __forceinline__ void tensor_finish(unsigned char* shared, const float (&results)[Tile::DOWN][Tile::ACROSS][4], const Arguments& p, const Part& part) {
  using Out = typename Tile::In;
  if constexpr (std::is_same<Out, float>::value) {
    tensor_store<Tile>(shared, results, p.parts ? part.template part<float>(p, part.split) : part.template results<float>(p));
  } else {
    if (p.parts) tensor_store<Tile>(shared, results, part.template part<float>(p, part.split));
    else tensor_store<Tile>(shared, results, part.template results<float, Out>(p));
  }
  if constexpr (ADDS_PARTS<TensorParts<Tile>>) add_up<TensorParts<Tile>, Out>(reinterpret_cast<float*>(shared), p, part);
}

template <class Tile>
__device__ __forceinline__ void tensor_convolve(const Convolution& p) {
  using In = typename Tile::In;
  DYNAMIC_SHARED(unsigned char, shared);
  const ConvolutionPart<Tile> part(p);
  if (!part.there(p)) return;
  // Each of the first threads has a tap of a stage.
  Counter tap(part.first_k + threadIdx.x % Tile::DEPTH, Tile::DEPTH, part.y.taps, part.x.taps);
  TensorSource<Tile, Tile::N> source(p, part, reinterpret_cast<TapBits*>(shared + Tile::SHARED), tap);
  float results[Tile::DOWN][Tile::ACROSS][4] = {};
  const In* first = static_cast<const In*>(p.weight) + (part.row * p.weight_row + part.first_k);
  const Lines<In> lines = {first, p.weight_row, 1, limited(p.rows, part.row), p.rows, p.weight_row};
  if (!p.transposed && lines.whole()) {
    TensorMatrix<Tile, Tile::M> weight(lines, tap);
    tensor_multiply<Tile>(shared, weight, source, part.k, results);
  } else {
    TensorWeight<Tile, Tile::M> weight(p, part, tap);
    tensor_multiply<Tile>(shared, weight, source, part.k, results);
  }
  tensor_finish<Tile>(shared, results, p, part);
}

// ---------------------------------------------------------------- the gradient of the weight

// As CotangentLoader: a thread has some windows, and some of the cotangent's channels.
template <class Tile, int LINES>
struct TensorCotangent : TensorGathered<Tile, LINES, true, 16> {
  using Base = TensorGathered<Tile, LINES, true, 16>;
  using In = typename Tile::In;
  const In* cotangent;          // of the thread's first line
  const Counter (&window)[2];  // which the images' loader, called after this, advances
  uint64_t image;
  uint32_t plane;
  int lines;

  __device__ __forceinline__ TensorCotangent(const WeightGradient& p, uint64_t first_row, const Counter (&window_)[2]) : window(window_) {
    plane = p.axis[0].windows * p.axis[1].windows;
    image = uint64_t(plane) * p.out_channels;
    lines = limited(p.out_channels, first_row + Base::along());
    cotangent = static_cast<const In*>(p.cotangent) + (first_row + Base::along()) * plane;
  }

  __device__ __forceinline__ void fetch(unsigned char*, int k_left) {
#pragma unroll
    for (int q = 0; q < Base::OWN; ++q) {
      const In* from = cotangent + window[q].major * image + (window[q].row * window[q].cols + window[q].col);
      this->gather(q, from, plane, Base::side() + q * Base::SIDE < k_left ? lines : 0);
    }
  }
};

// As PatchLoader: the same windows, and some of the taps of the image's channels.
template <class Tile, int LINES>
struct TensorPatches : TensorGathered<Tile, LINES, true, 16> {
  using Base = TensorGathered<Tile, LINES, true, 16>;
  using In = typename Tile::In;
  const Windows<In> windows;
  const Tap* taps;  // of the thread's first line
  Counter (&window)[2];

  // Whole blocks call it; `table` has room for LINES.
  __device__ __forceinline__ TensorPatches(const WeightGradient& p, Tap* table, uint64_t first_col, Counter (&window_)[2])
      : windows(p), taps(table + Base::along()), window(window_) {
    if (threadIdx.x < LINES) {
      const Patch patch(p, first_col + threadIdx.x);
      table[threadIdx.x] = {int32_t(patch.offset), patch.row, patch.col};
    }
    __syncthreads();
  }

  __device__ __forceinline__ void fetch(unsigned char*, int k_left) {
    const In* from[Base::OWN];
    uint32_t top[Base::OWN], left[Base::OWN], height[Base::OWN];
#pragma unroll
    for (int q = 0; q < Base::OWN; ++q) {
      from[q] = windows.first(window[q], top[q], left[q]);
      height[q] = Base::side() + q * Base::SIDE < k_left ? windows.height : 0;
      window[q].advance();
    }
#pragma unroll
    for (int i = 0; i < Base::EACH; ++i) {
      const Tap of = taps[i];
#pragma unroll
      for (int q = 0; q < Base::OWN; ++q)
        this->staged[q][i] = strait::load_or_zero(from[q], of.offset, sizeof(In), (top[q] + of.row < height[q]) & (left[q] + of.col < windows.width));
    }
  }
};

template <class Tile>
__device__ __forceinline__ void tensor_weight_gradient(const WeightGradient& p) {
  DYNAMIC_SHARED(unsigned char, shared);
  const GradientPart<Tile> part(p);
  // Stages hold sixteen windows or thirty-two, of which a thread has one or two.
  const uint64_t first = part.first_k + threadIdx.x % 16;
  Counter window[2] = {{first, Tile::DEPTH, p.axis[0].windows, p.axis[1].windows}, {first + 16, Tile::DEPTH, p.axis[0].windows, p.axis[1].windows}};
  TensorCotangent<Tile, Tile::M> cotangent(p, part.row, window);
  TensorPatches<Tile, Tile::N> images(p, reinterpret_cast<Tap*>(shared + Tile::SHARED), part.col, window);
  float results[Tile::DOWN][Tile::ACROSS][4] = {};
  tensor_multiply<Tile>(shared, cotangent, images, part.k, results);
  tensor_finish<Tile>(shared, results, p, part);
}

}  // namespace
