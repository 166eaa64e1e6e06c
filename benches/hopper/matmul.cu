// Matrix products on Hopper: boxes copied by the bulk copy engine into a ring of stages, multiplied by two warpgroups.
#include "operand.cuh"

namespace {

using strait::Format;
using strait::TensorMap;

// out [batch, m, n] = activation(a b + bias), for operands as the tensor maps say. Twin of `Product` in host/matmul.cpp.
struct Product {
  const void* bias;  // of n elements, or null
  void* out;
  uint32_t m, n, k, batches;
  uint32_t tiles_m, tiles_n;  // tiles_m: a multiple of the cluster's size
  float slope;                // of the activation below zero: 1 none, 0 ReLU
};

// Sizes in elements. PLANES: how many numbers an element is the sum of.
template <Format FORMAT_, int PLANES_, class Out_, bool A_MN_, bool B_MN_, int CLUSTER_>
struct Tile {
  static constexpr Format FORMAT = FORMAT_;
  static constexpr int PLANES = PLANES_, CLUSTER = CLUSTER_;
  static constexpr bool A_MN = A_MN_, B_MN = B_MN_;
  using Out = Out_;
  static constexpr int SIZE = FORMAT == strait::FORMAT_TF32 ? 4 : 2;
  static constexpr int M = 128, N = 256, K = 128 / SIZE / PLANES, STAGES = 4;
  static constexpr int STEP = 32 / SIZE;                  // of the sum, by an instruction
  static constexpr int A_PLANE = M * K * SIZE, B_PLANE = N * K * SIZE;
  static constexpr int STAGE = PLANES * (A_PLANE + B_PLANE);
  static constexpr int GROUP = 8;  // pairs of rows of tiles that are worked on together, for the second-level cache
};

template <class T>
__device__ __forceinline__ void tile_of(const Product& p, uint32_t tile, uint32_t& row, uint32_t& col, uint32_t& batch) {
  // By pairs (one pair for each cluster), GROUP of them down, then across: neighbours in time share operands in the cache.
  const uint32_t pairs = p.tiles_m / T::CLUSTER, per_batch = pairs * p.tiles_n;
  batch = tile / per_batch;
  const uint32_t rest = tile % per_batch, band = rest / (T::GROUP * p.tiles_n), first = band * T::GROUP;
  const uint32_t high = min(pairs - first, uint32_t(T::GROUP)), in = rest - band * T::GROUP * p.tiles_n;
  row = (first + in % high) * (T::CLUSTER * T::M);
  col = in / high * T::N;
}

__device__ __forceinline__ uint32_t pack(float x, float y, __nv_bfloat16*) {
  const __nv_bfloat162 v = __floats2bfloat162_rn(x, y);
  return *reinterpret_cast<const uint32_t*>(&v);
}

// A warp's sixteen rows of results.
template <class T>
__device__ __forceinline__ void store(const Product& p, float (&d)[T::N / 2], uint32_t first_row, uint32_t first_col, uint32_t batch) {
  using Out = typename T::Out;
  const int lane = threadIdx.x & 31, t = lane & 3;
  const bool paired = p.n % 4 == 0;
  if (p.bias) {
    const Out* bias = static_cast<const Out*>(p.bias) + first_col + t * 2;
    const int left = int(p.n) - int(first_col) - t * 2;
#pragma unroll
    for (int j = 0; j < T::N / 8; ++j) {
      const float b0 = j * 8 < left ? float(bias[j * 8]) : 0, b1 = j * 8 + 1 < left ? float(bias[j * 8 + 1]) : 0;
#pragma unroll
      for (int i = 0; i < 4; ++i) d[j * 4 + i] += i & 1 ? b1 : b0;
    }
  }
  if (p.slope != 1) {
#pragma unroll
    for (int i = 0; i < T::N / 2; ++i) d[i] = d[i] > 0 ? d[i] : d[i] * p.slope;
  }
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const uint32_t row = first_row + half * 8 + lane / 4;
    Out* out = static_cast<Out*>(p.out) + (uint64_t(batch) * p.m + row) * p.n;
    if constexpr (sizeof(Out) == 2) {
      if (paired) {
        // Lanes in pairs exchange, so that each has four neighbours of one row and a row's four lanes fill a sector.
#pragma unroll
        for (int j = 0; j < T::N / 8; j += 2) {
          const uint32_t x = pack(d[j * 4 + half * 2], d[j * 4 + half * 2 + 1], out);
          const uint32_t y = pack(d[j * 4 + 4 + half * 2], d[j * 4 + 4 + half * 2 + 1], out);
          const uint32_t got = __shfl_xor_sync(0xffffffffu, t & 1 ? x : y, 1);
          const uint32_t col = first_col + j * 8 + (t & 1 ? 8 + t * 2 - 2 : t * 2);
          if (row < p.m && col < p.n) *reinterpret_cast<uint2*>(out + col) = t & 1 ? make_uint2(got, y) : make_uint2(x, got);
        }
        continue;
      }
    } else if (paired) {
#pragma unroll
      for (int j = 0; j < T::N / 8; ++j) {
        const uint32_t col = first_col + j * 8 + t * 2;
        if (row < p.m && col < p.n) *reinterpret_cast<float2*>(out + col) = make_float2(d[j * 4 + half * 2], d[j * 4 + half * 2 + 1]);
      }
      continue;
    }
#pragma unroll
    for (int j = 0; j < T::N / 8; ++j)
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const uint32_t col = first_col + j * 8 + t * 2 + i;
        if (row < p.m && col < p.n) out[col] = Out(d[j * 4 + half * 2 + i]);
      }
  }
}

