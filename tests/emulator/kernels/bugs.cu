// One planted bug each: tests/emulator.rs asks that every one is reported. They take the same arguments: an input, an output, a count.
#include "device.cuh"
#define BUG(name) KERNEL(bug_##name, 1024, const float* x, float* y, int n)
#define HERE (int(blockIdx.x * blockDim.x + threadIdx.x))

// The guard lets one thread too many through.
BUG(write_past_end) {
  if (HERE <= n) y[HERE] = 1.f;
}
BUG(read_before_start) {
  if (HERE < n) y[HERE] = x[HERE - 1];
}
BUG(read_past_end_of_16_bytes) {
  if (4 * HERE < n) y[HERE] = reinterpret_cast<const float4*>(x)[HERE].w;
}
namespace {
__device__ __noinline__ void store(float* p, int i) { p[i] = 1.f; }
}  // namespace
// On a GPU it lands in the neighbour.
BUG(past_shared_array) {
  __shared__ float s[256];
  __shared__ float neighbour[256];
  const int t = threadIdx.x;
  s[t] = 0.f;
  neighbour[t] = 2.f;
  __syncthreads();
  store(s, t + 1);
  __syncthreads();
  y[t] = s[t] + neighbour[t];
}
BUG(past_dynamic_shared) {
  DYNAMIC_SHARED(float, s);
  const int t = threadIdx.x;
  s[t + 1] = 1.f;
  __syncthreads();
  y[t] = s[t + 1];
}
// A tree without the barrier in its loop.
BUG(missing_barrier) {
  __shared__ float s[256];
  const int t = threadIdx.x;
  s[t] = x[t];
  __syncthreads();
  for (int o = 128; o > 0; o >>= 1)
    if (t < o) s[t] += s[t + o];
  if (t == 0) y[0] = s[0];
}
// The next tile overwrites what others still read.
BUG(missing_trailing_barrier) {
  __shared__ float s[64];
  const int t = threadIdx.x;
  float sum = 0.f;
  for (int i = 0; i < n; i += 64) {
    s[t] = x[i + t];
    __syncthreads();
    sum += s[63 - t] * float(i + 1);
  }
  y[t] = sum;
}
BUG(missing_syncwarp) {
  __shared__ float s[32];
  const int t = threadIdx.x;
  s[t] = float(t);
  y[t] = s[t ^ 1];
}
BUG(divergent_barrier) {
  __shared__ float s[64];
  const int t = threadIdx.x;
  if (t < 32) {
    s[t] = 1.f;
    __syncthreads();
  } else {
    s[t] = 2.f;
    __syncthreads();
  }
  y[t] = s[63 - t];
}
BUG(skipped_barrier) {
  __shared__ float s[64];
  const int t = threadIdx.x;
  s[t] = 1.f;
  if (t >= 40) return;
  __syncthreads();
  y[t] = s[t];
}
BUG(uninitialised_shared) {
  __shared__ float s[64];
  const int t = threadIdx.x;
  if (t < 63) s[t] = 1.f;
  __syncthreads();
  y[t] = s[t];
}
// An accumulator that nobody zeroed.
BUG(uninitialised_global) { y[HERE] += 1.f; }
BUG(shuffle_by_half_a_warp) {
  const int t = threadIdx.x;
  float v = float(t);
  if (t < 16) v += __shfl_xor_sync(0xffffffffu, v, 1);
  y[t] = v;
}
BUG(shuffle_outside_its_mask) {
  y[threadIdx.x] = __shfl_xor_sync(0x0000ffffu, float(threadIdx.x), 1);
}
BUG(copy_never_waited_for) {
  __shared__ __align__(16) float s[128];
  const int t = threadIdx.x;
  strait::cp_async<16>(&s[4 * t], x + 4 * t);
  strait::cp_async_commit();
  __syncthreads();
  for (int i = 0; i < 4; ++i) y[4 * t + i] = s[4 * t + i];
}
// Waits for all groups but the one it reads.
BUG(copy_waited_for_too_little) {
  __shared__ __align__(16) float s[128];
  const int t = threadIdx.x;
  strait::cp_async<16>(&s[4 * t], x + 4 * t);
  strait::cp_async_commit();
  strait::cp_async_wait<1>();
  __syncthreads();
  const float v = s[127 - 4 * t];
  strait::cp_async_wait<0>();
  y[t] = v;
}
// Its own copies are there, those of the others may not be.
BUG(copy_without_barrier) {
  __shared__ __align__(16) float s[256];
  const int t = threadIdx.x;
  strait::cp_async<16>(&s[4 * t], x + 4 * t);
  strait::cp_async_commit();
  strait::cp_async_wait<0>();
  y[t] = s[4 * (63 - t)];
}
BUG(sum_from_several_blocks) {
  if (threadIdx.x == 0) *y = *y + 1.f;
}
BUG(plain_read_of_a_counter) {
  unsigned* counter = reinterpret_cast<unsigned*>(y);
  atomicAdd(counter, 1u);
  if (*counter > 1000) y[1] = 1.f;
}
BUG(misaligned_16_bytes) { reinterpret_cast<float4*>(y)[threadIdx.x] = *reinterpret_cast<const float4*>(x + 4 * threadIdx.x + 1); }
BUG(misaligned_copy) {
  __shared__ __align__(16) float s[64];
  strait::cp_async<16>(&s[4 * (threadIdx.x & 7)], x + 1);
  strait::cp_async_commit();
  strait::cp_async_wait<0>();
  y[threadIdx.x] = s[0];
}
BUG(misaligned_matrix_row) {
  __shared__ __align__(16) uint16_t s[8 * 12];
  for (int i = threadIdx.x; i < 96; i += 32) s[i] = uint16_t(i);
  __syncwarp();
  uint32_t r[1];
  strait::ldmatrix(r, s + 12 * (threadIdx.x & 7));
  y[threadIdx.x] = float(r[0]);
}
// rows * cols > 2^31 in 32 bits.
BUG(index_overflow) {
  const int i = n * n - 1 + HERE;
  if (i >= 0 && i < 4) y[i] = 0.f;
}
BUG(shift_too_far) { y[HERE] = float(1 << (n + HERE)); }
// The host frees `y` first.
BUG(use_after_free) { y[HERE] = 1.f; }
BUG(assertion) { assert(HERE != 3), y[HERE] = 1.f; }
BUG(trap) {
  if (HERE == 3) __trap();
  y[HERE] = 1.f;
}
BUG(null_pointer) { y[HERE] = *reinterpret_cast<const float*>(uint64_t(n - 512)); }
