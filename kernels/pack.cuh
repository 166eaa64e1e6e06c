// Packing for the tensor cores: channels become innermost, so that a cell's are neighbours, and are converted.
#pragma once
#include "tensor.cuh"

namespace {

// The number of channels is made a multiple of this: whole chunks of 16 bytes, in every mode.
constexpr int PACKED = 8;

// [count, channels, cells] to planes of [count, cells, padded], zeros beyond the channels. Twin of `Packing` in
// src/device/cuda/conv/packed.rs.
struct Packing {
  const void* from;
  void* to;
  uint64_t cells, plane;         // plane: elements from plane to plane
  uint32_t channels, padded;
  uint32_t blocks;               // of threads
  uint32_t along, across;        // blocks along the cells and the channels of each of `count`
  uint32_t unused;
};

// A block packs 32 channels of 64 cells by way of shared memory: it reads along the cells and writes along the channels.
constexpr int PACK_CHANNELS = 32, PACK_CELLS = 64, PACK_THREADS = 256;

template <class Mode>
__device__ __forceinline__ void pack(const Packing& p, uint32_t block) {
  using In = typename Mode::In;
  using E = typename Mode::Element;
  constexpr int COUNT = 16 / sizeof(E), PER_WORD = 4 / sizeof(E), WARPS = PACK_THREADS / 32;
  // Words, of which a row has one more, so that neither direction meets bank conflicts.
  __shared__ uint32_t tile[PACK_CHANNELS][PACK_CELLS + 1];
  const uint32_t rest = block / p.along;
  const uint64_t n = rest / p.across, first_cell = uint64_t(block % p.along) * PACK_CELLS;
  const uint32_t first_channel = rest % p.across * PACK_CHANNELS, lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const In* from = static_cast<const In*>(p.from) + (n * p.channels + first_channel) * p.cells + first_cell;
#pragma unroll
  for (int i = 0; i < PACK_CHANNELS / WARPS; ++i) {
    const uint32_t channel = warp + i * WARPS;
#pragma unroll
    for (int half = 0; half < PACK_CELLS; half += 32) {
      const bool there = first_channel + channel < p.channels && first_cell + half + lane < p.cells;
      const In v = there ? from[channel * p.cells + half + lane] : In(0.f);
      if constexpr (sizeof(In) == 4) tile[channel][half + lane] = __float_as_uint(v);
      else tile[channel][half + lane] = Mode::bits(v);
    }
  }
  __syncthreads();
  // A warp writes all channels of as many cells as a chunk has elements.
  constexpr int CHUNKS = PACK_CHANNELS / COUNT;
  const uint32_t channel = threadIdx.x % CHUNKS * COUNT;
  if (first_channel + channel >= p.padded) return;
#pragma unroll
  for (int i = 0; i < PACK_CELLS * CHUNKS / PACK_THREADS; ++i) {
    const uint32_t cell = threadIdx.x / CHUNKS + i * (PACK_THREADS / CHUNKS);
    if (first_cell + cell >= p.cells) break;
    Pack<uint32_t> planes[Mode::PLANES];
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      uint32_t word[Mode::PLANES];
      if constexpr (sizeof(In) == 4) {
        float x[PER_WORD];
#pragma unroll
        for (int k = 0; k < PER_WORD; ++k) x[k] = __uint_as_float(tile[channel + j * PER_WORD + k][cell]);
        Mode::convert(x, word);
      } else {
        word[0] = tile[channel + j * 2][cell] | tile[channel + j * 2 + 1][cell] << 16;
      }
#pragma unroll
      for (int plane = 0; plane < Mode::PLANES; ++plane) planes[plane].v[j] = word[plane];
    }
    E* to = static_cast<E*>(p.to) + (n * p.cells + first_cell + cell) * p.padded + first_channel + channel;
#pragma unroll
    for (int plane = 0; plane < Mode::PLANES; ++plane) store_pack(reinterpret_cast<uint32_t*>(to + plane * p.plane), planes[plane]);
  }
}

}  // namespace