template <class T>
__device__ __forceinline__ void product(const TensorMap& map_a, const TensorMap& map_b, const Product& p) {
  using A = Operand<T::M, T::K, T::SIZE, T::A_MN>;
  using B = Operand<T::N, T::K, T::SIZE, T::B_MN>;
  constexpr int PLANES = T::PLANES, CLUSTER = T::CLUSTER;
  DYNAMIC_SHARED_1024(shared);
  uint64_t* full = reinterpret_cast<uint64_t*>(shared + T::STAGES * T::STAGE);
  uint64_t* empty = full + T::STAGES;
  const uint32_t rank = CLUSTER > 1 ? strait::cluster_rank() : 0;
  if (threadIdx.x == 0) {
    strait::prefetch_map(&map_a);
    strait::prefetch_map(&map_b);
#pragma unroll
    for (int i = 0; i < T::STAGES; ++i) {
      strait::mbarrier_init(full + i, 1);
      strait::mbarrier_init(empty + i, 8 * CLUSTER);  // the multiplying warps, of every block that gets copies from here
    }
    strait::fence_mbarrier_init();
  }
  if (CLUSTER > 1) strait::cluster_sync();
  else __syncthreads();
  const uint32_t tiles = p.tiles_m / CLUSTER * p.tiles_n * p.batches, blocks = (p.k + T::K - 1) / T::K;
  const uint32_t first = blockIdx.x / CLUSTER, apart = gridDim.x / CLUSTER;
  strait::Ring<T::STAGES> place;
  if (threadIdx.x < 128) {
    strait::registers_down<40>();
    if (threadIdx.x == 0) {
      for (uint32_t tile = first; tile < tiles; tile += apart) {
        uint32_t row, col, batch;
        tile_of<T>(p, tile, row, col, batch);
        row += rank * T::M;
        for (uint32_t block = 0; block < blocks; ++block, place.advance()) {
          if (CLUSTER > 1) strait::mbarrier_wait_cluster(empty + place.stage, place.parity ^ 1);
          else strait::mbarrier_wait(empty + place.stage, place.parity ^ 1);
          strait::mbarrier_expect(full + place.stage, T::STAGE);
          unsigned char* to = shared + place.stage * T::STAGE;
          const int k = block * T::K;
#pragma unroll
          for (int plane = 0; plane < PLANES; ++plane) {
            const int z = batch * PLANES + plane;
#pragma unroll
            for (int i = 0; i < A::BOXES; ++i)
              strait::copy_box(to + plane * T::A_PLANE + i * A::BOX, &map_a,
                               T::A_MN ? int(row) + i * A::CHUNK : k, T::A_MN ? k : int(row), z, full + place.stage);
            unsigned char* to_b = to + PLANES * T::A_PLANE + plane * T::B_PLANE;
            if constexpr (CLUSTER == 1) {
#pragma unroll
              for (int i = 0; i < B::BOXES; ++i)
                strait::copy_box(to_b + i * B::BOX, &map_b, T::B_MN ? int(col) + i * B::CHUNK : k, T::B_MN ? k : int(col), z, full + place.stage);
            } else {
              // A part of it to every block of the cluster. K-major: the box of the map has the lines of one part.
              constexpr int PART = T::B_PLANE / CLUSTER;
              if constexpr (T::B_MN) {
#pragma unroll
                for (int i = 0; i < B::BOXES / CLUSTER; ++i)
                  strait::copy_box_to(to_b + rank * PART + i * B::BOX, &map_b, int(col) + int(rank * (B::BOXES / CLUSTER) + i) * B::CHUNK, k, z,
                                      full + place.stage, (1 << CLUSTER) - 1);
              } else {
                strait::copy_box_to(to_b + rank * PART, &map_b, k, int(col + rank * (T::N / CLUSTER)), z, full + place.stage,
                                    (1 << CLUSTER) - 1);
              }
            }
          }
        }
      }
    }
  } else {
    strait::registers_up<232>();
    const int group = threadIdx.x / 128 - 1, warp = threadIdx.x / 32 % 4, lane = threadIdx.x % 32;
    auto release = [&](uint32_t slot) {
      if (CLUSTER == 1) {
        if (lane == 0) strait::mbarrier_arrive(empty + slot);
      } else if (lane < CLUSTER) {
        strait::mbarrier_arrive_remote(empty + slot, lane);
      }
    };
    const uint32_t base = strait::shared_address(shared);
    for (uint32_t tile = first; tile < tiles; tile += apart) {
      uint32_t row, col, batch;
      tile_of<T>(p, tile, row, col, batch);
      row += rank * T::M;
      float d[T::N / 2];
      uint32_t before = 0;
#pragma unroll 1
      for (uint32_t block = 0; block < blocks; ++block) {
        strait::mbarrier_wait(full + place.stage, place.parity);
        const uint32_t at = base + place.stage * T::STAGE;
        const uint64_t a = strait::descriptor(at + group * A::BY_64, A::BITS);
        const uint64_t b = strait::descriptor(at + PLANES * T::A_PLANE, B::BITS);
        strait::wgmma_fence();
#pragma unroll
        for (int step = 0; step < T::K / T::STEP; ++step) {
          const uint64_t a_step = a + step * (A::ALONG >> 4), b_step = b + step * (B::ALONG >> 4);
          constexpr uint64_t A_LOW = T::A_PLANE >> 4, B_LOW = T::B_PLANE >> 4;
          if constexpr (PLANES == 2) {
            // Small terms first.
            strait::wgmma<T::N, T::FORMAT, T::A_MN, T::B_MN>(d, a_step + A_LOW, b_step, block | step);
            strait::wgmma<T::N, T::FORMAT, T::A_MN, T::B_MN>(d, a_step, b_step + B_LOW, 1);
            strait::wgmma<T::N, T::FORMAT, T::A_MN, T::B_MN>(d, a_step, b_step, 1);
          } else {
            strait::wgmma<T::N, T::FORMAT, T::A_MN, T::B_MN>(d, a_step, b_step, block | step);
          }
        }
        strait::wgmma_commit();
        strait::wgmma_wait<1>();
        if (block > 0) release(before);  // what the products before this block's read
        before = place.stage;
        place.advance();
      }
      strait::wgmma_wait<0>(d);
      release(before);
      store<T>(p, d, row + group * 64 + warp * 16, col, batch);
    }
  }
  // Others still copy into this block, and arrive here.
  if (CLUSTER > 1) {
    __syncwarp();  // the copying thread's warp, for the aligned instruction
    strait::cluster_sync();
  }
}

}  // namespace

