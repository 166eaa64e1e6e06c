// Planted bugs: every one must be reported.  (Compiles with nvcc too.)
#include "device.cuh"

// 1. writes one float past the end of a global buffer (guard uses <=)
KERNEL(bug_oob_global, 1024, float* x, int n) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i <= n) x[i] = 1.f;
}
// 2. reads one float before a global buffer
KERNEL(bug_oob_global_read, 1024, const float* x, float* y, int n) {
  int i = threadIdx.x;
  if (i < n) y[i] = x[i - 1];
}
// 3. one past the end of a static shared array (lands in its neighbour on the GPU)
KERNEL(bug_oob_shared, 1024, float* out) {
  __shared__ float s[256];
  __shared__ float guard[256];
  int t = threadIdx.x;
  s[t] = 0.f;
  guard[t] = 2.f;
  __syncthreads();
  s[t + 1] = 1.f;
  __syncthreads();
  out[t] = s[t] + guard[t];
}
// 4. one past the end of the dynamic shared memory that was asked for
KERNEL(bug_oob_dyn_shared, 1024, float* out) {
  DYNAMIC_SHARED(float, s);
  int t = threadIdx.x;
  s[t + 1] = 1.f;
  __syncthreads();
  out[t] = s[t + 1];
}
// 5. tree reduction with the barrier inside the loop missing
KERNEL(bug_missing_sync, 1024, const float* x, float* y) {
  __shared__ float s[256];
  int t = threadIdx.x;
  s[t] = x[blockIdx.x * 256 + t];
  __syncthreads();
  for (int o = 128; o > 0; o >>= 1) {
    if (t < o) s[t] += s[t + o];
    // __syncthreads();   <- planted
  }
  if (t == 0) y[blockIdx.x] = s[0];
}
// 6. double buffering that reuses ONE buffer: the trailing barrier (write-after-read) is missing
KERNEL(bug_war_sync, 1024, const float* x, float* y, int n) {
  __shared__ float s[64];
  int t = threadIdx.x;
  float acc = 0.f;
  for (int i = 0; i < n; i += 64) {
    s[t] = x[i + t];
    __syncthreads();
    acc += s[63 - t] * (float)(i + 1);
    // __syncthreads();   <- planted
  }
  y[t] = acc;
}
// 7. intra-warp exchange through shared memory without __syncwarp
KERNEL(bug_missing_syncwarp, 1024, float* y) {
  __shared__ float s[32];
  int t = threadIdx.x;
  s[t] = (float)t;
  // __syncwarp();   <- planted
  y[t] = s[t ^ 1];
}
// 8. barrier in divergent code
KERNEL(bug_divergent_sync, 1024, float* y) {
  __shared__ float s[64];
  int t = threadIdx.x;
  if (t < 32) {
    s[t] = 1.f;
    __syncthreads();
  } else {
    s[t] = 2.f;
    __syncthreads();
  }
  y[t] = s[63 - t];
}
// 9. half of the block never reaches the barrier
KERNEL(bug_skipped_sync, 1024, float* y, int n) {
  __shared__ float s[64];
  int t = threadIdx.x;
  s[t] = 1.f;
  if (t >= n) return;
  __syncthreads();
  y[t] = s[t];
}
// 10. shared memory read before anybody wrote it
KERNEL(bug_uninit_shared, 1024, float* y) {
  __shared__ float s[64];
  int t = threadIdx.x;
  if (t < 63) s[t] = 1.f;
  __syncthreads();
  y[t] = s[t];
}
// 11. global memory read before anybody wrote it (an accumulator that was never zeroed)
KERNEL(bug_uninit_global, 1024, float* y) { y[threadIdx.x] += 1.f; }
// 12. full-mask shuffle executed by half a warp
KERNEL(bug_shfl_mask, 1024, float* y) {
  int t = threadIdx.x;
  float v = (float)t;
  if (t < 16) v += __shfl_xor_sync(0xffffffffu, v, 1);
  y[t] = v;
}
// 13. cp.async data used without waiting for the group
KERNEL(bug_cpasync_nowait, 1024, const float* x, float* y) {
  __shared__ __align__(16) float s[128];
  int t = threadIdx.x;
  strait::cp_async16(&s[4 * t], x + 4 * t);
  strait::cp_async_commit();
  // strait::cp_async_wait<0>();   <- planted
  __syncthreads();
  for (int i = 0; i < 4; ++i) y[4 * t + i] = s[4 * t + i];
}
// 14. non-atomic accumulation from several blocks
KERNEL(bug_interblock_race, 1024, float* y) {
  if (threadIdx.x == 0) *y = *y + 1.f;
}
// 15. float4 access at an address that is not 16-byte aligned
KERNEL(bug_misaligned, 1024, const float* x, float4* y) {
  y[threadIdx.x] = *reinterpret_cast<const float4*>(x + 4 * threadIdx.x + 1);
}
// 16. 32-bit index overflow (rows*cols > 2^31 with int arithmetic)
KERNEL(bug_int_overflow, 1024, float* y, int rows, int cols) {
  int i = rows * cols - 1 + (int)threadIdx.x;
  if (i >= 0 && i < 4) y[i] = 0.f;
}
// 17. use of a buffer after it was freed (host frees before launching)
KERNEL(bug_use_after_free, 1024, float* y) { y[threadIdx.x] = 1.f; }
