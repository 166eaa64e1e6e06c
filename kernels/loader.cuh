// Matrices as operands of products, and their loaders for tile.cuh.
#pragma once
#include "tile.cuh"

namespace {

// Lines along an axis of the results, each with elements of the sum.
template <class T>
struct Lines {
  const T* data;          // the tile's first element
  uint64_t stride, step;  // from line to line and from element to element of the sum
  int lines;              // that the tile has
  uint64_t all_lines, all_k;

  // Whether neighbours in memory are neighbouring lines.
  __device__ __forceinline__ bool transposed() const { return stride == 1 && step != 1; }

  // Whether chunks of 16 bytes in memory are there as a whole or not at all, and a tile's offsets are short.
  __device__ __forceinline__ bool whole() const {
    const bool across = transposed();
    const uint64_t apart = across ? step : stride;
    return (across || step == 1) && aligned16(data) && apart % CHUNK<T> == 0 && apart < 1 << 22 && (across ? all_lines : all_k) % CHUNK<T> == 0;
  }
};

// The first element of the sum of lines that are not there: more than any block adds up.
constexpr int NEVER = 0x7fff0000;

// How an operand is brought to shared memory: whole chunks in one of two directions, or element by element.
enum Order { BY_LINE, TRANSPOSED, ELEMENTS };

template <Order LEFT, Order RIGHT>
struct Orders {
  static constexpr Order left = LEFT, right = RIGHT;
};

// Calls multiply(Orders) for two operands: what a loop does with them is known when the kernel is compiled.
template <class T, class Multiply>
__device__ __forceinline__ void in_order(const Lines<T>& a, const Lines<T>& b, bool whole, const Multiply& multiply) {
  if (!whole || !a.whole() || !b.whole()) {
    multiply(Orders<ELEMENTS, ELEMENTS>());
  } else if (a.transposed()) {
    if (b.transposed()) multiply(Orders<TRANSPOSED, TRANSPOSED>());
    else multiply(Orders<TRANSPOSED, BY_LINE>());
  } else {
    if (b.transposed()) multiply(Orders<BY_LINE, TRANSPOSED>());
    else multiply(Orders<BY_LINE, BY_LINE>());
  }
}

// Copies LINES lines in whole chunks.
template <class Tile, int LINES, Order ORDER>
struct MatrixLoader {
  using T = typename Tile::T;
  static constexpr bool TRANSPOSED = ORDER == Order::TRANSPOSED;
  // Along memory a thread has one chunk; across, several, so many apart.
  static constexpr int ALONG = TRANSPOSED ? LINES / CHUNK<T> : Tile::CHUNKS, ACROSS = Tile::THREADS / ALONG;
  static constexpr int PER_THREAD = LINES * Tile::CHUNKS / Tile::THREADS, APART = Tile::THREADS * CHUNK<T>;
  static_assert(TRANSPOSED || PER_THREAD == 1 || ACROSS % (CHUNK<T> * 8) == 0, "the exchange of chunks repeats");
  const T* source;
  uint64_t block_step;
  int at;                       // the first chunk's place in a stage
  uint32_t k;                   // its first element of the sum
  uint32_t offset[PER_THREAD];  // of the thread's chunks from the source

  __device__ __forceinline__ explicit MatrixLoader(const Lines<T>& from) : source(from.data), block_step(from.step * Tile::DEPTH) {
    const int along = threadIdx.x % ALONG * CHUNK<T>;
    const int across = threadIdx.x / ALONG;
    at = TRANSPOSED ? across * LINES + along : by_line<T, Tile::CHUNKS>(across, threadIdx.x % ALONG);
    k = from.lines > 0 ? (TRANSPOSED ? across : along) : NEVER;
    // Lines that are not there are others that are: their results are not stored.
#pragma unroll
    for (int i = 0; i < PER_THREAD; ++i) {
      if (TRANSPOSED) offset[i] = uint32_t(across + i * ACROSS) * uint32_t(from.step) + max(0, min(along, from.lines - CHUNK<T>));
      else offset[i] = max(0, min(across + i * ACROSS, from.lines - 1)) * uint32_t(from.stride) + along;
    }
  }

  // Whether chunk `i` is there when `k_left` elements of the sum are left.
  __device__ __forceinline__ bool there(int i, uint32_t k_left) const { return k + (TRANSPOSED ? i * ACROSS : 0) < k_left; }

