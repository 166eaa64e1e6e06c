// Products with few rows: the rows of the left operand lie along the instructions' N, a cluster's blocks share the sum and add their
// parts through each other's shared memory, in the order of their ranks.
#include "operand.cuh"

namespace {

using strait::TensorMap;

// out [m, n] = activation(x w' + bias), with x [m, k] and w [n, k] as the maps say. Twin of `SplitProduct` in host/split.cpp.
struct SplitProduct {
  const void* bias;
  void* out;
  uint32_t m, n, k, blocks_each;  // blocks of K elements of the sum for each block of a cluster
  float slope;
};

template <int PLANES_, class Out_, int CLUSTER_, bool W_MN_>
struct SplitTile {
  using Out = Out_;
  static constexpr int PLANES = PLANES_, CLUSTER = CLUSTER_;
  static constexpr bool W_MN = W_MN_;
  static constexpr int M = 64, N = 128, SIZE = 2, K = 64 / PLANES, STEP = 16, STAGES = 8;  // M: of w's rows
  static constexpr int A_PLANE = M * K * SIZE, B_PLANE = N * K * SIZE, STAGE = PLANES * (A_PLANE + B_PLANE);
  static constexpr int PITCH = M + 4;  // of the parts, by rows of x: no conflicts, and 16 bytes are aligned
};

template <class T>
__device__ __forceinline__ void split_product(const TensorMap& map_w, const TensorMap& map_x, const SplitProduct& p) {
  using A = Operand<T::M, T::K, T::SIZE, T::W_MN>;
  using B = Operand<T::N, T::K, T::SIZE, false>;
  constexpr int PLANES = T::PLANES;
  DYNAMIC_SHARED_1024(shared);
  float* part = reinterpret_cast<float*>(shared);  // over the stages, when they are done with
  uint64_t* full = reinterpret_cast<uint64_t*>(shared + T::STAGES * T::STAGE);
  uint64_t* empty = full + T::STAGES;
  const uint32_t rank = strait::cluster_rank(), tile = blockIdx.x / T::CLUSTER, tiles_n = (p.n + T::M - 1) / T::M;
  const uint32_t feature = tile % tiles_n * T::M, row = tile / tiles_n * T::N;
  const uint32_t all = (p.k + T::K - 1) / T::K, first = min(rank * p.blocks_each, all), blocks = min(p.blocks_each, all - first);
  auto fetch = [&](uint32_t block) {
    const uint32_t stage = block % T::STAGES;
    unsigned char* to = shared + stage * T::STAGE;
    const int k = (first + block) * T::K;
    strait::mbarrier_expect(full + stage, T::STAGE);
#pragma unroll
    for (int plane = 0; plane < PLANES; ++plane) {
      strait::copy_box(to + plane * T::A_PLANE, &map_w, T::W_MN ? int(feature) : k, T::W_MN ? k : int(feature), plane, full + stage);
      strait::copy_box(to + PLANES * T::A_PLANE + plane * T::B_PLANE, &map_x, k, int(row), plane, full + stage);
    }
  };
  if (threadIdx.x == 0) {
#pragma unroll
    for (int i = 0; i < T::STAGES; ++i) {
      strait::mbarrier_init(full + i, 1);
      strait::mbarrier_init(empty + i, 4);
    }
    strait::fence_mbarrier_init();
    for (uint32_t block = 0; block < min(blocks, uint32_t(T::STAGES)); ++block) fetch(block);
  }
  __syncthreads();
  float d[T::N / 2];
  const uint32_t base = strait::shared_address(shared);
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
#pragma unroll 1
  for (uint32_t block = 0; block < blocks; ++block) {
    const uint32_t stage = block % T::STAGES, parity = block / T::STAGES & 1;
    strait::mbarrier_wait(full + stage, parity);
    const uint64_t a = strait::descriptor(base + stage * T::STAGE, A::BITS);
    const uint64_t b = strait::descriptor(base + stage * T::STAGE + PLANES * T::A_PLANE, B::BITS);
    strait::wgmma_fence();
#pragma unroll
    for (int step = 0; step < T::K / T::STEP; ++step) {
      const uint64_t a_step = a + step * (A::ALONG >> 4), b_step = b + step * (B::ALONG >> 4);
      if constexpr (PLANES == 2) {
        strait::wgmma<T::N, strait::FORMAT_BF16, T::W_MN, false>(d, a_step + (T::A_PLANE >> 4), b_step, block | step);
        strait::wgmma<T::N, strait::FORMAT_BF16, T::W_MN, false>(d, a_step, b_step + (T::B_PLANE >> 4), 1);
        strait::wgmma<T::N, strait::FORMAT_BF16, T::W_MN, false>(d, a_step, b_step, 1);
      } else {
        strait::wgmma<T::N, strait::FORMAT_BF16, T::W_MN, false>(d, a_step, b_step, block | step);
      }
    }
    strait::wgmma_commit();
    strait::wgmma_wait<1>();
    // The stage before this one is free.
    if (block > 0 && block + T::STAGES - 1 < blocks) {
      const uint32_t before = block - 1;
      if (lane == 0) strait::mbarrier_arrive(empty + before % T::STAGES);
      if (threadIdx.x == 0) {
        strait::mbarrier_wait(empty + before % T::STAGES, before / T::STAGES & 1);
        fetch(before + T::STAGES);
      }
      __syncwarp();
    }
  }
  strait::wgmma_wait<0>(d);
  __syncthreads();  // the stages are read
#pragma unroll
  for (int j = 0; j < T::N / 8; ++j)
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int x_row = j * 8 + lane % 4 * 2 + (i & 1), w_row = warp * 16 + lane / 4 + (i >> 1) * 8;
      part[x_row * T::PITCH + w_row] = blocks ? d[j * 4 + i] : 0.f;
    }
  strait::cluster_sync();
  // Each block finishes every CLUSTER-th piece of four.
  using Out = typename T::Out;
  const uint32_t rows = min(p.m - row, uint32_t(T::N));
  for (uint32_t i = threadIdx.x + rank * 128; i < rows * (T::M / 4); i += 128 * T::CLUSTER) {
    const uint32_t r = i / (T::M / 4), c = i % (T::M / 4) * 4, col = feature + c;
    float4 part_of[T::CLUSTER];
#pragma unroll
    for (int from = 0; from < T::CLUSTER; ++from)
      part_of[from] = strait::load_remote(reinterpret_cast<const float4*>(part + r * T::PITCH + c), from);
    float v[4] = {0, 0, 0, 0};
#pragma unroll
    for (int from = 0; from < T::CLUSTER; ++from) v[0] += part_of[from].x, v[1] += part_of[from].y, v[2] += part_of[from].z, v[3] += part_of[from].w;
    Out* out = static_cast<Out*>(p.out) + uint64_t(row + r) * p.n + col;
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      if (col + e >= p.n) break;
      float x = v[e] + (p.bias ? float(static_cast<const Out*>(p.bias)[col + e]) : 0.f);
      out[e] = Out(x > 0 ? x : x * p.slope);
    }
  }
  strait::cluster_sync();  // others read this block's part
}

}  // namespace

#define SPLIT(name, planes, Out, cluster, w_mn)                                                                       \
  KERNEL_BOUNDS(split_##name, (128, 1), const __grid_constant__ TensorMap w, const __grid_constant__ TensorMap x,      \
                const __grid_constant__ SplitProduct p) {                                                                  \
    split_product<SplitTile<planes, Out, cluster, w_mn>>(w, x, p);                                                           \
  }
SPLIT(bf16_8_nt, 1, __nv_bfloat16, 8, false)
SPLIT(bf16_8_nn, 1, __nv_bfloat16, 8, true)
SPLIT(f32x3_8_nt, 2, float, 8, false)
SPLIT(f32x3_8_nn, 2, float, 8, true)
SPLIT(f32x3_4_nt, 2, float, 4, false)
