// Matrix products of large matrices on the CUDA cores: 128 x 128 results per block, 8 x 8 per thread.
#include "product.cuh"

namespace {

constexpr int SIDE = 128, SLAB = 8, STAGES = 4, THREADS = 256;
// Lines of shared memory are this long: a stride at which neither the transposing copies nor the reads meet bank conflicts.
constexpr int PITCH = SIDE + 4;
constexpr int OPERAND = SLAB * PITCH;

// Copies SLAB elements of the sum of SIDE lines, transposed: lines[k][line].
struct Loader {
  bool transposed, whole;
  int at, first_k, lines_there;  // lines_there: a bit for each element that the thread copies
  int64_t next, slab_step;
  const float* source;

  __device__ __forceinline__ Loader(const float* data, uint64_t stride, uint64_t step, int lines) {
    transposed = stride == 1 && step != 1;
    whole = transposed && aligned16(data) && step % 4 == 0;
    slab_step = int64_t(step) * SLAB;
    int line;
    if (transposed) {
      // Four neighbouring lines.
      first_k = threadIdx.x / 32;
      line = threadIdx.x % 32 * 4;
      at = first_k * PITCH + line;
      next = 1;
    } else {
      // Four lines, 32 apart: a warp copies 32 bytes of each of four lines.
      first_k = threadIdx.x % SLAB;
      line = threadIdx.x / SLAB;
      at = first_k * PITCH + line;
      next = 32 * int64_t(stride);
    }
    lines_there = 0;
#pragma unroll
    for (int i = 0; i < 4; ++i) lines_there |= int(line + i * (transposed ? 1 : 32) < lines) << i;
    source = data + line * stride + first_k * step;
  }

  __device__ __forceinline__ void fetch(float* stage, uint32_t k_left) {
    const int there = uint32_t(first_k) < k_left ? lines_there : 0;
    float* to = stage + at;
    if (whole) {
      strait::cp_async<16>(to, source, 4 * __popc(there));
    } else if (transposed) {
#pragma unroll
      for (int i = 0; i < 4; ++i) strait::cp_async<4>(to + i, source + i, (there >> i & 1) * 4);
    } else {
#pragma unroll
      for (int i = 0; i < 4; ++i) strait::cp_async<4>(to + i * 32, source + i * next, (there >> i & 1) * 4);
    }
    source += slab_step;
  }
};

__device__ __forceinline__ void read(float (&out)[8], const float* line, int apart) {
  const float4 first = *reinterpret_cast<const float4*>(line), second = *reinterpret_cast<const float4*>(line + apart);
  out[0] = first.x, out[1] = first.y, out[2] = first.z, out[3] = first.w;
  out[4] = second.x, out[5] = second.y, out[6] = second.z, out[7] = second.w;
}

}  // namespace

KERNEL_BOUNDS(matmul_large_f32, (THREADS, 2), const __grid_constant__ Product p, const __grid_constant__ Strided<2> batches) {
  __shared__ __align__(16) float shared[STAGES][2 * OPERAND];
  const Part part(p, SIDE, SIDE);
  uint64_t base[2];
  batches.offsets(part.batch, base);
  const uint64_t first_k = part.split * p.split_k;
  const uint32_t k = share(p.k, part.split, p.split_k), slabs = (k + SLAB - 1) / SLAB;
  const MatrixStore<float> store(p, part, part.split, p.splits == 1);
  Loader a(static_cast<const float*>(p.a) + base[0] + part.row * p.a_row + first_k * p.a_col, p.a_row, p.a_col, store.rows);
  Loader b(static_cast<const float*>(p.b) + base[1] + first_k * p.b_row + part.col * p.b_col, p.b_col, p.b_row, store.cols);

  // A warp has 64 x 32 results, its lanes 8 x 4 times 8 x 8 of them: rows and columns 0-3 and those 32 and 16 further on. Lanes that
  // differ in bit 0 share rows, lanes that differ in bit 1 share columns (see Lane in tile.cuh).
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int lane_m = (lane >> 1 & 1) | (lane >> 2 & 6), lane_n = (lane & 1) | (lane >> 1 & 2);
  const int row = warp % 2 * 64 + lane_m * 4, col = warp / 2 * 32 + lane_n * 4;
  float results[8][8] = {}, x[2][8], y[2][8], line_sum = 0;
  const bool sums = p.sums && part.col == 0;

  uint32_t k_left = k;
#pragma unroll
  for (uint32_t slab = 0; slab < STAGES - 1; ++slab) {
    if (slab < slabs) {
      a.fetch(shared[slab], k_left);
      b.fetch(shared[slab] + OPERAND, k_left);
      k_left -= SLAB;
    }
    strait::cp_async_commit();
  }
  for (uint32_t slab = 0; slab < slabs; ++slab) {
    strait::cp_async_wait<STAGES - 2>();
    __syncthreads();
    const float* here = shared[slab % STAGES];
    read(x[0], here + row, 32);
    read(y[0], here + OPERAND + col, 16);
    if (slab + STAGES - 1 < slabs) {
      float* to = shared[(slab + STAGES - 1) % STAGES];
      a.fetch(to, k_left);
      b.fetch(to + OPERAND, k_left);
      k_left -= SLAB;
    }
    strait::cp_async_commit();
#pragma unroll
    for (int i = 0; i < SLAB; ++i) {
      if (i + 1 < SLAB) {
        read(x[(i + 1) % 2], here + (i + 1) * PITCH + row, 32);
        read(y[(i + 1) % 2], here + OPERAND + (i + 1) * PITCH + col, 16);
      }
#pragma unroll
      for (int r = 0; r < 8; ++r)
#pragma unroll
        for (int c = 0; c < 8; ++c) results[r][c] += x[i % 2][r] * y[i % 2][c];
    }
    if (sums && threadIdx.x < SIDE) {
#pragma unroll
      for (int i = 0; i < SLAB; ++i) line_sum += here[i * PITCH + threadIdx.x];
    }
  }
  if (sums && threadIdx.x < SIDE) store.sum(threadIdx.x, line_sum);
  strait::cp_async_wait<0>();

  // By way of shared memory, so that whole lines are written; 64 rows at a time.
  static_assert(STAGES * 2 * OPERAND >= SIDE / 2 * PITCH, "half of the results fit");
  float* half = shared[0];
#pragma unroll 1
  for (int h = 0; h < 2; ++h) {
    __syncthreads();
    if (warp % 2 == h) {
#pragma unroll
      for (int r = 0; r < 8; ++r)
#pragma unroll
        for (int c = 0; c < 8; c += 4)
          *reinterpret_cast<float4*>(half + (lane_m * 4 + r / 4 * 32 + r % 4) * PITCH + col + c / 4 * 16) =
              make_float4(results[r][c], results[r][c + 1], results[r][c + 2], results[r][c + 3]);
    }
    __syncthreads();
#pragma unroll 1
    for (int i = warp; i < SIDE / 2; i += THREADS / 32)
      store(h * 64 + i, lane * 4, *reinterpret_cast<const Pack<float>*>(half + i * PITCH + lane * 4));
  }
}