  __device__ __forceinline__ void fetch(T* stage, uint32_t k_left) {
#pragma unroll
    for (int i = 0; i < PER_THREAD; ++i) strait::cp_async_or_zeros<16>(stage + at + i * APART, source + offset[i], there(i, k_left));
    source += block_step;
  }

  __device__ __forceinline__ void stash(T*) const {}
};

// Copies LINES lines element by element; neighbouring threads read neighbours in memory.
template <class Tile, int LINES>
struct MatrixLoader<Tile, LINES, ELEMENTS> {
  using T = typename Tile::T;
  static constexpr bool TRANSPOSED = false;
  Lines<T> from;

  __device__ __forceinline__ explicit MatrixLoader(const Lines<T>& from) : from(from) {}

  // Calls copy(place in the stage, the element's offset, whether it is there) for each element of the thread.
  template <class Copy>
  __device__ __forceinline__ void each(uint32_t k_left, const Copy& copy) {
    const bool across = from.transposed();
#pragma unroll 1
    for (int i = threadIdx.x; i < LINES * Tile::DEPTH; i += Tile::THREADS) {
      const int line = across ? i % LINES : i / Tile::DEPTH, k = across ? i / LINES : i % Tile::DEPTH;
      copy(by_line<T, Tile::CHUNKS>(line, k / CHUNK<T>) + k % CHUNK<T>, line * from.stride + k * from.step, line < from.lines && uint32_t(k) < k_left);
    }
  }

  __device__ __forceinline__ void fetch(T* stage, uint32_t k_left) {
    each(k_left, [&](int place, uint64_t at, bool there) { strait::cp_async_or_zeros<sizeof(T)>(stage + place, from.data + at, there); });
    from.data += from.step * Tile::DEPTH;
  }

  __device__ __forceinline__ void stash(T*) const {}
};

// A cotangent after an activation: what is needed for the one before it.
template <class T>
struct Mask {
  const T* output;  // of the activation, laid out as the cotangent is
  uint32_t activation;
  T slope;
};

// Reads a cotangent and the activation's output, and stores the cotangent before the activation.
template <class Tile, int LINES, Order ORDER>
struct MaskedLoader : MatrixLoader<Tile, LINES, ORDER> {
  using Base = MatrixLoader<Tile, LINES, ORDER>;
  using T = typename Tile::T;
  Mask<T> mask;
  Pack<T> cotangent[Base::PER_THREAD] = {}, output[Base::PER_THREAD] = {};

  __device__ __forceinline__ MaskedLoader(const Lines<T>& from, const Mask<T>& mask) : Base(from), mask(mask) {}

  // The chunks wait in registers while the block computes.
  __device__ __forceinline__ void fetch(T*, uint32_t k_left) {
#pragma unroll
    for (int i = 0; i < Base::PER_THREAD; ++i) {
      cotangent[i] = output[i] = {};
      if (this->there(i, k_left)) {
        cotangent[i] = load_pack(this->source + this->offset[i]);
        output[i] = load_pack(mask.output + this->offset[i]);
      }
    }
    this->source += this->block_step;
    mask.output += this->block_step;
  }

  __device__ __forceinline__ void stash(T* stage) const {
#pragma unroll
    for (int i = 0; i < Base::PER_THREAD; ++i) {
      Pack<T> before;
#pragma unroll
      for (int j = 0; j < CHUNK<T>; ++j) before.v[j] = activate_grad(mask.activation, mask.slope, cotangent[i].v[j], output[i].v[j]);
      *reinterpret_cast<Pack<T>*>(stage + this->at + i * Base::APART) = before;
    }
  }
};

template <class Tile, int LINES>
struct MaskedLoader<Tile, LINES, ELEMENTS> : MatrixLoader<Tile, LINES, ELEMENTS> {
  using T = typename Tile::T;
  Mask<T> mask;

  __device__ __forceinline__ MaskedLoader(const Lines<T>& from, const Mask<T>& mask) : MatrixLoader<Tile, LINES, ELEMENTS>(from), mask(mask) {}

  __device__ __forceinline__ void fetch(T* stage, uint32_t k_left) {
    const T* cotangent = this->from.data;
    this->each(k_left, [&](int place, uint64_t at, bool there) {
      stage[place] = there ? activate_grad(mask.activation, mask.slope, cotangent[at], mask.output[at]) : T(0);
    });
    this->from.data += this->from.step * Tile::DEPTH;
    mask.output += this->from.step * Tile::DEPTH;
  }
};

}  // namespace
