// Gaussian kernels of all pairs of rows and their pulls, on the tensor cores: distances and pulls are products by warpgroups, of numbers
// that are sums of two bf16. For rows of 64 numbers. A sketch of the inner part of an MMD with gradient: weights, samples and the sums
// of slabs are left out.
#include "operand.cuh"

namespace {

using strait::TensorMap;

// For each row i of z: sums[i] = sum of k_ij and pulls[i] = sum of k_ij z_j, over the columns j from `first` to `last` but i itself, with
// k_ij = 2^(-scale |z_i - z_j|^2). Twin of `Pairs` in host/pairs.cpp.
struct Pairs {
  const float* squares;  // scale |z_i|^2, of what the planes add up to
  float *sums, *pulls;
  uint32_t rows, first, last;
  float scale;
};

constexpr int D = 64, ROWS = 128, COLUMNS = 128, STAGES = 4;
constexpr int PLANE = COLUMNS * D * 2, STAGE = 2 * PLANE, OWN = 2 * ROWS * D * 2;

// Two numbers as two bf16 each: the larger parts, and what is left.
__device__ __forceinline__ void split2(float x, float y, uint32_t& high, uint32_t& low) {
  const __nv_bfloat162 h = __floats2bfloat162_rn(x, y);
  high = *reinterpret_cast<const uint32_t*>(&h);
  const __nv_bfloat162 l = __floats2bfloat162_rn(x - __uint_as_float(high << 16), y - __uint_as_float(high & 0xffff0000u));
  low = *reinterpret_cast<const uint32_t*>(&l);
}

__device__ __forceinline__ void pairs(const TensorMap& map, const TensorMap& map_squares, const Pairs& p) {
  using Tile = Operand<COLUMNS, D, 2, false>;
  constexpr uint64_t BY_ROWS = strait::descriptor_bits(16, 1024, strait::SWIZZLE_128);     // rows of 128 bytes, along the sum
  constexpr uint64_t BY_COLUMNS = strait::descriptor_bits(16384, 1024, strait::SWIZZLE_128);  // the same bytes, the sum over rows
  static_assert(Tile::BITS == BY_ROWS, "one layout");
  DYNAMIC_SHARED_1024(shared);
  unsigned char* ring = shared + OWN;
  float* squares = reinterpret_cast<float*>(ring + STAGES * STAGE);
  uint64_t* full = reinterpret_cast<uint64_t*>(squares + STAGES * COLUMNS);
  uint64_t *empty = full + STAGES, *own = empty + STAGES;
  const uint32_t row = blockIdx.x * ROWS, tiles = (p.last - p.first + COLUMNS - 1) / COLUMNS;
  if (threadIdx.x == 0) {
#pragma unroll
    for (int i = 0; i < STAGES; ++i) {
      strait::mbarrier_init(full + i, 1);
      strait::mbarrier_init(empty + i, 8);
    }
    strait::mbarrier_init(own, 1);
    strait::fence_mbarrier_init();
  }
  __syncthreads();
  strait::Ring<STAGES> place;
  if (threadIdx.x < 128) {
    strait::registers_down<40>();
    if (threadIdx.x == 0) {
      strait::mbarrier_expect(own, OWN);
      for (int plane = 0; plane < 2; ++plane) strait::copy_box(shared + plane * (OWN / 2), &map, 0, int(row), plane, own);
      for (uint32_t tile = 0; tile < tiles; ++tile, place.advance()) {
        strait::mbarrier_wait(empty + place.stage, place.parity ^ 1);
        strait::mbarrier_expect(full + place.stage, STAGE + COLUMNS * 4);
        const int column = p.first + tile * COLUMNS;
        for (int plane = 0; plane < 2; ++plane) strait::copy_box(ring + place.stage * STAGE + plane * PLANE, &map, 0, column, plane, full + place.stage);
        strait::copy_box(squares + place.stage * COLUMNS, &map_squares, column, 0, 0, full + place.stage);
      }
    }
  } else {
    strait::registers_up<232>();
    const int group = threadIdx.x / 128 - 1, warp = threadIdx.x / 32 % 4, lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
    const uint32_t mine = row + group * 64 + warp * 16 + g;  // and 8 further on
    const float own_squares[2] = {mine < p.rows ? p.squares[mine] : 0, mine + 8 < p.rows ? p.squares[mine + 8] : 0};
    const uint32_t base = strait::shared_address(shared);
    const uint64_t a = strait::descriptor(base + group * (64 * 128), BY_ROWS);
    const float twice = 2 * p.scale;
    float pulls[D / 2];
    float sums[2] = {0, 0};
    uint32_t before = 0;
    strait::mbarrier_wait(own, 0);
#pragma unroll 1
    for (uint32_t tile = 0; tile < tiles; ++tile) {
      strait::mbarrier_wait(full + place.stage, place.parity);
      const uint32_t at = base + OWN + place.stage * STAGE;
      const uint64_t b = strait::descriptor(at, BY_ROWS);
      float s[COLUMNS / 2];
      strait::wgmma_fence();
#pragma unroll
      for (int step = 0; step < D / 16; ++step) {
        const uint64_t a_step = a + step * 2, b_step = b + step * 2;
        strait::wgmma<COLUMNS, strait::FORMAT_BF16, false, false>(s, a_step + (OWN / 2 >> 4), b_step, step);
        strait::wgmma<COLUMNS, strait::FORMAT_BF16, false, false>(s, a_step, b_step + (PLANE >> 4), 1);
        strait::wgmma<COLUMNS, strait::FORMAT_BF16, false, false>(s, a_step, b_step, 1);
      }
      strait::wgmma_commit();
      strait::wgmma_wait<1>(pulls);  // the tile before is done with
      if (tile > 0 && lane == 0) strait::mbarrier_arrive(empty + before);
      strait::wgmma_wait<0>(s);
      uint32_t high[COLUMNS / 4], low[COLUMNS / 4];
      const float* norms = squares + place.stage * COLUMNS + t * 2;
      const uint32_t column = p.first + tile * COLUMNS;
      if (column + COLUMNS > p.last || (column < row + ROWS && row < column + COLUMNS)) {  // the same for the block
        const int left = int(p.last - column) - t * 2, self = int(mine) - int(column) - t * 2;
#pragma unroll
        for (int j = 0; j < COLUMNS / 2; ++j) {
          const int c = j / 4 * 8 + (j & 1);
          if (c >= left || c == self + (j >> 1 & 1) * 8) s[j] = -1e30f;
        }
      }
#pragma unroll
      for (int j = 0; j < COLUMNS / 8; ++j) {
        const float2 norm = *reinterpret_cast<const float2*>(norms + j * 8);
#pragma unroll
        for (int h = 0; h < 2; ++h) {
          float k[2];
#pragma unroll
          for (int i = 0; i < 2; ++i) {
            // Both lengths and the scale are in the squares: the exponent is at most 0 but for rounding.
            const float u = fmaf(twice, s[j * 4 + h * 2 + i], -own_squares[h] - (i ? norm.y : norm.x));
            k[i] = strait::power_of_two(fminf(u, 0.f));
          }
          sums[h] += k[0] + k[1];
          split2(k[0], k[1], high[j * 2 + h], low[j * 2 + h]);
        }
      }
      const uint64_t b_columns = strait::descriptor(at, BY_COLUMNS);
      strait::wgmma_fence();
#pragma unroll
      for (int step = 0; step < COLUMNS / 16; ++step) {
        const uint32_t h[4] = {high[step * 4], high[step * 4 + 1], high[step * 4 + 2], high[step * 4 + 3]};
        const uint32_t l[4] = {low[step * 4], low[step * 4 + 1], low[step * 4 + 2], low[step * 4 + 3]};
        const uint64_t b_step = b_columns + step * (2048 >> 4);
        strait::wgmma_registers<true>(pulls, l, b_step, tile | step);
        strait::wgmma_registers<true>(pulls, h, b_step + (PLANE >> 4), 1);
        strait::wgmma_registers<true>(pulls, h, b_step, 1);
      }
      strait::wgmma_commit();
      before = place.stage;
      place.advance();
    }
    strait::wgmma_wait<0>(pulls);
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      sums[h] += __shfl_xor_sync(0xffffffffu, sums[h], 1);
      sums[h] += __shfl_xor_sync(0xffffffffu, sums[h], 2);
      if (mine + h * 8 >= p.rows) continue;
      if (t == 0) p.sums[mine + h * 8] = sums[h];
#pragma unroll
      for (int j = 0; j < D / 8; ++j)
        *reinterpret_cast<float2*>(p.pulls + uint64_t(mine + h * 8) * D + j * 8 + t * 2) =
            make_float2(pulls[j * 4 + h * 2], pulls[j * 4 + h * 2 + 1]);
    }
  }
}

}  // namespace

KERNEL_BOUNDS(pairs_64, (384, 1), const __grid_constant__ TensorMap map, const __grid_constant__ TensorMap squares,
              const __grid_constant__ Pairs p) {
  pairs(map, squares, p);
}
