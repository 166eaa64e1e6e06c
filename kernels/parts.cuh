// Sums whose parts are left by several blocks: the last of a tile's blocks adds them up, in their order.
#pragma once
#include "tile.cuh"

namespace {

// Whether blocks add up the parts of such tiles: those of large ones are too much for one block. As MOST_PARTS of
// src/device/cuda/cut.rs has it.
template <class Tile>
constexpr bool ADDS_PARTS = 2 * Tile::M * Tile::N * sizeof(typename Tile::T) <= 64 << 10;

// Whether this block is the last of `count` that come here. The counter is 0 before the first and after the last. All threads of a
// block call it, and see what the blocks wrote before them if theirs is the last; `shared` is memory of the block that it may use.
__device__ __forceinline__ bool last_to_arrive(uint32_t* arrived, uint32_t count, void* shared) {
  uint32_t* before = static_cast<uint32_t*>(shared);
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) *before = atomicInc(arrived, count - 1);
  __syncthreads();
  const bool last = *before == count - 1;
  __threadfence();
  __syncthreads();
  return last;
}

// Adds up the `splits` parts of a tile, `plane` elements apart, of which `from` reads the first, and stores the sums by `to`.
template <class Tile, class From, class To>
__device__ __forceinline__ void add_parts(typename Tile::T* shared, const From& from, const To& to, uint32_t splits, uint64_t plane, bool sums) {
  using T = typename Tile::T;
  constexpr int ACROSS = Tile::N / CHUNK<T>, EACH = Tile::M * ACROSS / Tile::THREADS, TOGETHER = EACH < 2 ? EACH : 2;
  static_assert(EACH % TOGETHER == 0 && Tile::M * Tile::N <= Tile::SHARED, "threads add as many chunks, which fit");
#pragma unroll 1
  for (int first = threadIdx.x; first < Tile::M * ACROSS; first += TOGETHER * Tile::THREADS) {
    double total[TOGETHER][CHUNK<T>] = {};
#pragma unroll 2
    for (uint32_t s = 0; s < splits; ++s) {
#pragma unroll
      for (int j = 0; j < TOGETHER; ++j) {
        const int i = first + j * Tile::THREADS;
        const Pack<T> part = from.load(i / ACROSS, i % ACROSS * CHUNK<T>, s * plane);
#pragma unroll
        for (int c = 0; c < CHUNK<T>; ++c) total[j][c] += double(part.v[c]);
      }
    }
#pragma unroll
    for (int j = 0; j < TOGETHER; ++j) {
      Pack<T> sum;
#pragma unroll
      for (int c = 0; c < CHUNK<T>; ++c) sum.v[c] = T(total[j][c]);
      store_pack(shared + (first + j * Tile::THREADS) * CHUNK<T>, sum);
    }
  }
  // Not unrolled, by way of shared memory: the activations that a store may apply are long.
#pragma unroll 1
  for (int i = threadIdx.x; i < Tile::M * ACROSS; i += Tile::THREADS) to(i / ACROSS, i % ACROSS * CHUNK<T>, load_pack(shared + i * CHUNK<T>));
  if (sums && int(threadIdx.x) < Tile::M) {
    double total = 0;
#pragma unroll 4
    for (uint32_t s = 0; s < splits; ++s) total += double(from.load_sum(threadIdx.x, s * plane));
    to.sum(threadIdx.x, T(total));
  }
}

}  // namespace
