// Convolution on the tensor cores as a product of channels by pixels: a box of the image for each tap, shifted and cut to zeros by the
// copy engine, every stride-th pixel of it. Images as planes [plane][n][h][w][c] of bf16, weights as [plane][out][tap][c].
//
// Pixels lie along the instructions' N, which may be 256 where a layer has 64 channels: the fewest bytes of shared memory for a product.
#include "operand.cuh"

namespace {

using strait::TensorMap;

// out [n, channels, height, width] = activation(conv + bias). Twin of `Conv` in host/conv.cpp.
struct Conv {
  const float* bias;
  float* out;
  uint32_t height, width, batch, channels;  // of the results
  uint32_t across, down, deep;              // pixels of a tile along width, height and batch: N in all
  uint32_t depth;                           // channels of the image, a multiple of 32
  uint32_t taps, kernel_width;
  int stride, padding, dilation;
  float slope;
};

// GROUPS: warpgroups along the channels, of 64 each; what is left of the two goes along the pixels, N each.
template <int GROUPS_, int N_>
struct ConvTile {
  static constexpr int GROUPS = GROUPS_, N = N_, M = 64 * GROUPS, TILES = 2 / GROUPS, K = 32;
  static constexpr int A_PLANE = M * K * 2, B_TILE = N * K * 2, B_PLANE = TILES * B_TILE, STAGE = 2 * (A_PLANE + B_PLANE);
  static constexpr int STAGES = 216 * 1024 / STAGE < 6 ? 216 * 1024 / STAGE : 6;
};

struct PixelTile {
  uint32_t col, row, sample;
  __device__ __forceinline__ PixelTile(const Conv& p, uint32_t tile) {
    const uint32_t wide = (p.width + p.across - 1) / p.across, high = (p.height + p.down - 1) / p.down;
    col = tile % wide * p.across, row = tile / wide % high * p.down, sample = tile / wide / high * p.deep;
  }
};

template <class T>
__device__ __forceinline__ void conv(const TensorMap& image, const TensorMap& weight, const Conv& p) {
  using A = Operand<T::M, T::K, 2, false>;
  using B = Operand<T::N, T::K, 2, false>;
  DYNAMIC_SHARED_1024(shared);
  uint64_t* full = reinterpret_cast<uint64_t*>(shared + T::STAGES * T::STAGE);
  uint64_t* empty = full + T::STAGES;
  if (threadIdx.x == 0) {
#pragma unroll
    for (int i = 0; i < T::STAGES; ++i) {
      strait::mbarrier_init(full + i, 1);
      strait::mbarrier_init(empty + i, 8);
    }
    strait::fence_mbarrier_init();
  }
  __syncthreads();
  // Channels fastest, so that blocks that run together share the image in the cache.
  const uint32_t channel_tiles = (p.channels + T::M - 1) / T::M;
  const uint32_t channel = blockIdx.x % channel_tiles * T::M, tile = blockIdx.x / channel_tiles * T::TILES;
  const uint32_t pieces = p.depth / T::K, blocks = p.taps * pieces;
  strait::Ring<T::STAGES> place;
  if (threadIdx.x < 128) {
    strait::registers_down<40>();
    if (threadIdx.x == 0) {
      uint32_t tap_row = 0, tap_col = 0, piece = 0;
      const PixelTile at[2] = {PixelTile(p, tile), PixelTile(p, tile + 1)};
      for (uint32_t block = 0; block < blocks; ++block, place.advance()) {
        strait::mbarrier_wait(empty + place.stage, place.parity ^ 1);
        strait::mbarrier_expect(full + place.stage, T::STAGE);
        unsigned char* to = shared + place.stage * T::STAGE;
#pragma unroll
        for (int plane = 0; plane < 2; ++plane) {
          strait::copy_box(to + plane * T::A_PLANE, &weight, int(block * T::K), int(channel), plane, full + place.stage);
#pragma unroll
          for (int i = 0; i < T::TILES; ++i) {
            const int x = int(at[i].col) * p.stride - p.padding + int(tap_col) * p.dilation;
            const int y = int(at[i].row) * p.stride - p.padding + int(tap_row) * p.dilation;
            unsigned char* pixels = to + 2 * T::A_PLANE + plane * T::B_PLANE + i * T::B_TILE;
            strait::copy_box5(pixels, &image, int(piece * T::K), x, y, int(at[i].sample), plane, full + place.stage);
          }
        }
        if (++piece == pieces) {
          piece = 0;
          if (++tap_col == p.kernel_width) tap_col = 0, ++tap_row;
        }
      }
    }
  } else {
    strait::registers_up<232>();
    const int group = threadIdx.x / 128 - 1, warp = threadIdx.x / 32 % 4, lane = threadIdx.x % 32;
    const uint32_t base = strait::shared_address(shared);
    float d[T::N / 2];
    uint32_t before = 0;
#pragma unroll 1
    for (uint32_t block = 0; block < blocks; ++block) {
      strait::mbarrier_wait(full + place.stage, place.parity);
      const uint32_t at = base + place.stage * T::STAGE;
      const uint64_t a = strait::descriptor(at + group % T::GROUPS * A::BY_64, A::BITS);
      const uint64_t b = strait::descriptor(at + 2 * T::A_PLANE + group / T::GROUPS * T::B_TILE, B::BITS);
      strait::wgmma_fence();
#pragma unroll
      for (int step = 0; step < T::K / 16; ++step) {
        const uint64_t a_step = a + step * (A::ALONG >> 4), b_step = b + step * (B::ALONG >> 4);
        strait::wgmma<T::N, strait::FORMAT_BF16, false, false>(d, a_step + (T::A_PLANE >> 4), b_step, block | step);
        strait::wgmma<T::N, strait::FORMAT_BF16, false, false>(d, a_step, b_step + (T::B_PLANE >> 4), 1);
        strait::wgmma<T::N, strait::FORMAT_BF16, false, false>(d, a_step, b_step, 1);
      }
      strait::wgmma_commit();
      strait::wgmma_wait<1>();
      if (block > 0 && lane == 0) strait::mbarrier_arrive(empty + before);
      before = place.stage;
      place.advance();
    }
    strait::wgmma_wait<0>(d);
    // Four lanes have eight pixels beside each other of a channel: whole sectors.
    const uint64_t area = uint64_t(p.height) * p.width;
    const PixelTile pixels(p, tile + group / T::GROUPS);
    const bool paired = p.width % 2 == 0 && p.across % 2 == 0;
    float bias[2];
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const uint32_t c = channel + group % T::GROUPS * 64 + warp * 16 + lane / 4 + h * 8;
      bias[h] = p.bias && c < p.channels ? p.bias[c] : 0.f;
    }
#pragma unroll
    for (int j = 0; j < T::N / 8; ++j) {
      const uint32_t pixel = j * 8 + lane % 4 * 2;
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        const uint32_t c = channel + group % T::GROUPS * 64 + warp * 16 + lane / 4 + h * 8;
        float v[2];
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          v[i] = d[j * 4 + h * 2 + i] + bias[h];
          v[i] = v[i] > 0 ? v[i] : v[i] * p.slope;
        }
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          const uint32_t x = pixels.col + (pixel + i) % p.across, y = pixels.row + (pixel + i) / p.across % p.down;
          const uint32_t n = pixels.sample + (pixel + i) / p.across / p.down;
          if (x >= p.width || y >= p.height || n >= p.batch || c >= p.channels) continue;
          float* out = p.out + (uint64_t(n) * p.channels + c) * area + uint64_t(y) * p.width + x;
          if (paired) {
            *reinterpret_cast<float2*>(out) = make_float2(v[0], v[1]);
            break;
          }
          *out = v[i];
        }
      }
    }
  }
}

}  // namespace

#define CONV(groups, n)                                                                                                       \
  KERNEL_BOUNDS(conv_f32x3_##groups##_##n, (384, 1), const __grid_constant__ TensorMap image, const __grid_constant__ TensorMap weight, \
                const __grid_constant__ Conv p) {                                                                            \
    conv<ConvTile<groups, n>>(image, weight, p);                                                                            \
  }
CONV(1, 128)
CONV(1, 256)
CONV(2, 128)
CONV(2, 256)