#define MATMUL(name, format, planes, Out, a_mn, b_mn, cluster)                                                        \
  KERNEL_BOUNDS(matmul_##name, (384, 1), const __grid_constant__ TensorMap a, const __grid_constant__ TensorMap b,    \
                const __grid_constant__ Product p) {                                                                 \
    product<Tile<format, planes, Out, a_mn, b_mn, cluster>>(a, b, p);                                           \
  }
// The letters: whether a and b are transposed with respect to a [m, k] and b [k, n], row by row.
#define MATMUL_ALL(name, format, planes, Out, cluster)              \
  MATMUL(name##_nt, format, planes, Out, false, false, cluster)     \
  MATMUL(name##_nn, format, planes, Out, false, true, cluster)      \
  MATMUL(name##_tn, format, planes, Out, true, true, cluster)       \
  MATMUL(name##_tt, format, planes, Out, true, false, cluster)

MATMUL_ALL(bf16, strait::FORMAT_BF16, 1, __nv_bfloat16, 1)
MATMUL_ALL(f32x3, strait::FORMAT_BF16, 2, float, 1)
MATMUL(tf32_nt, strait::FORMAT_TF32, 1, float, false, false, 1)
MATMUL_ALL(bf16_pair, strait::FORMAT_BF16, 1, __nv_bfloat16, 2)
MATMUL_ALL(f32x3_pair, strait::FORMAT_BF16, 2, float, 2)
MATMUL(tf32_pair_nt, strait::FORMAT_TF32, 1, float, false, false, 2)
