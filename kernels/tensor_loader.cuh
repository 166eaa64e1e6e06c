// Loaders of matrices for tensor.cuh, and the product of two.
#pragma once
#include "product.cuh"
#include "tensor.cuh"

namespace {

// Chunks of CHUNK<In> elements of LINES lines, by all threads of a tile, as they lie in shared memory.
template <class Tile, int LINES, bool TRANSPOSED_>
struct TensorChunks {
  using In = typename Tile::In;
  using E = typename Tile::E;
  using Mode = typename Tile::Mode;
  static constexpr bool TRANSPOSED = TRANSPOSED_, COPIED = Tile::COPIED, GATHERED = false;
  // Along memory, and by how many threads each goes across.
  static constexpr int COUNT = CHUNK<In>, ALONG = (TRANSPOSED ? LINES : Tile::DEPTH) / COUNT, ACROSS = Tile::THREADS / ALONG;
  static constexpr int PER_THREAD = LINES * Tile::DEPTH / COUNT / Tile::THREADS;
  static constexpr int PITCH = TRANSPOSED ? Tile::template TRANSPOSED<LINES> : Tile::BY_LINE;
  static constexpr int PLANE = Tile::template PLANE<LINES>, APART = ACROSS * PITCH;
  Pack<In> staged[COPIED ? 1 : PER_THREAD];

  __device__ __forceinline__ static int along() { return threadIdx.x % ALONG * COUNT; }

  // Chunks of eight bytes are stored by sixteen lanes at a time: to those of eight lines that lie in different banks.
  __device__ __forceinline__ static int across() {
    constexpr int AT_ONCE = 16 / ALONG;
    const int at = threadIdx.x / ALONG;
    if constexpr (TRANSPOSED || COUNT * sizeof(E) == 16) return at;
    else return at / 8 * 8 + at % AT_ONCE * (8 / AT_ONCE) + at % 8 / AT_ONCE;
  }

  // Where chunk `i` of the thread is in a plane, in bytes.
  __device__ __forceinline__ static int place(int i) { return across() * PITCH + along() * int(sizeof(E)) + i * APART; }

  __device__ __forceinline__ static void convert(unsigned char* to, const Pack<In>& chunk) { store_converted<Mode, COUNT, PLANE>(to, chunk.v); }

  __device__ __forceinline__ void stash(unsigned char* stage) const {
    if constexpr (!COPIED) {
#pragma unroll
      for (int i = 0; i < PER_THREAD; ++i) convert(stage + place(i), staged[i]);
    }
  }
};

// Copies lines in whole chunks. Lines that are not there are others that are: their results are not stored.
template <class Tile, int LINES, Order ORDER>
struct TensorLoader : TensorChunks<Tile, LINES, ORDER == Order::TRANSPOSED> {
  static constexpr bool TRANSPOSED = ORDER == Order::TRANSPOSED;
  using Base = TensorChunks<Tile, LINES, TRANSPOSED>;
  using In = typename Tile::In;
  static constexpr int PER_THREAD = Base::PER_THREAD;
  const char* source;
  uint32_t offset[PER_THREAD];  // of the thread's chunks, in bytes
  uint64_t block_step;
  int k;

  __device__ __forceinline__ explicit TensorLoader(const Lines<In>& from) {
    source = reinterpret_cast<const char*>(from.data);
    block_step = from.step * Tile::DEPTH * sizeof(In);
    k = from.lines > 0 ? (TRANSPOSED ? Base::across() : Base::along()) : NEVER;
#pragma unroll
    for (int i = 0; i < PER_THREAD; ++i) {
      const int along = TRANSPOSED ? max(min(Base::along(), from.lines - Base::COUNT), 0) : Base::along();
      const int across = TRANSPOSED ? Base::across() + i * Base::ACROSS : max(min(Base::across() + i * Base::ACROSS, from.lines - 1), 0);
      offset[i] = (uint32_t(across) * uint32_t(TRANSPOSED ? from.step : from.stride) + along) * sizeof(In);
    }
  }

  __device__ __forceinline__ void fetch(unsigned char* stage, int k_left) {
#pragma unroll
    for (int i = 0; i < PER_THREAD; ++i) {
      const bool there = k + (TRANSPOSED ? i * Base::ACROSS : 0) < k_left;
      const In* from = reinterpret_cast<const In*>(source + offset[i]);
      if constexpr (Tile::COPIED) {
        strait::cp_async_or_zeros<16>(stage + Base::place(i), from, there);
      } else {
        this->staged[i] = {};
        if (there) this->staged[i] = load_pack(from);
      }
    }
    source += block_step;
  }
};

// Copies lines element by element, without waiting in registers; neighbouring threads read neighbours in memory.
template <class Tile, int LINES>
struct TensorLoader<Tile, LINES, ELEMENTS> : TensorChunks<Tile, LINES, false> {
  using Base = TensorChunks<Tile, LINES, false>;
  using In = typename Tile::In;
  static constexpr int COUNT = Base::COUNT, CHUNKS = Tile::DEPTH / COUNT;
  Lines<In> from;

  __device__ __forceinline__ explicit TensorLoader(const Lines<In>& from) : from(from) {}

  __device__ __forceinline__ void fetch(unsigned char* stage, int k_left) {
    const bool transposed = from.transposed();
#pragma unroll 2
    for (int chunk = threadIdx.x; chunk < LINES * CHUNKS; chunk += Tile::THREADS) {
      const int line = transposed ? chunk % LINES : chunk / CHUNKS, k = (transposed ? chunk / LINES : chunk % CHUNKS) * COUNT;
      const In* at = from.data + line * from.stride + k * from.step;
      Pack<In> elements;
#pragma unroll
      for (int j = 0; j < COUNT; ++j) elements.v[j] = line < from.lines && k + j < k_left ? at[j * from.step] : In(0.f);
      unsigned char* to = stage + line * Base::PITCH + k * int(sizeof(typename Tile::E));
      if constexpr (Tile::COPIED) *reinterpret_cast<Pack<In>*>(to) = elements;
      else Base::convert(to, elements);
    }
    from.data += from.step * Tile::DEPTH;
  }

  __device__ __forceinline__ void stash(unsigned char*) const {}
};

template <class Tile>
__device__ __forceinline__ void tensor_product(const Product& p, const Strided<2>& batches) {
  using In = typename Tile::In;
  DYNAMIC_SHARED(unsigned char, shared);
  const Part part(p, Tile::M, Tile::N);
  const Operands<In> of(p, part, batches);
  float results[Tile::DOWN][Tile::ACROSS][4] = {};
  in_order(of.a, of.b, true, [&](auto orders) {
    using With = decltype(orders);
    TensorLoader<Tile, Tile::M, With::left> left(of.a);
    TensorLoader<Tile, Tile::N, With::right> right(of.b);
    tensor_multiply<Tile>(shared, left, right, of.k, results);
  });
  // 16-bit floats in, 16-bit floats out, but for parts of sums.
  tensor_store<Tile>(shared, results, MatrixStore<float, std::conditional_t<Tile::COPIED, In, float>>(p, part, part.split, p.splits == 1));
}

}  // namespace
